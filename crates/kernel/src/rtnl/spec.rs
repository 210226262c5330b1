//! What a request makes: links, addresses, routes and neighbours, as plain values.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use hopwise_core::cidr::Cidr;
use hopwise_core::name::{IfIndex, LinkName, MacAddr};

/// How a request names a link that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRef {
    /// By its index.
    Index(IfIndex),
    /// By its name; saves a look-up where the index isn't known yet.
    Name(LinkName),
}

impl From<IfIndex> for LinkRef {
    fn from(index: IfIndex) -> LinkRef {
        LinkRef::Index(index)
    }
}

impl From<LinkName> for LinkRef {
    fn from(name: LinkName) -> LinkRef {
        LinkRef::Name(name)
    }
}

/// A bridge without STP and without forward delay: a port forwards as soon as it is up.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSpec {
    /// Its name.
    pub name: LinkName,
    /// Its MAC address. A bridge without one takes the lowest of its ports' and changes as they come and go.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes. A bridge without one follows its ports.
    pub mtu: Option<u32>,
    /// Whether to raise it.
    pub up: bool,
    /// Whether VLAN filtering is on; `None` leaves the kernel's default (off, and no error where it has none).
    pub vlan_filtering: Option<bool>,
}

impl BridgeSpec {
    /// A bridge that is up and has the kernel's defaults else.
    pub fn new(name: LinkName) -> BridgeSpec {
        BridgeSpec { name, mac: None, mtu: None, up: true, vlan_filtering: None }
    }
}

/// A veth pair, made by ONE `RTM_NEWLINK`: the peer appears in its own namespace at once, under its own name. Making it
/// here and moving it there costs 11 ms and more; this costs 0.4 ms.
#[derive(Clone, Copy, Debug)]
pub struct VethSpec<'a> {
    /// The name of the end that is made in the namespace of the socket.
    pub name: LinkName,
    /// Its MAC address; `None` for a random one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The bridge that it becomes a port of.
    pub master: Option<IfIndex>,
    /// Whether to raise it.
    pub up: bool,
    /// Its alias. Needs a second request, as the kernel ignores an alias at creation.
    pub alias: Option<&'a str>,
    /// Its group, for deletion of many at once.
    pub group: Option<u32>,
    /// How many queues each end has for each direction. The kernel's choice is one for each possible CPU (Linux 5.14):
    /// each is an object in sysfs and takes 30 to 40 us to make. All but one are of use to NAPI alone, that is to XDP and GRO.
    pub queues: Option<u32>,
    /// The other end. It stays down: `IFF_UP` in a peer's description gives `ENOTCONN`.
    pub peer: VethPeer<'a>,
}

/// The other end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Its name.
    pub name: LinkName,
    /// Its MAC address; `None` for a random one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The network namespace that it is made in; `None` for that of the socket.
    pub namespace: Option<BorrowedFd<'a>>,
}

impl<'a> VethSpec<'a> {
    /// A pair whose near end is up, with the kernel's defaults else.
    pub fn new(name: LinkName, peer: LinkName, namespace: Option<BorrowedFd<'a>>) -> VethSpec<'a> {
        VethSpec {
            name,
            mac: None,
            mtu: None,
            master: None,
            up: true,
            alias: None,
            group: None,
            queues: None,
            peer: VethPeer { name: peer, mac: None, mtu: None, namespace },
        }
    }
}

/// Options of a bridge port; `None` leaves what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// Whether a frame may leave by the port that it came in by.
    pub hairpin: Option<bool>,
    /// Whether the port may only talk to ports that are not isolated.
    pub isolated: Option<bool>,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpec {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// Skip duplicate address detection (IPv6), so that it can be used at once: DAD takes 1 to 2 s.
    pub no_dad: bool,
    /// Do not make a route for the prefix.
    pub no_prefix_route: bool,
    /// `rtm_scope` (`RT_SCOPE_*`); 0 is universe.
    pub scope: u8,
}

impl AddressSpec {
    /// An address that can be used at once (no DAD) and whose prefix gets a route.
    pub fn new(address: IpAddr, prefix_len: u8) -> AddressSpec {
        AddressSpec { address, prefix_len, no_dad: true, no_prefix_route: false, scope: 0 }
    }
}

/// A route with at most one next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The destination.
    pub dst: Cidr,
    /// The next hop. One of the other family is sent as `RTA_VIA` (IPv4 via IPv6, Linux 5.2).
    pub gateway: Option<IpAddr>,
    /// The link.
    pub link: Option<IfIndex>,
    /// `RTA_PRIORITY`; 0 is none, which IPv6 takes as 1024.
    pub metric: u32,
    /// The table; 254 is main.
    pub table: u32,
    /// `rtm_scope`; `None`: link for an IPv4 route without a gateway, else universe.
    pub scope: Option<u8>,
    /// Take the gateway as reachable on the link though no route says so.
    pub onlink: bool,
    /// `rtm_protocol`: who made it.
    pub protocol: u8,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The path's MTU in bytes, `None` for the link's.
    pub mtu: Option<u32>,
    /// The MSS to advertise, `None` for what follows from the MTU.
    pub advmss: Option<u32>,
    /// `rtm_type` (`RTN_*`); 1 is unicast.
    pub kind: u8,
}

impl RouteSpec {
    /// A unicast route of the main table, protocol `boot` as `ip route add` makes it.
    pub fn new(dst: Cidr) -> RouteSpec {
        RouteSpec {
            dst,
            gateway: None,
            link: None,
            metric: 0,
            table: u32::from(libc::RT_TABLE_MAIN),
            scope: None,
            onlink: false,
            protocol: libc::RTPROT_BOOT,
            source: None,
            mtu: None,
            advmss: None,
            kind: libc::RTN_UNICAST,
        }
    }

    /// The same through a gateway.
    #[must_use]
    pub fn via(self, gateway: IpAddr) -> RouteSpec {
        RouteSpec { gateway: Some(gateway), ..self }
    }

    /// The same on a link.
    #[must_use]
    pub fn dev(self, link: IfIndex) -> RouteSpec {
        RouteSpec { link: Some(link), ..self }
    }

    pub(super) fn scope_number(&self) -> u8 {
        let connected = self.dst.address().is_ipv4()
            && self.gateway.is_none()
            && self.link.is_some()
            && self.kind == libc::RTN_UNICAST;
        self.scope.unwrap_or(if connected { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE })
    }
}
