//! What the operator wants of one node.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::cidr::Cidr;
use crate::family::{Family, PerFamily};
use crate::l2::value::Wanted;
use crate::name::{LinkName, Mtu, NodeName};

/// How a peer is to be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerMode {
    /// Decided per peer from the kernel's own route lookup.
    #[default]
    Auto,
    /// A route through the peer's on-link address.
    Direct,
    /// Encapsulated in VXLAN (RFC 7348).
    Vxlan,
    /// The network between the nodes knows the pod CIDRs.
    Fabric,
}

/// A word that is none of the choices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is none of {choices}")]
pub struct UnknownChoice {
    /// What was given.
    pub value: String,
    /// What there is.
    pub choices: &'static str,
}

impl FromStr for PeerMode {
    type Err = UnknownChoice;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(PeerMode::Auto),
            "direct" => Ok(PeerMode::Direct),
            "vxlan" => Ok(PeerMode::Vxlan),
            "fabric" => Ok(PeerMode::Fabric),
            _ => Err(UnknownChoice { value: value.to_owned(), choices: "auto, direct, vxlan, fabric" }),
        }
    }
}

impl fmt::Display for PeerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PeerMode::Auto => "auto",
            PeerMode::Direct => "direct",
            PeerMode::Vxlan => "vxlan",
            PeerMode::Fabric => "fabric",
        })
    }
}

/// Which link carries the node's own traffic to its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UplinkSelector {
    /// The link that holds the node's own address from the store, else the one of the default route.
    #[default]
    Auto,
    /// The link of this name.
    Name(LinkName),
    /// The first link, by index, whose whole name matches this regular expression (`regex` crate syntax).
    NameRegex(String),
    /// The link that holds this address.
    Address(IpAddr),
    /// The link through which the kernel reaches this address.
    CanReach(IpAddr),
}

/// Settings that may be given for the cluster, for a node, or to one agent. The later win.
///
/// `None` means: not said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How peers are reached.
    pub mode: Option<PeerMode>,
    /// Whether `auto` may fall back to VXLAN for a peer off the link.
    pub vxlan: Option<bool>,
    /// VXLAN network identifier, 1 to 16,777,215.
    pub vxlan_vni: Option<u32>,
    /// VXLAN UDP port.
    pub vxlan_port: Option<u16>,
    /// Which link carries the node's traffic.
    pub uplink: Option<UplinkSelector>,
    /// Whether traffic from pods to outside the cluster takes the node's address.
    pub masquerade: PerFamily<Option<bool>>,
    /// Whether masquerade picks source ports at random (`fully-random`).
    pub masquerade_random: Option<bool>,
    /// Destinations outside the cluster that see pods' own addresses.
    pub masquerade_exempt: Option<Vec<Cidr>>,
    /// The routing table for routes to peers. 254 is `main`; another gets a policy rule that looks it up.
    pub route_table: Option<u32>,
    /// The priority of that policy rule.
    pub rule_priority: Option<u32>,
    /// The metric of routes to peers; kernel defaults (0 for IPv4, 1024 for IPv6) when not given.
    pub route_metric: Option<u32>,
    /// Whether forwarding, rp_filter and send_redirects sysctls are looked after.
    pub manage_sysctls: Option<bool>,
    /// Whether accepts are kept in an iptables `FORWARD` chain with policy `DROP`.
    pub forward_accept: Option<bool>,
    /// Whether on-link peers whose MAC is published get permanent neighbour entries.
    pub permanent_neighbours: Option<bool>,
    /// The MTU of the path between nodes, where the uplink's own is not the truth.
    pub mtu: Option<Mtu>,
    /// The link that is to be a port of the pods' bridge.
    pub l2: Option<Wanted>,
}

/// The settings of one node, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node that we are.
    pub node: NodeName,
    /// How peers are reached.
    pub mode: PeerMode,
    /// Whether `auto` may fall back to VXLAN.
    pub vxlan: bool,
    /// VXLAN network identifier.
    pub vxlan_vni: u32,
    /// VXLAN UDP port.
    pub vxlan_port: u16,
    /// Which link carries the node's traffic.
    pub uplink: UplinkSelector,
    /// Whether traffic from pods to outside the cluster takes the node's address.
    pub masquerade: PerFamily<bool>,
    /// Whether masquerade picks source ports at random.
    pub masquerade_random: bool,
    /// Destinations outside the cluster that see pods' own addresses.
    pub masquerade_exempt: Vec<Cidr>,
    /// The routing table for routes to peers.
    pub route_table: u32,
    /// The priority of the policy rule for it, where it is not `main`.
    pub rule_priority: u32,
    /// The metric of routes to peers, per family.
    pub route_metric: PerFamily<u32>,
    /// Whether sysctls are looked after.
    pub manage_sysctls: bool,
    /// Whether accepts are kept in an iptables `FORWARD` chain with policy `DROP`.
    pub forward_accept: bool,
    /// Whether on-link peers whose MAC is published get permanent neighbour entries.
    pub permanent_neighbours: bool,
    /// The MTU of the path between nodes, where the uplink's own is not the truth.
    pub mtu: Option<Mtu>,
    /// The link that is to be a port of the pods' bridge.
    pub l2: Option<Wanted>,
}

/// The number of the `main` routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The default VXLAN network identifier. Neither flannel's (1) nor Calico's (4096), so that both can run on one node.
pub const DEFAULT_VNI: u32 = 4857;

/// The default VXLAN port, as assigned by IANA.
pub const DEFAULT_VXLAN_PORT: u16 = 4789;

impl NodeConfig {
    /// Merges layers of settings, least important first, over the defaults.
    pub fn resolve(node: NodeName, layers: &[&Settings]) -> NodeConfig {
        fn last<'a, T>(layers: &[&'a Settings], pick: impl Fn(&'a Settings) -> Option<T>) -> Option<T> {
            layers.iter().rev().find_map(|layer| pick(layer))
        }
        let metric = last(layers, |s| s.route_metric);
        NodeConfig {
            node,
            mode: last(layers, |s| s.mode).unwrap_or_default(),
            vxlan: last(layers, |s| s.vxlan).unwrap_or(true),
            vxlan_vni: last(layers, |s| s.vxlan_vni).unwrap_or(DEFAULT_VNI),
            vxlan_port: last(layers, |s| s.vxlan_port).unwrap_or(DEFAULT_VXLAN_PORT),
            uplink: last(layers, |s| s.uplink.clone()).unwrap_or_default(),
            masquerade: PerFamily::from_fn(|family| {
                last(layers, |s| *s.masquerade.get(family)).unwrap_or(true)
            }),
            masquerade_random: last(layers, |s| s.masquerade_random).unwrap_or(true),
            masquerade_exempt: last(layers, |s| s.masquerade_exempt.clone()).unwrap_or_default(),
            route_table: last(layers, |s| s.route_table).unwrap_or(MAIN_TABLE),
            rule_priority: last(layers, |s| s.rule_priority).unwrap_or(32_000),
            route_metric: PerFamily::from_fn(|family| {
                metric.unwrap_or(match family {
                    Family::V4 => 0,
                    Family::V6 => 1024,
                })
            }),
            manage_sysctls: last(layers, |s| s.manage_sysctls).unwrap_or(true),
            forward_accept: last(layers, |s| s.forward_accept).unwrap_or(true),
            permanent_neighbours: last(layers, |s| s.permanent_neighbours).unwrap_or(true),
            mtu: last(layers, |s| s.mtu),
            l2: last(layers, |s| s.l2),
        }
    }
}
