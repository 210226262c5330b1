//! Notes on refused claims.

use std::net::IpAddr;

use super::claims::{Kind, Refusal};
use crate::cidr::Cidr;
use crate::cluster::{ClusterNetworks, Node};
use crate::name::NodeName;
use crate::note::{Note, Severity};

fn note(node: &Node, id: &'static str, evidence: String, fix: String) -> Note {
    Note { id, severity: Severity::Error, subject: format!("node {}", node.name), evidence, fix }
}

/// A pod CIDR was refused. `own` is this node's name.
pub(super) fn pod_cidr(
    node: &Node,
    cidr: Cidr,
    reason: &Refusal,
    networks: &ClusterNetworks,
    own: &NodeName,
) -> Note {
    let another = format!("give node {} another pod CIDR", node.name);
    let (id, evidence, fix) = match reason {
        Refusal::Senseless(what) => {
            ("pod-cidr-senseless", format!("its pod CIDR {cidr} overlaps {what}"), another)
        }
        Refusal::Outside => (
            "pod-cidr-outside",
            format!("its pod CIDR {cidr} is outside the pod networks {}", list(&networks.pods)),
            format!("{another}, or declare its network in networks.pods"),
        ),
        Refusal::Services(services) => (
            "pod-cidr-services",
            format!("its pod CIDR {cidr} overlaps the service range {services}"),
            another,
        ),
        Refusal::NodeNetwork(nodes) => {
            ("pod-cidr-underlay", format!("its pod CIDR {cidr} overlaps the node network {nodes}"), another)
        }
        Refusal::Taken { cidr: held, by } if by.kind == Kind::Address => (
            "pod-cidr-underlay",
            format!("its pod CIDR {cidr} holds {}, the address of node {}", held.address(), by.node),
            another,
        ),
        Refusal::Taken { cidr: held, by } if by.node == *own => {
            ("pod-cidr-ours", format!("its pod CIDR {cidr} overlaps {held}, which is this node's"), another)
        }
        Refusal::Taken { cidr: held, by } => (
            "pod-cidr-overlap",
            format!("its pod CIDR {cidr} overlaps {held}, which node {} claimed before", by.node),
            another,
        ),
    };
    note(node, id, evidence, fix)
}

/// An address was refused. `own` is this node's name.
pub(super) fn address(
    node: &Node,
    address: IpAddr,
    reason: &Refusal,
    networks: &ClusterNetworks,
    own: &NodeName,
) -> Note {
    let correct = format!("correct the address of node {}", node.name);
    let (id, evidence, fix) = match reason {
        Refusal::Senseless(what) => {
            ("node-address-senseless", format!("its address {address} is {what}"), correct)
        }
        Refusal::Outside => (
            "node-address-outside",
            format!("its address {address} is outside the node networks {}", list(&networks.nodes)),
            format!("{correct}, or declare its network in networks.nodes"),
        ),
        Refusal::Services(services) => (
            "node-address-services",
            format!("its address {address} is in the service range {services}"),
            correct,
        ),
        Refusal::NodeNetwork(nodes) => {
            ("node-address-outside", format!("its address {address} is in {nodes}"), correct)
        }
        Refusal::Taken { cidr: held, by } if by.kind == Kind::PodCidr => (
            "node-address-in-pod-cidr",
            format!("its address {address} is in {held}, the pod CIDR of node {}", by.node),
            correct,
        ),
        Refusal::Taken { by, .. } if by.node == *own => return address_is_ours(node, address),
        Refusal::Taken { by, .. } => (
            "node-address-taken",
            format!("its address {address} is that of node {}, which claimed it before", by.node),
            correct,
        ),
    };
    note(node, id, evidence, fix)
}

/// A peer says that it has an address of this host.
pub(super) fn address_is_ours(node: &Node, address: IpAddr) -> Note {
    note(
        node,
        "node-address-ours",
        format!("its address {address} is one of this node's own"),
        format!("correct the address of node {}", node.name),
    )
}

/// A peer says that it has the broadcast address of a subnet of this host.
pub(super) fn address_is_broadcast(node: &Node, address: IpAddr) -> Note {
    note(
        node,
        "node-address-senseless",
        format!("its address {address} is the broadcast address of a subnet"),
        format!("correct the address of node {}", node.name),
    )
}

/// A peer's pod CIDR stands, and is the very one that this node serves.
pub(super) fn served_here(node: &Node, cidr: Cidr) -> Note {
    note(
        node,
        "pod-cidr-ours",
        format!("its pod CIDR {cidr} is the one that this node serves; it was the first to claim it"),
        "give this node another pod CIDR, and restart its pods".to_owned(),
    )
}

/// This node's own claim was refused: peers send its pods' packets elsewhere, or nowhere.
pub(super) fn own(node: &Node, id: &'static str, refused: Note) -> Note {
    Note { id, subject: format!("this node ({})", node.name), ..refused }
}

fn list(cidrs: &[Cidr]) -> String {
    if cidrs.is_empty() {
        return "(none declared)".to_owned();
    }
    let texts: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
    texts.join(", ")
}
