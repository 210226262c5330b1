//! Addresses: `RTM_*ADDR`, `struct ifaddrmsg`.

use std::net::IpAddr;

use hopwise_core::family::Family;

use super::{REPLACE, af, u32_at};
use crate::netlink::{Batch, Message};

const HEADER: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

const IFA_F_SECONDARY_OR_TEMPORARY: u32 = 0x01;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressMessage {
    /// The link's index.
    pub link: u32,
    /// The address itself: `IFA_LOCAL`, which differs from `IFA_ADDRESS` on point-to-point links.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl AddressMessage {
    /// `RT_SCOPE_UNIVERSE`.
    pub fn global(&self) -> bool {
        self.scope == libc::RT_SCOPE_UNIVERSE
    }

    /// Deprecated, tentative, failed or temporary. The flag of a temporary IPv6 address is that of a secondary IPv4
    /// address, which is as good as any.
    pub fn unusable(&self) -> bool {
        let temporary = if self.address.is_ipv6() { IFA_F_SECONDARY_OR_TEMPORARY } else { 0 };
        self.flags & (IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED | temporary) != 0
    }

    /// An IPv6 link-local address, which the kernel gives to every link by itself.
    pub fn link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// Reads an address message.
pub fn decode(message: &Message<'_>) -> Option<AddressMessage> {
    let header = message.fixed::<HEADER>()?;
    super::family(header[0])?;
    let (mut local, mut address, mut flags) = (None, None, u32::from(header[2]));
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            IFA_LOCAL => local = attribute.ip(),
            IFA_ADDRESS => address = attribute.ip(),
            IFA_FLAGS => flags = attribute.u32().unwrap_or(flags),
            _ => {}
        }
    }
    Some(AddressMessage {
        link: u32_at(&header, 4),
        address: local.or(address)?,
        prefix_len: header[1],
        scope: header[3],
        flags,
    })
}

fn header(family: u8, prefix_len: u8, link: u32) -> [u8; HEADER] {
    let mut header = [family, prefix_len, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&link.to_ne_bytes());
    header
}

/// Asks for the addresses of one link, or of all with 0; to be sent as a dump.
pub fn get_all(batch: &mut Batch, link: u32) {
    batch.message(libc::RTM_GETADDR, 0, &header(0, 0, link));
}

/// Adds an address, at once usable. One that is there already stays.
///
/// Of an IPv6 address the kernel tells its listeners a moment later, from a work queue (`addrconf_dad_work`).
pub fn add(batch: &mut Batch, link: u32, address: IpAddr, prefix_len: u8) {
    let mut message =
        batch.message(libc::RTM_NEWADDR, REPLACE, &header(af(Family::of(address)), prefix_len, link));
    message.ip(IFA_LOCAL, address).ip(IFA_ADDRESS, address);
    if address.is_ipv6() {
        message.u32(IFA_FLAGS, IFA_F_NODAD);
    }
}

/// Deletes an address.
pub fn delete(batch: &mut Batch, link: u32, address: IpAddr, prefix_len: u8) {
    batch
        .message(libc::RTM_DELADDR, 0, &header(af(Family::of(address)), prefix_len, link))
        .ip(IFA_LOCAL, address);
}
