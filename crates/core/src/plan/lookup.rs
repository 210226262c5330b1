//! Which addresses the kernel is asked about, and what a changed host view concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::claims;
use super::site::HostIndex;
use crate::cidr::Cidr;
use crate::cluster::{ClusterView, Node};
use crate::config::{NodeConfig, UplinkSelector};
use crate::family::Family;
use crate::host::{ForeignRoute, HostView, Link};
use crate::name::IfIndex;

/// The addresses of a node that are to be looked up: none for our own.
pub(super) fn targets_of<'a>(
    node: &'a Node,
    view: &'a ClusterView,
    config: &NodeConfig,
) -> impl Iterator<Item = IpAddr> + 'a {
    let peer = node.name != config.node;
    let addresses = node.addresses.iter().map(|claim| claim.value);
    addresses.filter(move |address| {
        peer && claims::in_use(&view.networks, Family::of(*address))
            && claims::check_address(*address, &view.networks).is_ok()
    })
}

/// All addresses that are to be looked up.
pub(super) fn targets<'a>(
    view: &'a ClusterView,
    config: &'a NodeConfig,
) -> impl Iterator<Item = IpAddr> + 'a {
    let uplink = uplink_target(config);
    uplink.into_iter().chain(view.nodes.values().flat_map(|node| targets_of(node, view, config)))
}

/// The address by which the uplink is chosen.
pub(super) fn uplink_target(config: &NodeConfig) -> Option<IpAddr> {
    match config.uplink {
        UplinkSelector::CanReach(address) => Some(address),
        _ => None,
    }
}

/// The peers' addresses whose plans a changed host view may concern, foreign routes left out.
pub(super) fn changed_addresses(
    (old, old_index): (&HostView, &HostIndex),
    (new, new_index): (&HostView, &HostIndex),
) -> BTreeSet<IpAddr> {
    let links = changed_links(&old.links, &new.links);
    let mut changed = BTreeSet::new();
    let concerned = |lookup: &crate::host::Lookup| match lookup {
        crate::host::Lookup::OnLink { link } | crate::host::Lookup::Via { link, .. } => links.contains(link),
        _ => false,
    };
    for (address, lookup) in &new.lookups {
        if concerned(lookup) || old.lookups.get(address) != Some(lookup) {
            changed.insert(*address);
        }
    }
    changed.extend(old.lookups.keys().filter(|address| !new.lookups.contains_key(address)));
    changed.extend(old_index.addresses.symmetric_difference(&new_index.addresses));
    changed.extend(old_index.broadcasts.symmetric_difference(&new_index.broadcasts));
    let neighbours = [
        (&old.foreign_neighbours, &new.foreign_neighbours),
        (&new.foreign_neighbours, &old.foreign_neighbours),
    ];
    for (here, there) in neighbours {
        let differs = here.iter().filter(|(key, mac)| there.get(key) != Some(mac));
        changed.extend(differs.map(|((_, address), _)| *address));
    }
    changed
}

/// Links of which peers' plans would see that they changed.
fn changed_links(old: &BTreeMap<IfIndex, Link>, new: &BTreeMap<IfIndex, Link>) -> BTreeSet<IfIndex> {
    let seen = |link: &Link| (link.name, link.mac, link.loopback, super::uplink::is_ours(link));
    let indexes = old.keys().chain(new.keys()).copied();
    indexes.filter(|index| old.get(index).map(seen) != new.get(index).map(seen)).collect()
}

/// The destinations to which foreign routes changed, or the links that they lead to.
pub(super) fn changed_destinations(old: &HostView, new: &HostView) -> BTreeSet<Cidr> {
    let links = changed_links(&old.links, &new.links);
    let moved = new.routes.iter().filter(|route| route.link.is_some_and(|link| links.contains(&link)));
    let mut changed: BTreeSet<Cidr> = moved.map(|route| route.dst).collect();
    if old.routes == new.routes {
        return changed;
    }
    let mut by_dst: BTreeMap<Cidr, [Vec<&ForeignRoute>; 2]> = BTreeMap::new();
    for (side, view) in [old, new].into_iter().enumerate() {
        for route in &view.routes {
            by_dst.entry(route.dst).or_default()[side].push(route);
        }
    }
    changed.extend(by_dst.into_iter().filter(|(_, [old, new])| old != new).map(|(dst, _)| dst));
    changed
}
