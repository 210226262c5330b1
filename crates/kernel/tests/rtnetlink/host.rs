//! The host as planning sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopwise_core::diff::Changes;
use hopwise_core::family::Family;
use hopwise_core::host::Lookup;

use crate::support::*;

#[test]
fn everything_can_be_done_here() {
    on_host(|kernel| {
        let can = kernel.capabilities();
        assert!(can.nexthop_objects && can.vxlan && can.nftables);
        assert!(can.families.v4 && can.families.v6);
        // Finding that out made nothing.
        assert_eq!(shown("-o link").lines().count(), 3);
    });
}

#[test]
fn links_addresses_and_foreign_entries() {
    on_host(|kernel| {
        apply(kernel, &everything());
        ip("link add br0 type bridge");
        ip("link set far0 master br0");
        ip("neigh add 192.0.2.9 lladdr 02:00:00:00:09:09 dev up0");
        ip("neigh add 192.0.2.8 lladdr 02:00:00:00:09:08 dev up0 nud stale");
        let view = kernel.host_view(&[], &BTreeSet::new()).unwrap();
        let up = view.link_named(UPLINK).unwrap();
        assert_eq!((up.kind.as_str(), up.mtu, up.up, up.carrier), ("veth", 1500, true, true));
        let far = view.link_named("far0".parse().unwrap()).unwrap();
        assert_eq!(far.master, view.link_named("br0".parse().unwrap()).map(|link| link.index));
        assert!(view.links.values().any(|link| link.loopback));
        let ours = view.link_named("hopwise-vx4".parse().unwrap()).unwrap();
        assert!(ours.alias.starts_with("hopwise:"));
        assert_eq!(view.link_with_address("fd00::1".parse().unwrap()), Some(up));
        let global: Vec<_> = view.addresses.iter().filter(|address| address.global).collect();
        assert!(global.iter().all(|address| !address.unusable));
        assert_eq!(global.iter().filter(|address| address.link == up.index).count(), 2);
        let foreign: Vec<_> = view.foreign_neighbours.keys().copied().collect();
        assert_eq!(foreign, [(up.index, "192.0.2.9".parse().unwrap())]);
    });
}

#[test]
fn foreign_routes_that_concern_pods() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        direct(&mut changes, Family::V4, 1);
        apply(kernel, &changes);
        for command in [
            "route add default via 192.0.2.254 metric 5",
            "route add 10.0.0.0/8 via 192.0.2.254",
            "route add blackhole 10.100.7.0/24",
            "route add 10.100.9.0/24 nexthop via 192.0.2.8 nexthop via 192.0.2.9",
            "route add 203.0.113.0/24 via 192.0.2.254",
            "route add 10.100.8.0/24 via 192.0.2.254 table 99",
            "route add default via fd00::99 dev up0",
        ] {
            ip(command);
        }
        let view = kernel.host_view(&["10.100.0.0/16".parse().unwrap()], &BTreeSet::new()).unwrap();
        let mut seen: Vec<_> = view
            .routes
            .iter()
            .map(|route| (route.dst.to_string(), route.metric, route.gateway.is_some(), route.link.is_some()))
            .collect();
        seen.sort();
        let wanted = [
            ("0.0.0.0/0", 5, true, true),
            ("10.0.0.0/8", 0, true, true),
            ("10.100.7.0/24", 0, false, false),
            ("10.100.9.0/24", 0, false, false),
            ("::/0", 1024, true, true),
        ];
        let wanted = wanted.map(|(dst, metric, gateway, link)| (dst.to_owned(), metric, gateway, link));
        assert_eq!(seen, wanted);
    });
}

#[test]
fn lookups_say_what_the_kernel_would_do() {
    on_host(|kernel| {
        ip("nexthop add id 9 via 192.0.2.250 dev up0");
        for command in [
            "route add 198.51.100.0/24 via 192.0.2.254",
            "route add 198.51.101.0/24 nexthop via 192.0.2.253 nexthop via 192.0.2.252",
            "route add 198.51.102.0/24 nhid 9",
            "route add blackhole 203.0.113.0/25",
            "route add prohibit 203.0.113.128/25",
            "route add fd02::/64 via fd00::fe",
            "route add unreachable fd03::/64",
        ] {
            ip(command);
        }
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for compatible in ["1", "0"] {
            // Without it, routes by nexthop object don't show gateway and link.
            std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", compatible).unwrap();
            let asked = [
                "192.0.2.7",
                "192.0.2.1",
                "198.51.100.9",
                "198.51.101.9",
                "198.51.102.9",
                "203.0.113.1",
                "203.0.113.129",
                "8.8.8.8",
                "fd00::7",
                "fd00::1",
                "fd02::7",
                "fd03::7",
                "fd09::7",
            ];
            let view = kernel.host_view(&[], &asked.map(address).into()).unwrap();
            assert_eq!(view.lookups.len(), asked.len());
            let link = view.link_named(UPLINK).unwrap().index;
            let via = |gateway: &str| Lookup::Via { link, gateway: address(gateway) };
            for (target, wanted) in [
                ("192.0.2.7", Lookup::OnLink { link }),
                ("192.0.2.1", Lookup::Local),
                ("198.51.100.9", via("192.0.2.254")),
                ("198.51.101.9", via("192.0.2.253")),
                ("198.51.102.9", via("192.0.2.250")),
                ("203.0.113.1", Lookup::Unreachable),
                ("203.0.113.129", Lookup::Unreachable),
                ("8.8.8.8", Lookup::Unreachable),
                ("fd00::7", Lookup::OnLink { link }),
                ("fd00::1", Lookup::Local),
                ("fd02::7", via("fd00::fe")),
                ("fd03::7", Lookup::Unreachable),
                ("fd09::7", Lookup::Unreachable),
            ] {
                assert_eq!(view.lookups[&address(target)], wanted, "{target}");
            }
        }
    });
}
