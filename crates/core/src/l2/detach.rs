//! Taking the uplink off the bridge: by wish, or because attaching did not work.

use super::attach::with_advertised;
use super::refusal::Refusal;
use super::step::Step;
use super::transfer::Direction;
use super::value::{Held, Observed, Record, Route, SYSCTLS, Wanted};
use crate::mark;
use crate::name::LinkName;

/// Why an uplink is better left on the bridge: pods are on it too, and would be cut off.
pub fn check(observed: &Observed, wanted: Wanted) -> Result<(), Refusal> {
    let ports = other_ports(observed, wanted);
    if ports.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = ports.iter().take(5).map(ToString::to_string).collect();
    let more = if ports.len() > names.len() { ", …" } else { "" };
    Err(Refusal::new(
        format!(
            "{} has {} ports besides {} ({}{more}), which would be cut off from the LAN",
            wanted.bridge,
            ports.len(),
            wanted.uplink,
            names.join(", "),
        ),
        "move the pods away first, or use --force",
    ))
}

/// The ports of the bridge besides the uplink.
fn other_ports(observed: &Observed, Wanted { uplink, bridge }: Wanted) -> Vec<LinkName> {
    let ports = observed.links.iter().filter(|(name, link)| link.master == Some(bridge) && **name != uplink);
    ports.map(|(name, _)| *name).collect()
}

/// The steps after which the uplink has again what it had, and the bridge is what it was; from wherever things are now: all
/// attached, attached in part, or put back in part. With the uplink gone, only the bridge is put right.
pub fn plan(observed: &Observed, record: &Record) -> Vec<Step> {
    let Wanted { uplink, bridge } = record.wanted;
    let mut steps = Vec::new();
    if let Some(link) = observed.links.get(&uplink) {
        if link.master == Some(bridge) {
            steps.push(Step::Release(uplink));
        }
        let held = present(observed, record).on_link(uplink, bridge);
        steps.extend(with_advertised(observed, &held, Direction { from: bridge, to: uplink }));
        for (sysctl, value) in &record.uplink_sysctls {
            if observed.sysctl(uplink, *sysctl).is_some_and(|now| now != value) {
                steps.push(Step::SetSysctl(uplink, *sysctl, value.clone()));
            }
        }
    }
    steps.extend(bridge_back(observed, record));
    steps
}

fn bridge_back(observed: &Observed, record: &Record) -> Vec<Step> {
    let bridge = record.wanted.bridge;
    let Some(link) = observed.links.get(&bridge) else { return Vec::new() };
    let Some(before) = &record.bridge else {
        // Pods may have come to it meanwhile: then it stays, as the bridge of a node without an uplink.
        let deserted = other_ports(observed, record.wanted).is_empty();
        return if deserted { vec![Step::DeleteBridge(bridge)] } else { Vec::new() };
    };
    let mut steps = Vec::new();
    for sysctl in SYSCTLS {
        let former =
            before.sysctls.get(&sysctl).filter(|value| observed.sysctl(bridge, sysctl) != Some(value));
        steps.extend(former.map(|value| Step::SetSysctl(bridge, sysctl, value.clone())));
    }
    if let Some(mac) = before.mac.filter(|mac| link.mac != Some(*mac)) {
        steps.push(Step::SetMac(bridge, mac));
    }
    if link.mtu != before.mtu {
        steps.push(Step::SetMtu(bridge, before.mtu));
    }
    steps
}

/// What the uplink is to get: what was recorded, with the lifetimes that addresses have now, and the routes that others
/// have made through the LAN since.
fn present(observed: &Observed, record: &Record) -> Held {
    let Wanted { uplink, bridge } = record.wanted;
    let mut held = record.held.clone();
    for address in &mut held.addresses {
        let now = [bridge, uplink]
            .iter()
            .find_map(|link| observed.addresses_of(*link).iter().find(|now| now.same_key(address)));
        if let Some(now) = now {
            (address.preferred, address.valid) = (now.preferred, now.valid);
        }
    }
    for route in &mut held.routes {
        let moved = route.on_link(uplink, bridge);
        if let Some(now) = observed.routes.iter().find(|now| now.same(&moved)) {
            route.expires = now.expires;
        }
    }
    // A route of somebody else's that took the place of one of ours, or came new through the LAN.
    let foreign = |route: &&Route| {
        route.protocol != mark::PROTOCOL
            && route.special.is_none()
            && !observed.is_from_ra(route, bridge)
            && !record.held.routes.iter().any(|own| own.on_link(uplink, bridge).same(route))
            && route.hops.iter().any(|hop| hop.gateway.is_some())
    };
    // Only where the bridge is ours: on another's it was his before, and stays his.
    if record.bridge.is_none() {
        for route in observed.routes_of(bridge).filter(foreign) {
            held.routes.retain(|own| !own.same_key(route));
            held.routes.push(route.on_link(bridge, uplink));
        }
    }
    held
}
