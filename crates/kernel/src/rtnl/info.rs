//! What the kernel answers about links and addresses.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::name::{IfIndex, LinkName, MacAddr};

use crate::netlink::{Attributes, Message};

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: LinkName,
    /// `IFLA_INFO_KIND`, such as `veth` or `bridge`; empty for hardware and loopback.
    pub kind: String,
    /// Its MAC address, where it has an Ethernet one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Promiscuous by request (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// The RFC 2863 state (`IF_OPER_*`); 6 is up.
    pub operstate: u8,
    /// The bridge or bond that it belongs to.
    pub master: Option<IfIndex>,
    /// The index of the other end of a veth pair, in that end's namespace (`IFLA_LINK`).
    pub peer: Option<IfIndex>,
    /// The namespace of that other end, as this namespace numbers others (`IFLA_LINK_NETNSID`); `None` if it is this one.
    pub peer_namespace: Option<u32>,
    /// Its group; 0 is the default.
    pub group: u32,
    /// Its alias.
    pub alias: String,
    /// Of a bridge the VLAN that new ports are members of (`IFLA_BR_VLAN_DEFAULT_PVID`), 0 for none; `None` for other
    /// links, and for all where the kernel's bridges know no VLANs (`CONFIG_BRIDGE_VLAN_FILTERING`).
    pub default_pvid: Option<u16>,
}

/// `linux/if_link.h`.
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;

impl LinkInfo {
    /// `IF_OPER_UP`: it can carry traffic.
    pub const OPER_UP: u8 = 6;

    pub(super) fn from_message(message: &Message<'_>) -> Option<LinkInfo> {
        if message.kind != libc::RTM_NEWLINK {
            return None;
        }
        let fixed = message.fixed::<16>()?;
        let number = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let flags = number(8);
        let mut link = LinkInfo {
            index: IfIndex(number(4)),
            name: LinkName::new_static("?"),
            kind: String::new(),
            mac: None,
            mtu: 0,
            up: flags & libc::IFF_UP as u32 != 0,
            promiscuous: flags & libc::IFF_PROMISC as u32 != 0,
            operstate: 0,
            master: None,
            peer: None,
            peer_namespace: None,
            group: 0,
            alias: String::new(),
            default_pvid: None,
        };
        let mut named = false;
        for attribute in message.attributes(16) {
            match attribute.kind {
                libc::IFLA_IFNAME => {
                    link.name = attribute.str()?.parse().ok()?;
                    named = true;
                }
                libc::IFLA_ADDRESS => link.mac = attribute.mac(),
                libc::IFLA_MTU => link.mtu = attribute.u32()?,
                libc::IFLA_OPERSTATE => link.operstate = attribute.u8()?,
                libc::IFLA_MASTER => link.master = attribute.u32().map(IfIndex),
                libc::IFLA_LINK => link.peer = attribute.u32().map(IfIndex),
                libc::IFLA_LINK_NETNSID => link.peer_namespace = attribute.u32(),
                libc::IFLA_GROUP => link.group = attribute.u32()?,
                libc::IFLA_IFALIAS => link.alias = attribute.str().unwrap_or_default().to_owned(),
                libc::IFLA_LINKINFO => {
                    let kind = attribute.nested().find(libc::IFLA_INFO_KIND);
                    link.kind = kind.and_then(|kind| kind.str()).unwrap_or_default().to_owned();
                    let data =
                        attribute.nested().find(libc::IFLA_INFO_DATA).filter(|_| link.kind == "bridge");
                    let default_pvid = data.and_then(|data| data.nested().find(IFLA_BR_VLAN_DEFAULT_PVID));
                    link.default_pvid = default_pvid.and_then(|vlan| vlan.u16());
                }
                _ => {}
            }
        }
        named.then_some(link)
    }
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressInfo {
    /// The link.
    pub link: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// `RT_SCOPE_*`; 0 is universe, 253 link.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl AddressInfo {
    pub(super) fn from_message(message: &Message<'_>) -> Option<AddressInfo> {
        if message.kind != libc::RTM_NEWADDR {
            return None;
        }
        let fixed = message.fixed::<8>()?;
        let attributes = message.attributes(8);
        // IFA_LOCAL is ours on a point-to-point link, where IFA_ADDRESS is the other side's; IPv6 has only the latter.
        let address = attributes.find(libc::IFA_LOCAL).or_else(|| attributes.find(libc::IFA_ADDRESS));
        let flags = attributes.find(libc::IFA_FLAGS);
        Some(AddressInfo {
            link: IfIndex(u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            address: address?.ip()?,
            prefix_len: fixed[1],
            scope: fixed[3],
            flags: flags.and_then(|flags| flags.u32()).unwrap_or_else(|| u32::from(fixed[2])),
        })
    }
}

/// A route with at most one next hop of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The destination.
    pub dst: Cidr,
    /// The next hop's address; of several, the first one's.
    pub gateway: Option<IpAddr>,
    /// The link; of several next hops, the first one's.
    pub link: Option<IfIndex>,
    /// The table.
    pub table: u32,
    /// `RTA_PRIORITY`.
    pub metric: u32,
    /// `rtm_type` (`RTN_*`); 1 is unicast.
    pub kind: u8,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `rtm_scope`.
    pub scope: u8,
    /// The preferred source address.
    pub source: Option<IpAddr>,
}

/// `linux/rtnetlink.h`.
const RTA_VIA: u16 = 18;

impl RouteInfo {
    pub(super) fn from_message(message: &Message<'_>) -> Option<RouteInfo> {
        if message.kind != libc::RTM_NEWROUTE {
            return None;
        }
        let fixed = message.fixed::<12>()?;
        let unspecified = match i32::from(fixed[0]) {
            libc::AF_INET => IpAddr::from([0; 4]),
            libc::AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let attributes = message.attributes(12);
        let find = |kind| attributes.find(kind);
        // Several next hops: struct rtnexthop (8 bytes, the index in the last 4), then attributes.
        let hops = find(libc::RTA_MULTIPATH).map(|hops| hops.payload);
        let first = hops.and_then(|hops| {
            let index = u32::from_ne_bytes(hops.get(4..8)?.try_into().ok()?);
            Some((IfIndex(index), Attributes::new(hops.get(8..)?)))
        });
        let hop = |kind| find(kind).or_else(|| first.as_ref().and_then(|(_, inner)| inner.find(kind)));
        let via = hop(RTA_VIA).and_then(|via| match via.payload.len() {
            6 => <[u8; 4]>::try_from(&via.payload[2..]).ok().map(IpAddr::from),
            18 => <[u8; 16]>::try_from(&via.payload[2..]).ok().map(IpAddr::from),
            _ => None,
        });
        let link = find(libc::RTA_OIF).and_then(|link| link.u32()).map(IfIndex);
        Some(RouteInfo {
            dst: Cidr::containing(
                find(libc::RTA_DST).and_then(|dst| dst.ip()).unwrap_or(unspecified),
                fixed[1],
            )?,
            gateway: hop(libc::RTA_GATEWAY).and_then(|gateway| gateway.ip()).or(via),
            link: link.or(first.as_ref().map(|(index, _)| *index)),
            table: find(libc::RTA_TABLE).and_then(|table| table.u32()).unwrap_or(u32::from(fixed[4])),
            metric: find(libc::RTA_PRIORITY).and_then(|metric| metric.u32()).unwrap_or(0),
            kind: fixed[7],
            protocol: fixed[5],
            scope: fixed[6],
            source: find(libc::RTA_PREFSRC).and_then(|source| source.ip()),
        })
    }
}
