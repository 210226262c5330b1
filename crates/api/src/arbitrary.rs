//! Values for property tests: any view that a file can say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config::{PeerMode, Settings, UplinkSelector};
use hopwise_core::family::PerFamily;
use hopwise_core::l2::value::{DEFAULT_BRIDGE, Wanted};
use hopwise_core::name::{LinkName, MacAddr, Mtu, NodeName};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub fn cluster_view() -> impl Strategy<Value = ClusterView> {
    (networks(), settings(), btree_map(node_name(), node(), 0..6)).prop_map(|(networks, settings, nodes)| {
        let nodes =
            nodes.into_iter().map(|(name, node)| (name.clone(), Arc::new(Node { name, ..node }))).collect();
        ClusterView { networks, settings, nodes }
    })
}

pub fn node_name() -> impl Strategy<Value = NodeName> {
    // Names that YAML might take for something else belong to the set.
    prop_oneof![
        "[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?(\\.[a-z0-9]{1,4}){0,2}",
        Just("1".to_owned()),
        Just("0x1f".to_owned()),
        Just("1e3".to_owned()),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("no".to_owned()),
        Just("1.5".to_owned()),
    ]
    .prop_map(|name| name.parse().unwrap())
}

pub fn node_data() -> impl Strategy<Value = NodeData> {
    (option::of(mac()), option::of(mac()), option::of(mac()))
        .prop_map(|(v4, v6, vxlan_mac)| NodeData { link_mac: PerFamily { v4, v6 }, vxlan_mac })
}

fn l2() -> impl Strategy<Value = Wanted> {
    let name = LinkName::new_static;
    prop_oneof![Just(DEFAULT_BRIDGE), Just(name("br0"))]
        .prop_map(move |bridge| Wanted { uplink: name("eth1"), bridge })
}

pub fn settings() -> impl Strategy<Value = Settings> {
    let link = (
        option::of(prop_oneof![
            Just(PeerMode::Auto),
            Just(PeerMode::Direct),
            Just(PeerMode::Vxlan),
            Just(PeerMode::Fabric)
        ]),
        any::<Option<bool>>(),
        option::of(1u32..1 << 24),
        option::of(1u16..),
        option::of(uplink()),
        any::<(Option<bool>, Option<bool>)>(),
    );
    let rest = (
        any::<Option<bool>>(),
        option::of(vec(cidr(), 0..3)),
        option::of((1u32..).prop_filter("local", |table| *table != 255)),
        option::of(1u32..=32_765),
        any::<Option<u32>>(),
        any::<[Option<bool>; 3]>(),
        option::of((68u32..=65535).prop_map(|bytes| Mtu::new(bytes).unwrap())),
        option::of(l2()),
    );
    (link, rest).prop_map(|(link, rest)| Settings {
        mode: link.0,
        vxlan: link.1,
        vxlan_vni: link.2,
        vxlan_port: link.3,
        uplink: link.4,
        masquerade: PerFamily { v4: link.5.0, v6: link.5.1 },
        masquerade_random: rest.0,
        masquerade_exempt: rest.1,
        route_table: rest.2,
        rule_priority: rest.3,
        route_metric: rest.4,
        manage_sysctls: rest.5[0],
        forward_accept: rest.5[1],
        permanent_neighbours: rest.5[2],
        mtu: rest.6,
        l2: rest.7,
    })
}

fn networks() -> impl Strategy<Value = ClusterNetworks> {
    let half = |second: u8, net: u8| {
        vec(
            (0u8..=255).prop_map(move |third| {
                Cidr::containing(Ipv4Addr::new(net, second, third, 0).into(), 24).unwrap()
            }),
            0..3,
        )
    };
    let pods: Cidr = "10.244.0.0/16".parse().unwrap();
    (half(244, 10), half(96, 10), vec(cidr(), 0..3), any::<bool>()).prop_map(
        move |(fabric, services, nodes, six)| {
            let mut all = vec![pods];
            all.extend(six.then(|| "fd00:10:244::/48".parse::<Cidr>().unwrap()));
            ClusterNetworks { pods: all, services, nodes, fabric }
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    (
        btree_set(address(), 0..3),
        btree_set((0u8..=255, any::<bool>()), 0..4),
        node_data(),
        any::<bool>(),
        settings(),
    )
        .prop_map(|(addresses, blocks, data, windows, settings)| Node {
            name: "replaced".parse().unwrap(),
            addresses: addresses.into_iter().map(Claim::original).collect(),
            pod_cidrs: blocks
                .into_iter()
                .map(|(block, six)| {
                    let address: IpAddr = if six {
                        Ipv6Addr::new(0xfd00, 0x10, 0x244, block.into(), 0, 0, 0, 0).into()
                    } else {
                        Ipv4Addr::new(10, 244, block, 0).into()
                    };
                    Claim::original(Cidr::containing(address, if six { 64 } else { 24 }).unwrap())
                })
                .collect(),
            data,
            os: if windows { Os::Windows } else { Os::Linux },
            settings,
        })
}

fn uplink() -> impl Strategy<Value = UplinkSelector> {
    prop_oneof![
        Just(UplinkSelector::Auto),
        "[a-z0-9]{1,15}".prop_map(|name| UplinkSelector::Name(name.parse::<LinkName>().unwrap())),
        "(eth|en.*|a b: #'\"|[0-9]+|~|\\{x\\})"
            .prop_map(|text| UplinkSelector::NameRegex(regex::escape(&text))),
        address().prop_map(UplinkSelector::Address),
        address().prop_map(UplinkSelector::CanReach),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (address(), 0u8..=128).prop_map(|(address, len)| {
        Cidr::containing(address, if address.is_ipv4() { len / 4 } else { len }).unwrap()
    })
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(|mut bytes| {
        bytes[0] = bytes[0] & 0xfe | 0x02;
        MacAddr(bytes)
    })
}

/// The inventory of a cluster of many nodes, each with two addresses and two pod CIDRs.
pub fn large_inventory(n_nodes: usize) -> String {
    use std::fmt::Write;
    let mut text = "networks: {pods: [10.0.0.0/8, \"fd00::/16\"]}\nnodes:\n".to_owned();
    for i in 0..n_nodes {
        let (a, b) = (i >> 8, i & 255);
        writeln!(
            text,
            "  - name: node{i}\n    addresses: [172.16.{a}.{b}, \"2001:db8::{i:x}\"]\n    \
             podCIDRs: [10.{a}.{b}.0/24, \"fd00:{a:x}:{b:x}::/64\"]\n    mac: \"02:00:00:00:{a:02x}:{b:02x}\""
        )
        .unwrap();
    }
    text
}
