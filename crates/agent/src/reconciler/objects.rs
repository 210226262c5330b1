//! Changes seen as a set of objects: which objects they are about, and which of them to leave out.

use std::collections::BTreeSet;
use std::fmt;

use hopwise_core::diff::{Changes, RouteTarget, TableChange, Touched};
use hopwise_core::host::{IptablesChain, SysctlKey};
use hopwise_core::name::LinkName;
use hopwise_core::object::{Address, FdbKey, NeighbourKey, NextHop, RouteKey, Rule};
use hopwise_core::report::ObjectKind;

/// An object of ours in the kernel, by what makes it the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A link.
    Link(LinkName),
    /// An address.
    Address(Address),
    /// A next hop that is wanted.
    NextHop(NextHop),
    /// A nexthop object that is not.
    NextHopId(u32),
    /// A route.
    Route(RouteKey),
    /// A neighbour entry.
    Neighbour(NeighbourKey),
    /// An FDB entry.
    Fdb(FdbKey),
    /// A policy rule.
    Rule(Rule),
    /// The nftables table, elements included.
    Table,
    /// Accepts in an iptables chain.
    Accepts(IptablesChain),
    /// A sysctl.
    Sysctl(SysctlKey),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Link(_) => ObjectKind::Link,
            Object::Address(_) => ObjectKind::Address,
            Object::NextHop(_) | Object::NextHopId(_) => ObjectKind::NextHop,
            Object::Route(_) => ObjectKind::Route,
            Object::Neighbour(_) => ObjectKind::Neighbour,
            Object::Fdb(_) => ObjectKind::Fdb,
            Object::Rule(_) => ObjectKind::Rule,
            Object::Table => ObjectKind::Nftables,
            Object::Accepts(_) => ObjectKind::ForwardAccept,
            Object::Sysctl(_) => ObjectKind::Sysctl,
        }
    }

    /// Whether packets to a peer's pods depend on it, so that a node without it is not ready.
    pub fn carries_traffic(&self) -> bool {
        !matches!(self, Object::Table | Object::Accepts(_) | Object::Sysctl(_))
    }

    /// Adds the object to those that are to be compared.
    pub fn touch(&self, touched: &mut Touched) {
        match *self {
            Object::NextHop(next_hop) => drop(touched.next_hops.insert(next_hop)),
            Object::NextHopId(id) => drop(touched.nexthops.insert(id)),
            Object::Route(key) => drop(touched.routes.insert(key)),
            Object::Neighbour(key) => drop(touched.neighbours.insert(key)),
            Object::Fdb(key) => drop(touched.fdb.insert(key)),
            // Which elements of the table differed is not kept: comparing all of them is what a retry may cost.
            Object::Table => touched.everything = true,
            Object::Link(_)
            | Object::Address(_)
            | Object::Rule(_)
            | Object::Accepts(_)
            | Object::Sysctl(_) => {
                touched.node_wide = true;
            }
        }
    }

    /// Whether a difference in the object is drift, to be told from a change of plan.
    ///
    /// What is compared whole (links, rules, sysctls and so on) doesn't tell which of its objects was touched why. There,
    /// drift is the better guess: plans for them rarely change, and often do so just because of drift.
    pub fn has_drifted(&self, drift: &Touched, planned: &Touched) -> bool {
        let compared_whole = matches!(
            self,
            Object::Link(_)
                | Object::Address(_)
                | Object::Rule(_)
                | Object::Table
                | Object::Accepts(_)
                | Object::Sysctl(_)
        );
        self.is_in(drift) && !if compared_whole { planned.everything } else { self.is_in(planned) }
    }

    /// Whether the object is among those touched.
    pub fn is_in(&self, touched: &Touched) -> bool {
        touched.everything
            || match self {
                // A next hop is touched by its routes; by itself only when its object was altered.
                Object::NextHop(next_hop) => {
                    touched.next_hops.contains(next_hop) || !touched.nexthops.is_empty()
                }
                Object::NextHopId(id) => touched.nexthops.contains(id) || !touched.routes.is_empty(),
                Object::Route(key) => touched.routes.contains(key),
                Object::Neighbour(key) => touched.neighbours.contains(key),
                Object::Fdb(key) => touched.fdb.contains(key),
                Object::Table => touched.node_wide || !touched.elements.is_empty(),
                Object::Link(_)
                | Object::Address(_)
                | Object::Rule(_)
                | Object::Accepts(_)
                | Object::Sysctl(_) => touched.node_wide,
            }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Link(name) => write!(f, "link {name}"),
            Object::Address(address) => {
                write!(f, "address {}/{} dev {}", address.address, address.prefix_len, address.link)
            }
            Object::NextHop(next_hop) => write!(f, "nexthop {next_hop}"),
            Object::NextHopId(id) => write!(f, "nexthop id {id}"),
            Object::Route(key) => write!(f, "route {key}"),
            Object::Neighbour(key) => write!(f, "neighbour {} dev {}", key.address, key.link),
            Object::Fdb(key) => write!(f, "fdb {} dev {}", key.mac, key.link),
            Object::Rule(rule) => write!(
                f,
                "rule {} priority {} lookup {}",
                if rule.family == hopwise_core::family::Family::V4 { "inet" } else { "inet6" },
                rule.priority,
                rule.table
            ),
            Object::Table => write!(f, "table inet {}", hopwise_core::mark::NFT_TABLE),
            Object::Accepts(chain) => {
                write!(f, "accepts in {:?} iptables {} FORWARD", chain.backend, chain.family)
            }
            Object::Sysctl(key) => write!(f, "sysctl net/{}", key.path()),
        }
    }
}

/// Calls `each` with every object that the changes are about, in the order of applying.
pub fn visit(changes: &Changes, mut each: impl FnMut(Object)) {
    changes.sysctls.iter().for_each(|(key, _)| each(Object::Sysctl(*key)));
    changes.links_recreate.iter().for_each(|name| each(Object::Link(*name)));
    changes.links_add.iter().for_each(|link| each(Object::Link(link.name)));
    changes.links_set.iter().for_each(|link| each(Object::Link(link.name)));
    changes.addresses_add.iter().for_each(|address| each(Object::Address(*address)));
    changes.nexthops_add.iter().for_each(|(_, next_hop)| each(Object::NextHop(*next_hop)));
    changes.neighbours_set.iter().for_each(|neighbour| each(Object::Neighbour(neighbour.key)));
    changes.fdb_set.iter().for_each(|entry| each(Object::Fdb(entry.key)));
    changes.routes_set.iter().for_each(|change| each(Object::Route(change.route.key)));
    changes.rules_add.iter().for_each(|rule| each(Object::Rule(*rule)));
    changes.table.iter().for_each(|_| each(Object::Table));
    changes.forward_accepts.iter().for_each(|(chain, _)| each(Object::Accepts(*chain)));
    changes.rules_delete.iter().for_each(|rule| each(Object::Rule(*rule)));
    changes.routes_delete.iter().for_each(|key| each(Object::Route(*key)));
    changes.nexthops_delete.iter().for_each(|id| each(Object::NextHopId(*id)));
    changes.fdb_delete.iter().for_each(|key| each(Object::Fdb(*key)));
    changes.neighbours_delete.iter().for_each(|key| each(Object::Neighbour(*key)));
    changes.addresses_delete.iter().for_each(|address| each(Object::Address(*address)));
    changes.links_delete.iter().for_each(|name| each(Object::Link(*name)));
}

/// Leaves out the changes about objects for which `keep` says no, and routes that refer to a nexthop object left out.
pub fn retain(changes: &mut Changes, keep: impl Fn(Object) -> bool) {
    changes.sysctls.retain(|(key, _)| keep(Object::Sysctl(*key)));
    changes.links_recreate.retain(|name| keep(Object::Link(*name)));
    changes.links_add.retain(|link| keep(Object::Link(link.name)));
    changes.links_set.retain(|link| keep(Object::Link(link.name)));
    changes.addresses_add.retain(|address| keep(Object::Address(*address)));
    let mut left_out = BTreeSet::new();
    changes.nexthops_add.retain(|(id, next_hop)| {
        let kept = keep(Object::NextHop(*next_hop));
        if !kept {
            left_out.insert(*id);
        }
        kept
    });
    changes.neighbours_set.retain(|neighbour| keep(Object::Neighbour(neighbour.key)));
    changes.fdb_set.retain(|entry| keep(Object::Fdb(entry.key)));
    changes.routes_set.retain(|change| {
        let orphan = matches!(change.target, RouteTarget::Object(id) if left_out.contains(&id));
        !orphan && keep(Object::Route(change.route.key))
    });
    changes.rules_add.retain(|rule| keep(Object::Rule(*rule)));
    if changes.table.is_some() && !keep(Object::Table) {
        changes.table = None;
    }
    changes.forward_accepts.retain(|(chain, _)| keep(Object::Accepts(*chain)));
    changes.rules_delete.retain(|rule| keep(Object::Rule(*rule)));
    changes.routes_delete.retain(|key| keep(Object::Route(*key)));
    changes.nexthops_delete.retain(|id| keep(Object::NextHopId(*id)));
    changes.fdb_delete.retain(|key| keep(Object::Fdb(*key)));
    changes.neighbours_delete.retain(|key| keep(Object::Neighbour(*key)));
    changes.addresses_delete.retain(|address| keep(Object::Address(*address)));
    changes.links_delete.retain(|name| keep(Object::Link(*name)));
}

/// What has to be compared again once the changes were applied.
pub fn touched_by(changes: &Changes) -> Touched {
    let mut touched = Touched::default();
    if let Some(TableChange::Elements { add, remove }) = &changes.table {
        touched.elements.extend(add.iter().chain(remove).copied());
    }
    touched.node_wide = matches!(changes.table, Some(TableChange::Replace(_) | TableChange::Delete));
    visit(changes, |object| {
        if object != Object::Table {
            object.touch(&mut touched);
        }
    });
    touched
}

#[cfg(test)]
mod tests {
    use hopwise_core::diff::RouteChange;
    use hopwise_core::object::Route;

    use super::*;

    fn next_hop(gateway: &str) -> NextHop {
        NextHop { gateway: gateway.parse().unwrap(), link: LinkName::new_static("eth0"), onlink: false }
    }

    fn route(dst: &str, gateway: &str, id: u32) -> RouteChange {
        let key = RouteKey { table: 254, dst: dst.parse().unwrap(), metric: 0 };
        RouteChange {
            route: Route { key, next_hop: next_hop(gateway) },
            target: RouteTarget::Object(id),
            replace: false,
        }
    }

    fn two_peers() -> Changes {
        Changes {
            nexthops_add: vec![(1, next_hop("192.168.0.2")), (2, next_hop("192.168.0.3"))],
            routes_set: vec![
                route("10.244.2.0/24", "192.168.0.2", 1),
                route("10.244.3.0/24", "192.168.0.3", 2),
            ],
            ..Changes::default()
        }
    }

    #[test]
    fn a_route_goes_with_the_nexthop_object_it_needs() {
        let mut changes = two_peers();
        retain(&mut changes, |object| object != Object::NextHop(next_hop("192.168.0.2")));
        assert_eq!(changes.nexthops_add.len(), 1);
        assert_eq!(changes.routes_set, [route("10.244.3.0/24", "192.168.0.3", 2)]);
    }

    #[test]
    fn what_changes_name_is_what_they_touch() {
        let changes = two_peers();
        let touched = touched_by(&changes);
        assert!(!touched.everything && !touched.node_wide);
        visit(&changes, |object| assert!(object.is_in(&touched), "{object}"));
        assert!(!Object::Table.is_in(&touched));
        assert_eq!((touched.routes.len(), touched.next_hops.len()), (2, 2));
    }
}
