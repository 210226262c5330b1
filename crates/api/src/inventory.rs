//! The inventory: one YAML file that describes a cluster (`docs/inventory.md` has every field).
//!
//! [`parse`] reads it into a [`ClusterView`], [`render`] writes one. What can't be meant is an error with file, line,
//! column, field, value and fix. What could be meant but is a lie (two nodes that claim the same pod CIDR, an address
//! outside the declared networks) is *not* an error here: the planner refuses just that claim, with a note, and all other
//! nodes keep working.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config;
use hopwise_core::name::NodeName;
use serde_saphyr::FlowSeq;

use crate::field::{self, FieldError, PerFamily};
use crate::settings;

mod lan;
mod locate;
mod syntax;
#[cfg(test)]
mod tests;
mod wire;

pub use lan::{DEFAULT_PER_NODE, LanPlan};

/// Why a file is not an inventory. Prints as `FILE:LINE:COLUMN: FIELD: MESSAGE; FIX`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {field}{}{message}; {fix}", file.display(), if field.is_empty() { "" } else { ": " })]
pub struct InventoryError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: u64,
    /// The column in characters, counted from 1.
    pub column: u64,
    /// The way to the value, such as `nodes[2].podCIDRs[0]`; empty when the file is not even YAML.
    pub field: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// Reads an inventory. `file` is only named in errors.
///
/// Every claim has seniority 0 (as old as the cluster): a file can't say who came first. The store can.
pub fn parse(text: &str, file: &Path) -> Result<ClusterView, InventoryError> {
    read(text, file, cluster_view)
}

/// Reads what an inventory says of a LAN whose hosts the pods are, and of the slices of it that nodes have; `None` where
/// there is no `networks.lan`. No part of the [`ClusterView`]: routes don't depend on it.
pub fn parse_lan(text: &str, file: &Path) -> Result<Option<LanPlan>, InventoryError> {
    read(text, file, lan::plan)
}

fn read<T>(
    text: &str,
    file: &Path,
    convert: impl FnOnce(&wire::Inventory) -> Result<T, FieldError>,
) -> Result<T, InventoryError> {
    let wire: wire::Inventory = serde_saphyr::from_str_with_options(text, yaml_options(text))
        .map_err(|error| syntax::explain(&error, text, file))?;
    convert(&wire).map_err(|error| {
        let place = locate::Document::read(text)
            .map_or(locate::Place { line: 1, column: 1 }, |document| document.place(&error.path));
        InventoryError {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            field: error.path.to_string(),
            message: error.message,
            fix: error.fix,
        }
    })
}

/// Writes a view as an inventory that [`parse`] reads back as the same view, but for the seniority of claims, which the
/// file has no place for. Nothing of a LAN is written: the view has nothing of it.
pub fn render(view: &ClusterView) -> String {
    let networks = &view.networks;
    let wire = wire::Inventory {
        networks: wire::Networks {
            pods: texts(&networks.pods),
            services: texts(&networks.services),
            nodes: texts(&networks.nodes),
            fabric: texts(&networks.fabric),
            lan: None,
        },
        settings: (&view.settings).into(),
        nodes: Some(view.nodes.values().map(|node| wire_node(node)).collect()),
    };
    let options = serde_saphyr::ser_options! { compact_list_indent: false };
    let yaml = serde_saphyr::to_string_with_options(&wire, options)
        .expect("strings, numbers and lists can always be written");
    format!("# hopwise inventory, version 1\n{yaml}")
}

/// Limits for the YAML reader. They stop documents that grow when read (aliases of aliases), not large clusters: all
/// that counts what stands in the text is set to what a text of this size can hold at most.
fn yaml_options(text: &str) -> serde_saphyr::Options {
    let most = text.len().saturating_mul(2).max(1_000_000);
    let mut budget = serde_saphyr::Budget::default();
    budget.max_events = most;
    budget.max_nodes = most;
    budget.max_aliases = most;
    budget.max_anchors = most;
    budget.max_merge_keys = most;
    budget.max_documents = 2;
    budget.max_total_scalar_bytes = most.max(64 << 20);
    budget.enforce_alias_anchor_ratio = false;
    serde_saphyr::options! {
        budget: Some(budget),
        emit_comments: false,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn cluster_view(wire: &wire::Inventory) -> Result<ClusterView, FieldError> {
    let networks = networks(&wire.networks).map_err(|error| error.under("networks"))?;
    lan::plan(wire)?;
    let settings = config::Settings::try_from(&wire.settings).map_err(|error| error.under("settings"))?;
    let entries = wire.nodes.as_ref().ok_or_else(|| {
        FieldError::new("there are no nodes", "list them; if there are to be none, write `nodes: []`")
            .under("nodes")
    })?;
    let mut nodes = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let node = node(entry).map_err(|error| error.at(index).under("nodes"))?;
        let name = node.name.clone();
        if nodes.insert(name.clone(), Arc::new(node)).is_some() {
            let first = entries.iter().position(|e| e.name == entry.name).unwrap_or_default();
            return Err(FieldError::new(
                format!("node {name} stands here and in nodes[{first}]"),
                "give each node one entry",
            )
            .under("name")
            .at(index)
            .under("nodes"));
        }
    }
    Ok(ClusterView { networks, settings, nodes })
}

fn networks(wire: &wire::Networks) -> Result<ClusterNetworks, FieldError> {
    let list = |key: &'static str, values: &FlowSeq<Vec<String>>| {
        field::cidrs(&values.0).map_err(|error| error.under(key))
    };
    let networks = ClusterNetworks {
        pods: list("pods", &wire.pods)?,
        services: list("services", &wire.services)?,
        nodes: list("nodes", &wire.nodes)?,
        fabric: list("fabric", &wire.fabric)?,
    };
    if networks.pods.is_empty() {
        return Err(FieldError::new(
            "there is no pod network, so that no pod CIDR can be taken",
            "list the networks that pod CIDRs are cut from, for example [10.244.0.0/16]",
        )
        .under("pods"));
    }
    for (index, service) in networks.services.iter().enumerate() {
        if let Some(pods) = networks.pods.iter().find(|pods| pods.overlaps(*service)) {
            return Err(FieldError::new(
                format!("the service range {service} overlaps the pod network {pods}"),
                "make one of them smaller or move it",
            )
            .at(index)
            .under("services"));
        }
    }
    for (index, fabric) in networks.fabric.iter().enumerate() {
        if !networks.pods.iter().any(|pods| pods.contains_cidr(*fabric)) {
            return Err(FieldError::new(
                format!("{fabric} is in none of the pod networks"),
                "list only parts of networks.pods here: those that the routers between the nodes know",
            )
            .at(index)
            .under("fabric"));
        }
    }
    Ok(networks)
}

fn node(wire: &wire::Node) -> Result<Node, FieldError> {
    let name: NodeName = wire.name.parse().map_err(|_| {
        FieldError::new(
            format!("{:?} is not a node name", wire.name),
            "use lower-case letters, digits, '-' and '.', at most 253 characters, as `kubectl get nodes` shows it",
        )
        .under("name")
    })?;
    let addresses = addresses(&wire.addresses.0).map_err(|error| error.under("addresses"))?;
    let pod_cidrs = pod_cidrs(&wire.pod_cidrs.0).map_err(|error| error.under("podCIDRs"))?;
    let link_mac = match &wire.mac {
        Some(mac) => mac.convert(|value| field::mac(value)).map_err(|error| error.under("mac"))?,
        None => hopwise_core::family::PerFamily::default(),
    };
    let vxlan_mac =
        wire.vxlan_mac.as_deref().map(field::mac).transpose().map_err(|error| error.under("vxlanMac"))?;
    let settings = config::Settings::try_from(&wire.settings).map_err(|error| error.under("settings"))?;
    Ok(Node {
        name,
        addresses,
        pod_cidrs,
        data: NodeData { link_mac, vxlan_mac },
        os: wire.os.as_deref().map_or(Ok(Os::Linux), os)?,
        settings,
    })
}

fn addresses(values: &[String]) -> Result<Vec<Claim<IpAddr>>, FieldError> {
    let mut addresses: Vec<Claim<IpAddr>> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let address = field::address(value).map_err(|error| error.at(index))?;
        if addresses.iter().any(|claim| claim.value == address) {
            return Err(
                FieldError::new(format!("{address} stands here twice"), "keep one of the two").at(index)
            );
        }
        addresses.push(Claim::original(address));
    }
    Ok(addresses)
}

fn pod_cidrs(values: &[String]) -> Result<Vec<Claim<Cidr>>, FieldError> {
    let mut cidrs: Vec<Claim<Cidr>> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let cidr = field::cidr(value).map_err(|error| error.at(index))?;
        if let Some(other) = cidrs.iter().find(|other| other.value.overlaps(cidr)) {
            return Err(FieldError::new(
                format!("{cidr} overlaps {}, another pod CIDR of this node", other.value),
                "keep one of the two, or make them disjoint",
            )
            .at(index));
        }
        cidrs.push(Claim::original(cidr));
    }
    Ok(cidrs)
}

fn os(value: &str) -> Result<Os, FieldError> {
    match value {
        "linux" => Ok(Os::Linux),
        "windows" => Ok(Os::Windows),
        _ => Err(FieldError::new(format!("{value:?} is not an operating system"), "write linux or windows")
            .under("os")),
    }
}

fn wire_node(node: &Node) -> wire::Node {
    let data = &node.data;
    wire::Node {
        name: node.name.to_string(),
        addresses: texts(node.addresses.iter().map(|claim| claim.value)),
        pod_cidrs: texts(node.pod_cidrs.iter().map(|claim| claim.value)),
        mac: PerFamily::from_pair(
            data.link_mac.v4.map(|mac| mac.to_string()),
            data.link_mac.v6.map(|mac| mac.to_string()),
        ),
        vxlan_mac: data.vxlan_mac.map(|mac| mac.to_string()),
        os: match node.os {
            Os::Linux => None,
            Os::Windows => Some("windows".to_owned()),
        },
        slices: FlowSeq(Vec::new()),
        settings: settings::Settings::from(&node.settings),
    }
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> FlowSeq<Vec<String>> {
    FlowSeq(values.into_iter().map(|value| value.to_string()).collect())
}
