//! What the store says about the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::cidr::Cidr;
use crate::config::Settings;
use crate::family::{Family, PerFamily};
use crate::name::{MacAddr, NodeName};

/// A complete view of the cluster. A store that has not finished its first list has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// What the operator declared for the cluster as a whole.
    pub networks: ClusterNetworks,
    /// Settings that hold for every node unless the node or the agent's own configuration says otherwise.
    pub settings: Settings,
    /// Every node, ourselves included.
    pub nodes: BTreeMap<NodeName, Arc<Node>>,
}

/// The networks that the operator declared. They bound what a node may say of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNetworks {
    /// The networks that pod CIDRs are cut from. A pod CIDR outside them is refused.
    pub pods: Vec<Cidr>,
    /// The service ranges. A pod CIDR or node address in them is refused.
    pub services: Vec<Cidr>,
    /// The networks that nodes' addresses are in. Empty: any unicast address is taken.
    pub nodes: Vec<Cidr>,
    /// Parts of the pod networks that the routers between the nodes know how to reach: peers there need nothing in the
    /// kernel beyond the route to the router (mode `fabric`).
    pub fabric: Vec<Cidr>,
}

/// One node, as the store knows it. Untrusted: a Node object is written by its kubelet.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its addresses; the first of each family is the one peers route to.
    pub addresses: Vec<Claim<IpAddr>>,
    /// The pod CIDRs that it serves, any number, of either family.
    pub pod_cidrs: Vec<Claim<Cidr>>,
    /// What its agent says about itself.
    pub data: NodeData,
    /// Its operating system.
    pub os: Os,
    /// Settings for this node: its own agent follows all of them, peers follow `mode` towards it.
    pub settings: Settings,
}

impl Node {
    /// The address of one family that peers route to.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(|claim| claim.value).find(|address| Family::of(*address) == family)
    }

    /// The pod CIDRs of one family.
    pub fn pod_cidrs(&self, family: Family) -> impl Iterator<Item = Cidr> {
        self.pod_cidrs.iter().map(|claim| claim.value).filter(move |cidr| cidr.family() == family)
    }
}

/// A value that a node claims for itself, with the seniority of the claim.
///
/// Two nodes can't own the same addresses. When claims collide the senior one stands and the other is refused, so that a
/// newcomer (or a node that changes its story) can't take over what another node has. The store keeps `since` for as long
/// as the same node makes the same claim. Equal seniority is decided by node name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim<T> {
    /// When the claim was first seen, in any unit that grows with time; lower is senior.
    pub since: u64,
    /// What is claimed.
    pub value: T,
}

impl<T> Claim<T> {
    /// A claim as old as the cluster.
    pub fn original(value: T) -> Claim<T> {
        Claim { since: 0, value }
    }
}

/// What a node's agent publishes about its node, for peers to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeData {
    /// The MAC address of the link that holds the node's address, per family; lets on-link peers have a permanent
    /// neighbour entry instead of asking with ARP or neighbour discovery.
    pub link_mac: PerFamily<Option<MacAddr>>,
    /// The MAC address of its VXLAN devices; [`crate::mark::vxlan_mac`] where it says nothing.
    pub vxlan_mac: Option<MacAddr>,
}

/// A node's operating system, as far as routing to it is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Os {
    /// Linux.
    #[default]
    Linux,
    /// Windows: reached by plain routes only.
    Windows,
}

/// A change of the cluster view, for stores that can tell what changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewDelta {
    /// Nodes that are new or have changed.
    pub upserted: Vec<Arc<Node>>,
    /// Nodes that are gone.
    pub removed: Vec<NodeName>,
}
