//! Laying a plan flat, whole or one peer at a time.

use std::collections::btree_map::Entry;

use super::{Desired, Touched};
use crate::cidr::Cidr;
use crate::family::Family;
use crate::host::Capabilities;
use crate::netfilter::{SetName, SetRole, Table};
use crate::object::NextHop;
use crate::observed::AcceptRule;
use crate::plan::{NodePlan, NodeWide, PeerPlan};

impl Desired {
    /// The objects of a whole plan.
    pub fn of(plan: &NodePlan, capabilities: &Capabilities) -> Desired {
        let routes = || plan.peer_plans().flat_map(|peer| &peer.routes);
        let mut next_hops: Vec<NextHop> = routes().map(|route| route.next_hop).collect();
        next_hops.sort_unstable();
        let neighbours = plan.peer_plans().flat_map(|peer| &peer.neighbours);
        let fdb = plan.peer_plans().flat_map(|peer| &peer.fdb);
        let mut desired = Desired {
            nexthop_objects: capabilities.nexthop_objects,
            routes: routes().map(|route| (route.key, route.next_hop)).collect(),
            next_hops: next_hops.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect(),
            neighbours: neighbours.map(|neighbour| (neighbour.key, neighbour.mac)).collect(),
            fdb: fdb.map(|entry| (entry.key, entry.dst)).collect(),
            ..Desired::default()
        };
        desired.set_node(&plan.node);
        desired.set_table(plan.node.table.as_ref(), &plan.peer_plans());
        desired
    }

    /// Takes over what concerns the node as a whole, the table left out.
    pub(crate) fn set_node(&mut self, node: &NodeWide) {
        self.links = node.links.iter().map(|link| (link.name, *link)).collect();
        let uplinks = node.uplink.iter().filter_map(|(_, uplink)| *uplink);
        self.uplinks = uplinks.map(|uplink| (uplink.link, uplink.index)).collect();
        self.addresses = node.addresses.iter().copied().collect();
        self.rules = node.rules.iter().copied().collect();
        self.sysctls.clone_from(&node.sysctls);
        let accepts = node.forward_chains.iter().map(|chain| {
            let of_family = node.forward_accepts.iter().filter(|cidr| cidr.family() == chain.family);
            let both = |cidr: &Cidr| [false, true].map(|destination| AcceptRule { cidr: *cidr, destination });
            (*chain, of_family.flat_map(both).collect())
        });
        self.forward_accepts = accepts.collect();
    }

    /// Takes over the table, and puts the addresses of all these peers into it.
    pub(crate) fn set_table<'a>(
        &mut self,
        table: Option<&Table>,
        peers: &(impl Iterator<Item = &'a PeerPlan> + Clone),
    ) {
        self.table = table.cloned();
        for family in Family::BOTH {
            if let Some(nodes) = self.nodes_set(family) {
                let of_family = peers.clone().flat_map(elements).filter(|element| element.family() == family);
                *nodes = nodes.iter().copied().chain(of_family).collect();
            }
        }
    }

    /// Puts a peer's objects in, and marks them as touched.
    pub(crate) fn add_peer(&mut self, peer: &PeerPlan, touched: &mut Touched) {
        for route in &peer.routes {
            self.routes.insert(route.key, route.next_hop);
            *self.next_hops.entry(route.next_hop).or_default() += 1;
        }
        self.neighbours.extend(peer.neighbours.iter().map(|neighbour| (neighbour.key, neighbour.mac)));
        self.fdb.extend(peer.fdb.iter().map(|entry| (entry.key, entry.dst)));
        for element in elements(peer) {
            if let Some(nodes) = self.nodes_set(element.family()) {
                nodes.insert(element);
            }
        }
        touched.peer(peer);
    }

    /// Takes a peer's objects out, and marks them as touched.
    pub(crate) fn remove_peer(&mut self, peer: &PeerPlan, touched: &mut Touched) {
        for route in &peer.routes {
            self.routes.remove(&route.key);
            if let Entry::Occupied(mut users) = self.next_hops.entry(route.next_hop) {
                *users.get_mut() -= 1;
                if *users.get() == 0 {
                    users.remove();
                }
            }
        }
        for neighbour in &peer.neighbours {
            self.neighbours.remove(&neighbour.key);
        }
        for entry in &peer.fdb {
            self.fdb.remove(&entry.key);
        }
        for element in elements(peer) {
            if let Some(nodes) = self.nodes_set(element.family()) {
                nodes.remove(&element);
            }
        }
        touched.peer(peer);
    }

    fn nodes_set(&mut self, family: Family) -> Option<&mut std::collections::BTreeSet<Cidr>> {
        self.table.as_mut()?.sets.get_mut(&SetName { role: SetRole::Nodes, family })
    }
}

impl Touched {
    /// Takes in what another says.
    pub fn merge(&mut self, other: Touched) {
        self.everything |= other.everything;
        self.node_wide |= other.node_wide;
        self.routes.extend(other.routes);
        self.nexthops.extend(other.nexthops);
        self.next_hops.extend(other.next_hops);
        self.neighbours.extend(other.neighbours);
        self.fdb.extend(other.fdb);
        self.elements.extend(other.elements);
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Touched::default()
    }

    fn peer(&mut self, peer: &PeerPlan) {
        if self.everything {
            return;
        }
        for route in &peer.routes {
            self.routes.insert(route.key);
            self.next_hops.insert(route.next_hop);
        }
        self.neighbours.extend(peer.neighbours.iter().map(|neighbour| neighbour.key));
        self.fdb.extend(peer.fdb.iter().map(|entry| entry.key));
        for element in elements(peer) {
            self.elements.insert((SetName { role: SetRole::Nodes, family: element.family() }, element));
        }
    }
}

/// The peer's addresses as elements of the set of nodes.
fn elements(peer: &PeerPlan) -> impl Iterator<Item = Cidr> {
    peer.address.iter().chain(&peer.other_addresses).map(|address| Cidr::host(*address))
}
