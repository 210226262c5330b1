//! Set elements: networks and addresses to and from the kernel's form.
//!
//! An interval set (`NFT_SET_INTERVAL`) holds points: where an interval starts, and the first address after it, flagged
//! as an end. An interval up to the last address of all has no end.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::mark::NFT_TABLE;
use hopwise_core::netfilter::SetName;

use super::abi::{self, data, elem, msg};
use super::write::message;
use crate::netlink::{Attributes, Batch, MessageWriter};

/// Networks per message: a list is an attribute, so below 64 KiB. An IPv6 network takes 28 + 36 bytes and perhaps 12.
const PER_MESSAGE: usize = 800;

/// What to do with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Add,
    Remove,
}

/// Appends messages that add or remove elements of a set. Elements of another family are left out.
pub(super) fn write(batch: &mut Batch, action: Action, set: SetName, elements: &[Cidr]) {
    for chunk in elements.chunks(PER_MESSAGE) {
        let (kind, flags) = match action {
            Action::Add => (msg::NEWSETELEM, libc::NLM_F_CREATE as u16),
            Action::Remove => (msg::DELSETELEM, 0),
        };
        let mut writer = message(batch, kind, flags);
        writer.str(elem::TABLE, NFT_TABLE).str(elem::SET, set.as_str());
        let mut list = writer.nested(elem::ELEMENTS);
        for element in chunk.iter().filter(|element| element.family() == set.family) {
            write_element(&mut list, set, *element);
        }
    }
}

fn write_element(list: &mut MessageWriter<'_>, set: SetName, element: Cidr) {
    let end = successor(element.last_address());
    {
        let mut start = list.nested(abi::LIST_ELEM);
        start.nested(elem::KEY).ip(data::VALUE, element.address());
        if set.is_interval() && end.is_none() {
            start.bytes(elem::USERDATA, &elem::USERDATA_OPEN);
        }
    }
    if let (true, Some(end)) = (set.is_interval(), end) {
        let mut after = list.nested(abi::LIST_ELEM);
        after.be32(elem::FLAGS, elem::FLAG_INTERVAL_END);
        after.nested(elem::KEY).ip(data::VALUE, end);
    }
}

/// A point in a set as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    address: IpAddr,
    /// Ends come before starts at the same address: one interval ends where the next starts.
    start: bool,
}

/// Reads one element; `None` when it is of a kind that our sets don't hold.
pub(super) fn read(element: &Attributes<'_>, set: SetName) -> Option<Point> {
    let flags = element.find(elem::FLAGS).map_or(Some(0), |attribute| attribute.be32())?;
    let start = match flags {
        0 => true,
        elem::FLAG_INTERVAL_END => false,
        _ => return None,
    };
    let address = element.find(elem::KEY)?.nested().find(data::VALUE)?.ip()?;
    (Family::of(address) == set.family).then_some(Point { address, start })
}

/// The networks or addresses that points stand for; `None` when an interval among them is no network.
pub(super) fn networks(set: SetName, mut points: Vec<Point>) -> Option<BTreeSet<Cidr>> {
    if !set.is_interval() {
        return Some(points.into_iter().map(|point| Cidr::host(point.address)).collect());
    }
    points.sort_unstable();
    let mut points = points.into_iter().peekable();
    let mut networks = BTreeSet::new();
    while let Some(point) = points.next() {
        // An end without a start: nft puts one at the first address of all.
        if !point.start {
            continue;
        }
        let last = points.next_if(|next| !next.start).map(|end| end.address);
        networks.insert(network(point.address, last)?);
    }
    Some(networks)
}

/// The network from `first` to right before `end`, or to the last address of all.
fn network(first: IpAddr, end: Option<IpAddr>) -> Option<Cidr> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let last = match (end, first) {
        (Some(end), _) => number(end).checked_sub(1)?,
        (None, IpAddr::V4(_)) => u128::from(u32::MAX),
        (None, IpAddr::V6(_)) => u128::MAX,
    };
    let host_bits = u128::BITS - (number(first) ^ last).leading_zeros();
    let network = Cidr::containing(first, Family::of(first).bits() - host_bits as u8)?;
    (network.address() == first && number(network.last_address()) == last).then_some(network)
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

#[cfg(test)]
mod tests {
    use hopwise_core::netfilter::{SetRole, merge};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    const EXEMPT: SetName = SetName { role: SetRole::Exempt, family: Family::V4 };

    fn points(list: &[(&str, bool)]) -> Vec<Point> {
        list.iter().map(|(text, start)| Point { address: text.parse().unwrap(), start: *start }).collect()
    }

    fn cidrs(list: &[&str]) -> Option<BTreeSet<Cidr>> {
        Some(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn intervals_become_networks_in_whatever_order_they_come() {
        let listed = points(&[
            ("240.0.0.0", true),
            ("10.0.2.0", false),
            ("10.0.1.0", true),
            ("10.0.1.0", false),
            ("10.0.0.0", true),
            ("0.0.0.0", false),
        ]);
        assert_eq!(networks(EXEMPT, listed), cidrs(&["10.0.0.0/24", "10.0.1.0/24", "240.0.0.0/4"]));
        assert_eq!(networks(EXEMPT, points(&[("0.0.0.0", true)])), cidrs(&["0.0.0.0/0"]));
        assert_eq!(networks(EXEMPT, points(&[("255.255.255.255", true)])), cidrs(&["255.255.255.255/32"]));
        let v6 = SetName { family: Family::V6, ..EXEMPT };
        assert_eq!(networks(v6, points(&[("::", true)])), cidrs(&["::/0"]));
        assert_eq!(networks(v6, points(&[("ff00::", true)])), cidrs(&["ff00::/8"]));
    }

    #[test]
    fn an_interval_that_is_no_network_is_not_ours() {
        assert_eq!(networks(EXEMPT, points(&[("10.0.0.1", true), ("10.0.0.3", false)])), None);
        assert_eq!(networks(EXEMPT, points(&[("10.0.0.0", true), ("10.0.0.3", false)])), None);
        assert_eq!(networks(EXEMPT, points(&[("128.0.0.1", true)])), None);
    }

    proptest! {
        #[test]
        fn points_become_the_networks_that_they_came_from(
            list in btree_set((any::<u32>(), 0_u8..=32), 0..20),
            v6 in any::<bool>(),
        ) {
            let cidrs = list.into_iter().map(|(bits, len)| match v6 {
                true => Cidr::containing((u128::from(bits) << 96).to_be_bytes().into(), 3 * len),
                false => Cidr::containing(bits.to_be_bytes().into(), len),
            });
            let cidrs = merge(cidrs.flatten().collect());
            let points = cidrs.iter().flat_map(|cidr| {
                let end = successor(cidr.last_address()).map(|address| Point { address, start: false });
                [Some(Point { address: cidr.address(), start: true }), end]
            });
            let family = if v6 { Family::V6 } else { Family::V4 };
            prop_assert_eq!(networks(SetName { family, ..EXEMPT }, points.flatten().collect()), Some(cidrs));
        }

        #[test]
        fn points_at_random_make_no_harm(list in vec((any::<u32>(), any::<bool>()), 0..20)) {
            let points = list.into_iter().map(|(bits, start)| {
                // Few addresses, so that they meet.
                Point { address: std::net::Ipv4Addr::from(bits.rotate_left(2) & 0xc000_0003).into(), start }
            });
            networks(EXEMPT, points.collect());
        }
    }
}
