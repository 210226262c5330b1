//! The YAML schema, as serde sees it.

use serde::{Deserialize, Serialize};
use serde_saphyr::FlowSeq;

use crate::field::PerFamily;
use crate::settings::Settings;

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    pub networks: Networks,
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
    /// An `Option` to tell `nodes: []` from `nodes:` with nothing after it, which is a file cut short.
    pub nodes: Option<Vec<Node>>,
}

/// What is declared for the cluster as a whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Networks {
    pub pods: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub services: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub nodes: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub fabric: FlowSeq<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lan: Option<Lan>,
}

/// A LAN whose hosts the pods are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lan {
    pub subnets: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub gateways: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub exclude: FlowSeq<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses_per_node: Option<u64>,
}

/// One node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    pub name: String,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub addresses: FlowSeq<Vec<String>>,
    #[serde(default = "empty", skip_serializing_if = "is_empty", rename = "podCIDRs")]
    pub pod_cidrs: FlowSeq<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<PerFamily<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan_mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    pub slices: FlowSeq<Vec<String>>,
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

fn empty() -> FlowSeq<Vec<String>> {
    FlowSeq(Vec::new())
}

fn is_empty(list: &FlowSeq<Vec<String>>) -> bool {
    list.0.is_empty()
}
