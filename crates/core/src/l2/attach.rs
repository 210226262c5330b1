//! Putting the uplink on the bridge.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::refusal::Refusal;
use super::step::Step;
use super::transfer::{self, Direction};
use super::value::{
    Address, BridgeBefore, Held, Link, Observed, Record, SYSCTLS, Special, Sysctl, Wanted, address_flags,
};
use crate::mark;
use crate::name::{LinkName, MacAddr};

/// How an uplink is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachPlan {
    /// What is written down before the first step.
    pub record: Record,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The routers that must still answer afterwards.
    pub gateways: Vec<IpAddr>,
}

/// Kinds of links that the kernel takes as a port of a bridge but that carry nobody's LAN, or that it refuses.
const KINDS_REFUSED: [&str; 8] =
    ["bridge", "vrf", "macvlan", "macvtap", "ipvlan", "ipvtap", "openvswitch", "hsr"];

/// Kinds of links made on another that a bridge's port can't have above it, or that would lose their traffic.
const KINDS_ABOVE: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];

/// Plans the attachment of an uplink, or says why it is not to be done. Nothing has been changed then.
pub fn plan(observed: &Observed, wanted: Wanted) -> Result<AttachPlan, Refusal> {
    let Wanted { uplink, bridge } = wanted;
    if uplink == bridge {
        return Err(Refusal::new(
            format!("{uplink} can't be the uplink and the bridge at once"),
            "give the bridge another name, as cni0",
        ));
    }
    let (link, mac) = check_uplink(observed, wanted)?;
    let there = check_bridge(observed, wanted)?;
    check_contents(observed, wanted)?;

    let held = Held::of(observed, uplink);
    let record = Record {
        wanted,
        mac: Some(mac),
        uplink_sysctls: uplink_sysctls(observed, uplink),
        bridge: there.map(|link| before(observed, bridge, link, uplink)),
        bridge_sysctls: carried_over(observed, wanted),
        held,
    };
    let mut steps = prepare(observed, &record, mac, link.mtu);
    steps.push(Step::Enslave(uplink, bridge));
    steps.extend(moves(observed, &record.held, wanted));
    Ok(AttachPlan { record, steps, gateways: observed.gateways_of(uplink) })
}

/// The steps that move what is held from the uplink to the bridge.
pub(super) fn moves(observed: &Observed, held: &Held, wanted: Wanted) -> Vec<Step> {
    let direction = Direction { from: wanted.uplink, to: wanted.bridge };
    with_advertised(observed, held, direction)
}

pub(super) fn with_advertised(observed: &Observed, held: &Held, direction: Direction) -> Vec<Step> {
    let (adds, deletes) = transfer::advertised(observed, direction);
    let mut steps = transfer::steps(observed, held, direction);
    // A gateway has to be reachable before a route can lead to it: behind the routes that are there.
    let routes_end = steps
        .iter()
        .rposition(|step| matches!(step, Step::AddRoute(..) | Step::AddAddress(..)))
        .map_or(0, |at| at + 1);
    steps.splice(routes_end..routes_end, adds.into_iter().chain(deletes));
    steps
}

/// What makes the bridge ready. No packet is affected yet.
pub(super) fn prepare(observed: &Observed, record: &Record, mac: MacAddr, mtu: u32) -> Vec<Step> {
    let Wanted { uplink, bridge } = record.wanted;
    let mut steps = Vec::new();
    match observed.links.get(&bridge) {
        None => steps.push(Step::MakeBridge { name: bridge, mac, mtu }),
        Some(link) => {
            if link.mac != Some(mac) {
                steps.push(Step::SetMac(bridge, mac));
            }
            if link.mtu != mtu {
                steps.push(Step::SetMtu(bridge, mtu));
            }
            if !link.up {
                steps.push(Step::SetUp(bridge));
            }
        }
    }
    // In the order of the table, which the kernel's own dependencies ask for.
    for sysctl in SYSCTLS {
        if let Some(value) = record.bridge_sysctls.get(&sysctl) {
            steps.push(Step::SetSysctl(bridge, sysctl, value.clone()));
        }
    }
    let makes_link_local = observed.sysctl(uplink, Sysctl::ADDR_GEN_MODE).is_some_and(|mode| mode != "1");
    if makes_link_local && record.uplink_sysctls.contains_key(&Sysctl::ADDR_GEN_MODE) {
        steps.push(Step::SetSysctl(uplink, Sysctl::ADDR_GEN_MODE, "1".to_owned()));
    }
    steps
}

/// A port needs no link-local address, and is not to make itself a new one when its carrier comes back. A link that has none
/// now keeps its mode: setting that back would give it one.
fn uplink_sysctls(observed: &Observed, uplink: LinkName) -> BTreeMap<Sysctl, String> {
    let has_link_local = observed.addresses_of(uplink).iter().any(Address::is_link_local);
    let mode = observed.sysctl(uplink, Sysctl::ADDR_GEN_MODE).filter(|mode| has_link_local && *mode != "1");
    mode.map(|mode| (Sysctl::ADDR_GEN_MODE, mode.to_owned())).into_iter().collect()
}

/// The sysctls in which the bridge is to become as the uplink is.
fn carried_over(observed: &Observed, Wanted { uplink, bridge }: Wanted) -> BTreeMap<Sysctl, String> {
    let differs = |(sysctl, value): &(&Sysctl, &String)| {
        **sysctl != Sysctl::ADDR_GEN_MODE && observed.sysctl(bridge, **sysctl) != Some(value.as_str())
    };
    let present = observed.sysctls.get(&uplink).into_iter().flatten();
    present.filter(differs).map(|(sysctl, value)| (*sysctl, value.clone())).collect()
}

fn before(observed: &Observed, bridge: LinkName, link: &Link, uplink: LinkName) -> BridgeBefore {
    let changed = carried_over(observed, Wanted { uplink, bridge });
    let former = |sysctl: &Sysctl| Some((*sysctl, observed.sysctl(bridge, *sysctl)?.to_owned()));
    BridgeBefore {
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        sysctls: changed.keys().filter_map(former).collect(),
    }
}

fn check_uplink(observed: &Observed, wanted: Wanted) -> Result<(&Link, MacAddr), Refusal> {
    let Wanted { uplink, bridge } = wanted;
    let link = observed.links.get(&uplink).ok_or_else(|| {
        Refusal::new(format!("there is no link {uplink}"), "see `ip link` for those there are")
    })?;
    if link.loopback {
        return Err(Refusal::new(
            format!("{uplink} is the loopback link"),
            "name the link to the LAN, see `ip route show default`",
        ));
    }
    if KINDS_REFUSED.contains(&link.kind.as_str()) {
        return Err(Refusal::new(
            format!("{uplink} is of kind {}, which can't be a bridge's uplink", link.kind),
            "name the link below it: hardware, a bond, a VLAN device or a veth",
        ));
    }
    let mac = link.mac.filter(|_| link.ethernet).ok_or_else(|| {
        Refusal::new(
            format!("{uplink} carries no Ethernet frames"),
            "a bridge needs an Ethernet link; use `ptp` and routes over this one",
        )
    })?;
    if link.wireless {
        return Err(Refusal::new(
            format!(
                "{uplink} is a wireless station, and its access point drops frames from other MAC addresses"
            ),
            "use a wired link, or `ptp` with routes",
        ));
    }
    if let Some(master) = link.master {
        return Err(if master == bridge {
            Refusal::new(
                format!("{uplink} is a port of {bridge} already, and hopwise did not do it"),
                format!("leave it as it is, or `ip link set {uplink} nomaster` and try again"),
            )
        } else {
            Refusal::new(
                format!("{uplink} is a port of {master}"),
                format!("attach {master} if that is a bond, or `ip link set {uplink} nomaster`"),
            )
        });
    }
    if !link.up {
        return Err(Refusal::new(format!("{uplink} is down"), format!("ip link set {uplink} up")));
    }
    let above = observed
        .links
        .iter()
        .find(|(_, above)| above.on == Some(uplink) && KINDS_ABOVE.contains(&above.kind.as_str()));
    if let Some((name, above)) = above {
        return Err(Refusal::new(
            format!("{name} ({}) is made on {uplink}, and would lose its traffic to the bridge", above.kind),
            format!("attach {name} itself if that leads to the LAN, or delete it"),
        ));
    }
    Ok((link, mac))
}

fn check_bridge(observed: &Observed, wanted: Wanted) -> Result<Option<&Link>, Refusal> {
    let Wanted { uplink, bridge } = wanted;
    let Some(link) = observed.links.get(&bridge) else { return Ok(None) };
    if link.kind != "bridge" {
        let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
        return Err(Refusal::new(
            format!("{bridge} is no bridge but of kind {kind}"),
            "name another with --bridge",
        ));
    }
    if link.bridge.unwrap_or_default().stp {
        return Err(Refusal::new(
            format!(
                "{bridge} runs the spanning tree protocol: traffic would wait until it has learned the LAN"
            ),
            format!(
                "ip link set {bridge} type bridge stp_state 0, if it has no loop; or name another with --bridge"
            ),
        ));
    }
    if let Some(master) = link.master {
        return Err(Refusal::new(
            format!("{bridge} belongs to {master}"),
            format!("ip link set {bridge} nomaster, or name another with --bridge"),
        ));
    }
    for own in observed.addresses_of(bridge).iter().filter(|own| !own.is_link_local()) {
        let Some(network) = own.network() else { continue };
        let overlaps = |theirs: &&Address| {
            theirs.network().is_some_and(|theirs| theirs.overlaps(network)) && !theirs.is_link_local()
        };
        if let Some(theirs) = observed.addresses_of(uplink).iter().find(overlaps) {
            return Err(Refusal::new(
                format!(
                    "{bridge} has {}/{}, and {uplink} has {}/{} in the same network",
                    own.address, own.prefix_len, theirs.address, theirs.prefix_len
                ),
                format!("ip address del {}/{} dev {bridge}", own.address, own.prefix_len),
            ));
        }
    }
    Ok(Some(link))
}

/// What can't be moved must not be lost.
fn check_contents(observed: &Observed, wanted: Wanted) -> Result<(), Refusal> {
    let Wanted { uplink, bridge } = wanted;
    if let Some(address) =
        observed.addresses_of(uplink).iter().find(|address| address.state & address_flags::DADFAILED != 0)
    {
        return Err(Refusal::new(
            format!("another host has {} of {uplink} (duplicate address detection failed)", address.address),
            format!("ip address del {}/{} dev {uplink}", address.address, address.prefix_len),
        ));
    }
    for route in observed.routes_of(uplink).filter(|route| route.protocol != mark::PROTOCOL) {
        let what = match route.special {
            None => continue,
            Some(Special::NextHopObject(id)) => format!("leads to nexthop object {id}"),
            Some(Special::Encapsulation) => "encapsulates".to_owned(),
        };
        return Err(Refusal::new(
            format!("the route to {} on {uplink} {what}, which can't be moved to {bridge}", route.dst),
            format!(
                "ip route del {} table {}, and add it again on {bridge} afterwards",
                route.dst, route.table
            ),
        ));
    }
    Ok(())
}
