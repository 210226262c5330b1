//! Clusters, hosts and prior states of the kernel, drawn from few values so that they collide.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config::{NodeConfig, PeerMode, Settings, UplinkSelector};
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::host::{
    Capabilities, DropCause, DroppingChain, ForeignRoute, HostView, IptablesBackend, IptablesChain,
    LinkAddress, Lookup,
};
use hopwise_core::mark;
use hopwise_core::name::{IfIndex, LinkName, MacAddr, Mtu};
use hopwise_core::netfilter::{Masquerade, ObservedTable, SetName, SetRole};
use hopwise_core::object::{Address, FdbKey, NeighbourKey, NextHop, RouteKey, Rule};
use hopwise_core::observed::{
    AcceptRule, Observed, ObservedAccepts, ObservedFdb, ObservedLink, ObservedNextHop, ObservedRoute,
    ObservedRule, ObservedTarget,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{cidr, host, ip, link_name, name};

const ADDRESSES: &[&str] = &[
    "192.168.0.1",
    "192.168.0.2",
    "192.168.0.3",
    "192.168.0.4",
    "192.168.1.5",
    "192.168.1.6",
    "192.168.0.255",
    "10.244.1.1",
    "10.244.2.7",
    "10.96.0.1",
    "172.16.0.1",
    "127.0.0.1",
    "224.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "169.254.1.1",
    "fd00:1::1",
    "fd00:1::2",
    "fd00:1::3",
    "fd00:1:1::5",
    "fd00:2::1",
    "fe80::1",
    "ff02::1",
    "::1",
    "::",
    "fd00:10:244:2::7",
];

const POD_CIDRS: &[&str] = &[
    "10.244.1.0/24",
    "10.244.2.0/24",
    "10.244.3.0/24",
    "10.244.4.0/24",
    "10.244.2.0/25",
    "10.244.2.128/26",
    "10.244.2.0/23",
    "10.244.0.0/16",
    "10.244.0.0/20",
    "10.96.7.0/24",
    "192.168.0.0/24",
    "172.16.0.0/16",
    "0.0.0.0/0",
    "224.0.0.0/8",
    "10.244.2.7/32",
    "fd00:10:244:1::/64",
    "fd00:10:244:2::/64",
    "fd00:10:244:3::/64",
    "fd00:10:244:2::/63",
    "fd00:10:244::/48",
    "fd00:1::/64",
    "::/0",
    "ff00::/16",
    "fd00:10:244:2::7/128",
];

const NODES: &[&str] = &["node1", "node2", "node3", "node4", "node5", "aaa"];
const MACS: &[&str] = &[
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    "02:00:00:00:00:03",
    "03:00:00:00:00:01",
    "00:00:00:00:00:00",
];
pub const LINKS: &[&str] = &["eth0", "eth1", "hopwise-vx4", "hopwise-vx6", "hopwise-old"];
pub const UPLINKS: &[(&str, u32)] = &[("eth0", 2), ("eth1", 3)];

fn address() -> impl Strategy<Value = IpAddr> + Clone {
    select(ADDRESSES).prop_map(ip)
}

fn pod_cidr() -> impl Strategy<Value = Cidr> + Clone {
    select(POD_CIDRS).prop_map(cidr)
}

fn mac() -> impl Strategy<Value = MacAddr> + Clone {
    let derived = select(NODES).prop_map(|node| mark::vxlan_mac(node, hopwise_core::config::DEFAULT_VNI));
    prop_oneof![3 => select(MACS).prop_map(|text| text.parse().unwrap()), 1 => derived]
}

fn mode() -> impl Strategy<Value = PeerMode> {
    select(&[PeerMode::Auto, PeerMode::Direct, PeerMode::Vxlan, PeerMode::Fabric][..])
}

fn claims<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
    most: usize,
) -> impl Strategy<Value = Vec<Claim<T>>> {
    vec((0..3_u64, value).prop_map(|(since, value)| Claim { since, value }), 0..=most)
}

pub fn node() -> impl Strategy<Value = Node> {
    let data = (option::of(mac()), option::of(mac()), option::of(mac()));
    let parts = (
        select(NODES),
        claims(address(), 3),
        claims(pod_cidr(), 3),
        data,
        prop::bool::weighted(0.2),
        option::weighted(0.2, mode()),
    );
    parts.prop_map(|(node, addresses, pod_cidrs, (v4, v6, vxlan_mac), windows, mode)| Node {
        name: name(node),
        addresses,
        pod_cidrs,
        data: NodeData { link_mac: PerFamily { v4, v6 }, vxlan_mac },
        os: if windows { Os::Windows } else { Os::Linux },
        settings: Settings { mode, ..Settings::default() },
    })
}

pub fn networks() -> impl Strategy<Value = ClusterNetworks> {
    let maybe = |text: &'static str| option::weighted(0.8, Just(cidr(text)));
    let rarely = |text: &'static str| option::weighted(0.3, Just(cidr(text)));
    let pods = (maybe("10.244.0.0/16"), maybe("fd00:10:244::/48"), rarely("0.0.0.0/0"), rarely("10.0.0.0/8"));
    let others = (maybe("10.96.0.0/12"), maybe("192.168.0.0/16"), maybe("fd00:1::/32"), rarely("10.0.0.0/8"));
    let fabric = (rarely("10.244.2.0/24"), rarely("10.244.0.0/16"), rarely("fd00:10:244::/48"));
    (pods, others, fabric).prop_map(|((a, b, c, d), (services, v4, v6, wide), (e, f, g))| ClusterNetworks {
        pods: [a, b, c, d].into_iter().flatten().collect(),
        services: services.into_iter().collect(),
        nodes: [v4, v6, wide].into_iter().flatten().collect(),
        fabric: [e, f, g].into_iter().flatten().collect(),
    })
}

pub fn cluster() -> impl Strategy<Value = ClusterView> {
    (networks(), vec(node(), 0..7)).prop_map(|(networks, nodes)| ClusterView {
        networks,
        settings: Settings::default(),
        nodes: nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect(),
    })
}

fn lookup() -> impl Strategy<Value = Lookup> {
    let link = || (1..5_u32).prop_map(IfIndex);
    let gateway = select(&["192.168.0.254", "192.168.0.253"][..]).prop_map(ip);
    prop_oneof![
        3 => link().prop_map(|link| Lookup::OnLink { link }),
        3 => (link(), gateway).prop_map(|(link, gateway)| Lookup::Via { link, gateway }),
        1 => Just(Lookup::Local),
        1 => Just(Lookup::Unreachable),
    ]
}

fn foreign_route() -> impl Strategy<Value = ForeignRoute> {
    let dst = prop_oneof![4 => pod_cidr(), 1 => Just(cidr("10.244.2.3/32"))];
    let gateway = option::of(select(&["192.168.0.254", "192.168.0.253", "192.168.0.2"][..]).prop_map(ip));
    let link = option::weighted(0.9, (1..5_u32).prop_map(IfIndex));
    (dst, select(&[0_u32, 100, 1024, 2000][..]), gateway, link).prop_map(|(dst, metric, gateway, link)| {
        ForeignRoute {
            table: 254,
            dst,
            metric: if dst.family() == Family::V6 { metric.max(1) } else { metric },
            protocol: 4,
            gateway,
            link,
        }
    })
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let likely = || prop::bool::weighted(0.9);
    (likely(), likely(), likely(), likely()).prop_map(|(nexthop_objects, vxlan, nftables, v6)| Capabilities {
        nexthop_objects,
        vxlan,
        nftables,
        families: PerFamily { v4: true, v6 },
    })
}

fn netfilter() -> impl Strategy<Value = hopwise_core::host::NetfilterView> {
    let chain = (any::<bool>(), any::<bool>()).prop_map(|(nft, v4)| IptablesChain {
        backend: if nft { IptablesBackend::Nft } else { IptablesBackend::Legacy },
        family: if v4 { Family::V4 } else { Family::V6 },
    });
    let cause = prop_oneof![
        Just(DropCause::Policy),
        any::<bool>().prop_map(|unconditional| DropCause::Rule { handle: 7, unconditional })
    ];
    let dropping = (select(&["ip", "ip6", "inet"][..]), cause).prop_map(|(family, cause)| DroppingChain {
        family,
        table: "fw".into(),
        chain: "fwd".into(),
        cause,
    });
    (btree_set(chain, 0..3), vec(dropping, 0..2)).prop_map(|(chains, dropping_chains)| {
        hopwise_core::host::NetfilterView {
            forward_policy_drop: chains.into_iter().collect(),
            dropping_chains,
        }
    })
}

pub fn host_view() -> impl Strategy<Value = HostView> {
    let address = (1..5_u32, address(), select(&[8_u8, 24, 32][..]));
    let neighbours = btree_map((2..4_u32, address_only()), mac(), 0..3);
    let first = (
        vec(address, 0..3),
        vec(foreign_route(), 0..4),
        btree_map(address_only(), lookup(), 0..20),
        neighbours,
    );
    let second =
        (capabilities(), netfilter(), select(&[68_u32, 1300, 1500, 9000, 70000][..]), any::<[bool; 4]>());
    (first, second).prop_map(
        |((addresses, routes, lookups, neighbours), (capabilities, netfilter, mtu, flags))| {
            let mut view = host();
            view.addresses.extend(addresses.into_iter().map(|(link, address, prefix_len)| LinkAddress {
                link: IfIndex(link),
                address,
                prefix_len,
                global: true,
                unusable: false,
            }));
            view.routes.extend(routes);
            view.lookups.extend(lookups);
            view.foreign_neighbours = neighbours
                .into_iter()
                .map(|((link, address), mac)| ((IfIndex(link), address), mac))
                .collect();
            view.capabilities = capabilities;
            view.netfilter = netfilter;
            if let Some(eth0) = view.links.get_mut(&IfIndex(2)) {
                (eth0.mtu, eth0.up) = (mtu, flags[0]);
            }
            if flags[1] {
                view.sysctls.clear();
            }
            if flags[2] {
                view.addresses.retain(|held| held.link != IfIndex(2));
            }
            if flags[3] {
                view.links.remove(&IfIndex(3));
            }
            view
        },
    )
}

fn address_only() -> impl Strategy<Value = IpAddr> {
    address()
}

pub fn config() -> impl Strategy<Value = NodeConfig> {
    let uplink = prop_oneof![
        6 => Just(UplinkSelector::Auto),
        1 => select(LINKS).prop_map(|text| UplinkSelector::Name(link_name(text))),
        1 => select(&["eth.*", "(", "x"][..]).prop_map(|text| UplinkSelector::NameRegex(text.to_owned())),
        1 => address().prop_map(UplinkSelector::Address),
        1 => address().prop_map(UplinkSelector::CanReach),
    ];
    let first = (mode(), any::<[bool; 5]>(), uplink, select(&[254_u32, 254, 254, 100][..]));
    let second = (
        select(&[4857_u32, 4857, 0, 5][..]),
        option::of(select(&[68_u32, 1400, 9000][..])),
        vec(pod_cidr(), 0..3),
    );
    (first, second).prop_map(|((mode, flags, uplink, route_table), (vxlan_vni, mtu, exempt))| {
        let settings = Settings {
            mode: Some(mode),
            vxlan: Some(flags[0]),
            vxlan_vni: Some(vxlan_vni),
            uplink: Some(uplink),
            masquerade: PerFamily { v4: Some(flags[1]), v6: Some(true) },
            masquerade_exempt: Some(exempt),
            route_table: Some(route_table),
            manage_sysctls: Some(flags[2]),
            forward_accept: Some(flags[3]),
            permanent_neighbours: Some(flags[4]),
            mtu: mtu.map(|bytes| Mtu::new(bytes).unwrap()),
            ..Settings::default()
        };
        NodeConfig::resolve(name("node1"), &[&settings])
    })
}

fn owned_link_name() -> impl Strategy<Value = LinkName> {
    select(&LINKS[2..]).prop_map(link_name)
}

fn owned_link() -> impl Strategy<Value = ObservedLink> {
    let kind = prop_oneof![5 => Just("vxlan"), 1 => Just("dummy")].prop_map(str::to_owned);
    let first = (kind, any::<[bool; 2]>(), select(&[1450_u32, 1430, 900][..]), option::of(mac()));
    let second =
        (select(&[4857_u32, 1][..]), select(&[4789_u16, 1][..]), option::of(address()), option::of(2..4_u32));
    (first, second).prop_map(|((kind, [up, learning], mtu, mac), (vni, port, local, uplink))| ObservedLink {
        index: IfIndex(50),
        kind,
        up,
        mtu,
        mac,
        vni,
        port,
        local,
        uplink: uplink.map(IfIndex),
        learning,
    })
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    (address(), select(LINKS).prop_map(link_name), any::<bool>())
        .prop_map(|(gateway, link, onlink)| NextHop { gateway, link, onlink })
}

fn nexthop_id() -> impl Strategy<Value = u32> + Clone {
    let base = mark::NEXTHOP_ID_BASE;
    prop_oneof![8 => base..base + 8, 1 => 1..4_u32, 1 => Just(base + (1 << 24) - 1)]
}

fn route() -> impl Strategy<Value = (RouteKey, ObservedRoute)> {
    let key = (select(&[254_u32, 254, 254, 100][..]), pod_cidr(), select(&[0_u32, 1024, 7][..]))
        .prop_map(|(table, dst, metric)| RouteKey { table, dst, metric });
    let target = prop_oneof![
        4 => nexthop_id().prop_map(ObservedTarget::Object),
        2 => next_hop().prop_map(ObservedTarget::Gateway),
        1 => Just(ObservedTarget::Other),
    ];
    let mtu = option::weighted(0.1, Just(Mtu::ETHERNET));
    (key, target, mtu).prop_map(|(key, target, mtu)| (key, ObservedRoute { target, mtu }))
}

fn owned_table() -> impl Strategy<Value = ObservedTable> {
    let masquerade = |family| Masquerade { family, fully_random: true };
    let structure = prop_oneof![
        3 => Just(Some(vec![masquerade(Family::V4), masquerade(Family::V6)])),
        1 => Just(Some(vec![masquerade(Family::V4)])),
        1 => Just(None),
    ];
    let sets = vec((select(&SetRole::ALL[..]), any::<bool>(), address(), pod_cidr()), 0..6);
    (structure, sets).prop_map(|(structure, elements)| {
        let mut sets: BTreeMap<SetName, BTreeSet<Cidr>> = BTreeMap::new();
        let families = structure.iter().flatten().map(|masquerade| masquerade.family);
        sets.extend(families.flat_map(SetName::of_family).map(|set| (set, BTreeSet::new())));
        for (role, v4, address, cidr) in elements {
            let name = SetName { role, family: if v4 { Family::V4 } else { Family::V6 } };
            let element = if name.is_interval() { cidr } else { Cidr::host(address) };
            if element.family() == name.family
                && let Some(set) = sets.get_mut(&name)
            {
                // As in the kernel, intervals don't overlap.
                if !set.iter().any(|held| held.overlaps(element)) {
                    set.insert(element);
                }
            }
        }
        ObservedTable { structure, sets }
    })
}

/// Any state that a kernel can be in, as far as what we own is concerned.
pub fn observed() -> impl Strategy<Value = Observed> {
    let on_link = || owned_link_name();
    let objects = btree_map(
        nexthop_id(),
        prop_oneof![6 => next_hop().prop_map(ObservedNextHop::Known), 1 => Just(ObservedNextHop::Other)],
        0..8,
    );
    let addresses = btree_set(
        (on_link(), address()).prop_map(|(link, address)| Address { link, address, prefix_len: 32 }),
        0..3,
    );
    let neighbours = btree_map(
        (select(LINKS).prop_map(link_name), address())
            .prop_map(|(link, address)| NeighbourKey { link, address }),
        mac(),
        0..5,
    );
    let fdb_entry = prop_oneof![4 => address().prop_map(ObservedFdb::Known), 1 => Just(ObservedFdb::Other)];
    let fdb = btree_map((on_link(), mac()).prop_map(|(link, mac)| FdbKey { link, mac }), fdb_entry, 0..5);
    let rule =
        (any::<bool>(), select(&[100_u32, 32_000][..]), select(&[100_u32, 7][..]), prop::bool::weighted(0.2))
            .prop_map(|(v4, priority, table, altered)| {
                let family = if v4 { Family::V4 } else { Family::V6 };
                ObservedRule { rule: Rule { family, priority, table }, altered }
            });
    let chain = (any::<bool>(), any::<bool>()).prop_map(|(nft, v4)| IptablesChain {
        backend: if nft { IptablesBackend::Nft } else { IptablesBackend::Legacy },
        family: if v4 { Family::V4 } else { Family::V6 },
    });
    let accepts = (
        vec(
            (pod_cidr(), any::<bool>()).prop_map(|(cidr, destination)| AcceptRule { cidr, destination }),
            0..3,
        ),
        any::<bool>(),
    )
        .prop_map(|(rules, first)| ObservedAccepts { rules, first });
    let first = (
        btree_map(on_link(), owned_link(), 0..3),
        addresses,
        objects,
        btree_set(nexthop_id(), 0..3),
        vec(route(), 0..8),
    );
    let second =
        (neighbours, fdb, btree_set(rule, 0..3), option::of(owned_table()), btree_map(chain, accepts, 0..3));
    (first, second).prop_map(
        |(
            (links, addresses, nexthops, foreign, routes),
            (neighbours, fdb, rules, table, forward_accepts),
        )| {
            consistent(Observed {
                links,
                addresses,
                nexthops: nexthops.into_iter().collect(),
                foreign_nexthop_ids: foreign,
                routes: routes.into_iter().collect(),
                neighbours,
                fdb,
                rules,
                table,
                forward_accepts,
                sysctls: host().sysctls,
            })
        },
    )
}

/// Leaves out what no kernel would hold: things on links that aren't there, routes to objects that aren't there.
fn consistent(mut observed: Observed) -> Observed {
    observed.foreign_nexthop_ids.retain(|id| !observed.nexthops.contains_key(id));
    // A rule is there altered or as we made it; the kernel could not tell which of two is meant.
    let altered: Vec<Rule> =
        observed.rules.iter().filter(|rule| rule.altered).map(|rule| rule.rule).collect();
    observed.rules.retain(|rule| rule.altered || !altered.contains(&rule.rule));
    for link in &LINKS[2..] {
        if !observed.links.contains_key(&link_name(link)) {
            super::kernel::flush_link(&mut observed, link_name(link));
        }
    }
    let known = |route: &ObservedRoute| match route.target {
        ObservedTarget::Object(id) => {
            observed.nexthops.contains_key(&id) || observed.foreign_nexthop_ids.contains(&id)
        }
        _ => true,
    };
    observed.routes =
        observed.routes.iter().filter(|(_, route)| known(route)).map(|(key, route)| (*key, *route)).collect();
    observed
}
