//! A small cluster, arbitrary ones, and a kernel to try changes on.
#![expect(clippy::unwrap_used, reason = "what tests are written with is known to be right")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod arbitrary;
pub mod kernel;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config::{NodeConfig, Settings};
use hopwise_core::family::Family;
use hopwise_core::host::{ForeignRoute, HostView, Link, LinkAddress, Lookup, SysctlKey, SysctlLink};
use hopwise_core::name::{IfIndex, LinkName, NodeName};
use hopwise_core::plan::NodePlan;

pub fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub fn link_name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// A node all of whose claims are as old as the cluster.
pub fn node(node_name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        name: name(node_name),
        addresses: addresses.iter().map(|text| Claim::original(ip(text))).collect(),
        pod_cidrs: pod_cidrs.iter().map(|text| Claim::original(cidr(text))).collect(),
        data: NodeData::default(),
        os: Os::Linux,
        settings: Settings::default(),
    }
}

/// The same node with all its claims made at another time.
pub fn since(since: u64, mut node: Node) -> Node {
    node.addresses.iter_mut().for_each(|claim| claim.since = since);
    node.pod_cidrs.iter_mut().for_each(|claim| claim.since = since);
    node
}

pub fn networks() -> ClusterNetworks {
    ClusterNetworks {
        pods: vec![cidr("10.244.0.0/16"), cidr("fd00:10:244::/48")],
        services: vec![cidr("10.96.0.0/12"), cidr("fd00:10:96::/112")],
        nodes: vec![cidr("192.168.0.0/16"), cidr("fd00:1::/32")],
        fabric: Vec::new(),
    }
}

pub fn view(nodes: Vec<Node>) -> ClusterView {
    ClusterView {
        networks: networks(),
        settings: Settings::default(),
        nodes: nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node))).collect(),
    }
}

/// node1 is us; node2 is on the link, node3 behind a router.
pub fn three_nodes() -> ClusterView {
    view(vec![
        node("node1", &["192.168.0.1", "fd00:1::1"], &["10.244.1.0/24", "fd00:10:244:1::/64"]),
        node("node2", &["192.168.0.2", "fd00:1::2"], &["10.244.2.0/24", "fd00:10:244:2::/64"]),
        node("node3", &["192.168.1.3", "fd00:1:1::3"], &["10.244.3.0/24", "fd00:10:244:3::/64"]),
    ])
}

pub fn link(index: u32, link_name: &str, mac: &str) -> Link {
    Link {
        index: IfIndex(index),
        name: link_name.parse().unwrap(),
        kind: String::new(),
        mac: Some(mac.parse().unwrap()),
        mtu: 1500,
        up: true,
        carrier: true,
        loopback: false,
        master: None,
        alias: String::new(),
    }
}

pub fn held(index: u32, address: &str, prefix_len: u8) -> LinkAddress {
    LinkAddress { link: IfIndex(index), address: ip(address), prefix_len, global: true, unusable: false }
}

pub fn foreign(dst: &str, gateway: Option<&str>, link: u32) -> ForeignRoute {
    ForeignRoute {
        table: 254,
        dst: cidr(dst),
        metric: if dst.contains(':') { 1024 } else { 0 },
        protocol: 4,
        gateway: gateway.map(ip),
        link: Some(IfIndex(link)),
    }
}

/// The host of node1: eth0 with 192.168.0.1 and fd00:1::1, and a router.
pub fn host() -> HostView {
    let mut host = HostView::default();
    let mut lo = link(1, "lo", "00:00:00:00:00:00");
    (lo.loopback, lo.mtu) = (true, 65536);
    for link in [lo, link(2, "eth0", "02:00:00:00:00:01"), link(3, "eth1", "02:00:00:00:01:01")] {
        host.links.insert(link.index, link);
    }
    host.addresses = vec![
        LinkAddress { global: false, ..held(1, "127.0.0.1", 8) },
        held(2, "192.168.0.1", 24),
        held(2, "fd00:1::1", 64),
    ];
    host.routes =
        vec![foreign("0.0.0.0/0", Some("192.168.0.254"), 2), foreign("::/0", Some("fd00:1::fe"), 2)];
    for (address, lookup) in [
        ("192.168.0.2", on_link(2)),
        ("fd00:1::2", on_link(2)),
        ("192.168.1.3", via(2, "192.168.0.254")),
        ("fd00:1:1::3", via(2, "fd00:1::fe")),
    ] {
        host.lookups.insert(ip(address), lookup);
    }
    let eth0 = SysctlLink::Link(link_name("eth0"));
    for (key, value) in [
        (SysctlKey::Forwarding(Family::V4), "0"),
        (SysctlKey::Forwarding(Family::V6), "0"),
        (SysctlKey::AcceptRa(eth0), "1"),
        (SysctlKey::RpFilter(SysctlLink::All), "0"),
        (SysctlKey::RpFilter(eth0), "1"),
        (SysctlKey::SendRedirects(SysctlLink::All), "1"),
        (SysctlKey::SendRedirects(SysctlLink::Default), "1"),
        (SysctlKey::SendRedirects(eth0), "1"),
    ] {
        host.sysctls.insert(key, value.to_owned());
    }
    host
}

pub fn on_link(link: u32) -> Lookup {
    Lookup::OnLink { link: IfIndex(link) }
}

pub fn via(link: u32, gateway: &str) -> Lookup {
    Lookup::Via { link: IfIndex(link), gateway: ip(gateway) }
}

pub fn config() -> NodeConfig {
    NodeConfig::resolve(name("node1"), &[])
}

/// The configuration with these settings.
pub fn with(settings: &Settings) -> NodeConfig {
    NodeConfig::resolve(name("node1"), &[settings])
}

/// Every peer with its routes, neighbours and notes, then the node.
pub fn text(plan: &NodePlan) -> String {
    let mut text = String::new();
    for (name, families) in &plan.peers {
        for (family, peer) in families.iter().filter_map(|(family, peer)| Some((family, peer.as_ref()?))) {
            let address = peer.address.map_or("-".to_owned(), |address| address.to_string());
            let _ = writeln!(text, "{name} {family} {address}: {:?} {:?}", peer.reach, peer.pod_cidrs);
            for route in &peer.routes {
                let _ = writeln!(text, "  route {route}");
            }
            for neighbour in &peer.neighbours {
                let _ = writeln!(
                    text,
                    "  neighbour {} dev {} {}",
                    neighbour.key.address, neighbour.key.link, neighbour.mac
                );
            }
            for entry in &peer.fdb {
                let _ = writeln!(text, "  fdb {} dev {} dst {}", entry.key.mac, entry.key.link, entry.dst);
            }
            for note in &peer.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
    }
    text
}

pub fn notes(plan: &NodePlan) -> String {
    plan.notes().map(|note| format!("{note}\n")).collect()
}
