//! Nexthop objects: `RTM_*NEXTHOP`, `struct nhmsg` (Linux 5.3).
//!
//! The price of their speed: when a link loses its carrier, the kernel drops the objects on it, the routes through them
//! go too, and neither is made again when the carrier is back (`nexthop_flush_dev`); no notification says so, save that
//! of the link. Nor can an object be made on a link without carrier. Routes with gateways of their own would stay.

use std::net::IpAddr;

use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::object::NextHop;

use super::{CREATE, af, u32_at};
use crate::netlink::{Batch, Message};

/// `RTM_NEWNEXTHOP`.
pub const NEW: u16 = 104;
/// `RTM_DELNEXTHOP`.
pub const DEL: u16 = 105;
/// `RTM_GETNEXTHOP`.
pub const GET: u16 = 106;

const HEADER: usize = 8;

const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// Groups, blackholes, encapsulation, FDB next hops, resilient groups, and their hardware statistics.
const NHA_OTHER_SHAPES: [u16; 8] = [2, 4, 7, 8, 11, 12, 16, 17];
const RTNH_F_ONLINK: u32 = 4;

/// A nexthop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopMessage {
    /// Its id.
    pub id: u32,
    /// `nh_protocol`.
    pub protocol: u8,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The link.
    pub link: Option<u32>,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// A group, a blackhole, or another thing that is more than a gateway and a link.
    pub special: bool,
}

/// Reads a nexthop message.
pub fn decode(message: &Message<'_>) -> Option<NextHopMessage> {
    let header = message.fixed::<HEADER>()?;
    let mut id = None;
    let mut next_hop = NextHopMessage {
        id: 0,
        protocol: header[2],
        gateway: None,
        link: None,
        onlink: u32_at(&header, 4) & RTNH_F_ONLINK != 0,
        special: false,
    };
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            NHA_ID => id = attribute.u32(),
            NHA_OIF => next_hop.link = attribute.u32(),
            NHA_GATEWAY => next_hop.gateway = attribute.ip(),
            kind => next_hop.special |= NHA_OTHER_SHAPES.contains(&kind),
        }
    }
    next_hop.id = id?;
    Some(next_hop)
}

fn header(family: u8, protocol: u8, flags: u32) -> [u8; HEADER] {
    let mut header = [family, 0, protocol, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Asks for all nexthop objects, to be sent as a dump.
pub fn get_all(batch: &mut Batch) {
    batch.message(GET, 0, &header(0, 0, 0));
}

/// Makes a nexthop object, which must not be there yet. `link` is the index of its link.
pub fn add(batch: &mut Batch, id: u32, next_hop: &NextHop, link: u32) {
    let family = af(Family::of(next_hop.gateway));
    let flags = if next_hop.onlink { RTNH_F_ONLINK } else { 0 };
    batch
        .message(NEW, CREATE, &header(family, PROTOCOL, flags))
        .u32(NHA_ID, id)
        .u32(NHA_OIF, link)
        .ip(NHA_GATEWAY, next_hop.gateway);
}

/// Deletes a nexthop object, and with it the routes that lead to it.
pub fn delete(batch: &mut Batch, id: u32) {
    batch.message(DEL, 0, &header(0, 0, 0)).u32(NHA_ID, id);
}
