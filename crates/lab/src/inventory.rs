//! The inventory of a lab's agents: generated from the layout, edited by tests.

use std::net::IpAddr;
use std::path::Path;

use hopwise_api::inventory;
use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::ClusterView;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::layout::Layout;
use crate::state::write_atomically;
use crate::topology::SettingsValue;

/// An inventory file as text fields, so that it can also say what isn't well-formed or true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// The declared networks.
    pub networks: InventoryNetworks,
    /// Settings for the cluster.
    #[serde(default)]
    pub settings: SettingsValue,
    /// The nodes.
    pub nodes: Vec<InventoryNode>,
}

/// The declared networks, as CIDRs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryNetworks {
    /// The pod networks.
    pub pods: Vec<String>,
    /// The service ranges.
    #[serde(default)]
    pub services: Vec<String>,
    /// The networks of nodes' addresses.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The pod networks that routers know.
    #[serde(default)]
    pub fabric: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryNode {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its pod CIDRs.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// Its settings.
    #[serde(default)]
    pub settings: SettingsValue,
}

impl Inventory {
    /// The inventory that a layout calls for, lies included.
    pub fn of(layout: &Layout) -> Inventory {
        let networks = &layout.topology.networks;
        let text = |cidrs: &[Cidr]| cidrs.iter().map(ToString::to_string).collect::<Vec<_>>();
        let nodes = match networks.nodes.as_slice() {
            [] => text(&segments_with_nodes(layout)),
            declared => text(declared),
        };
        Inventory {
            networks: InventoryNetworks {
                pods: text(&networks.pods),
                services: text(&networks.services),
                nodes,
                fabric: text(&networks.fabric),
            },
            settings: layout.topology.settings.clone(),
            nodes: layout
                .nodes()
                .map(|(member, role)| {
                    let addresses: Vec<IpAddr> = member
                        .interfaces
                        .iter()
                        .flat_map(|link| link.addresses.iter().map(|(a, _)| *a))
                        .collect();
                    let lies = role.lies.clone();
                    InventoryNode {
                        name: member.name.clone(),
                        addresses: lies
                            .addresses
                            .into_iter()
                            .chain(addresses.iter().map(ToString::to_string))
                            .collect(),
                        pod_cidrs: text(&role.pod_cidrs).into_iter().chain(lies.pod_cidrs).collect(),
                        settings: role.settings.clone(),
                    }
                })
                .collect(),
        }
    }

    /// A node, to change.
    pub fn node_mut(&mut self, name: &str) -> Option<&mut InventoryNode> {
        self.nodes.iter_mut().find(|node| node.name == name)
    }

    /// The file's text. JSON, which is YAML too, would do for agents, but people read it.
    pub fn render(&self) -> Result<String, LabError> {
        serde_saphyr::to_string(self).map_err(LabError::step("writing the inventory"))
    }

    pub(crate) fn read(path: &Path) -> Result<Inventory, LabError> {
        let text = std::fs::read_to_string(path).map_err(LabError::file(path))?;
        serde_saphyr::from_str(&text)
            .map_err(|error| LabError::Damaged { path: path.to_owned(), problem: error.to_string() })
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), LabError> {
        write_atomically(path, self.render()?.as_bytes()).map_err(LabError::file(path))
    }

    /// What agents make of it.
    pub(crate) fn view(&self, path: &Path) -> Result<ClusterView, LabError> {
        inventory::parse(&self.render()?, path).map_err(LabError::step("reading the lab's inventory"))
    }
}

fn segments_with_nodes(layout: &Layout) -> Vec<Cidr> {
    let used =
        |name: &str| layout.nodes().any(|(member, _)| member.interfaces.iter().any(|l| l.segment == name));
    let segments = layout.topology.segments.iter().filter(|segment| used(&segment.name));
    segments.flat_map(|segment| segment.cidrs.iter().copied()).collect()
}
