//! What the uplink and the bridge have, as values.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::cidr::Cidr;
use crate::mark;
use crate::name::{LinkName, MacAddr};

/// The bridge that the uplink is put on unless told otherwise: the reference `bridge` plugin's default.
pub const DEFAULT_BRIDGE: LinkName = LinkName::new_static("cni0");

/// Which link is to become a port of which bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The link to the LAN.
    pub uplink: LinkName,
    /// The bridge, which need not be there yet.
    pub bridge: LinkName,
}

/// What a network namespace has, as far as it matters for an uplink and a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// All links.
    pub links: BTreeMap<LinkName, Link>,
    /// The addresses of the two links, in the kernel's order.
    pub addresses: BTreeMap<LinkName, Vec<Address>>,
    /// The routes of all tables that lead out through one of the two links, and those of other links that have the key
    /// of one of these; in the kernel's order. Without what the kernel makes in the table `local`.
    pub routes: Vec<Route>,
    /// The permanent neighbour entries of the two links.
    pub neighbours: BTreeMap<LinkName, Vec<Neighbour>>,
    /// The sysctls of the two links that a network works differently with; of a bridge that isn't there the values that it
    /// would start with.
    pub sysctls: BTreeMap<LinkName, BTreeMap<Sysctl, String>>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `IFLA_INFO_KIND`, such as `bond` or `vlan`; empty for hardware.
    pub kind: String,
    /// Carries Ethernet frames (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// The loopback link.
    pub loopback: bool,
    /// A wireless station: an access point drops frames of other MAC addresses.
    pub wireless: bool,
    /// Its MAC address.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<LinkName>,
    /// The link of this namespace that it is made on, as a VLAN device is.
    pub on: Option<LinkName>,
    /// Options of a bridge.
    pub bridge: Option<BridgeOptions>,
}

/// Options of a bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    /// The spanning tree protocol runs.
    pub stp: bool,
    /// How long a new port listens and learns, in 1/100 s.
    pub forward_delay: u32,
}

/// How long an address is good for, in seconds from when it was observed; `None`: for ever.
pub type Lifetime = Option<u32>;

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// The other side's address on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// The broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// The label (IPv4): the link's name, or that with `:` and a suffix.
    pub label: Option<String>,
    /// `RT_SCOPE_*`: 0 is global, 253 link, 254 host.
    pub scope: u8,
    /// What was asked of the kernel with it: the flags among [`address_flags::SETTABLE`], as `IFA_F_*` bits.
    pub flags: u32,
    /// What the kernel says of it: the other `IFA_F_*` bits, such as temporary or DAD failed.
    pub state: u32,
    /// Preferred for so long.
    pub preferred: Lifetime,
    /// Valid for so long.
    pub valid: Lifetime,
    /// The metric of the route that the kernel makes for its prefix (`IFA_RT_PRIORITY`); 0 is the kernel's default.
    pub metric: u32,
    /// Who made it (`IFA_PROTO`, Linux 5.18): 0 says nothing, 1 to 3 the kernel (3: a link-local address).
    pub protocol: u8,
}

/// `IFA_F_*` of `linux/if_addr.h`.
pub mod address_flags {
    /// A temporary IPv6 address (RFC 8981), or a secondary IPv4 address.
    pub const TEMPORARY: u32 = 0x01;
    /// Without duplicate address detection.
    pub const NODAD: u32 = 0x02;
    /// Used before duplicate address detection has ended.
    pub const OPTIMISTIC: u32 = 0x04;
    /// Another host has it.
    pub const DADFAILED: u32 = 0x08;
    /// A home address (RFC 6275).
    pub const HOMEADDRESS: u32 = 0x10;
    /// No longer preferred.
    pub const DEPRECATED: u32 = 0x20;
    /// Duplicate address detection is running.
    pub const TENTATIVE: u32 = 0x40;
    /// Without an end.
    pub const PERMANENT: u32 = 0x80;
    /// Temporary addresses are made from it.
    pub const MANAGETEMPADDR: u32 = 0x100;
    /// The kernel makes no route for its prefix.
    pub const NOPREFIXROUTE: u32 = 0x200;
    /// Joined to a multicast group by itself.
    pub const MCAUTOJOIN: u32 = 0x400;
    /// The flags that a program can ask for.
    pub const SETTABLE: u32 = NODAD | HOMEADDRESS | MANAGETEMPADDR | NOPREFIXROUTE | MCAUTOJOIN;
}

impl Address {
    /// The prefix that the kernel makes a route for, unless it is told not to.
    pub fn network(&self) -> Option<Cidr> {
        Cidr::containing(self.peer.unwrap_or(self.address), self.prefix_len)
    }

    /// Whether the kernel tells the two apart: an address can be on a link once with each prefix length.
    pub fn same_key(&self, other: &Address) -> bool {
        (self.address, self.prefix_len, self.peer) == (other.address, other.prefix_len, other.peer)
    }

    /// An IPv6 link-local address.
    pub fn is_link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }

    /// The same after some seconds; `None` when it is no longer valid then.
    #[must_use]
    pub fn aged(&self, seconds: u32) -> Option<Address> {
        let left = |lifetime: Lifetime| lifetime.map(|left| left.saturating_sub(seconds));
        let aged = Address { preferred: left(self.preferred), valid: left(self.valid), ..self.clone() };
        (aged.valid != Some(0)).then_some(aged)
    }

    /// The same on another link: the label follows the link's name where it can.
    #[must_use]
    pub fn on_link(&self, from: LinkName, to: LinkName) -> Address {
        let label = self.label.as_ref().map(|label| match label.strip_prefix(from.as_str()) {
            Some(suffix) if to.as_str().len() + suffix.len() < 16 => format!("{to}{suffix}"),
            Some(_) => to.to_string(),
            None => label.clone(),
        });
        Address { label, ..self.clone() }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub dst: Cidr,
    /// Only for packets from here (`RTA_SRC`, IPv6).
    pub from: Option<Cidr>,
    /// Only for packets with this TOS (IPv4).
    pub tos: u8,
    /// The table; 254 is main.
    pub table: u32,
    /// `RTA_PRIORITY`.
    pub metric: u32,
    /// `rtm_protocol`: who made it.
    pub protocol: u8,
    /// `rtm_scope`.
    pub scope: u8,
    /// `rtm_type`: 1 is unicast.
    pub kind: u8,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// Where it leads; several for a multipath route.
    pub hops: Vec<Hop>,
    /// `RTAX_*` numbers and values, such as 2 for the MTU, in the kernel's order.
    pub metrics: Vec<(u16, u32)>,
    /// The congestion control algorithm.
    pub congestion: Option<String>,
    /// The router's preference (`RTA_PREF`, IPv6).
    pub preference: Option<u8>,
    /// It ends after so many seconds.
    pub expires: Lifetime,
    /// Something that can't be written anew here: a nexthop object or an encapsulation.
    pub special: Option<Special>,
}

/// What a route can have that is not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Special {
    /// It leads to a nexthop object, of that number.
    NextHopObject(u32),
    /// It encapsulates (`RTA_ENCAP`).
    Encapsulation,
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The link.
    pub link: LinkName,
    /// The next hop's address, of either family.
    pub gateway: Option<IpAddr>,
    /// Taken as reachable on the link though no route says so.
    pub onlink: bool,
    /// Its share among several, 1 to 256; 1 where there is just one.
    pub weight: u16,
}

/// `RTAX_MTU`.
pub const RTAX_MTU: u16 = 2;
/// `RTPROT_KERNEL`: the kernel made it by itself.
pub const RTPROT_KERNEL: u8 = 2;
/// `RTPROT_RA`: from a router advertisement.
pub const RTPROT_RA: u8 = 9;
/// `RTN_UNICAST`.
pub const RTN_UNICAST: u8 = 1;

impl Route {
    /// The path's MTU in bytes, where it has one of its own.
    pub fn mtu(&self) -> Option<u32> {
        self.metrics.iter().find(|(kind, _)| *kind == RTAX_MTU).map(|(_, value)| *value)
    }

    /// Whether the kernel takes the two for the same when it replaces one by the other.
    pub fn same_key(&self, other: &Route) -> bool {
        (self.dst, self.from, self.tos, self.table, self.metric)
            == (other.dst, other.from, other.tos, other.table, other.metric)
    }

    /// Whether the two are the same apart from when they end.
    pub fn same(&self, other: &Route) -> bool {
        *self == Route { expires: self.expires, ..other.clone() }
    }

    /// Whether it leads out through a link.
    pub fn uses(&self, link: LinkName) -> bool {
        self.hops.iter().any(|hop| hop.link == link)
    }

    /// The same through another link.
    #[must_use]
    pub fn on_link(&self, from: LinkName, to: LinkName) -> Route {
        let mut route = self.clone();
        for hop in route.hops.iter_mut().filter(|hop| hop.link == from) {
            hop.link = to;
        }
        route
    }

    /// Whether the kernel made it for an address of its link, and takes it away with that.
    pub fn follows_from(&self, addresses: &[Address]) -> bool {
        let for_prefix = |address: &Address| {
            let metric = match (address.metric, address.address.is_ipv6()) {
                (0, true) => 256,
                (metric, _) => metric,
            };
            address.flags & address_flags::NOPREFIXROUTE == 0
                && address.network() == Some(self.dst)
                && metric == self.metric
        };
        let plain = self.hops.len() == 1 && self.hops[0].gateway.is_none() && self.kind == RTN_UNICAST;
        self.protocol == RTPROT_KERNEL && plain && addresses.iter().any(for_prefix)
    }
}

/// A permanent neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Its MAC address; `None` with `proxy`.
    pub mac: Option<MacAddr>,
    /// Answered for by this node (`NTF_PROXY`).
    pub proxy: bool,
    /// A router (`NTF_ROUTER`, IPv6).
    pub router: bool,
}

/// A sysctl of a link: `area` is `ipv4/conf`, `ipv6/conf`, `ipv4/neigh` or `ipv6/neigh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl {
    /// The folder below `/proc/sys/net` that has a folder for each link.
    pub area: &'static str,
    /// The file in the link's folder.
    pub name: &'static str,
}

impl Sysctl {
    /// Whether a link makes itself an IPv6 link-local address: 1 is no. Written first, and never carried over.
    pub const ADDR_GEN_MODE: Sysctl = Sysctl { area: "ipv6/conf", name: "addr_gen_mode" };
    /// IPv6 is off.
    pub const DISABLE_IPV6: Sysctl = Sysctl { area: "ipv6/conf", name: "disable_ipv6" };
    /// Router advertisements: 0 off, 1 unless forwarding, 2 on.
    pub const ACCEPT_RA: Sysctl = Sysctl { area: "ipv6/conf", name: "accept_ra" };
    /// IPv6 forwarding.
    pub const FORWARDING_V6: Sysctl = Sysctl { area: "ipv6/conf", name: "forwarding" };

    /// The path below `/proc/sys/net/`.
    pub fn path(self, link: LinkName) -> String {
        format!("{}/{link}/{}", self.area, self.name)
    }

    /// The one of [`SYSCTLS`] with this area and name.
    pub fn find(area: &str, name: &str) -> Option<Sysctl> {
        SYSCTLS.iter().copied().find(|sysctl| sysctl.area == area && sysctl.name == name)
    }
}

const fn sysctl(area: &'static str, name: &'static str) -> Sysctl {
    Sysctl { area, name }
}

/// The sysctls that are read, and carried over to the bridge where it has another value. `disable_ipv6` stands first: what
/// comes after it may be about IPv6. What routers announce (`hop_limit`, `mtu` of IPv6) is not among them: the bridge
/// learns it as the uplink did.
pub const SYSCTLS: [Sysctl; 54] = [
    Sysctl::DISABLE_IPV6,
    Sysctl::ADDR_GEN_MODE,
    sysctl("ipv4/conf", "accept_local"),
    sysctl("ipv4/conf", "accept_redirects"),
    sysctl("ipv4/conf", "accept_source_route"),
    sysctl("ipv4/conf", "arp_accept"),
    sysctl("ipv4/conf", "arp_announce"),
    sysctl("ipv4/conf", "arp_filter"),
    sysctl("ipv4/conf", "arp_ignore"),
    sysctl("ipv4/conf", "arp_notify"),
    sysctl("ipv4/conf", "drop_gratuitous_arp"),
    sysctl("ipv4/conf", "drop_unicast_in_l2_multicast"),
    sysctl("ipv4/conf", "forwarding"),
    sysctl("ipv4/conf", "ignore_routes_with_linkdown"),
    sysctl("ipv4/conf", "log_martians"),
    sysctl("ipv4/conf", "promote_secondaries"),
    sysctl("ipv4/conf", "proxy_arp"),
    sysctl("ipv4/conf", "proxy_arp_pvlan"),
    sysctl("ipv4/conf", "route_localnet"),
    sysctl("ipv4/conf", "rp_filter"),
    sysctl("ipv4/conf", "secure_redirects"),
    sysctl("ipv4/conf", "send_redirects"),
    sysctl("ipv4/conf", "shared_media"),
    sysctl("ipv4/conf", "src_valid_mark"),
    Sysctl::FORWARDING_V6,
    Sysctl::ACCEPT_RA,
    sysctl("ipv6/conf", "accept_dad"),
    sysctl("ipv6/conf", "accept_ra_defrtr"),
    sysctl("ipv6/conf", "accept_ra_from_local"),
    sysctl("ipv6/conf", "accept_ra_min_hop_limit"),
    sysctl("ipv6/conf", "accept_ra_mtu"),
    sysctl("ipv6/conf", "accept_ra_pinfo"),
    sysctl("ipv6/conf", "accept_ra_rt_info_max_plen"),
    sysctl("ipv6/conf", "accept_ra_rtr_pref"),
    sysctl("ipv6/conf", "accept_redirects"),
    sysctl("ipv6/conf", "accept_source_route"),
    sysctl("ipv6/conf", "autoconf"),
    sysctl("ipv6/conf", "dad_transmits"),
    sysctl("ipv6/conf", "drop_unsolicited_na"),
    sysctl("ipv6/conf", "enhanced_dad"),
    sysctl("ipv6/conf", "keep_addr_on_down"),
    sysctl("ipv6/conf", "ndisc_notify"),
    sysctl("ipv6/conf", "optimistic_dad"),
    sysctl("ipv6/conf", "proxy_ndp"),
    sysctl("ipv6/conf", "router_solicitations"),
    sysctl("ipv6/conf", "temp_prefered_lft"),
    sysctl("ipv6/conf", "temp_valid_lft"),
    sysctl("ipv6/conf", "use_oif_addrs_only"),
    sysctl("ipv6/conf", "use_tempaddr"),
    sysctl("ipv4/neigh", "base_reachable_time_ms"),
    sysctl("ipv4/neigh", "gc_stale_time"),
    sysctl("ipv4/neigh", "retrans_time_ms"),
    sysctl("ipv6/neigh", "gc_stale_time"),
    sysctl("ipv6/neigh", "retrans_time_ms"),
];

/// What moves between the uplink and the bridge. Links and labels are written as on the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Addresses, in order.
    pub addresses: Vec<Address>,
    /// Routes, in order.
    pub routes: Vec<Route>,
    /// Permanent neighbour entries.
    pub neighbours: Vec<Neighbour>,
}

impl Held {
    /// What moves from a link: all that somebody gave it.
    ///
    /// Left out are temporary IPv6 addresses (RFC 8981), which can't be made by a program and which the kernel makes anew, and
    /// routes that the kernel itself made from routers' advertisements (see [`super::transfer::advertised`]).
    pub fn of(observed: &Observed, link: LinkName) -> Held {
        let temporary =
            |address: &&Address| address.address.is_ipv6() && address.state & address_flags::TEMPORARY != 0;
        Held {
            addresses: observed
                .addresses_of(link)
                .iter()
                .filter(|address| !temporary(address))
                .cloned()
                .collect(),
            routes: observed
                .routes_of(link)
                .filter(|route| !observed.is_from_ra(route, link) && route.protocol != mark::PROTOCOL)
                .cloned()
                .collect(),
            neighbours: observed.neighbours_of(link).to_vec(),
        }
    }

    /// The same on another link.
    #[must_use]
    pub fn on_link(&self, from: LinkName, to: LinkName) -> Held {
        Held {
            addresses: self.addresses.iter().map(|address| address.on_link(from, to)).collect(),
            routes: self.routes.iter().map(|route| route.on_link(from, to)).collect(),
            neighbours: self.neighbours.clone(),
        }
    }

    /// The same after some seconds, without what has ended.
    #[must_use]
    pub fn aged(&self, seconds: u32) -> Held {
        let route = |route: &Route| match route.expires {
            Some(left) if left <= seconds => None,
            expires => Some(Route { expires: expires.map(|left| left - seconds), ..route.clone() }),
        };
        Held {
            addresses: self.addresses.iter().filter_map(|address| address.aged(seconds)).collect(),
            routes: self.routes.iter().filter_map(route).collect(),
            neighbours: self.neighbours.clone(),
        }
    }
}

/// What has to be known to undo an attachment and to keep it up: it is written down before anything is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which link on which bridge.
    pub wanted: Wanted,
    /// The MAC address that the uplink had and the bridge keeps, whatever the uplink's becomes: the LAN knows the node by it.
    /// `None`: a version that did not write it down has attached; then the bridge follows the uplink.
    pub mac: Option<MacAddr>,
    /// What the uplink had, and the bridge has for it.
    pub held: Held,
    /// Sysctls of the uplink that attaching changes, and their former values.
    pub uplink_sysctls: BTreeMap<Sysctl, String>,
    /// What the bridge was before; `None`: there was none, and it is deleted in the end.
    pub bridge: Option<BridgeBefore>,
    /// Sysctls that the bridge gets from the uplink.
    pub bridge_sysctls: BTreeMap<Sysctl, String>,
}

/// What a bridge was before an uplink was put on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeBefore {
    /// Its MAC address.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// The values that its sysctls had, of those that are changed.
    pub sysctls: BTreeMap<Sysctl, String>,
}

static NO_ADDRESSES: Vec<Address> = Vec::new();
static NO_NEIGHBOURS: Vec<Neighbour> = Vec::new();

impl Observed {
    /// The addresses of a link.
    pub fn addresses_of(&self, link: LinkName) -> &[Address] {
        self.addresses.get(&link).unwrap_or(&NO_ADDRESSES)
    }

    /// The permanent neighbour entries of a link.
    pub fn neighbours_of(&self, link: LinkName) -> &[Neighbour] {
        self.neighbours.get(&link).unwrap_or(&NO_NEIGHBOURS)
    }

    /// The value of a sysctl of a link.
    pub fn sysctl(&self, link: LinkName, sysctl: Sysctl) -> Option<&str> {
        self.sysctls.get(&link)?.get(&sysctl).map(String::as_str)
    }

    /// The routes of a link that somebody made: not those that follow from its addresses.
    pub fn routes_of(&self, link: LinkName) -> impl Iterator<Item = &Route> {
        let addresses = self.addresses_of(link);
        self.routes.iter().filter(move |route| route.uses(link) && !route.follows_from(addresses))
    }

    /// Whether the kernel itself takes routers' advertisements on a link, and makes routes and addresses from them.
    pub fn accepts_ra(&self, link: LinkName) -> bool {
        let forwards = self.sysctl(link, Sysctl::FORWARDING_V6) != Some("0");
        match self.sysctl(link, Sysctl::ACCEPT_RA) {
            Some("2") => true,
            Some("1") => !forwards,
            _ => false,
        }
    }

    /// Whether a route is the kernel's own, from a router's advertisement.
    pub fn is_from_ra(&self, route: &Route, link: LinkName) -> bool {
        route.protocol == RTPROT_RA && route.dst.address().is_ipv6() && self.accepts_ra(link)
    }

    /// The routers that a link's routes lead to, each once, in order.
    pub fn gateways_of(&self, link: LinkName) -> Vec<IpAddr> {
        let mut gateways = Vec::new();
        let defaults = self.routes_of(link).filter(|route| route.dst.prefix_len() == 0);
        for hop in defaults.flat_map(|route| &route.hops).filter(|hop| hop.link == link) {
            if let Some(gateway) = hop.gateway.filter(|gateway| !gateways.contains(gateway)) {
                gateways.push(gateway);
            }
        }
        gateways
    }
}
