//! Comparing what is observed with what is desired.

use std::collections::BTreeSet;

use super::ids::Ids;
use super::{Changes, Desired, RouteChange, RouteTarget, TableChange, Touched};
use crate::cidr::Cidr;
use crate::host::{SysctlKey, SysctlLink};
use crate::name::LinkName;
use crate::netfilter::{ObservedTable, SetName, Table};
use crate::object::{FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, Route, RouteKey, VxlanLink};
use crate::observed::{Observed, ObservedFdb, ObservedLink, ObservedNextHop, ObservedTarget};

/// Compares everything.
pub fn diff(observed: &Observed, desired: &Desired) -> Changes {
    let mut changes = Changes::default();
    compare_links(observed, desired, &mut changes);
    compare_node_wide(observed, desired, &mut changes);
    let void = changes.links_recreate.clone();
    let mut comparison = Comparison::new(observed, desired, &void, changes);
    let unwanted_routes = observed.routes.keys().filter(|key| !desired.routes.contains_key(key));
    for key in desired.routes.keys().chain(unwanted_routes) {
        comparison.route(*key);
    }
    for (id, _) in &observed.nexthops {
        comparison.nexthop(*id);
    }
    let unwanted = observed.neighbours.keys().filter(|key| !desired.neighbours.contains_key(key));
    for key in desired.neighbours.keys().chain(unwanted) {
        comparison.neighbour(*key);
    }
    let unwanted = observed.fdb.keys().filter(|key| !desired.fdb.contains_key(key));
    for key in desired.fdb.keys().chain(unwanted) {
        comparison.fdb(*key);
    }
    comparison.finish()
}

/// Compares only what was touched; with `everything` the same as [`diff`].
///
/// A next hop brings along the objects that are like it and the routes through them, since all of these may have to be
/// written anew.
pub fn diff_touched(observed: &Observed, desired: &Desired, touched: &Touched) -> Changes {
    if touched.everything {
        return diff(observed, desired);
    }
    let mut changes = Changes::default();
    if touched.node_wide {
        compare_links(observed, desired, &mut changes);
        // What is on a link that is only being made has to be written, touched or not.
        let forgets = changes.links_set.iter().any(|link| forgets_neighbours(observed, link));
        if !changes.links_add.is_empty() || !changes.links_delete.is_empty() || forgets {
            return diff(observed, desired);
        }
        compare_node_wide(observed, desired, &mut changes);
    } else if !touched.elements.is_empty() {
        changes.table = compare_elements(observed.table.as_ref(), desired.table.as_ref(), &touched.elements);
    }
    let mut comparison = Comparison::new(observed, desired, &[], changes);
    let mut nexthops = touched.nexthops.clone();
    let known = |id: &u32| match observed.nexthops.get(id) {
        Some(ObservedNextHop::Known(next_hop)) => Some(*next_hop),
        _ => None,
    };
    let alike: BTreeSet<NextHop> =
        nexthops.iter().filter_map(known).chain(touched.next_hops.iter().copied()).collect();
    nexthops.extend(alike.into_iter().flat_map(|next_hop| observed.nexthops.ids_of(next_hop)));
    let mut routes = touched.routes.clone();
    routes.extend(nexthops.iter().flat_map(|id| observed.routes.users_of(*id)));
    for key in routes {
        comparison.route(key);
    }
    for id in nexthops {
        comparison.nexthop(id);
    }
    for key in &touched.neighbours {
        comparison.neighbour(*key);
    }
    for key in &touched.fdb {
        comparison.fdb(*key);
    }
    comparison.finish()
}

/// Compares objects one by one.
struct Comparison<'a> {
    observed: &'a Observed,
    desired: &'a Desired,
    /// Links that are made anew: nothing that is observed on them will be there.
    void: &'a [LinkName],
    /// Links that go, and with them what is on them.
    going: Vec<LinkName>,
    /// Links whose neighbour entries will not be there when they are in line.
    forgetful: Vec<LinkName>,
    ids: Ids<'a>,
    changes: Changes,
}

impl<'a> Comparison<'a> {
    fn new(observed: &'a Observed, desired: &'a Desired, void: &'a [LinkName], changes: Changes) -> Self {
        let going = changes.links_delete.clone();
        let forgetful = changes.links_set.iter().filter(|link| forgets_neighbours(observed, link));
        let forgetful = forgetful.map(|link| link.name).collect();
        Comparison { observed, desired, void, going, forgetful, ids: Ids::new(observed, void), changes }
    }

    fn route(&mut self, key: RouteKey) {
        let observed = self.observed.routes.get(&key);
        let leads_to = |target: ObservedTarget| match target {
            ObservedTarget::Object(id) => match self.observed.nexthops.get(&id) {
                Some(ObservedNextHop::Known(next_hop)) => Some(*next_hop),
                _ => None,
            },
            ObservedTarget::Gateway(next_hop) => Some(next_hop),
            ObservedTarget::Other => None,
        };
        let on_void = |next_hop: NextHop| self.void.contains(&next_hop.link);
        let observed = observed.filter(|route| !leads_to(route.target).is_some_and(on_void));
        let Some(next_hop) = self.desired.routes.get(&key).copied() else {
            if observed.is_some() {
                self.changes.routes_delete.push(key);
            }
            return;
        };
        // Ids don't run out: sixteen million of them, and the gateway serves as well.
        let id = if self.desired.nexthop_objects { self.ids.of(next_hop) } else { None };
        let (target, wanted) = match id {
            Some(id) => (RouteTarget::Object(id), ObservedTarget::Object(id)),
            None => (RouteTarget::Gateway, ObservedTarget::Gateway(next_hop)),
        };
        if observed.is_none_or(|route| route.target != wanted || route.mtu.is_some()) {
            let route = Route { key, next_hop };
            self.changes.routes_set.push(RouteChange { route, target, replace: observed.is_some() });
        }
    }

    fn nexthop(&mut self, id: u32) {
        let Some(object) = self.observed.nexthops.get(&id).copied() else { return };
        let (wanted, void) = match object {
            ObservedNextHop::Known(next_hop) => {
                let wanted = self.desired.nexthop_objects && self.desired.next_hops.contains_key(&next_hop);
                (wanted, self.void.contains(&next_hop.link))
            }
            ObservedNextHop::Other => (false, false),
        };
        let stays = wanted && self.ids.keeps(id, object);
        if !void && !stays {
            self.changes.nexthops_delete.push(id);
        }
    }

    fn neighbour(&mut self, key: NeighbourKey) {
        let gone = self.void.contains(&key.link) || self.forgetful.contains(&key.link);
        let observed = self.observed.neighbours.get(&key).filter(|_| !gone).copied();
        match self.desired.neighbours.get(&key).copied() {
            Some(mac) if observed != Some(mac) => self.changes.neighbours_set.push(Neighbour { key, mac }),
            None if observed.is_some() && !self.going.contains(&key.link) => {
                self.changes.neighbours_delete.push(key);
            }
            _ => {}
        }
    }

    fn fdb(&mut self, key: FdbKey) {
        let observed = self.observed.fdb.get(&key).filter(|_| !self.void.contains(&key.link)).copied();
        match self.desired.fdb.get(&key).copied() {
            Some(dst) if observed != Some(ObservedFdb::Known(dst)) => {
                self.changes.fdb_set.push(FdbEntry { key, dst });
            }
            None if observed.is_some() && !self.going.contains(&key.link) => {
                self.changes.fdb_delete.push(key);
            }
            _ => {}
        }
    }

    fn finish(self) -> Changes {
        let mut changes = self.changes;
        changes.nexthops_add = self.ids.into_new();
        changes
    }
}

fn compare_links(observed: &Observed, desired: &Desired, changes: &mut Changes) {
    for link in desired.links.values() {
        match observed.links.get(&link.name) {
            None => changes.links_add.push(*link),
            Some(standing) if must_be_made_anew(standing, link, desired) => {
                changes.links_recreate.push(link.name);
                changes.links_add.push(*link);
            }
            Some(standing) => {
                let same = standing.up && standing.mtu == link.mtu.bytes() && standing.mac == Some(link.mac);
                if !same {
                    changes.links_set.push(*link);
                }
            }
        }
    }
    let unwanted = observed.links.keys().filter(|name| !desired.links.contains_key(name));
    changes.links_delete.extend(unwanted);
}

/// With another MAC address the kernel forgets every neighbour of a link, permanent ones too (`neigh_changeaddr`).
fn forgets_neighbours(observed: &Observed, link: &VxlanLink) -> bool {
    observed.links.get(&link.name).is_some_and(|standing| standing.mac != Some(link.mac))
}

/// The kernel changes none of these in place (`vxlan_changelink` refuses VNI and port; a move to another uplink leaves the
/// socket's binding).
fn must_be_made_anew(standing: &ObservedLink, link: &VxlanLink, desired: &Desired) -> bool {
    standing.kind != "vxlan"
        || standing.vni != link.vni
        || standing.port != link.port
        || standing.local != Some(link.local)
        || standing.uplink != desired.uplinks.get(&link.uplink).copied()
        || standing.learning
}

fn compare_node_wide(observed: &Observed, desired: &Desired, changes: &mut Changes) {
    let void = |link: LinkName| changes.links_recreate.contains(&link);
    let missing =
        desired.addresses.iter().filter(|held| void(held.link) || !observed.addresses.contains(held));
    let addresses_add = missing.copied().collect();
    let going = |link: LinkName| void(link) || changes.links_delete.contains(&link);
    let unwanted = observed.addresses.difference(&desired.addresses).filter(|held| !going(held.link));
    changes.addresses_delete = unwanted.copied().collect();
    changes.addresses_add = addresses_add;

    let standing = |rule| observed.rules.iter().any(|standing| standing.rule == rule && !standing.altered);
    changes.rules_add = desired.rules.iter().copied().filter(|rule| !standing(*rule)).collect();
    let unwanted = observed.rules.iter().filter(|rule| rule.altered || !desired.rules.contains(&rule.rule));
    changes.rules_delete = unwanted.map(|rule| rule.rule).collect();

    for (key, value) in &desired.sysctls {
        if changes.links_add.iter().any(|link| link_of(key) == Some(link.name)) {
            changes.link_sysctls.push((*key, value.clone()));
        } else if observed.sysctls.get(key).is_some_and(|standing| standing.trim() != value) {
            changes.sysctls.push((*key, value.clone()));
        }
    }

    for (chain, rules) in &desired.forward_accepts {
        let standing = observed.forward_accepts.get(chain);
        if !standing.is_some_and(|standing| standing.rules == *rules && (standing.first || rules.is_empty()))
        {
            changes.forward_accepts.push((*chain, rules.clone()));
        }
    }
    let unwanted = observed.forward_accepts.iter().filter(|(chain, standing)| {
        !standing.rules.is_empty() && !desired.forward_accepts.contains_key(chain)
    });
    changes.forward_accepts.extend(unwanted.map(|(chain, _)| (*chain, Vec::new())));

    changes.table = compare_table(observed.table.as_ref(), desired.table.as_ref());
}

fn link_of(key: &SysctlKey) -> Option<LinkName> {
    match key {
        SysctlKey::AcceptRa(SysctlLink::Link(link))
        | SysctlKey::RpFilter(SysctlLink::Link(link))
        | SysctlKey::SendRedirects(SysctlLink::Link(link)) => Some(*link),
        _ => None,
    }
}

fn compare_table(observed: Option<&ObservedTable>, desired: Option<&Table>) -> Option<TableChange> {
    let (observed, desired) = match (observed, desired) {
        (None, None) => return None,
        (Some(_), None) => return Some(TableChange::Delete),
        (None, Some(desired)) => return Some(TableChange::Replace(desired.clone())),
        (Some(observed), Some(desired)) => (observed, desired),
    };
    if observed.structure.as_ref() != Some(&desired.masquerade) {
        return Some(TableChange::Replace(desired.clone()));
    }
    let nothing = BTreeSet::new();
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for set in desired.set_names() {
        let wanted: BTreeSet<Cidr> = desired.elements(set).collect();
        let standing = observed.sets.get(&set).unwrap_or(&nothing);
        let (n_add, n_remove) = (add.len(), remove.len());
        add.extend(wanted.difference(standing).map(|element| (set, *element)));
        remove.extend(standing.difference(&wanted).map(|element| (set, *element)));
        // Whether an interval may overlap one that goes in the same transaction depends on the kernel's version.
        if set.is_interval() && add.len() > n_add && remove.len() > n_remove {
            return Some(TableChange::Replace(desired.clone()));
        }
    }
    (!add.is_empty() || !remove.is_empty()).then_some(TableChange::Elements { add, remove })
}

/// Compares single elements, as long as they are all that can differ.
fn compare_elements(
    observed: Option<&ObservedTable>,
    desired: Option<&Table>,
    touched: &BTreeSet<(SetName, Cidr)>,
) -> Option<TableChange> {
    let (Some(standing), Some(wanted)) = (observed, desired) else {
        return compare_table(observed, desired);
    };
    if standing.structure.as_ref() != Some(&wanted.masquerade)
        || touched.iter().any(|(set, _)| set.is_interval())
    {
        return compare_table(observed, desired);
    }
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for (set, element) in touched {
        let is_in = |sets: &std::collections::BTreeMap<SetName, BTreeSet<Cidr>>| {
            sets.get(set).is_some_and(|elements| elements.contains(element))
        };
        match (is_in(&standing.sets), is_in(&wanted.sets)) {
            (false, true) => add.push((*set, *element)),
            (true, false) => remove.push((*set, *element)),
            _ => {}
        }
    }
    (!add.is_empty() || !remove.is_empty()).then_some(TableChange::Elements { add, remove })
}
