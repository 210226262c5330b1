//! Planning: from the whole state to the whole desired state of this node.
//!
//! - `claims`, `macs`: what nodes say of themselves, and who is believed; `refusal` puts it into words.
//! - `site`, `uplink`: this node's place in the network.
//! - `peer`: one peer in one family; sees the other peers only through the verdicts on its claims.
//! - `node`, `sysctl`: the rest.
//! - `planner`: all of it, again and again, at the cost of what changed.

mod claims;
mod lookup;
mod macs;
mod node;
mod peer;
mod planner;
mod refusal;
mod routes;
mod site;
mod sysctl;
mod uplink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::cluster::{ClusterView, NodeData};
use crate::config::NodeConfig;
use crate::family::PerFamily;
use crate::host::{HostView, IptablesChain, SysctlKey};
use crate::name::{IfIndex, LinkName, MacAddr, Mtu, NodeName};
use crate::netfilter::Table;
use crate::note::Note;
pub use planner::Planner;

use crate::object::{Address, FdbEntry, Neighbour, Route, Rule, VxlanLink};

/// How a peer is reached in one family, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// `peerCIDR via peerIP dev uplink`.
    Direct,
    /// Neighbour, FDB entry and onlink route on our VXLAN device.
    Vxlan,
    /// The network between the nodes knows; at most a route to the same gateway as the peer itself.
    Fabric,
    /// Nothing fits: no route; a note says why.
    Unreachable,
}

/// What is planned for one peer in one family. Peers' objects are disjoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPlan {
    /// How it is reached.
    pub reach: Reach,
    /// The peer's address that routes lead to: the first that was not refused.
    pub address: Option<IpAddr>,
    /// Its further addresses, those refused left out.
    pub other_addresses: Box<[IpAddr]>,
    /// Its pod CIDRs, those refused left out.
    pub pod_cidrs: Box<[Cidr]>,
    /// Routes.
    pub routes: Box<[Route]>,
    /// Neighbour entries.
    pub neighbours: Box<[Neighbour]>,
    /// FDB entries.
    pub fdb: Box<[FdbEntry]>,
    /// Findings about this peer.
    pub notes: Box<[Note]>,
}

/// The link and address that carry this node's traffic in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The link.
    pub link: LinkName,
    /// Its index.
    pub index: IfIndex,
    /// The node's address on it.
    pub address: IpAddr,
    /// The path MTU that it gives: the configured one, else the link's own.
    pub mtu: Mtu,
    /// The link's MAC address.
    pub mac: Option<MacAddr>,
}

/// What is planned for the node apart from its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWide {
    /// Uplinks.
    pub uplink: PerFamily<Option<Uplink>>,
    /// VXLAN devices.
    pub links: Vec<VxlanLink>,
    /// Addresses on them.
    pub addresses: Vec<Address>,
    /// Policy rules.
    pub rules: Vec<Rule>,
    /// The nftables structure and the sets that don't depend on peers.
    pub table: Option<Table>,
    /// Pod networks to accept in iptables `FORWARD` chains whose policy is `DROP`.
    pub forward_accepts: Vec<Cidr>,
    /// The chains with that policy.
    pub forward_chains: Vec<IptablesChain>,
    /// Sysctls and the values that they should have, in the order of writing.
    pub sysctls: Vec<(SysctlKey, String)>,
    /// Our own pod CIDRs.
    pub pod_cidrs: Vec<Cidr>,
    /// The MTU for pods' interfaces.
    pub pod_mtu: Option<Mtu>,
    /// What to publish about this node.
    pub publish: NodeData,
    /// Findings about this node or the cluster.
    pub notes: Vec<Note>,
}

/// The whole desired state of this node, with notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePlan {
    /// What is planned per peer. A family in which a peer has neither address nor pod CIDR is `None`. Boxed, since most
    /// clusters have one family, and an agent has to be small on a node of 5,000 peers.
    pub peers: BTreeMap<NodeName, PerFamily<Option<Box<PeerPlan>>>>,
    /// What is planned besides.
    pub node: NodeWide,
}

impl NodePlan {
    /// All notes: the node's, then each peer's, in order of names.
    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.node.notes.iter().chain(self.peer_plans().flat_map(|plan| plan.notes.iter()))
    }

    /// The plans of all peers in both families, in order of names.
    pub fn peer_plans(&self) -> impl Iterator<Item = &PeerPlan> + Clone {
        self.peers.values().flat_map(|plan| plan.v4.iter().chain(&plan.v6)).map(|plan| &**plan)
    }
}

/// Plans this node's network. Whoever plans again and again keeps a [`Planner`].
pub fn plan(view: &ClusterView, host: &HostView, config: &NodeConfig) -> NodePlan {
    Planner::new(view.clone(), host.clone(), config.clone()).into_plan()
}

/// The addresses whose kernel route lookups [`plan`] wants in [`HostView::lookups`].
pub fn lookup_targets(view: &ClusterView, config: &NodeConfig) -> BTreeSet<IpAddr> {
    lookup::targets(view, config).collect()
}

/// The sysctls whose values [`plan`] wants in [`HostView::sysctls`].
pub fn sysctl_keys(host: &HostView) -> Vec<SysctlKey> {
    sysctl::keys(host)
}
