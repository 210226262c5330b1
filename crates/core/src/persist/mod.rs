//! The uplink on the bridge as configuration that outlives a boot: for netplan, systemd-networkd, ifupdown and
//! NetworkManager.
//!
//! [`Persistent::of`] makes a value of what is observed, whether the uplink is on the bridge by now or not: what somebody
//! gave it is said again, what DHCP and routers gave it is asked for again. One module for each format renders that
//! value. What a format has no words for stands in the file as a comment: nothing is left out in silence.

mod ifupdown;
mod netplan;
mod networkd;
mod nmconnection;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::config::MAIN_TABLE;
use crate::family::{Family, PerFamily};
use crate::l2::value::{self, Held, Neighbour, Observed, Sysctl, Wanted};
use crate::name::{LinkName, MacAddr, Mtu};

/// `RTPROT_BOOT`: made by `ip` or a script.
const RTPROT_BOOT: u8 = 3;
/// `RTPROT_DHCP`.
const RTPROT_DHCP: u8 = 16;
/// `RT_SCOPE_LINK`.
const SCOPE_LINK: u8 = 253;
/// The kernel's metric for IPv6 routes that are given none.
const METRIC_V6: u32 = 1024;

/// Who reads the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// netplan: YAML in `/etc/netplan`.
    Netplan,
    /// systemd-networkd: units in `/etc/systemd/network`.
    Networkd,
    /// ifupdown: stanzas in `/etc/network/interfaces.d`.
    Ifupdown,
    /// NetworkManager: keyfiles in `/etc/NetworkManager/system-connections`.
    NmConnection,
}

/// One file of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where its reader looks for it.
    pub path: String,
    /// The permission bits that its reader wants.
    pub mode: u32,
    /// Its content, ending in a line feed.
    pub content: String,
}

/// What is to be there after a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistent {
    /// The bridge.
    pub bridge: LinkName,
    /// The uplink, its port.
    pub uplink: LinkName,
    /// Whether the uplink is hardware, which needs no more than a name; a bond or a VLAN device is described elsewhere.
    pub is_plain: bool,
    /// The MAC address of both.
    pub mac: MacAddr,
    /// The MTU of both in bytes, where it is not Ethernet's.
    pub mtu: Option<u32>,
    /// Addresses that somebody gave, in order.
    pub addresses: Vec<Address>,
    /// Whether DHCP gives addresses.
    pub dhcp: PerFamily<bool>,
    /// The metric of the default route that DHCPv4 gives.
    pub dhcp_metric: Option<u32>,
    /// Whether routers are listened to (IPv6).
    pub accept_ra: bool,
    /// Whether the link has no IPv6 at all.
    pub no_ipv6: bool,
    /// Routes that somebody made, in order.
    pub routes: Vec<Route>,
    /// Permanent neighbour entries.
    pub neighbours: Vec<Neighbour>,
    /// Name resolution.
    pub dns: Dns,
    /// What no format is told, each as a phrase.
    pub unsaid: Vec<String>,
}

/// An address that somebody gave a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// Its label, where that is not the link's name.
    pub label: Option<String>,
    /// The other side's address on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// Without a route for its prefix.
    pub no_prefix_route: bool,
    /// The metric of that route; 0 is the kernel's default.
    pub metric: u32,
    /// Not to be used for new connections.
    pub deprecated: bool,
}

/// A route that somebody made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub dst: Cidr,
    /// The next hop; `None` for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The next hop is taken as reachable though no route says so.
    pub onlink: bool,
    /// The metric.
    pub metric: u32,
    /// The table; 254 is main.
    pub table: u32,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The MTU of the path in bytes.
    pub mtu: Option<u32>,
    /// `RT_SCOPE_*`, where it is not what follows from the next hop.
    pub scope: Option<u8>,
}

/// Name resolution that does not come from DHCP or routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

/// Why there is nothing to persist. The message names the link and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersistError {
    /// No such link.
    #[error("there is no link {0}; name the uplink with --uplink, as `ip link` shows it")]
    NoUplink(LinkName),
    /// It can't be a bridge's port by its MAC address.
    #[error("{0} has no MAC address; an uplink carries Ethernet frames")]
    NoMac(LinkName),
    /// A name that some reader would take for something else.
    #[error(
        "the link name {0:?} has other characters than letters, digits, '-', '_' and '.'; rename the link"
    )]
    Name(String),
}

impl Persistent {
    /// What is observed, as it is to be after a boot.
    ///
    /// # Errors
    ///
    /// When there is no such uplink, or it is none.
    pub fn of(observed: &Observed, wanted: Wanted, dns: Dns) -> Result<Persistent, PersistError> {
        let Wanted { uplink, bridge } = wanted;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if let Some(name) = [uplink, bridge].into_iter().find(|name| !name.as_str().bytes().all(plain)) {
            return Err(PersistError::Name(name.to_string()));
        }
        let link = observed.links.get(&uplink).ok_or(PersistError::NoUplink(uplink))?;
        let mac =
            link.mac.filter(|mac| link.ethernet && mac.is_unicast()).ok_or(PersistError::NoMac(uplink))?;
        let mut persistent = Persistent {
            bridge,
            uplink,
            is_plain: !matches!(link.kind.as_str(), "bond" | "team" | "vlan"),
            mac,
            mtu: Some(link.mtu).filter(|mtu| *mtu != Mtu::ETHERNET.bytes()),
            addresses: Vec::new(),
            dhcp: PerFamily::default(),
            dhcp_metric: None,
            accept_ra: false,
            no_ipv6: false,
            routes: Vec::new(),
            neighbours: Vec::new(),
            dns: Dns::default(),
            unsaid: Vec::new(),
        };
        // What is on the bridge by now, and what is still on the uplink.
        for source in [bridge, uplink] {
            persistent.take(&Held::of(observed, source).on_link(source, bridge));
            persistent.accept_ra |= observed.accepts_ra(source) && observed.links.contains_key(&source);
            persistent.accept_ra |=
                observed.routes.iter().any(|route| route.uses(source) && route.protocol == value::RTPROT_RA);
        }
        let now = if observed.links.contains_key(&bridge) { bridge } else { uplink };
        persistent.no_ipv6 = observed.sysctl(now, Sysctl::DISABLE_IPV6) == Some("1");
        persistent.accept_ra &= !persistent.no_ipv6;
        // The kernel lists IPv6 addresses with the newest first.
        let (v4, mut v6): (Vec<_>, Vec<_>) =
            persistent.addresses.drain(..).partition(|address| address.address.is_ipv4());
        v6.reverse();
        persistent.addresses.extend(v4.into_iter().chain(v6));
        if !persistent.dhcp.v4 && !persistent.dhcp.v6 {
            persistent.dns = dns;
        }
        Ok(persistent)
    }

    fn take(&mut self, held: &Held) {
        for address in held.addresses.iter().filter(|address| !address.is_link_local()) {
            self.take_address(address);
        }
        for route in &held.routes {
            self.take_route(route);
        }
        self.neighbours.extend(&held.neighbours);
    }

    /// An address with an end comes from DHCP, or from a router: that one is longer than one host's prefix.
    fn take_address(&mut self, address: &value::Address) {
        let family = Family::of(address.address);
        if address.valid.is_some() {
            match family {
                Family::V6 if address.prefix_len < 128 => self.accept_ra = true,
                _ => *self.dhcp.get_mut(family) = true,
            }
            return;
        }
        let label = address.label.clone().filter(|label| label != self.bridge.as_str());
        self.addresses.push(Address {
            address: address.address,
            prefix_len: address.prefix_len,
            label,
            peer: address.peer,
            no_prefix_route: address.flags & value::address_flags::NOPREFIXROUTE != 0,
            metric: address.metric,
            deprecated: address.preferred == Some(0),
        });
    }

    fn take_route(&mut self, route: &value::Route) {
        let family = route.dst.family();
        let is_default = route.dst.prefix_len() == 0;
        // DHCP clients that are scripts make the lease's default route by `ip`.
        let from_lease = route.protocol == RTPROT_DHCP
            || (route.protocol == RTPROT_BOOT && is_default && *self.dhcp.get(family));
        if from_lease && *self.dhcp.get(family) {
            if is_default && family == Family::V4 && route.metric != 0 {
                self.dhcp_metric = Some(route.metric);
            }
            return;
        }
        if route.protocol == value::RTPROT_RA || route.expires.is_some() {
            return;
        }
        let hop = match route.hops.as_slice() {
            [hop] if route.special.is_none() && route.kind == value::RTN_UNICAST => hop,
            _ => {
                let what = "has several next hops, a nexthop object, an encapsulation or another type";
                self.unsaid.push(format!("route to {} (table {}): it {what}", route.dst, route.table));
                return;
            }
        };
        for (said, what) in [
            (route.from.is_none() && route.tos == 0, "the packets that it is for"),
            (route.metrics.iter().all(|(kind, _)| *kind == value::RTAX_MTU), "its metrics beside the MTU"),
            (route.congestion.is_none(), "its congestion control"),
        ] {
            if !said {
                self.unsaid.push(format!("route to {} (table {}): {what}", route.dst, route.table));
            }
        }
        let usual_scope = if hop.gateway.is_none() && family == Family::V4 { SCOPE_LINK } else { 0 };
        self.routes.push(Route {
            dst: route.dst,
            gateway: hop.gateway,
            onlink: hop.onlink,
            metric: route.metric,
            table: route.table,
            source: route.source,
            mtu: route.mtu(),
            scope: Some(route.scope).filter(|scope| *scope != usual_scope),
        });
    }

    /// The files for a format.
    pub fn render(&self, format: Format) -> Vec<File> {
        match format {
            Format::Netplan => netplan::render(self),
            Format::Networkd => networkd::render(self),
            Format::Ifupdown => ifupdown::render(self),
            Format::NmConnection => nmconnection::render(self),
        }
    }

    /// The first lines of a file: what it is, and what it does not say.
    fn heading(&self, unsaid: &[String]) -> String {
        let Persistent { bridge, uplink, .. } = self;
        let mut text = format!("# {uplink} on {bridge}, in place of what configures {uplink} today.\n");
        if self.dhcp.v4 || self.dhcp.v6 || (self.accept_ra && self.dns == Dns::default()) {
            text += "# Name servers come with the lease or from routers.\n";
        }
        let all: BTreeSet<&String> = self.unsaid.iter().chain(unsaid).collect();
        for phrase in all {
            text += &format!("# Not said here: {phrase}.\n");
        }
        text
    }

    fn addresses_of(&self, family: Family) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| Family::of(address.address) == family)
    }

    fn routes_of(&self, family: Family) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(move |route| route.dst.family() == family)
    }

    fn servers_of(&self, family: Family) -> impl Iterator<Item = &IpAddr> {
        self.dns.servers.iter().filter(move |server| Family::of(**server) == family)
    }

    /// Phrases for routes whose next hop is of the other family, for formats without them.
    fn unsaid_mixed(&self) -> impl Iterator<Item = String> + '_ {
        let mixed = self.routes.iter().filter(|route| route.is_mixed());
        mixed.map(|route| format!("route to {}: its next hop is of the other address family", route.dst))
    }

    /// Phrases for permanent neighbour entries, for formats without them.
    fn unsaid_neighbours(&self) -> impl Iterator<Item = String> + '_ {
        self.neighbours.iter().map(|neighbour| format!("neighbour {}", neighbour.address))
    }
}

impl Address {
    /// As it is written: `ADDRESS/LENGTH`.
    fn text(&self) -> String {
        format!("{}/{}", self.address, self.prefix_len)
    }

    /// Phrases for what is special about it, those that a format has no words for.
    fn unsaid(&self, said: &[Special]) -> Vec<String> {
        let all = [
            (Special::Label, self.label.is_some(), "its label"),
            (Special::Peer, self.peer.is_some(), "its peer's address"),
            (Special::NoPrefixRoute, self.no_prefix_route, "that there is no route for its prefix"),
            (Special::Metric, self.metric != 0, "the metric of its prefix's route"),
            (Special::Deprecated, self.deprecated, "that it is deprecated"),
        ];
        let left = all.into_iter().filter(|(special, has, _)| *has && !said.contains(special));
        left.map(|(_, _, what)| format!("address {}: {what}", self.text())).collect()
    }
}

/// What an address can have beside its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    Label,
    Peer,
    NoPrefixRoute,
    Metric,
    Deprecated,
}

impl Route {
    /// Whether the next hop is of the other address family (RFC 5549).
    fn is_mixed(&self) -> bool {
        self.gateway.is_some_and(|gateway| Family::of(gateway) != self.dst.family())
    }

    /// The destination; `default` for everything.
    fn to(&self) -> String {
        if self.dst.prefix_len() == 0 { "default".to_owned() } else { self.dst.to_string() }
    }

    /// The table, where it is not the main one.
    fn other_table(&self) -> Option<u32> {
        Some(self.table).filter(|table| *table != MAIN_TABLE)
    }

    /// The metric, where it is not what the kernel would choose.
    fn own_metric(&self) -> Option<u32> {
        let usual = if self.dst.family() == Family::V6 { METRIC_V6 } else { 0 };
        Some(self.metric).filter(|metric| *metric != usual)
    }

    /// The scope by name, where it has to be said.
    fn scope_name(&self) -> Option<&'static str> {
        self.scope.map(|scope| match scope {
            SCOPE_LINK => "link",
            254 => "host",
            _ => "global",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Netplan => "netplan",
            Format::Networkd => "networkd",
            Format::Ifupdown => "ifupdown",
            Format::NmConnection => "nmconnection",
        })
    }
}

fn words<T: ToString>(items: impl IntoIterator<Item = T>, between: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(between)
}
