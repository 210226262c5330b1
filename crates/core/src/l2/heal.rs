//! Keeping the uplink on the bridge: what others undo is done again, and what they put on the uplink moves to the bridge.

use std::collections::BTreeMap;
use std::fmt;

use super::attach::{self, prepare};
use super::step::{Step, protocol_text};
use super::transfer::{LIFETIME_SLACK, agrees, stand_ins_done};
use super::value::{Address, Held, Link, Observed, Record, Route, Wanted};
use crate::mark;
use crate::name::LinkName;

/// What is found to differ from an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The uplink is gone: unplugged, renamed, or taken into another namespace.
    UplinkMissing(LinkName),
    /// The uplink was made a port of something else.
    UplinkTaken(LinkName, LinkName),
    /// The uplink was taken off the bridge.
    UplinkReleased(LinkName, LinkName),
    /// The uplink is down.
    UplinkDown(LinkName),
    /// The bridge was deleted.
    BridgeMissing(LinkName),
    /// Something that isn't a bridge has the bridge's name.
    BridgeReplaced(LinkName, String),
    /// The bridge's MAC address, MTU or state was changed.
    BridgeChanged(LinkName),
    /// An address was put on the uplink.
    AddressBack(Address),
    /// A route was put on the uplink.
    RouteBack(Route),
    /// Permanent neighbour entries were put on the uplink.
    NeighboursBack(usize),
    /// An address vanished from the bridge.
    AddressGone(Address),
    /// A route vanished from the bridge.
    RouteGone(Route),
    /// Permanent neighbour entries vanished from the bridge.
    NeighboursGone(usize),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::UplinkMissing(uplink) => write!(f, "link {uplink} is gone"),
            Finding::UplinkTaken(uplink, master) => write!(f, "{uplink} was made a port of {master}"),
            Finding::UplinkReleased(uplink, bridge) => write!(f, "{uplink} was taken off {bridge}"),
            Finding::UplinkDown(uplink) => write!(f, "{uplink} is down"),
            Finding::BridgeMissing(bridge) => write!(f, "bridge {bridge} was deleted"),
            Finding::BridgeReplaced(bridge, kind) => write!(f, "{bridge} is of kind {kind:?} now"),
            Finding::BridgeChanged(bridge) => write!(f, "MAC address, MTU or state of {bridge} was changed"),
            Finding::AddressBack(a) => write!(f, "address {}/{} came to the uplink", a.address, a.prefix_len),
            Finding::RouteBack(r) => {
                write!(f, "route {} (proto {}) came to the uplink", r.dst, protocol_text(r.protocol))
            }
            Finding::NeighboursBack(n) => write!(f, "{n} neighbour entries came to the uplink"),
            Finding::AddressGone(a) => {
                write!(f, "address {}/{} vanished from the bridge", a.address, a.prefix_len)
            }
            Finding::RouteGone(r) => {
                write!(f, "route {} (proto {}) vanished from the bridge", r.dst, protocol_text(r.protocol))
            }
            Finding::NeighboursGone(n) => write!(f, "{n} neighbour entries vanished from the bridge"),
        }
    }
}

/// What is to be done about what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healing {
    /// What differs. Empty with steps: a stand-in for an advertised route has served its time.
    pub findings: Vec<Finding>,
    /// What is done about it; empty where nothing can be done.
    pub steps: Vec<Step>,
    /// What is recorded afterwards: with what came new, and lifetimes as they are now.
    pub record: Record,
}

/// Compares an attachment with what is observed. `elapsed` is how many seconds ago the record was last brought up to date.
///
/// What somebody changes on the bridge stays as he wants it: a route with the same key in place of ours is taken over into the
/// record, and only what is gone without a replacement is restored.
pub fn plan(observed: &Observed, record: &Record, elapsed: u32) -> Healing {
    let Wanted { uplink, bridge } = record.wanted;
    let mut healing = Healing { findings: Vec::new(), steps: Vec::new(), record: record.clone() };
    let Some(link) = observed.links.get(&uplink) else {
        healing.findings.push(Finding::UplinkMissing(uplink));
        return healing;
    };
    if let Some(master) = link.master.filter(|master| *master != bridge) {
        healing.findings.push(Finding::UplinkTaken(uplink, master));
        return healing;
    }
    let there = observed.links.get(&bridge);
    if let Some(other) = there.filter(|there| there.kind != "bridge") {
        healing.findings.push(Finding::BridgeReplaced(bridge, other.kind.clone()));
        return healing;
    }
    links(observed, link, &mut healing);
    let came = Held::of(observed, uplink);
    let known = refreshed(observed, record, elapsed);
    contents(observed, &came, &known, bridge, &mut healing.findings);
    let held = merged(known, &came);
    healing.steps.extend(attach::moves(observed, &held, record.wanted));
    healing.steps.extend(stand_ins_done(observed, bridge));
    healing.record.held = held;
    healing
}

/// The two links themselves.
fn links(observed: &Observed, uplink: &Link, healing: &mut Healing) {
    let names = healing.record.wanted;
    let mac = healing.record.mac.or(uplink.mac);
    let bridge = observed.links.get(&names.bridge);
    match bridge {
        None => healing.findings.push(Finding::BridgeMissing(names.bridge)),
        Some(bridge) if bridge.mac != mac || !bridge.up || bridge.mtu != uplink.mtu => {
            healing.findings.push(Finding::BridgeChanged(names.bridge));
        }
        Some(_) => {}
    }
    if let Some(mac) = mac {
        let mut steps = prepare(observed, &healing.record, mac, uplink.mtu);
        // What somebody sets on the bridge later is his own business; a new one starts as the first did.
        if bridge.is_some() {
            steps.retain(|step| !matches!(step, Step::SetSysctl(link, ..) if *link == names.bridge));
        }
        healing.steps.append(&mut steps);
    }
    if !uplink.up {
        healing.findings.push(Finding::UplinkDown(names.uplink));
        healing.steps.push(Step::SetUp(names.uplink));
    }
    if uplink.master.is_none() {
        healing.findings.push(Finding::UplinkReleased(names.uplink, names.bridge));
        healing.steps.push(Step::Enslave(names.uplink, names.bridge));
    }
}

/// What is recorded, as it is on the bridge now.
fn refreshed(observed: &Observed, record: &Record, elapsed: u32) -> Held {
    let Wanted { uplink, bridge } = record.wanted;
    let on_bridge = observed.addresses_of(bridge);
    let address = |address: &Address| match on_bridge.iter().find(|now| now.same_key(address)) {
        Some(now) => Some(now.on_link(bridge, uplink)),
        None => address.aged(elapsed),
    };
    let route = |route: &Route| {
        let with_key = |now: &&Route| now.same_key(route) && now.uses(bridge) && !now.follows_from(on_bridge);
        let mut rivals = observed.routes.iter().filter(with_key);
        let same = rivals.clone().find(|now| now.same(&route.on_link(uplink, bridge)));
        match same.or_else(|| rivals.next()) {
            Some(now) if now.protocol == mark::PROTOCOL => None,
            Some(now) => Some(now.on_link(bridge, uplink)),
            // Another link's route took its place: that is what somebody wants.
            None if observed.routes.iter().any(|now| now.same_key(route) && !now.uses(uplink)) => None,
            None => match route.expires {
                Some(left) if left <= elapsed => None,
                expires => Some(Route { expires: expires.map(|left| left - elapsed), ..route.clone() }),
            },
        }
    };
    Held {
        addresses: record.held.addresses.iter().filter_map(address).collect(),
        routes: record.held.routes.iter().filter_map(route).collect(),
        neighbours: record.held.neighbours.clone(),
    }
}

fn contents(observed: &Observed, came: &Held, known: &Held, bridge: LinkName, findings: &mut Vec<Finding>) {
    let on_bridge = observed.addresses_of(bridge);
    findings.extend(came.addresses.iter().cloned().map(Finding::AddressBack));
    findings.extend(came.routes.iter().cloned().map(Finding::RouteBack));
    if !came.neighbours.is_empty() {
        findings.push(Finding::NeighboursBack(came.neighbours.len()));
    }
    // A missing bridge says it all.
    if !observed.links.contains_key(&bridge) {
        return;
    }
    let gone = |address: &&Address| !on_bridge.iter().any(|now| now.same_key(address));
    findings.extend(known.addresses.iter().filter(gone).cloned().map(Finding::AddressGone));
    let gone = |route: &&Route| !observed.routes.iter().any(|now| now.same_key(route));
    findings.extend(known.routes.iter().filter(gone).cloned().map(Finding::RouteGone));
    let present = observed.neighbours_of(bridge);
    let gone = known.neighbours.iter().filter(|neighbour| !present.contains(neighbour)).count();
    if gone > 0 {
        findings.push(Finding::NeighboursGone(gone));
    }
}

/// What is known, with what came to the uplink: its lifetimes are the newer ones.
fn merged(mut known: Held, came: &Held) -> Held {
    for address in &came.addresses {
        match known.addresses.iter_mut().find(|there| there.same_key(address)) {
            Some(there) if agrees(there, address) => {}
            Some(there) => *there = address.clone(),
            None => known.addresses.push(address.clone()),
        }
    }
    for route in &came.routes {
        let same = known.routes.iter().position(|there| there.same(route));
        let rivals: Vec<usize> =
            (0..).zip(&known.routes).filter(|(_, r)| r.same_key(route)).map(|(at, _)| at).collect();
        match (same, rivals.as_slice()) {
            (Some(at), _) | (None, &[at]) => known.routes[at] = route.clone(),
            (None, _) => known.routes.push(route.clone()),
        }
    }
    for neighbour in &came.neighbours {
        known.neighbours.retain(|there| there.address != neighbour.address);
        known.neighbours.push(*neighbour);
    }
    known
}

/// Whether two records say the same, but for lifetimes that differ by no more than reading them takes.
pub fn same_record(one: &Record, other: &Record) -> bool {
    let close = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= LIFETIME_SLACK,
        (a, b) => a == b,
    };
    let addresses = |a: &Address, b: &Address| a.same_key(b) && a.label == b.label && agrees(a, b);
    let routes = |a: &Route, b: &Route| a.same(b) && close(a.expires, b.expires);
    let (a, b) = (&one.held, &other.held);
    one.wanted == other.wanted
        && a.addresses.len() == b.addresses.len()
        && a.addresses.iter().zip(&b.addresses).all(|(a, b)| addresses(a, b))
        && a.routes.len() == b.routes.len()
        && a.routes.iter().zip(&b.routes).all(|(a, b)| routes(a, b))
        && a.neighbours == b.neighbours
}

/// A program on this node that is known to configure links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspect {
    /// Its name, such as `dhclient`.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Its command line names the uplink.
    pub names_uplink: bool,
}

/// The programs that put addresses and routes on links, by the names of their processes (at most 15 characters).
pub const MANAGERS: [&str; 11] = [
    "NetworkManager",
    "systemd-network",
    "dhclient",
    "dhcpcd",
    "udhcpc",
    "udhcpc6",
    "connmand",
    "wickedd",
    "wickedd-dhcp4",
    "wickedd-dhcp6",
    "pppd",
];

/// Who did it, as far as it can be told: by the protocol number on routes and addresses, and by who is running.
pub fn culprit(findings: &[Finding], suspects: &[Suspect]) -> Option<String> {
    let mut protocols = BTreeMap::new();
    for finding in findings {
        if let Finding::RouteBack(route) = finding {
            protocols.insert(route.protocol, protocol_text(route.protocol));
        }
    }
    let leased = findings.iter().any(|finding| match finding {
        Finding::AddressBack(address) => address.valid.is_some() && address.address.is_ipv4(),
        _ => false,
    });
    let by_protocol = match protocols.keys().copied().collect::<Vec<_>>().as_slice() {
        [16, ..] => Some("a DHCP client (routes with proto dhcp)".to_owned()),
        [9] => Some("a program that takes router advertisements (routes with proto ra)".to_owned()),
        _ if leased => Some("a DHCP client (the address has a lease's lifetime)".to_owned()),
        _ => None,
    };
    let named: Vec<&Suspect> = suspects.iter().filter(|suspect| suspect.names_uplink).collect();
    let likely = if named.is_empty() { suspects.iter().collect() } else { named };
    let running: Vec<String> = likely
        .iter()
        .map(|suspect| {
            let how = if suspect.names_uplink { ", which names the uplink" } else { "" };
            format!("{} (process {}{how})", suspect.name, suspect.pid)
        })
        .collect();
    match (by_protocol, running.is_empty()) {
        (None, true) => None,
        (Some(kind), true) => Some(kind),
        (None, false) => Some(format!("running here: {}", running.join(", "))),
        (Some(kind), false) => Some(format!("{kind}; running here: {}", running.join(", "))),
    }
}
