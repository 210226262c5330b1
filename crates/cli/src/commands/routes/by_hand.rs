//! The commands that one would type by hand to have the same routes: plain gateways, since nexthop objects are what a
//! person would not type, and no nftables or sysctls, since those are not about reaching peers.

use std::collections::BTreeMap;

use hopwise_core::diff::{Changes, Desired, RouteChange, RouteTarget};
use hopwise_core::host::Link;
use hopwise_core::name::{IfIndex, LinkName, Mtu};
use hopwise_core::object::{FdbEntry, Neighbour, NextHop, Route, VxlanLink};
use hopwise_core::observed::{
    Observed, ObservedFdb, ObservedLink, ObservedNextHop, ObservedRoute, ObservedTarget,
};

/// For what is planned.
pub fn of_desired(desired: &Desired) -> Vec<String> {
    let routes = desired.routes.iter().map(|(key, next_hop)| Route { key: *key, next_hop: *next_hop });
    let neighbours = desired.neighbours.iter().map(|(key, mac)| Neighbour { key: *key, mac: *mac });
    let fdb = desired.fdb.iter().map(|(key, dst)| FdbEntry { key: *key, dst: *dst });
    Changes {
        links_add: desired.links.values().copied().collect(),
        addresses_add: desired.addresses.iter().copied().collect(),
        neighbours_set: neighbours.collect(),
        fdb_set: fdb.collect(),
        routes_set: routes.map(by_gateway).collect(),
        rules_add: desired.rules.iter().copied().collect(),
        ..Changes::default()
    }
    .commands()
}

/// For what stands in the kernel and is ours. What has been altered beyond what we would write is left out.
pub fn of_observed(observed: &Observed, links: &BTreeMap<IfIndex, Link>) -> Vec<String> {
    let routes = observed
        .routes
        .iter()
        .filter_map(|(key, route)| next_hop(observed, route).map(|next_hop| Route { key: *key, next_hop }));
    let fdb = observed.fdb.iter().filter_map(|(key, entry)| match entry {
        ObservedFdb::Known(dst) => Some(FdbEntry { key: *key, dst: *dst }),
        ObservedFdb::Other => None,
    });
    Changes {
        links_add: observed.links.iter().filter_map(|(name, link)| vxlan(*name, link, links)).collect(),
        addresses_add: observed.addresses.iter().copied().collect(),
        neighbours_set: observed
            .neighbours
            .iter()
            .map(|(key, mac)| Neighbour { key: *key, mac: *mac })
            .collect(),
        fdb_set: fdb.collect(),
        routes_set: routes.map(by_gateway).collect(),
        rules_add: observed.rules.iter().map(|observed| observed.rule).collect(),
        ..Changes::default()
    }
    .commands()
}

fn by_gateway(route: Route) -> RouteChange {
    RouteChange { route, target: RouteTarget::Gateway, replace: true }
}

fn next_hop(observed: &Observed, route: &ObservedRoute) -> Option<NextHop> {
    match route.target {
        ObservedTarget::Object(id) => match observed.nexthops.get(&id)? {
            ObservedNextHop::Known(next_hop) => Some(*next_hop),
            ObservedNextHop::Other => None,
        },
        ObservedTarget::Gateway(next_hop) => Some(next_hop),
        ObservedTarget::Other => None,
    }
}

fn vxlan(name: LinkName, link: &ObservedLink, links: &BTreeMap<IfIndex, Link>) -> Option<VxlanLink> {
    Some(VxlanLink {
        name,
        vni: link.vni,
        port: link.port,
        local: link.local?,
        uplink: links.get(&link.uplink?)?.name,
        mac: link.mac?,
        mtu: Mtu::new(link.mtu).ok()?,
    })
}
