//! Routes: `RTM_*ROUTE`, `struct rtmsg`.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::{RouteChange, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::object::RouteKey;

use super::{CREATE, REPLACE, af, u32_at};
use crate::netlink::{Attribute, Batch, Message, MessageWriter};

const HEADER: usize = 12;

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTNH_F_ONLINK: u32 = 4;
/// `RTM_F_CLONED`: a cache entry, not a route.
const RTM_F_CLONED: u32 = 0x200;
/// `RTM_F_FIB_MATCH`: answer with the route itself rather than with what a redirect may have cached for the address.
const RTM_F_FIB_MATCH: u32 = 0x2000;
/// `struct rtnexthop`.
const NEXT_HOP_HEADER: usize = 8;

/// A route, or the answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMessage {
    /// The destination.
    pub dst: Cidr,
    /// The table.
    pub table: u32,
    /// `RTA_PRIORITY`.
    pub metric: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `RTN_*`.
    pub kind: u8,
    /// Only for some packets: a TOS (IPv4) or a source prefix (IPv6) is part of its key.
    pub qualified: bool,
    /// A cache entry.
    pub cloned: bool,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// The gateway: `RTA_GATEWAY`, or `RTA_VIA` of either family. Of the first next hop where there are several.
    pub gateway: Option<IpAddr>,
    /// The link. Of the first next hop where there are several.
    pub link: Option<u32>,
    /// Has several next hops.
    pub multipath: bool,
    /// Encapsulates.
    pub encapsulated: bool,
    /// The nexthop object.
    pub nexthop: Option<u32>,
    /// Its MTU metric.
    pub mtu: Option<u32>,
}

impl RouteMessage {
    /// Forwards (`RTN_UNICAST`).
    pub fn unicast(&self) -> bool {
        self.kind == libc::RTN_UNICAST
    }

    /// Holds packets back: blackhole, unreachable, prohibit.
    pub fn refuses(&self) -> bool {
        matches!(self.kind, libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT)
    }
}

/// Reads a route message of either IP family.
pub fn decode(message: &Message<'_>) -> Option<RouteMessage> {
    let header = message.fixed::<HEADER>()?;
    let family = super::family(header[0])?;
    let flags = u32_at(&header, 8);
    let mut dst = None;
    let mut route = RouteMessage {
        dst: unspecified(family),
        table: u32::from(header[4]),
        metric: 0,
        protocol: header[5],
        kind: header[7],
        qualified: header[2] != 0 || header[3] != 0,
        cloned: flags & RTM_F_CLONED != 0,
        onlink: flags & RTNH_F_ONLINK != 0,
        gateway: None,
        link: None,
        multipath: false,
        encapsulated: false,
        nexthop: None,
        mtu: None,
    };
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            RTA_DST => dst = attribute.ip(),
            RTA_SRC => route.qualified = true,
            RTA_OIF => route.link = attribute.u32(),
            RTA_GATEWAY => route.gateway = attribute.ip(),
            RTA_VIA => route.gateway = via(&attribute),
            RTA_PRIORITY => route.metric = attribute.u32().unwrap_or(0),
            RTA_TABLE => route.table = attribute.u32().unwrap_or(route.table),
            RTA_MULTIPATH => multipath(&mut route, &attribute),
            RTA_ENCAP => route.encapsulated = true,
            RTA_NH_ID => route.nexthop = attribute.u32(),
            RTA_METRICS => route.mtu = attribute.nested().find(RTAX_MTU).and_then(|mtu| mtu.u32()),
            _ => {}
        }
    }
    if let Some(address) = dst {
        route.dst = Cidr::containing(address, header[1]).filter(|dst| dst.family() == family)?;
    } else if header[1] != 0 {
        return None;
    }
    Some(route)
}

fn unspecified(family: Family) -> Cidr {
    let address: IpAddr = match family {
        Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    Cidr::containing(address, 0).unwrap_or_else(|| Cidr::host(address))
}

/// `struct rtvia`: a family and an address.
fn via(attribute: &Attribute<'_>) -> Option<IpAddr> {
    Attribute { kind: RTA_VIA, payload: attribute.payload.get(2..)? }.ip()
}

/// The first of several next hops: length, flags, hops, link, then attributes.
fn multipath(route: &mut RouteMessage, attribute: &Attribute<'_>) {
    route.multipath = true;
    let hop = attribute.payload;
    let len = hop.get(..2).and_then(|len| len.try_into().ok()).map_or(0, u16::from_ne_bytes);
    let Some(attributes) = hop.get(NEXT_HOP_HEADER..usize::from(len)) else { return };
    route.link = Some(u32_at(hop, 4));
    for attribute in crate::netlink::Attributes::new(attributes) {
        match attribute.kind {
            RTA_GATEWAY => route.gateway = attribute.ip(),
            RTA_VIA => route.gateway = via(&attribute),
            _ => {}
        }
    }
}

fn header(family: Family, dst_len: u8, table: u32, protocol: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = af(family);
    header[1] = dst_len;
    // Numbers beyond a byte are in RTA_TABLE.
    header[4] = u8::try_from(table).unwrap_or(libc::RT_TABLE_UNSPEC);
    header[5] = protocol;
    header
}

/// Asks for the routes of a protocol in all tables, to be sent as a dump. Kernels before 4.20 send all: the answers are
/// to be looked at all the same.
pub fn get_protocol(batch: &mut Batch, family: Family, protocol: u8) {
    batch.message(libc::RTM_GETROUTE, 0, &header(family, 0, 0, protocol));
}

/// Asks for the routes of a table, to be sent as a dump. Kernels before 4.20 send all tables.
pub fn get_table(batch: &mut Batch, family: Family, table: u32) {
    batch.message(libc::RTM_GETROUTE, 0, &header(family, 0, table, 0)).u32(RTA_TABLE, table);
}

/// Asks which route a packet to an address would take.
///
/// With `fib_match` the answer is the route itself, untouched by ICMP redirects; it may lack link and gateway where
/// `net.ipv4.nexthop_compat_mode` is 0.
pub fn lookup(batch: &mut Batch, address: IpAddr, fib_match: bool) {
    let family = Family::of(address);
    let mut header = header(family, family.bits(), 0, 0);
    if fib_match {
        header[8..].copy_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    }
    batch.message(libc::RTM_GETROUTE, 0, &header).ip(RTA_DST, address);
}

fn write_key(message: &mut MessageWriter<'_>, key: &RouteKey) {
    message.u32(RTA_TABLE, key.table);
    if key.dst.prefix_len() != 0 {
        message.ip(RTA_DST, key.dst.address());
    }
    if key.metric != 0 {
        message.u32(RTA_PRIORITY, key.metric);
    }
}

/// Writes a route of ours: in place of the one that stands, or only where none stands. `link` is the index of the next
/// hop's link; a route to a nexthop object needs none.
pub fn set(batch: &mut Batch, change: &RouteChange, link: u32) {
    let key = &change.route.key;
    let mut header = header(key.dst.family(), key.dst.prefix_len(), key.table, PROTOCOL);
    header[6] = libc::RT_SCOPE_UNIVERSE;
    header[7] = libc::RTN_UNICAST;
    let next_hop = &change.route.next_hop;
    if change.target == RouteTarget::Gateway && next_hop.onlink {
        header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let flags = if change.replace { REPLACE } else { CREATE };
    let mut message = batch.message(libc::RTM_NEWROUTE, flags, &header);
    write_key(&mut message, key);
    match change.target {
        RouteTarget::Object(id) => {
            message.u32(RTA_NH_ID, id);
        }
        RouteTarget::Gateway => {
            message.u32(RTA_OIF, link);
            if next_hop.family() == key.dst.family() {
                message.ip(RTA_GATEWAY, next_hop.gateway);
            } else {
                let mut via = u16::from(af(next_hop.family())).to_ne_bytes().to_vec();
                match next_hop.gateway {
                    IpAddr::V4(address) => via.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => via.extend_from_slice(&address.octets()),
                }
                message.bytes(RTA_VIA, &via);
            }
        }
    }
}

/// Deletes a route of ours. The protocol number is part of the request: the kernel leaves a foreign route with the same
/// key alone.
pub fn delete(batch: &mut Batch, key: &RouteKey) {
    let mut header = header(key.dst.family(), key.dst.prefix_len(), key.table, PROTOCOL);
    // Any scope, any type.
    header[6] = libc::RT_SCOPE_NOWHERE;
    let mut message = batch.message(libc::RTM_DELROUTE, 0, &header);
    write_key(&mut message, key);
}
