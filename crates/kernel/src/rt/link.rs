//! Links: `RTM_*LINK`, `struct ifinfomsg`.

use std::net::IpAddr;

use hopwise_core::mark::LINK_ALIAS;
use hopwise_core::name::{LinkName, MacAddr};
use hopwise_core::object::VxlanLink;

use super::{CREATE, u32_at};
use crate::netlink::{Batch, Message};

const HEADER: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`: no link-local address of the kernel's own.
const ADDR_GEN_MODE_NONE: u8 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: counters are two thirds of a link message.
const SKIP_STATS: u32 = 1 << 3;
/// `IFF_LOWER_UP`, which `libc` has as a signed number.
const LOWER_UP: u32 = 1 << 16;

/// A link, as `RTM_NEWLINK` and `RTM_DELLINK` tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMessage<'a> {
    /// `AF_UNSPEC`, or `AF_BRIDGE` for a bridge port's state.
    pub family: u8,
    /// Its index.
    pub index: u32,
    /// `IFF_*`.
    pub flags: u32,
    /// Its name; `None` when it is not one that [`LinkName`] takes.
    pub name: Option<LinkName>,
    /// Its alias, empty where there is none.
    pub alias: &'a str,
    /// `IFLA_INFO_KIND`, empty for hardware.
    pub kind: &'a str,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// VXLAN parameters, for that kind.
    pub vxlan: Option<Vxlan>,
}

/// VXLAN parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// Destination port.
    pub port: u16,
    /// Underlay source address.
    pub local: Option<IpAddr>,
    /// Index of the underlay link.
    pub link: Option<u32>,
    /// Whether the FDB learns from traffic.
    pub learning: bool,
}

impl LinkMessage<'_> {
    /// `IFF_UP`: administratively up.
    pub fn up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// `IFF_LOWER_UP`: the carrier is there.
    pub fn carrier(&self) -> bool {
        self.flags & LOWER_UP != 0
    }

    /// `IFF_LOOPBACK`.
    pub fn loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }
}

/// Reads a link message.
pub fn decode<'a>(message: &Message<'a>) -> Option<LinkMessage<'a>> {
    let header = message.fixed::<HEADER>()?;
    let mut link = LinkMessage {
        family: header[0],
        index: u32_at(&header, 4),
        flags: u32_at(&header, 8),
        name: None,
        alias: "",
        kind: "",
        mac: None,
        mtu: 0,
        master: None,
        vxlan: None,
    };
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            IFLA_ADDRESS => link.mac = attribute.mac(),
            IFLA_IFNAME => link.name = attribute.str().and_then(|name| name.parse().ok()),
            IFLA_MTU => link.mtu = attribute.u32().unwrap_or(0),
            IFLA_MASTER => link.master = attribute.u32(),
            IFLA_IFALIAS => link.alias = attribute.str().unwrap_or_default(),
            IFLA_LINKINFO => {
                let info = attribute.nested();
                link.kind = info.find(IFLA_INFO_KIND).and_then(|kind| kind.str()).unwrap_or_default();
                if link.kind == "vxlan" {
                    link.vxlan =
                        Some(info.find(IFLA_INFO_DATA).map_or(Vxlan::default(), |data| vxlan(&data)));
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn vxlan(data: &crate::netlink::Attribute<'_>) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for attribute in data.nested() {
        match attribute.kind {
            IFLA_VXLAN_ID => vxlan.vni = attribute.u32().unwrap_or(0),
            IFLA_VXLAN_LINK => vxlan.link = attribute.u32(),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = attribute.ip(),
            IFLA_VXLAN_LEARNING => vxlan.learning = attribute.u8() != Some(0),
            IFLA_VXLAN_PORT => vxlan.port = attribute.be16().unwrap_or(0),
            _ => {}
        }
    }
    vxlan
}

fn header(index: u32, flags: u32, change: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Asks for all links, to be sent as a dump.
pub fn get_all(batch: &mut Batch) {
    batch.message(libc::RTM_GETLINK, 0, &header(0, 0, 0)).u32(IFLA_EXT_MASK, SKIP_STATS);
}

/// Asks for the link of a name.
pub fn get(batch: &mut Batch, name: LinkName) {
    batch
        .message(libc::RTM_GETLINK, 0, &header(0, 0, 0))
        .str(IFLA_IFNAME, name.as_str())
        .u32(IFLA_EXT_MASK, SKIP_STATS);
}

/// How many messages [`add_vxlan`] appends.
pub const ADD_VXLAN_MESSAGES: usize = 3;

/// Makes a VXLAN device, marked, without a link-local address, and up: [`ADD_VXLAN_MESSAGES`] messages, of which the
/// later ones mean nothing when the first is refused.
///
/// The kernel takes neither an alias nor an address generation mode when it makes a link, and sets the mode after it
/// brings the link up: three messages, in one datagram, which nothing can come between.
pub fn add_vxlan(batch: &mut Batch, link: &VxlanLink, uplink: u32) {
    {
        let mut message = batch.message(libc::RTM_NEWLINK, CREATE, &header(0, 0, 0));
        message
            .str(IFLA_IFNAME, link.name.as_str())
            .bytes(IFLA_ADDRESS, &link.mac.0)
            .u32(IFLA_MTU, link.mtu.bytes());
        let mut info = message.nested(IFLA_LINKINFO);
        info.str(IFLA_INFO_KIND, "vxlan");
        let local = if link.local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
        info.nested(IFLA_INFO_DATA)
            .u32(IFLA_VXLAN_ID, link.vni)
            .u32(IFLA_VXLAN_LINK, uplink)
            .ip(local, link.local)
            .u8(IFLA_VXLAN_LEARNING, 0)
            .be16(IFLA_VXLAN_PORT, link.port);
    }
    {
        let mut message = batch.message(libc::RTM_NEWLINK, 0, &header(0, 0, 0));
        message.str(IFLA_IFNAME, link.name.as_str()).str(IFLA_IFALIAS, &format!("{LINK_ALIAS}vxlan"));
        message
            .nested(IFLA_AF_SPEC)
            .nested(libc::AF_INET6 as u16)
            .u8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE);
    }
    let up = libc::IFF_UP as u32;
    batch.message(libc::RTM_NEWLINK, 0, &header(0, up, up)).str(IFLA_IFNAME, link.name.as_str());
}

/// Asks for a VXLAN device without saying what it shall be like: refused with `EOPNOTSUPP` by a kernel that has no
/// VXLAN, and with `EINVAL` by one that has (`vxlan_validate`). Never makes anything.
pub fn probe_vxlan(batch: &mut Batch) {
    batch
        .message(libc::RTM_NEWLINK, CREATE, &header(0, 0, 0))
        .nested(IFLA_LINKINFO)
        .str(IFLA_INFO_KIND, "vxlan");
}

/// Gives a link its MTU and, where it has another, its MAC address, and brings it up.
///
/// The kernel forgets all neighbours of a link whose MAC address is set, even to what it is.
pub fn set(batch: &mut Batch, index: u32, mac: Option<MacAddr>, link: &VxlanLink) {
    let up = libc::IFF_UP as u32;
    let mut message = batch.message(libc::RTM_NEWLINK, 0, &header(index, up, up));
    if mac != Some(link.mac) {
        message.bytes(IFLA_ADDRESS, &link.mac.0);
    }
    message.u32(IFLA_MTU, link.mtu.bytes());
}

/// Deletes a link.
pub fn delete(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_DELLINK, 0, &header(index, 0, 0));
}
