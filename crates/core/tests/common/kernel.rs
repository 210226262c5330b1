//! A kernel reduced to what matters to us: it holds our objects and does to them what Linux does.

use hopwise_core::diff::{Changes, RouteTarget, TableChange};
use hopwise_core::host::{SysctlKey, SysctlLink};
use hopwise_core::name::{IfIndex, LinkName};
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::object::{NextHop, VxlanLink};
use hopwise_core::observed::{
    Observed, ObservedAccepts, ObservedFdb, ObservedLink, ObservedNextHop, ObservedRoute, ObservedRule,
    ObservedTarget,
};

/// Applies changes in the order of the fields, as the applier does. Gives what the kernel refused.
pub fn apply(observed: &mut Observed, changes: &Changes, uplinks: &[(LinkName, IfIndex)]) -> Vec<String> {
    Kernel { observed, uplinks, refused: Vec::new() }.apply(changes)
}

struct Kernel<'a> {
    observed: &'a mut Observed,
    uplinks: &'a [(LinkName, IfIndex)],
    refused: Vec<String>,
}

impl Kernel<'_> {
    fn apply(mut self, changes: &Changes) -> Vec<String> {
        self.observed.sysctls.extend(changes.sysctls.iter().cloned());
        for name in &changes.links_recreate {
            self.delete_link(*name);
        }
        for link in &changes.links_add {
            self.add_link(link);
        }
        for link in &changes.links_set {
            let standing = self.observed.links.get_mut(&link.name).expect("a link to change is there");
            (standing.mtu, standing.mac, standing.up) = (link.mtu.bytes(), Some(link.mac), true);
        }
        self.observed.sysctls.extend(changes.link_sysctls.iter().cloned());
        for address in &changes.addresses_add {
            self.check(self.has_link(address.link), || format!("no link for {address:?}"));
            let new = self.observed.addresses.insert(*address);
            self.check(new, || format!("{address:?} exists"));
        }
        for (id, next_hop) in &changes.nexthops_add {
            self.check(self.has_link(next_hop.link), || format!("no link for {next_hop}"));
            let free =
                !self.observed.nexthops.contains_key(id) && !self.observed.foreign_nexthop_ids.contains(id);
            self.check(free, || format!("nexthop {id} exists"));
            self.observed.nexthops.insert(*id, ObservedNextHop::Known(*next_hop));
        }
        for neighbour in &changes.neighbours_set {
            self.check(self.has_link(neighbour.key.link), || format!("no link for {neighbour:?}"));
            self.observed.neighbours.insert(neighbour.key, neighbour.mac);
        }
        for entry in &changes.fdb_set {
            self.check(self.observed.links.contains_key(&entry.key.link), || {
                format!("no link for {entry:?}")
            });
            self.observed.fdb.insert(entry.key, ObservedFdb::Known(entry.dst));
        }
        self.set_routes(changes);
        for rule in &changes.rules_add {
            let new = self.observed.rules.insert(ObservedRule { rule: *rule, altered: false });
            self.check(new, || format!("{rule:?} exists"));
        }
        self.set_netfilter(changes);
        self.delete(changes);
        self.refused
    }

    fn set_routes(&mut self, changes: &Changes) {
        for change in &changes.routes_set {
            let key = change.route.key;
            let target = match change.target {
                RouteTarget::Object(id) => {
                    let object = self.observed.nexthops.get(&id).copied();
                    let right = object == Some(ObservedNextHop::Known(change.route.next_hop));
                    self.check(right, || format!("{key} to nexthop {id}, which is {object:?}"));
                    ObservedTarget::Object(id)
                }
                RouteTarget::Gateway => ObservedTarget::Gateway(change.route.next_hop),
            };
            self.check(self.has_link(change.route.next_hop.link), || format!("no link for {key}"));
            let stood = self.observed.routes.insert(key, ObservedRoute { target, mtu: None }).is_some();
            self.check(stood == change.replace, || {
                format!("{key}: stood {stood}, replace {}", change.replace)
            });
        }
    }

    fn set_netfilter(&mut self, changes: &Changes) {
        match &changes.table {
            None => {}
            Some(TableChange::Delete) => self.observed.table = None,
            Some(TableChange::Replace(table)) => {
                let sets = table.set_names().map(|set| (set, table.elements(set).collect())).collect();
                self.observed.table = Some(ObservedTable { structure: Some(table.masquerade.clone()), sets });
            }
            Some(TableChange::Elements { add, remove }) => {
                let table =
                    self.observed.table.as_mut().expect("elements are changed in a table that is there");
                for (set, element) in remove {
                    assert!(table.sets.entry(*set).or_default().remove(element), "{set} has no {element}");
                }
                for (set, element) in add {
                    let elements = table.sets.entry(*set).or_default();
                    let clash = |held: &hopwise_core::cidr::Cidr| held.overlaps(*element);
                    assert!(!elements.iter().any(clash), "{set} has {element}");
                    elements.insert(*element);
                }
            }
        }
        for (chain, rules) in &changes.forward_accepts {
            let accepts = ObservedAccepts { rules: rules.clone(), first: true };
            self.observed.forward_accepts.insert(*chain, accepts);
        }
    }

    fn delete(&mut self, changes: &Changes) {
        for rule in &changes.rules_delete {
            // The oldest that matches: what we have just added comes last.
            let altered = ObservedRule { rule: *rule, altered: true };
            let gone = self.observed.rules.remove(&altered)
                || self.observed.rules.remove(&ObservedRule { rule: *rule, altered: false });
            self.check(gone, || format!("no {rule:?}"));
        }
        for key in &changes.routes_delete {
            let gone = self.observed.routes.remove(key).is_some();
            self.check(gone, || format!("no route {key}"));
        }
        for id in &changes.nexthops_delete {
            let gone = self.observed.nexthops.remove(id).is_some();
            self.check(gone, || format!("no nexthop {id}"));
            let users: Vec<_> = self.observed.routes.users_of(*id).collect();
            self.check(users.is_empty(), || format!("nexthop {id} is used by {users:?}"));
            for key in users {
                self.observed.routes.remove(&key);
            }
        }
        for key in &changes.fdb_delete {
            let gone = self.observed.fdb.remove(key).is_some();
            self.check(gone, || format!("no {key:?}"));
        }
        for key in &changes.neighbours_delete {
            let gone = self.observed.neighbours.remove(key).is_some();
            self.check(gone, || format!("no {key:?}"));
        }
        for address in &changes.addresses_delete {
            let gone = self.observed.addresses.remove(address);
            self.check(gone, || format!("no {address:?}"));
        }
        for name in &changes.links_delete {
            self.delete_link(*name);
        }
    }

    fn add_link(&mut self, link: &VxlanLink) {
        let uplink = self.uplinks.iter().find(|(name, _)| *name == link.uplink).map(|(_, index)| *index);
        self.check(uplink.is_some(), || format!("no uplink for {link:?}"));
        let standing = ObservedLink {
            index: IfIndex(100),
            kind: "vxlan".to_owned(),
            up: true,
            mtu: link.mtu.bytes(),
            mac: Some(link.mac),
            vni: link.vni,
            port: link.port,
            local: Some(link.local),
            uplink,
            learning: false,
        };
        let new = self.observed.links.insert(link.name, standing).is_none();
        self.check(new, || format!("link {} exists", link.name));
        self.observed.sysctls.insert(SysctlKey::RpFilter(SysctlLink::Link(link.name)), "1".to_owned());
    }

    fn delete_link(&mut self, name: LinkName) {
        let gone = self.observed.links.remove(&name).is_some();
        self.check(gone, || format!("no link {name}"));
        flush_link(self.observed, name);
    }

    fn has_link(&self, name: LinkName) -> bool {
        self.observed.links.contains_key(&name) || self.uplinks.iter().any(|(uplink, _)| *uplink == name)
    }

    fn check(&mut self, condition: bool, message: impl FnOnce() -> String) {
        if !condition {
            self.refused.push(message());
        }
    }
}

/// Takes away all that goes with a link.
pub fn flush_link(observed: &mut Observed, name: LinkName) {
    let on_link = |next_hop: &NextHop| next_hop.link == name;
    let is_on =
        |object: &ObservedNextHop| matches!(object, ObservedNextHop::Known(next_hop) if on_link(next_hop));
    let ids: Vec<u32> =
        observed.nexthops.iter().filter(|(_, object)| is_on(object)).map(|(id, _)| *id).collect();
    for id in ids {
        observed.nexthops.remove(&id);
        let users: Vec<_> = observed.routes.users_of(id).collect();
        for key in users {
            observed.routes.remove(&key);
        }
    }
    let by_gateway =
        |route: &ObservedRoute| matches!(route.target, ObservedTarget::Gateway(hop) if on_link(&hop));
    let keys: Vec<_> =
        observed.routes.iter().filter(|(_, route)| by_gateway(route)).map(|(key, _)| *key).collect();
    for key in keys {
        observed.routes.remove(&key);
    }
    observed.addresses.retain(|address| address.link != name);
    observed.neighbours.retain(|key, _| key.link != name);
    observed.fdb.retain(|key, _| key.link != name);
    observed.sysctls.retain(|key, _| *key != SysctlKey::RpFilter(SysctlLink::Link(name)));
}
