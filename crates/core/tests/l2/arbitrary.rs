//! Nodes of all sorts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::cidr::Cidr;
use hopwise_core::l2::value::{
    Address, BridgeOptions, Hop, Link, Neighbour, Observed, Route, SYSCTLS, Sysctl, Wanted, address_flags,
};
use hopwise_core::name::{LinkName, MacAddr};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub const UPLINK: LinkName = LinkName::new_static("eth1");
pub const BRIDGE: LinkName = LinkName::new_static("cni0");
pub const OTHER: LinkName = LinkName::new_static("eth0");
pub const WANTED: Wanted = Wanted { uplink: UPLINK, bridge: BRIDGE };

pub fn link(kind: &str, mac: u8) -> Link {
    Link {
        kind: kind.to_owned(),
        ethernet: true,
        loopback: false,
        wireless: false,
        mac: Some(MacAddr([2, 0, 0, 0, 0, mac])),
        mtu: 1500,
        up: true,
        master: None,
        on: None,
        bridge: (kind == "bridge").then(BridgeOptions::default),
    }
}

/// An address on the uplink, in one of a few networks.
fn address() -> impl Strategy<Value = Address> {
    let v4 = (0u8..3, 1u8..250).prop_map(|(net, host)| IpAddr::from(Ipv4Addr::new(192, 168, net, host)));
    let v6 = (0u16..3, 1u16..9)
        .prop_map(|(net, host)| IpAddr::from(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host)));
    let local = (1u16..9).prop_map(|host| IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host)));
    let flags = prop_oneof![
        Just(0),
        Just(address_flags::NOPREFIXROUTE),
        Just(address_flags::NODAD),
        Just(address_flags::MANAGETEMPADDR)
    ];
    (prop_oneof![4 => v4, 3 => v6, 1 => local], flags, option::of(100u32..90_000), 0u32..3, any::<bool>())
        .prop_map(|(address, flags, valid, metric, labelled)| Address {
            address,
            prefix_len: if address.is_ipv4() { 24 } else { 64 },
            peer: None,
            broadcast: None,
            label: address.is_ipv4().then(|| if labelled { "eth1:a".to_owned() } else { "eth1".to_owned() }),
            scope: 0,
            flags,
            state: 0,
            preferred: valid.map(|valid| valid / 2),
            valid,
            metric,
            protocol: 0,
        })
}

fn route() -> impl Strategy<Value = Route> {
    let dst = prop_oneof![
        Just("0.0.0.0/0"),
        Just("10.0.0.0/8"),
        Just("172.16.9.0/24"),
        Just("::/0"),
        Just("fd99::/48")
    ];
    let hop = (prop_oneof![3 => Just(UPLINK), 1 => Just(OTHER)], 0u8..4, any::<bool>());
    let hops = prop_oneof![4 => vec(hop.clone(), 1..2), 1 => vec(hop, 2..3)];
    let mtu = option::of(1280u32..1500);
    (dst, hops, 0u32..3, prop_oneof![Just(254u32), Just(1000)], mtu, option::of(30u32..9000)).prop_map(
        |(dst, hops, metric, table, mtu, expires)| {
            let dst: Cidr = dst.parse().unwrap();
            let v4 = dst.address().is_ipv4();
            let gateway = |n: u8| match (n, v4) {
                (0, _) => None,
                (n, true) => Some(IpAddr::from(Ipv4Addr::new(192, 168, 0, 250 + n))),
                (n, false) => Some(IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, n.into()))),
            };
            Route {
                dst,
                from: None,
                tos: 0,
                table,
                metric,
                protocol: if metric == 2 { 16 } else { 4 },
                scope: 0,
                kind: 1,
                source: None,
                hops: hops
                    .into_iter()
                    .map(|(link, n, onlink)| Hop { link, gateway: gateway(n), onlink, weight: 1 })
                    .collect(),
                metrics: mtu.map(|mtu| (2, mtu)).into_iter().collect(),
                congestion: None,
                preference: None,
                expires: expires.filter(|_| !v4),
                special: None,
            }
        },
    )
}

fn neighbours() -> impl Strategy<Value = Vec<Neighbour>> {
    vec((1u8..20, any::<bool>()), 0..4).prop_map(|entries| {
        let entries: BTreeMap<u8, bool> = entries.into_iter().collect();
        let neighbour = |(n, proxy): (u8, bool)| Neighbour {
            address: Ipv4Addr::new(192, 168, 0, n).into(),
            mac: (!proxy).then_some(MacAddr([2, 0, 0, 0, 1, n])),
            proxy,
            router: false,
        };
        entries.into_iter().map(neighbour).collect()
    })
}

fn sysctls() -> impl Strategy<Value = BTreeMap<Sysctl, String>> {
    vec((0..SYSCTLS.len(), 0u8..3), 0..8).prop_map(|values| {
        let value = |(at, value): (usize, u8)| (SYSCTLS[at], value.to_string());
        // Routers' advertisements are another matter than what is put back.
        let mut sysctls: BTreeMap<_, _> = values.into_iter().map(value).collect();
        sysctls.insert(Sysctl::ACCEPT_RA, "0".to_owned());
        sysctls
    })
}

/// Keeps what a kernel can have: an address once on a link, a route once, and with one key either routes of one link in a
/// row, or those of one link and then those of the other.
fn possible(mut observed: Observed) -> Observed {
    for addresses in observed.addresses.values_mut() {
        let mut kept: Vec<Address> = Vec::new();
        for address in addresses.drain(..) {
            if !kept.iter().any(|there| there.same_key(&address)) {
                kept.push(address);
            }
        }
        // The kernel's order: IPv4, global IPv6, link-local IPv6.
        kept.sort_by_key(|address| (address.address.is_ipv6(), address.is_link_local()));
        *addresses = kept;
    }
    let mut kept: Vec<Route> = Vec::new();
    for route in observed.routes.drain(..) {
        let with_key: Vec<&Route> = kept.iter().filter(|there| there.same_key(&route)).collect();
        let v6 = route.dst.address().is_ipv6();
        let possible = match with_key.as_slice() {
            [] => true,
            // IPv6 makes one multipath route of them.
            _ if v6 => false,
            [.., last] => {
                let twice = with_key.iter().any(|there| there.same(&route));
                let returns = last.uses(UPLINK) != route.uses(UPLINK)
                    && with_key.iter().any(|there| there.uses(UPLINK) == route.uses(UPLINK));
                !twice && !returns
            }
        };
        if possible {
            kept.push(route);
        }
    }
    let keys: Vec<Route> = kept.iter().filter(|route| route.uses(UPLINK)).cloned().collect();
    kept.retain(|route| keys.iter().any(|there| there.same_key(route)));
    observed.routes = kept;
    observed
}

/// A node whose uplink can be attached, with or without a bridge.
pub fn node() -> impl Strategy<Value = Observed> {
    let bridge = option::of((1u8..9, 1400u32..1600, any::<bool>(), sysctls()));
    (vec(address(), 0..6), vec(route(), 0..10), neighbours(), sysctls(), bridge).prop_map(
        |(addresses, routes, neighbours, sysctls, bridge)| {
            let mut observed = Observed {
                links: [(UPLINK, link("", 1)), (OTHER, link("", 99))].into(),
                addresses: [(UPLINK, addresses)].into(),
                routes,
                neighbours: [(UPLINK, neighbours)].into(),
                sysctls: [(UPLINK, sysctls)].into(),
            };
            if let Some((mac, mtu, up, mut sysctls)) = bridge {
                observed.links.insert(BRIDGE, Link { mtu, up, ..link("bridge", mac) });
                let names: Vec<Sysctl> = observed.sysctls[&UPLINK].keys().copied().collect();
                for name in names {
                    sysctls.entry(name).or_insert_with(|| "7".to_owned());
                }
                observed.sysctls.insert(BRIDGE, sysctls);
            }
            possible(observed)
        },
    )
}
