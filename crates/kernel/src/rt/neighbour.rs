//! Neighbours and forwarding database entries: `RTM_*NEIGH`, `struct ndmsg`.

use std::net::IpAddr;

use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::name::MacAddr;

use super::{REPLACE, af, u32_at};
use crate::netlink::{Batch, Message};

const HEADER: usize = 12;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
const NDA_PROTOCOL: u16 = 12;
const NDA_NH_ID: u16 = 13;
const NUD_PERMANENT: u16 = 0x80;
/// `NUD_NONE`, `NUD_INCOMPLETE` and `NUD_FAILED`: an entry that leads nowhere, soon to be collected.
const NUD_DEAD: u16 = 0x01 | 0x20;
/// `NTF_SELF`: the entry is the device's own, not that of a bridge above it.
const NTF_SELF: u8 = 0x02;
const NTF_PROXY: u8 = 0x08;

/// A neighbour or FDB entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// `AF_INET`, `AF_INET6`, or `AF_BRIDGE` for an FDB entry.
    pub family: u8,
    /// The link's index.
    pub link: u32,
    /// `NUD_*`.
    pub state: u16,
    /// `NTF_*`.
    pub flags: u8,
    /// The neighbour's address; for an FDB entry the underlay address.
    pub address: Option<IpAddr>,
    /// The Ethernet address.
    pub mac: Option<MacAddr>,
    /// Who made it; 0 where the kernel did or does not know.
    pub protocol: u8,
    /// An FDB entry with a port, network identifier, link or nexthop of its own.
    pub special: bool,
    /// Tells when it was used: whoever holds the entry wrote this.
    pub has_times: bool,
}

impl NeighbourMessage {
    /// An FDB entry rather than a neighbour.
    pub fn is_fdb(&self) -> bool {
        i32::from(self.family) == libc::AF_BRIDGE
    }

    /// Of the device itself, for an FDB entry.
    pub fn of_device(&self) -> bool {
        self.flags & NTF_SELF != 0
    }

    /// Answered for by this host: no neighbour at all.
    pub fn proxy(&self) -> bool {
        self.flags & NTF_PROXY != 0
    }

    /// What rtnetlink itself says of each FDB request that has succeeded, after the device has said what it made of it:
    /// the Ethernet address and no destination. Linux 6.1 does, 6.18 doesn't.
    pub fn is_echo(&self) -> bool {
        self.is_fdb() && !self.has_times
    }

    /// `NUD_PERMANENT`.
    pub fn permanent(&self) -> bool {
        self.state & NUD_PERMANENT != 0
    }

    /// Leads nowhere: as good as not there.
    pub fn dead(&self) -> bool {
        self.state == 0 || self.state & NUD_DEAD != 0
    }
}

/// Reads a neighbour message.
pub fn decode(message: &Message<'_>) -> Option<NeighbourMessage> {
    let header = message.fixed::<HEADER>()?;
    let mut neighbour = NeighbourMessage {
        family: header[0],
        link: u32_at(&header, 4),
        state: u16::from_ne_bytes([header[8], header[9]]),
        flags: header[10],
        address: None,
        mac: None,
        protocol: 0,
        special: false,
        has_times: false,
    };
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            NDA_DST => neighbour.address = attribute.ip(),
            NDA_LLADDR => neighbour.mac = attribute.mac(),
            NDA_CACHEINFO => neighbour.has_times = true,
            NDA_PROTOCOL => neighbour.protocol = attribute.u8().unwrap_or(0),
            NDA_PORT | NDA_VNI | NDA_IFINDEX | NDA_NH_ID => neighbour.special = true,
            _ => {}
        }
    }
    Some(neighbour)
}

fn header(family: u8, link: u32, state: u16, flags: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// Asks for the neighbours of a family on all links, to be sent as a dump.
pub fn get_all(batch: &mut Batch, family: Family) {
    batch.message(libc::RTM_GETNEIGH, 0, &header(af(family), 0, 0, 0));
}

/// Asks for the FDB entries of one device, to be sent as a dump.
pub fn get_fdb(batch: &mut Batch, link: u32) {
    batch.message(libc::RTM_GETNEIGH, 0, &header(libc::AF_BRIDGE as u8, link, 0, 0));
}

/// Writes a permanent neighbour entry of ours, in place of any that stands.
pub fn set(batch: &mut Batch, link: u32, address: IpAddr, mac: MacAddr) {
    batch
        .message(libc::RTM_NEWNEIGH, REPLACE, &header(af(Family::of(address)), link, NUD_PERMANENT, 0))
        .ip(NDA_DST, address)
        .bytes(NDA_LLADDR, &mac.0)
        .u8(NDA_PROTOCOL, PROTOCOL);
}

/// Deletes a neighbour entry.
pub fn delete(batch: &mut Batch, link: u32, address: IpAddr) {
    batch.message(libc::RTM_DELNEIGH, 0, &header(af(Family::of(address)), link, 0, 0)).ip(NDA_DST, address);
}

/// Writes a permanent FDB entry of a VXLAN device, in place of any that stands.
pub fn set_fdb(batch: &mut Batch, link: u32, mac: MacAddr, dst: IpAddr) {
    batch
        .message(libc::RTM_NEWNEIGH, REPLACE, &header(libc::AF_BRIDGE as u8, link, NUD_PERMANENT, NTF_SELF))
        .bytes(NDA_LLADDR, &mac.0)
        .ip(NDA_DST, dst);
}

/// Deletes an FDB entry of a VXLAN device, wherever it leads.
pub fn delete_fdb(batch: &mut Batch, link: u32, mac: MacAddr) {
    batch
        .message(libc::RTM_DELNEIGH, 0, &header(libc::AF_BRIDGE as u8, link, 0, NTF_SELF))
        .bytes(NDA_LLADDR, &mac.0);
}
