//! The view as it grows: seniority of claims, what the operator says and what peers publish, and what changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use hopwise_core::cluster::{Claim, ClusterView, Node, NodeData, ViewDelta};
use hopwise_core::name::NodeName;

use crate::StoreEvent;

/// The view that was told last, and what it takes to make the next one.
#[derive(Debug, Default)]
pub struct Current {
    /// What was told; before that, the saved view or nothing.
    view: Option<Arc<ClusterView>>,
    /// Whether `view` was told.
    told: bool,
    /// What the inventory itself says of nodes' MAC addresses, of those where it says anything.
    said: BTreeMap<NodeName, NodeData>,
    /// What nodes have published.
    published: BTreeMap<NodeName, NodeData>,
    /// The youngest seniority given so far.
    newest: u64,
}

impl Current {
    /// Starts with a view whose claims have their seniority already.
    pub fn remember(&mut self, saved: Arc<ClusterView>) {
        let addresses = saved.nodes.values().flat_map(|node| node.addresses.iter().map(|claim| claim.since));
        let cidrs = saved.nodes.values().flat_map(|node| node.pod_cidrs.iter().map(|claim| claim.since));
        self.newest = addresses.chain(cidrs).max().unwrap_or_default();
        self.view = Some(saved);
    }

    /// Whether a view was told.
    pub fn is_told(&self) -> bool {
        self.told
    }

    /// Whether the view has a node of this name.
    pub fn has_node(&self, name: &NodeName) -> bool {
        self.view.as_ref().is_some_and(|view| view.nodes.contains_key(name))
    }

    /// Who publishes.
    pub fn publishers(&self) -> Vec<NodeName> {
        self.published.keys().cloned().collect()
    }

    /// Takes a new inventory; what to tell, if anything.
    ///
    /// A claim that the node made before keeps its seniority. One that is new is younger than all before it, except in
    /// the very first view ever, where all are equally old.
    pub fn put_inventory(&mut self, mut inventory: ClusterView) -> Option<StoreEvent> {
        self.said = inventory
            .nodes
            .values()
            .filter(|node| node.data != NodeData::default())
            .map(|node| (node.name.clone(), node.data.clone()))
            .collect();
        let before = self.view.take();
        let since = if before.is_some() { self.newest.saturating_add(1) } else { 0 };
        let mut delta = ViewDelta::default();
        let mut grown = false;
        for (name, node) in &mut inventory.nodes {
            let former = before.as_ref().and_then(|before| before.nodes.get(name));
            let fresh = Arc::make_mut(node);
            grown |= carry_over(&mut fresh.addresses, former.map(|former| &former.addresses[..]), since);
            grown |= carry_over(&mut fresh.pod_cidrs, former.map(|former| &former.pod_cidrs[..]), since);
            fresh.data = merged(self.said.get(name), self.published.get(name));
            match former {
                // The same allocation for the same node: the views share it.
                Some(former) if **former == *fresh => *node = former.clone(),
                _ => delta.upserted.push(node.clone()),
            }
        }
        if grown {
            self.newest = since;
        }
        if let Some(before) = &before {
            delta.removed =
                before.nodes.keys().filter(|name| !inventory.nodes.contains_key(*name)).cloned().collect();
        }
        let only_nodes = before.as_ref().is_some_and(|before| {
            before.networks == inventory.networks && before.settings == inventory.settings
        });
        let inventory = Arc::new(inventory);
        self.view = Some(inventory.clone());
        if !std::mem::replace(&mut self.told, true) || !only_nodes {
            return Some(StoreEvent::View(inventory));
        }
        (delta != ViewDelta::default()).then_some(StoreEvent::Delta(delta))
    }

    /// Takes what nodes have published, `None` for one whose file is gone; what to tell, if anything.
    pub fn put_published(
        &mut self,
        news: impl IntoIterator<Item = (NodeName, Option<NodeData>)>,
    ) -> Option<StoreEvent> {
        let mut delta = ViewDelta::default();
        for (name, data) in news {
            match data {
                Some(data) => self.published.insert(name.clone(), data),
                None => self.published.remove(&name),
            };
            let Some(former) =
                self.view.as_ref().filter(|_| self.told).and_then(|view| view.nodes.get(&name))
            else {
                continue;
            };
            let data = merged(self.said.get(&name), self.published.get(&name));
            if former.data != data {
                delta.upserted.push(Arc::new(Node { data, ..Node::clone(former) }));
            }
        }
        if delta == ViewDelta::default() {
            return None;
        }
        if let Some(view) = &mut self.view {
            let nodes = delta.upserted.iter().map(|node| (node.name.clone(), node.clone()));
            Arc::make_mut(view).nodes.extend(nodes);
        }
        Some(StoreEvent::Delta(delta))
    }
}

/// Gives each claim the seniority that it had, or `since`; whether there is one that had none.
fn carry_over<T: PartialEq>(claims: &mut [Claim<T>], former: Option<&[Claim<T>]>, since: u64) -> bool {
    let mut grown = false;
    for claim in claims {
        let had = former.and_then(|former| former.iter().find(|former| former.value == claim.value));
        grown |= had.is_none();
        claim.since = had.map_or(since, |former| former.since);
    }
    grown
}

/// The operator's word goes before the agent's, field by field.
fn merged(said: Option<&NodeData>, published: Option<&NodeData>) -> NodeData {
    let mut data = published.cloned().unwrap_or_default();
    if let Some(said) = said {
        data.link_mac.v4 = said.link_mac.v4.or(data.link_mac.v4);
        data.link_mac.v6 = said.link_mac.v6.or(data.link_mac.v6);
        data.vxlan_mac = said.vxlan_mac.or(data.vxlan_mac);
    }
    data
}
