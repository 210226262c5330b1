use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::cidr::Cidr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(subnet: &str) -> Range {
    Range::new(subnet.parse().unwrap(), None, None, None).unwrap()
}

fn set(subnets: &[&str]) -> RangeSet {
    RangeSet::new(subnets.iter().map(|subnet| range(subnet)).collect()).unwrap()
}

fn addresses(set: &RangeSet, last: Option<&str>) -> Vec<String> {
    set.candidates(last.map(ip)).map(|(address, _)| address.to_string()).collect()
}

#[test]
fn bounds_have_the_defaults_of_host_local() {
    let four = range("10.1.2.0/24");
    assert_eq!(four.to_string(), "10.1.2.1-10.1.2.254");
    assert_eq!((four.gateway(), four.capacity()), (ip("10.1.2.1"), 253));
    let six = range("fd00::/120");
    assert_eq!(six.to_string(), "fd00::1-fd00::ff", "IPv6 has no broadcast address");
    assert_eq!(six.capacity(), 254);
    assert_eq!(range("::/0").capacity(), u128::MAX - 1);
}

#[test]
fn what_is_wrong_is_named() {
    let make = |subnet: &str, first: Option<&str>, last: Option<&str>, gateway: Option<&str>| {
        Range::new(subnet.parse().unwrap(), first.map(ip), last.map(ip), gateway.map(ip))
            .map_err(|error| error.to_string())
    };
    let cases = [
        (make("10.1.2.0/31", None, None, None), "10.1.2.0/31 is too small"),
        (make("fd00::/127", None, None, None), "fd00::/127 is too small"),
        (
            make("10.1.2.0/24", Some("10.1.3.1"), None, None),
            "rangeStart 10.1.3.1 is not in network 10.1.2.0/24",
        ),
        (make("10.1.2.0/24", None, Some("10.1.3.1"), None), "rangeEnd 10.1.3.1 is not in network"),
        (make("10.1.2.0/24", Some("10.1.2.9"), Some("10.1.2.8"), None), "10.1.2.8 comes before 10.1.2.9"),
        (make("10.1.2.0/24", Some("fd00::1"), None, None), "rangeStart fd00::1 is not in network"),
        (make("10.1.2.0/24", None, None, Some("fd00::1")), "gateway fd00::1 is not of the same family"),
    ];
    for (made, expected) in cases {
        let error = made.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(make("10.1.2.0/30", None, None, None).is_ok());
    assert!(make("10.1.2.0/24", None, None, Some("10.9.9.9")).is_ok(), "a gateway may be elsewhere");
    assert_eq!(RangeSet::new(Vec::new()), Err(RangeError::EmptySet));
    assert_eq!(RangeSet::new(vec![range("10.0.0.0/24"), range("fd00::/64")]), Err(RangeError::MixedFamilies));
    let overlap = RangeSet::new(vec![range("10.0.0.0/16"), range("10.0.7.0/24")]).unwrap_err();
    assert_eq!(overlap.to_string(), "subnets 10.0.0.1-10.0.255.254 and 10.0.7.1-10.0.7.254 overlap");
}

#[test]
fn candidates_go_round_robin_across_ranges_and_skip_gateways() {
    let set = set(&["10.0.0.0/29", "10.0.1.0/30"]);
    let front = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.2"];
    assert_eq!(addresses(&set, None), front);
    assert_eq!(addresses(&set, Some("10.7.7.7")), front, "a last address from elsewhere is ignored");
    let after = ["10.0.0.6", "10.0.1.2", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
    assert_eq!(addresses(&set, Some("10.0.0.5")), after);
    assert_eq!(addresses(&set, Some("10.0.1.2")), front, "the end wraps to the front");
    assert_eq!(set.capacity(), 6);
}

#[test]
fn a_set_of_one_address_yields_it_once() {
    let only = Range::new("10.0.0.0/24".parse().unwrap(), Some(ip("10.0.0.7")), Some(ip("10.0.0.7")), None);
    let set = RangeSet::new(vec![only.unwrap()]).unwrap();
    assert_eq!(addresses(&set, None), ["10.0.0.7"]);
    assert_eq!(addresses(&set, Some("10.0.0.7")), ["10.0.0.7"]);
    let gateway =
        Range::new("10.0.0.0/24".parse().unwrap(), Some(ip("10.0.0.1")), Some(ip("10.0.0.1")), None);
    let set = RangeSet::new(vec![gateway.unwrap()]).unwrap();
    assert_eq!((addresses(&set, None).len(), set.capacity()), (0, 0));
}

prop_compose! {
    /// A range of at most 64 addresses, in either family, with bounds and gateway anywhere in it.
    fn any_range()(
        six in any::<bool>(), net in any::<u8>(), bits in 2_u8..=6,
        one in any::<u8>(), two in any::<u8>(), gateway in any::<u8>(),
    ) -> Range {
        let base = if six {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(net) << 8))
        } else {
            IpAddr::V4(Ipv4Addr::new(10, 0, net, 0))
        };
        let subnet = Cidr::containing(base, Family::of(base).bits() - bits).unwrap();
        let inside = |offset: u8| address(subnet.family(), number(base) + u128::from(offset & ((1 << bits) - 1)));
        let (first, last) = (inside(one.min(two)), inside(one.max(two)));
        Range::new(subnet, Some(first.min(last)), Some(first.max(last)), Some(inside(gateway))).unwrap()
    }
}

proptest! {
    #[test]
    fn every_address_comes_once_and_the_last_one_last(
        ranges in prop::collection::vec(any_range(), 1..4), start in any::<prop::sample::Index>(),
    ) {
        let Ok(set) = RangeSet::new(ranges) else { return Ok(()) };
        let all: Vec<IpAddr> = set.candidates(None).map(|(address, _)| address).collect();
        let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
        prop_assert_eq!(distinct.len(), all.len());
        prop_assert_eq!(all.len() as u128, set.capacity());
        for address in &all {
            prop_assert_ne!(set.range_for(*address).unwrap().gateway(), *address);
        }
        if !all.is_empty() {
            let last = all[start.index(all.len())];
            let again: Vec<IpAddr> = set.candidates(Some(last)).map(|(address, _)| address).collect();
            prop_assert_eq!(again.last(), Some(&last));
            prop_assert_eq!(again.into_iter().collect::<BTreeSet<IpAddr>>(), distinct);
        }
    }

    #[test]
    fn capacity_is_what_can_be_allocated(ranges in prop::collection::vec(any_range(), 1..4)) {
        if let Ok(set) = RangeSet::new(ranges) {
            prop_assert_eq!(set.candidates(None).count() as u128, set.capacity());
            for (address, range) in set.candidates(None) {
                prop_assert!(range.contains(address) && address != range.gateway());
                prop_assert_eq!(set.range_for(address), Some(range));
            }
        }
    }

    #[test]
    fn overlap_is_an_address_in_both(one in any_range(), two in any_range()) {
        let addresses = |range: &Range| {
            let family = range.family();
            (number(range.first())..=number(range.last())).map(move |n| address(family, n)).collect::<BTreeSet<_>>()
        };
        let shared = addresses(&one).intersection(&addresses(&two)).next().is_some();
        prop_assert_eq!((one.overlaps(&two), two.overlaps(&one)), (shared, shared));
        prop_assert!(addresses(&one).iter().all(|address| one.contains(*address)));
    }

    #[test]
    fn ranges_never_panic(
        six in any::<bool>(), len in 0_u8..=128, base in any::<u128>(),
        first in any::<Option<IpAddr>>(), last in any::<Option<IpAddr>>(), gateway in any::<Option<IpAddr>>(),
    ) {
        let base = address(if six { Family::V6 } else { Family::V4 }, base);
        if let Some(subnet) = Cidr::containing(base, len)
            && let Ok(range) = Range::new(subnet, first, last, gateway)
        {
            let set = RangeSet::new(vec![range]).unwrap();
            prop_assert!(set.candidates(last).take(3).all(|(address, range)| range.contains(address)));
        }
    }
}
