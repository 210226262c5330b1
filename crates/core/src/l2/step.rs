//! One change of the uplink or the bridge, and the command that one would type for it.

use std::fmt;

use super::value::{Address, Hop, Neighbour, Route, Special, Sysctl, address_flags};
use crate::name::{LinkName, MacAddr};

/// One change. Every one has an inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a bridge that forwards at once (no STP, no forward delay), makes itself no link-local address, and is up.
    MakeBridge {
        /// Its name.
        name: LinkName,
        /// Its MAC address, so that it keeps it whatever ports come and go.
        mac: MacAddr,
        /// Its MTU in bytes.
        mtu: u32,
    },
    /// Deletes a bridge.
    DeleteBridge(LinkName),
    /// Sets a link's MAC address.
    SetMac(LinkName, MacAddr),
    /// Sets a link's MTU in bytes.
    SetMtu(LinkName, u32),
    /// Raises a link.
    SetUp(LinkName),
    /// Makes a link a port of a bridge.
    Enslave(LinkName, LinkName),
    /// Makes a link nobody's port.
    Release(LinkName),
    /// Sets a sysctl.
    SetSysctl(LinkName, Sysctl, String),
    /// Adds an address, behind (IPv4) or before (IPv6) those that are there; an IPv6 one can be used at once, without duplicate address detection.
    AddAddress(LinkName, Address),
    /// Makes flags, lifetimes and metric of an address that is there what they are to be.
    SetAddress(LinkName, Address),
    /// Deletes an address.
    DeleteAddress(LinkName, Address),
    /// Adds a route.
    AddRoute(Route, Place),
    /// Deletes a route.
    DeleteRoute(Route),
    /// Adds a permanent neighbour entry.
    AddNeighbour(LinkName, Neighbour),
    /// Deletes a permanent neighbour entry.
    DeleteNeighbour(LinkName, Neighbour),
}

/// Where a route is put among those with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In place of the one that there is, with no moment in between; or as the first.
    Replace,
    /// Before the others (`ip route prepend`).
    First,
    /// Behind the others (`ip route append`).
    Last,
}

impl Step {
    /// Whether it goes to the kernel in one go with others of this kind; the rest needs an answer first, or isn't netlink.
    ///
    /// The change of master is among them: between it and the first address on the new link a program on a busy machine may
    /// wait for a processor for a long time, and the node would be cut off for as long.
    pub fn batches(&self) -> bool {
        matches!(
            self,
            Step::Enslave(..)
                | Step::Release(_)
                | Step::AddAddress(..)
                | Step::SetAddress(..)
                | Step::DeleteAddress(..)
                | Step::AddRoute(..)
                | Step::DeleteRoute(_)
                | Step::AddNeighbour(..)
                | Step::DeleteNeighbour(..)
        )
    }
}

impl fmt::Display for Step {
    /// The command that one would type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeBridge { name, mac, mtu } => write!(
                f,
                "ip link add {name} address {mac} mtu {mtu} type bridge stp_state 0 forward_delay 0\n\
                 ip link set {name} addrgenmode none up"
            ),
            Step::DeleteBridge(name) => write!(f, "ip link delete {name}"),
            Step::SetMac(link, mac) => write!(f, "ip link set {link} address {mac}"),
            Step::SetMtu(link, mtu) => write!(f, "ip link set {link} mtu {mtu}"),
            Step::SetUp(link) => write!(f, "ip link set {link} up"),
            Step::Enslave(link, bridge) => write!(f, "ip link set {link} master {bridge}"),
            Step::Release(link) => write!(f, "ip link set {link} nomaster"),
            Step::SetSysctl(link, sysctl, value) => {
                write!(f, "sysctl -w net/{}={}", sysctl.path(*link), value)
            }
            Step::AddAddress(link, address) => address_command(f, "add", *link, address),
            Step::SetAddress(link, address) => address_command(f, "change", *link, address),
            Step::DeleteAddress(link, address) => {
                write!(f, "ip address del {} dev {link}", prefix_text(address))
            }
            Step::AddRoute(route, place) => {
                let verb = match place {
                    Place::Replace => "replace",
                    Place::First => "prepend",
                    Place::Last => "append",
                };
                write!(f, "ip route {verb} {}", RouteText(route))
            }
            Step::DeleteRoute(route) => write!(f, "ip route del {}", RouteText(route)),
            Step::AddNeighbour(link, neighbour) => neighbour_command(f, "replace", *link, neighbour),
            Step::DeleteNeighbour(link, neighbour) => neighbour_command(f, "del", *link, neighbour),
        }
    }
}

fn prefix_text(address: &Address) -> String {
    match address.peer {
        Some(peer) => format!("{} peer {peer}/{}", address.address, address.prefix_len),
        None => format!("{}/{}", address.address, address.prefix_len),
    }
}

fn address_command(f: &mut fmt::Formatter<'_>, verb: &str, link: LinkName, address: &Address) -> fmt::Result {
    write!(f, "ip address {verb} {} dev {link}", prefix_text(address))?;
    if let Some(broadcast) = address.broadcast {
        write!(f, " broadcast {broadcast}")?;
    }
    if let Some(label) = address.label.as_ref().filter(|label| label.as_str() != link.as_str()) {
        write!(f, " label {label}")?;
    }
    if address.scope != 0 {
        write!(f, " scope {}", scope_text(address.scope))?;
    }
    if address.metric != 0 {
        write!(f, " metric {}", address.metric)?;
    }
    if address.protocol != 0 {
        write!(f, " proto {}", address.protocol)?;
    }
    for (flag, name) in [
        (address_flags::HOMEADDRESS, "home"),
        (address_flags::MANAGETEMPADDR, "mngtmpaddr"),
        (address_flags::NOPREFIXROUTE, "noprefixroute"),
        (address_flags::MCAUTOJOIN, "autojoin"),
    ] {
        if address.flags & flag != 0 {
            write!(f, " {name}")?;
        }
    }
    if address.address.is_ipv6() && (verb == "add" || address.flags & address_flags::NODAD != 0) {
        f.write_str(" nodad")?;
    }
    if let Some(valid) = address.valid {
        write!(f, " valid_lft {valid}")?;
    }
    if let Some(preferred) = address.preferred {
        write!(f, " preferred_lft {preferred}")?;
    }
    Ok(())
}

fn neighbour_command(
    f: &mut fmt::Formatter<'_>,
    verb: &str,
    link: LinkName,
    neighbour: &Neighbour,
) -> fmt::Result {
    let Neighbour { address, mac, proxy, router } = neighbour;
    if *proxy {
        return write!(f, "ip neighbour {verb} proxy {address} dev {link}");
    }
    write!(f, "ip neighbour {verb} {address} dev {link}")?;
    if let Some(mac) = mac.filter(|_| verb != "del") {
        write!(f, " lladdr {mac} nud permanent")?;
    }
    if *router { f.write_str(" router") } else { Ok(()) }
}

fn scope_text(scope: u8) -> String {
    match scope {
        253 => "link".to_owned(),
        254 => "host".to_owned(),
        number => number.to_string(),
    }
}

/// A route as `ip route` takes it.
pub struct RouteText<'a>(pub &'a Route);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.0;
        if let Some(kind) = kind_text(route.kind) {
            write!(f, "{kind} ")?;
        }
        if route.dst.prefix_len() == 0 {
            // `default` alone is IPv4.
            f.write_str(if route.dst.address().is_ipv4() { "default" } else { "::/0" })?;
        } else {
            write!(f, "{}", route.dst)?;
        }
        if let Some(from) = route.from {
            write!(f, " from {from}")?;
        }
        if route.tos != 0 {
            write!(f, " tos {}", route.tos)?;
        }
        if let [hop] = route.hops.as_slice() {
            write_hop(f, route, hop)?;
        }
        if route.table != 254 {
            write!(f, " table {}", route.table)?;
        }
        write!(f, " proto {}", protocol_text(route.protocol))?;
        if route.scope != 0 && route.dst.address().is_ipv4() {
            write!(f, " scope {}", scope_text(route.scope))?;
        }
        if let Some(source) = route.source {
            write!(f, " src {source}")?;
        }
        if route.metric != 0 {
            write!(f, " metric {}", route.metric)?;
        }
        for (kind, value) in &route.metrics {
            write!(f, " {} {value}", metric_text(*kind))?;
        }
        if let Some(congestion) = &route.congestion {
            write!(f, " congctl {congestion}")?;
        }
        if let Some(name) = route.preference.and_then(preference_text) {
            write!(f, " pref {name}")?;
        }
        if let Some(expires) = route.expires {
            write!(f, " expires {expires}")?;
        }
        if let Some(Special::NextHopObject(id)) = route.special {
            write!(f, " nhid {id}")?;
        }
        if route.hops.len() > 1 {
            for hop in &route.hops {
                f.write_str(" nexthop")?;
                write_hop(f, route, hop)?;
                write!(f, " weight {}", hop.weight)?;
            }
        }
        Ok(())
    }
}

fn write_hop(f: &mut fmt::Formatter<'_>, route: &Route, hop: &Hop) -> fmt::Result {
    if let Some(gateway) = hop.gateway {
        let other = gateway.is_ipv4() != route.dst.address().is_ipv4();
        let family = match (other, gateway.is_ipv4()) {
            (false, _) => "",
            (true, true) => "inet ",
            (true, false) => "inet6 ",
        };
        write!(f, " via {family}{gateway}")?;
    }
    write!(f, " dev {}", hop.link)?;
    if hop.onlink { f.write_str(" onlink") } else { Ok(()) }
}

fn kind_text(kind: u8) -> Option<&'static str> {
    match kind {
        2 => Some("local"),
        3 => Some("broadcast"),
        4 => Some("anycast"),
        5 => Some("multicast"),
        6 => Some("blackhole"),
        7 => Some("unreachable"),
        8 => Some("prohibit"),
        9 => Some("throw"),
        _ => None,
    }
}

/// The protocols that iproute2 has a name for, as `/etc/iproute2/rt_protos` gives it.
pub fn protocol_text(protocol: u8) -> String {
    let name = match protocol {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        number => return number.to_string(),
    };
    name.to_owned()
}

/// `RTAX_*` as `ip route` names them.
fn metric_text(kind: u16) -> String {
    let name = match kind {
        1 => "lock",
        2 => "mtu",
        3 => "window",
        4 => "rtt",
        5 => "rttvar",
        6 => "ssthresh",
        7 => "cwnd",
        8 => "advmss",
        9 => "reordering",
        10 => "hoplimit",
        11 => "initcwnd",
        12 => "features",
        13 => "rto_min",
        14 => "initrwnd",
        15 => "quickack",
        17 => "fastopen_no_cookie",
        number => return format!("metric{number}"),
    };
    name.to_owned()
}

fn preference_text(preference: u8) -> Option<&'static str> {
    match preference {
        1 => Some("high"),
        3 => Some("low"),
        _ => None,
    }
}
