//! Topologies: what a lab consists of, as a YAML file says it.
//!
//! A topology names segments (one Ethernet each), routers between them, nodes, and hosts outside the cluster. It says
//! nothing about single addresses: [`crate::layout::Layout`] works those out. The format is described in `docs/lab.md`.

pub(crate) mod as_text;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use hopwise_core::cidr::Cidr;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The settings of an inventory, as they stand there; the inventory's own parser checks them.
pub type SettingsValue = Map<String, Value>;

/// A topology file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// What it is good for, in a line.
    #[serde(default)]
    pub description: String,
    /// The networks that the inventory declares.
    #[serde(default)]
    pub networks: Networks,
    /// Settings for the cluster as a whole, as in an inventory.
    #[serde(default)]
    pub settings: SettingsValue,
    /// The Ethernet segments.
    pub segments: Vec<Segment>,
    /// The routers between them.
    #[serde(default)]
    pub routers: Vec<Router>,
    /// The nodes.
    pub nodes: Vec<NodeGroup>,
    /// Hosts that don't belong to the cluster.
    #[serde(default)]
    pub outside: Vec<OutsideHost>,
    /// How many pods each node gets that does not say otherwise.
    #[serde(default = "default_pods")]
    pub pods_per_node: usize,
}

fn default_pods() -> usize {
    2
}

/// The networks that the inventory declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Networks {
    /// The pod networks, at most one of each family. Node number N gets the N-th /24 or /64 of each.
    #[serde(with = "as_text::list", default = "default_pod_networks")]
    pub pods: Vec<Cidr>,
    /// The service ranges.
    #[serde(with = "as_text::list", default)]
    pub services: Vec<Cidr>,
    /// The networks of nodes' addresses. Empty: the segments that have nodes.
    #[serde(with = "as_text::list", default)]
    pub nodes: Vec<Cidr>,
    /// The pod networks that routers are declared to know.
    #[serde(with = "as_text::list", default)]
    pub fabric: Vec<Cidr>,
}

impl Default for Networks {
    fn default() -> Self {
        Networks { pods: default_pod_networks(), services: Vec::new(), nodes: Vec::new(), fabric: Vec::new() }
    }
}

fn default_pod_networks() -> Vec<Cidr> {
    vec![Cidr::containing([10, 244, 0, 0].into(), 16).expect("16 bits fit an IPv4 address")]
}

/// One Ethernet segment: a bridge in the switch namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Segment {
    /// Its name, which is the bridge's too.
    pub name: String,
    /// Its subnets, at most one of each family.
    #[serde(with = "as_text::list")]
    pub cidrs: Vec<Cidr>,
    /// The MTU of everything on it, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
}

fn default_mtu() -> u32 {
    1500
}

/// A router. The first router of a segment is the default gateway of the nodes and hosts there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// The segments that it joins.
    pub segments: Vec<String>,
    /// Whether it has routes to the nodes' pod CIDRs.
    #[serde(default)]
    pub knows_pod_cidrs: bool,
}

/// One node, or several alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeGroup {
    /// The name; without one, nodes are numbered through: `node1`, `node2`, ….
    #[serde(default)]
    pub name: Option<String>,
    /// How many; more than one only without a name.
    #[serde(default = "default_count")]
    pub count: usize,
    /// The segment of its uplink.
    pub segment: String,
    /// The MTU of its uplink where it is less than the segment's, in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Settings for the node in the inventory.
    #[serde(default)]
    pub settings: SettingsValue,
    /// More arguments for its agent.
    #[serde(default)]
    pub agent_args: Vec<String>,
    /// How many pods it gets.
    #[serde(default)]
    pub pods: Option<usize>,
    /// Untruths in the inventory about this node.
    #[serde(default)]
    pub lies: Lies,
}

fn default_count() -> usize {
    1
}

/// What the inventory claims of a node though it isn't so: for tests of how others take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lies {
    /// More pod CIDRs, as text: they need not be well-formed.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// More addresses, listed before the true ones.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// A host outside the cluster. It knows nothing of pods: an answer to a pod's own address goes to its default gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutsideHost {
    /// Its name.
    pub name: String,
    /// The segment that it is on.
    pub segment: String,
    /// Its routes in place of a default route through the segment's first router.
    #[serde(default)]
    pub routes: Vec<HostRoute>,
}

/// A route of an outside host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRoute {
    /// The destination.
    #[serde(with = "as_text::single")]
    pub to: Cidr,
    /// The router or node that it goes through.
    pub via: String,
}

/// Why a topology can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// There is no built-in topology or file of that name.
    #[error("no topology {name:?}: give a file, or one of {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The built-in ones.
        known: String,
    },
    /// The file can't be read.
    #[error("topology {}: {message}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Not YAML of this form.
    #[error("topology {file}: {message}")]
    Syntax {
        /// The file, or the built-in topology's name.
        file: String,
        /// Line, column, and what is wrong.
        message: String,
    },
    /// The parts don't fit together.
    #[error("topology: {subject}: {problem}; {fix}")]
    Invalid {
        /// The part and field.
        subject: String,
        /// What is wrong, with the value.
        problem: String,
        /// What to do.
        fix: String,
    },
}

const BUILTIN: [(&str, &str); 5] = [
    ("one-segment", include_str!("../../topologies/one-segment.yaml")),
    ("two-segments", include_str!("../../topologies/two-segments.yaml")),
    ("two-segments-fabric", include_str!("../../topologies/two-segments-fabric.yaml")),
    ("dual-stack", include_str!("../../topologies/dual-stack.yaml")),
    ("jumbo", include_str!("../../topologies/jumbo.yaml")),
];

/// The name of the topology that a lab has when nothing else is asked for.
pub const DEFAULT: &str = "one-segment";

/// The built-in topologies: name and description.
pub fn list() -> Vec<(&'static str, String)> {
    BUILTIN
        .iter()
        .map(|(name, text)| {
            (*name, parse(text, name).map(|topology| topology.description).unwrap_or_default())
        })
        .collect()
}

/// The text of a built-in topology.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The topology of a built-in name, or else of a file.
pub fn load(name_or_file: &str) -> Result<Topology, TopologyError> {
    if let Some(text) = builtin(name_or_file) {
        return parse(text, name_or_file);
    }
    let file = Path::new(name_or_file);
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text, name_or_file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(TopologyError::Unknown {
            name: name_or_file.to_owned(),
            known: BUILTIN.map(|(name, _)| name).join(", "),
        }),
        Err(error) => Err(TopologyError::Read { file: file.to_owned(), message: error.to_string() }),
    }
}

/// Reads a topology. `file` is for messages. How its parts fit together is checked by
/// [`crate::layout::Layout::resolve`].
pub fn parse(text: &str, file: &str) -> Result<Topology, TopologyError> {
    serde_saphyr::from_str(text)
        .map_err(|error| TopologyError::Syntax { file: file.to_owned(), message: error.to_string() })
}
