//! From kernel messages to values of the core. Dumps and notifications share it, so that an object looks the same
//! whichever way it came.

use std::net::IpAddr;

use hopwise_core::host::{ForeignRoute, Link, LinkAddress, Lookup};
use hopwise_core::mark::{LINK_ALIAS, PROTOCOL};
use hopwise_core::name::{IfIndex, LinkName, MacAddr, Mtu};
use hopwise_core::object::{FdbKey, NeighbourKey, NextHop, RouteKey};
use hopwise_core::observed::{
    ObservedFdb, ObservedLink, ObservedNextHop, ObservedRoute, ObservedRule, ObservedTarget,
};

use crate::rt::address::AddressMessage;
use crate::rt::link::LinkMessage;
use crate::rt::neighbour::NeighbourMessage;
use crate::rt::nexthop::NextHopMessage;
use crate::rt::route::RouteMessage;
use crate::rt::rule::RuleMessage;

/// Stands for the MAC address of a neighbour entry of ours that is not permanent any more, or has lost its address: no
/// desired entry has it, so that the entry is written anew.
pub(crate) const ALTERED_MAC: MacAddr = MacAddr([0; 6]);

/// Gives the name of a link by its index.
pub(crate) trait Names {
    /// The name; `None` for a link that isn't there.
    fn name(&self, index: u32) -> Option<LinkName>;
}

/// Whether a link is ours.
pub(crate) fn is_ours(link: &LinkMessage<'_>) -> bool {
    link.alias.starts_with(LINK_ALIAS)
}

/// A link of ours.
pub(crate) fn observed_link(link: &LinkMessage<'_>) -> ObservedLink {
    let vxlan = link.vxlan.unwrap_or_default();
    ObservedLink {
        index: IfIndex(link.index),
        kind: link.kind.to_owned(),
        up: link.up(),
        mtu: link.mtu,
        mac: link.mac,
        vni: vxlan.vni,
        port: vxlan.port,
        local: vxlan.local,
        uplink: vxlan.link.map(IfIndex),
        learning: vxlan.learning,
    }
}

/// Any link; `None` when its name is none that can be worked with.
pub(crate) fn host_link(link: &LinkMessage<'_>) -> Option<Link> {
    Some(Link {
        index: IfIndex(link.index),
        name: link.name?,
        kind: link.kind.to_owned(),
        mac: link.mac,
        mtu: link.mtu,
        up: link.up(),
        carrier: link.carrier(),
        loopback: link.loopback(),
        master: link.master.map(IfIndex),
        alias: link.alias.to_owned(),
    })
}

/// An address on any link.
pub(crate) fn link_address(address: &AddressMessage) -> LinkAddress {
    LinkAddress {
        link: IfIndex(address.link),
        address: address.address,
        prefix_len: address.prefix_len,
        global: address.global(),
        unusable: address.unusable(),
    }
}

/// The key of a route.
pub(crate) fn route_key(route: &RouteMessage) -> RouteKey {
    RouteKey { table: route.table, dst: route.dst, metric: route.metric }
}

/// Whether a route is ours. We make none for a TOS or a source prefix only, and none in caches.
pub(crate) fn is_our_route(route: &RouteMessage) -> bool {
    route.protocol == PROTOCOL && !route.qualified && !route.cloned
}

/// Where a route of ours leads.
pub(crate) fn observed_route(route: &RouteMessage, names: &impl Names) -> ObservedRoute {
    let plain = route.unicast() && !route.encapsulated;
    let target = match (route.nexthop, route.gateway, route.link) {
        (Some(id), _, _) if plain => ObservedTarget::Object(id),
        (None, Some(gateway), Some(link)) if plain && !route.multipath => {
            names.name(link).map_or(ObservedTarget::Other, |link| {
                ObservedTarget::Gateway(NextHop { gateway, link, onlink: route.onlink })
            })
        }
        _ => ObservedTarget::Other,
    };
    ObservedRoute { target, mtu: route.mtu.and_then(|mtu| Mtu::new(mtu).ok()) }
}

/// A route that is not ours.
pub(crate) fn foreign_route(route: &RouteMessage) -> ForeignRoute {
    let single = route.unicast() && !route.multipath;
    ForeignRoute {
        table: route.table,
        dst: route.dst,
        metric: route.metric,
        protocol: route.protocol,
        gateway: route.gateway.filter(|_| single),
        link: route.link.filter(|_| single).map(IfIndex),
    }
}

/// The answer to a route lookup; `None` when it does not say which link.
pub(crate) fn lookup(route: &RouteMessage) -> Option<Lookup> {
    match route.kind {
        libc::RTN_LOCAL => Some(Lookup::Local),
        libc::RTN_UNICAST => {
            let link = IfIndex(route.link?);
            Some(route.gateway.map_or(Lookup::OnLink { link }, |gateway| Lookup::Via { link, gateway }))
        }
        _ => Some(Lookup::Unreachable),
    }
}

/// A nexthop object of ours.
pub(crate) fn observed_next_hop(next_hop: &NextHopMessage, names: &impl Names) -> ObservedNextHop {
    let plain = || {
        let link = names.name(next_hop.link.filter(|_| !next_hop.special)?)?;
        Some(NextHop { gateway: next_hop.gateway?, link, onlink: next_hop.onlink })
    };
    plain().map_or(ObservedNextHop::Other, ObservedNextHop::Known)
}

/// A neighbour entry, which is ours when it carries our protocol number, or is permanent on a link of ours.
///
/// The outer `None`: not a neighbour at all. The inner one: none of ours.
pub(crate) fn neighbour(
    message: &NeighbourMessage,
    link: LinkName,
    on_our_link: bool,
) -> Option<(NeighbourKey, Option<MacAddr>)> {
    if message.is_fdb() || message.proxy() {
        return None;
    }
    let key = NeighbourKey { link, address: message.address? };
    let ours = !message.dead() && (message.protocol == PROTOCOL || on_our_link && message.permanent());
    let mac = message.mac.filter(|_| message.permanent()).unwrap_or(ALTERED_MAC);
    Some((key, ours.then_some(mac)))
}

/// An FDB entry of a VXLAN device of ours.
pub(crate) fn fdb(message: &NeighbourMessage, link: LinkName) -> Option<(FdbKey, ObservedFdb)> {
    if !message.is_fdb() || !message.of_device() {
        return None;
    }
    let known: Option<IpAddr> = message.address.filter(|_| message.permanent() && !message.special);
    let key = FdbKey { link, mac: message.mac? };
    Some((key, known.map_or(ObservedFdb::Other, ObservedFdb::Known)))
}

/// A policy rule of ours.
pub(crate) fn observed_rule(rule: &RuleMessage) -> Option<ObservedRule> {
    (rule.protocol == PROTOCOL).then_some(ObservedRule { rule: rule.rule, altered: rule.qualified })
}
