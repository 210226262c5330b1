//! Layouts: a topology with every name, address, MTU and route worked out. Pure; nothing is made here.

mod assign;
mod path;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use serde::{Deserialize, Serialize};

use crate::name::LabName;
use crate::topology::{Lies, SettingsValue, Topology, TopologyError, as_text};

pub(crate) use path::Path;

/// The name of the member whose namespace holds the bridges of all segments.
pub const SWITCH: &str = "switch";

/// A whole lab, worked out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The lab's name.
    pub lab: LabName,
    /// What it was worked out from.
    pub topology: Topology,
    /// Routers, nodes and outside hosts, in that order.
    pub members: Vec<Member>,
}

/// A router, node or outside host: a namespace with interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its name, unique in the lab.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its interfaces, `eth0` first.
    pub interfaces: Vec<Interface>,
    /// Its static routes.
    pub routes: Vec<StaticRoute>,
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It forwards between segments.
    Router,
    /// It runs the agent and has pods.
    Node(NodeRole),
    /// It is not of the cluster.
    Outside,
}

/// What a node has besides a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRole {
    /// Its pod CIDRs, one per family of the pod networks.
    #[serde(with = "as_text::list")]
    pub pod_cidrs: Vec<Cidr>,
    /// Its pods' names, which are full member names: `node1-pod1`.
    pub pods: Vec<String>,
    /// Its settings in the inventory.
    pub settings: SettingsValue,
    /// More arguments for its agent.
    pub agent_args: Vec<String>,
    /// Untruths in the inventory about it.
    pub lies: Lies,
}

/// A network interface on a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, `eth0` and so on.
    pub name: String,
    /// The segment that it is on.
    pub segment: String,
    /// The name of its port on the segment's bridge.
    pub port: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses with the length of the segment's prefix, IPv4 first.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Interface {
    /// Its address of one family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().map(|(address, _)| *address).find(|address| Family::of(*address) == family)
    }
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// The destination.
    #[serde(with = "as_text::single")]
    pub to: Cidr,
    /// The next hop.
    pub via: IpAddr,
}

/// Numbers that take the place of a topology's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// How many nodes. The topology's nodes are taken in order, again from the first when there are more.
    pub nodes: Option<usize>,
    /// How many pods each node gets.
    pub pods_per_node: Option<usize>,
}

impl Layout {
    /// Works a topology out, or says why its parts don't fit together.
    pub fn resolve(lab: LabName, topology: Topology, numbers: Numbers) -> Result<Layout, TopologyError> {
        assign::resolve(lab, topology, numbers)
    }

    /// The member of a name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (&Member, &NodeRole)> {
        self.members.iter().filter_map(|member| match &member.role {
            Role::Node(role) => Some((member, role)),
            Role::Router | Role::Outside => None,
        })
    }

    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<(&Member, &NodeRole)> {
        self.nodes().find(|(member, _)| member.name == name)
    }

    /// The node that has a pod.
    pub fn node_of_pod(&self, pod: &str) -> Option<(&Member, &NodeRole)> {
        self.nodes().find(|(_, role)| role.pods.iter().any(|name| name == pod))
    }

    /// All pods' names with their nodes, node by node.
    pub fn pods(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.nodes().flat_map(|(member, role)| role.pods.iter().map(move |pod| (pod.as_str(), member)))
    }

    /// The outside hosts.
    pub fn outside(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.role == Role::Outside)
    }

    /// Everything that has a namespace: the switch, the members, the pods.
    pub fn targets(&self) -> Vec<&str> {
        let members = self.members.iter().map(|member| member.name.as_str());
        std::iter::once(SWITCH).chain(members).chain(self.pods().map(|(pod, _)| pod)).collect()
    }

    /// The families that pods have addresses of.
    pub fn families(&self) -> Vec<Family> {
        let has = |family: &Family| self.topology.networks.pods.iter().any(|cidr| cidr.family() == *family);
        Family::BOTH.into_iter().filter(has).collect()
    }

    /// The MTU of a segment.
    pub(crate) fn segment_mtu(&self, segment: &str) -> u32 {
        let found = self.topology.segments.iter().find(|known| known.name == segment);
        found.map_or(1500, |segment| segment.mtu)
    }
}
