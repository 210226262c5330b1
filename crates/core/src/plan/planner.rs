//! [`Planner`]: a plan that follows its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::claims::{self, Claims};
use super::macs::VxlanMacs;
use super::peer::{self, Inputs};
use super::site::{self, HostIndex, Site};
use super::{NodePlan, PeerPlan, Reach, lookup, node};
use crate::cluster::{ClusterView, Node, ViewDelta};
use crate::config::NodeConfig;
use crate::diff::{Desired, Touched};
use crate::family::{Family, PerFamily};
use crate::host::{HostView, Lookup};
use crate::name::NodeName;
use crate::note::Note;

/// [`super::plan`], kept up to date: after every change of an input its plan equals what [`super::plan`] gives for the same
/// inputs, at a cost that follows the change rather than the cluster.
///
/// A peer's plan depends on its node, on the verdicts on its claims, on the kernel's lookups of its addresses, on foreign
/// routes to its pod CIDRs, and on [`Site`]. Whatever changes is brought down to the peers that it concerns; these are
/// planned anew, and their objects exchanged in [`Desired`].
#[derive(Clone, Debug)]
pub struct Planner {
    view: Arc<ClusterView>,
    host: HostView,
    config: NodeConfig,
    claims: Claims,
    macs: VxlanMacs,
    index: HostIndex,
    site: Site,
    uplink_notes: Vec<Note>,
    /// How many peers with pods are reached by VXLAN.
    tunnels: PerFamily<usize>,
    missing_lookups: BTreeSet<(IpAddr, NodeName)>,
    plan: NodePlan,
    desired: Desired,
}

/// A node's name, what it was, and what it is.
type NodeChange = (NodeName, Option<Arc<Node>>, Option<Arc<Node>>);

impl Planner {
    /// Plans from nothing. What is desired is then to be compared whole ([`crate::diff::diff`]).
    pub fn new(view: impl Into<Arc<ClusterView>>, host: HostView, config: NodeConfig) -> Planner {
        let mut planner = Planner {
            view: view.into(),
            index: HostIndex::new(&host),
            host,
            config,
            claims: Claims::default(),
            macs: VxlanMacs::default(),
            site: Site::default(),
            uplink_notes: Vec::new(),
            tunnels: PerFamily::default(),
            missing_lookups: BTreeSet::new(),
            plan: NodePlan::default(),
            desired: Desired::default(),
        };
        planner.start_over();
        planner
    }

    /// The plan.
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }

    /// The plan, laid flat.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The cluster view that was planned from.
    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// The host view that was planned from.
    pub fn host(&self) -> &HostView {
        &self.host
    }

    /// The configuration that was planned from.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// The addresses that the host view has no lookup for; part of what [`super::lookup_targets`] names. Peers
    /// that they belong to count as unreachable: look the addresses up and hand them to [`Planner::set_lookups`] before
    /// the changes are applied.
    pub fn missing_lookups(&self) -> BTreeSet<IpAddr> {
        let uplink = lookup::uplink_target(&self.config);
        let missing = uplink.filter(|address| !self.host.lookups.contains_key(address));
        self.missing_lookups.iter().map(|(address, _)| *address).chain(missing).collect()
    }

    /// Takes in another view of the cluster.
    pub fn set_view(&mut self, view: impl Into<Arc<ClusterView>>) -> Touched {
        let view: Arc<ClusterView> = view.into();
        if view.networks != self.view.networks {
            self.view = view;
            return self.start_over();
        }
        let former = std::mem::replace(&mut self.view, Arc::clone(&view));
        let mut changes = Vec::new();
        for (name, node) in &view.nodes {
            let old = former.nodes.get(name);
            if old.is_none_or(|old| !Arc::ptr_eq(old, node) && old != node) {
                changes.push((name.clone(), old.cloned(), Some(Arc::clone(node))));
            }
        }
        let gone = former.nodes.iter().filter(|(name, _)| !view.nodes.contains_key(*name));
        changes.extend(gone.map(|(name, old)| (name.clone(), Some(Arc::clone(old)), None)));
        drop(former);
        self.change_nodes(&changes)
    }

    /// Takes in changed nodes. One that is both removed and upserted is upserted.
    pub fn update(&mut self, delta: ViewDelta) -> Touched {
        let nodes = &mut Arc::make_mut(&mut self.view).nodes;
        // A node may come up more than once: what counts is what it was before all of it, and what it is after.
        let mut before: BTreeMap<NodeName, Option<Arc<Node>>> = BTreeMap::new();
        for name in delta.removed {
            let old = nodes.remove(&name);
            before.entry(name).or_insert(old);
        }
        for node in delta.upserted {
            let name = node.name.clone();
            let old = nodes.insert(name.clone(), node);
            before.entry(name).or_insert(old);
        }
        let change = |(name, old): (NodeName, _)| {
            let new = nodes.get(&name).cloned();
            (name, old, new)
        };
        let changes: Vec<NodeChange> = before.into_iter().map(change).collect();
        self.change_nodes(&changes)
    }

    /// Takes in another view of the host.
    pub fn set_host(&mut self, host: HostView) -> Touched {
        let former = std::mem::replace(&mut self.host, host);
        let index = HostIndex::new(&self.host);
        let former_index = std::mem::replace(&mut self.index, index);
        if former.capabilities != self.host.capabilities {
            return self.start_over();
        }
        let mut dirty = BTreeSet::new();
        for address in lookup::changed_addresses((&former, &former_index), (&self.host, &self.index)) {
            dirty.extend(self.claims.owner_of_address(address).cloned());
        }
        for cidr in lookup::changed_destinations(&former, &self.host) {
            dirty.extend(self.claims.overlapping(cidr).map(|(_, who)| who.node.clone()));
        }
        self.missing_lookups =
            self.view.nodes.iter().flat_map(|(name, node)| self.missing_of(name, node)).collect();
        let mut touched = Touched::default();
        self.replan(dirty, true, &mut touched);
        touched
    }

    /// Takes in lookups of addresses, beside those in the host view.
    pub fn set_lookups(&mut self, lookups: impl IntoIterator<Item = (IpAddr, Lookup)>) -> Touched {
        let mut dirty = BTreeSet::new();
        let mut uplink = false;
        for (address, lookup) in lookups {
            let of_address = (address, NodeName::lowest())..;
            let waiting =
                self.missing_lookups.range(of_address).take_while(|(missing, _)| *missing == address);
            for entry in waiting.cloned().collect::<Vec<_>>() {
                self.missing_lookups.remove(&entry);
            }
            if self.host.lookups.insert(address, lookup) != Some(lookup) {
                dirty.extend(self.claims.owner_of_address(address).cloned());
                uplink |= lookup::uplink_target(&self.config) == Some(address);
            }
        }
        let mut touched = Touched::default();
        self.replan(dirty, uplink, &mut touched);
        touched
    }

    /// Takes in another configuration.
    pub fn set_config(&mut self, config: NodeConfig) -> Touched {
        if config == self.config {
            return Touched::default();
        }
        self.config = config;
        self.start_over()
    }

    pub(super) fn into_plan(self) -> NodePlan {
        self.plan
    }

    /// Forgets everything but the inputs, and plans. Whole maps are built from what is in order already: quicker than one
    /// by one, and denser in memory.
    fn start_over(&mut self) -> Touched {
        let view = Arc::clone(&self.view);
        let (own, vni) = (&self.config.node, self.config.vxlan_vni);
        let claims = view.nodes.values().flat_map(|node| claims::claims_of(node, own, &view.networks));
        self.claims = Claims::judge(claims);
        self.macs = VxlanMacs::of(view.nodes.values().map(|node| &**node), own, vni);
        self.missing_lookups =
            view.nodes.iter().flat_map(|(name, node)| self.missing_of(name, node)).collect();
        self.resurvey();
        let inputs = self.inputs();
        let peers = view.nodes.iter().filter(|(name, _)| **name != self.config.node);
        self.plan.peers = peers.map(|(name, node)| (name.clone(), peer::plan_peer(inputs, node))).collect();
        self.tunnels = PerFamily::from_fn(|family| {
            let plans = self.plan.peers.values().filter_map(|plans| plans.get(family).as_deref());
            plans.filter(|plan| uses_tunnel(plan)).count()
        });
        self.plan_node();
        self.desired = Desired::of(&self.plan, &self.host.capabilities);
        Touched { everything: true, ..Touched::default() }
    }

    /// Takes in changes that the view has already.
    fn change_nodes(&mut self, changes: &[NodeChange]) -> Touched {
        let own = &self.config.node;
        let mut dirty = BTreeSet::new();
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (name, old, new) in changes {
            let claims = |node: &Option<Arc<Node>>| {
                node.as_deref()
                    .map(|node| claims::claims_of(node, own, &self.view.networks))
                    .unwrap_or_default()
            };
            let (old_claims, new_claims) = (claims(old), claims(new));
            removed.extend(old_claims.difference(&new_claims).cloned());
            added.extend(new_claims.difference(&old_claims).cloned());
            self.macs.change((old.as_deref(), new.as_deref()), own, self.config.vxlan_vni, &mut dirty);
            for address in old.iter().flat_map(|node| lookup::targets_of(node, &self.view, &self.config)) {
                self.missing_lookups.remove(&(address, name.clone()));
            }
            dirty.insert(name.clone());
        }
        dirty.extend(self.claims.change(removed, added));
        let ours = dirty.contains(own);
        let mut touched = Touched::default();
        self.replan(dirty, ours, &mut touched);
        touched
    }

    /// Plans these nodes anew, and the node itself where it or the host has changed.
    fn replan(&mut self, mut dirty: BTreeSet<NodeName>, node_wide: bool, touched: &mut Touched) {
        if node_wide {
            let served = self.site.pod_cidrs.clone();
            if self.resurvey() {
                dirty.extend(self.view.nodes.keys().cloned());
            }
            // A peer that claims what we serve.
            for cidr in served.iter().chain(&self.site.pod_cidrs) {
                dirty.extend(self.claims.overlapping(*cidr).map(|(_, who)| who.node.clone()));
            }
        }
        let tunnels = self.tunnelled();
        self.replan_peers(dirty, touched);
        if node_wide || tunnels != self.tunnelled() {
            let former = std::mem::take(&mut self.plan.node);
            self.plan_node();
            if former != self.plan.node {
                touched.node_wide = true;
                self.desired.set_node(&self.plan.node);
                if former.table != self.plan.node.table {
                    self.desired.set_table(self.plan.node.table.as_ref(), &self.plan.peer_plans());
                }
            }
        }
    }

    /// Finds this node's place again. Tells whether that concerns all peers.
    fn resurvey(&mut self) -> bool {
        let (site, notes) = site::survey(&self.view, &self.host, &self.config, &self.claims);
        let former = std::mem::replace(&mut self.site, site);
        self.uplink_notes = notes;
        // Which pod CIDRs are ours concerns only those who claim the same.
        let same = Site { pod_cidrs: self.site.pod_cidrs.clone(), ..former } == self.site;
        !same
    }

    fn replan_peers(&mut self, dirty: BTreeSet<NodeName>, touched: &mut Touched) {
        let mut exchanged = Vec::new();
        for name in dirty {
            let node = self.view.nodes.get(&name).filter(|_| name != self.config.node);
            let new = node.map(|node| peer::plan_peer(self.inputs(), node));
            let missing = node.map(|node| self.missing_of(&name, node)).unwrap_or_default();
            self.missing_lookups.extend(missing);
            if new.as_ref() == self.plan.peers.get(&name) {
                continue;
            }
            // All that goes has to go before anything comes: one peer may get what another had.
            let old = self.plan.peers.remove(&name);
            for (family, old) in old.iter().flat_map(peer_plans) {
                self.desired.remove_peer(old, touched);
                *self.tunnels.get_mut(family) -= usize::from(uses_tunnel(old));
            }
            exchanged.extend(new.map(|new| (name, new)));
        }
        for (name, new) in exchanged {
            for (family, new) in peer_plans(&new) {
                self.desired.add_peer(new, touched);
                *self.tunnels.get_mut(family) += usize::from(uses_tunnel(new));
            }
            self.plan.peers.insert(name, new);
        }
    }

    /// The addresses of a node that are to be looked up and have not been.
    fn missing_of(&self, name: &NodeName, node: &Node) -> Vec<(IpAddr, NodeName)> {
        let targets = lookup::targets_of(node, &self.view, &self.config);
        let missing = targets.filter(|address| !self.host.lookups.contains_key(address));
        missing.map(|address| (address, name.clone())).collect()
    }

    fn plan_node(&mut self) {
        let own = self.view.nodes.get(&self.config.node);
        let node =
            node::plan_node(self.inputs(), own.map(|node| &**node), &self.tunnelled(), &self.uplink_notes);
        self.plan.node = node;
    }

    /// In which families there are tunnels.
    fn tunnelled(&self) -> PerFamily<bool> {
        PerFamily::from_fn(|family| *self.tunnels.get(family) > 0)
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            networks: &self.view.networks,
            host: &self.host,
            config: &self.config,
            claims: &self.claims,
            macs: &self.macs,
            index: &self.index,
            site: &self.site,
        }
    }
}

fn peer_plans(plans: &PerFamily<Option<Box<PeerPlan>>>) -> impl Iterator<Item = (Family, &PeerPlan)> {
    plans.iter().filter_map(|(family, plan)| Some((family, plan.as_deref()?)))
}

/// Whether our VXLAN device is needed for this peer.
fn uses_tunnel(plan: &PeerPlan) -> bool {
    plan.reach == Reach::Vxlan && !plan.pod_cidrs.is_empty()
}
