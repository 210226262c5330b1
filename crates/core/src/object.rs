//! The kernel objects that Hopwise owns, as keys and values.
//!
//! Links are named, not numbered: a link of ours may not exist yet when it is planned, and one that is deleted and made
//! again has another index. The applier finds the index at the moment of writing.

use std::fmt;
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::family::Family;
use crate::name::{LinkName, MacAddr, Mtu};

/// What makes two routes the same route to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The table.
    pub table: u32,
    /// The destination.
    pub dst: Cidr,
    /// `RTA_PRIORITY`.
    pub metric: u32,
}

/// A next hop: an address reached through a link. Planned routes share equal next hops, in the kernel one nexthop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The gateway's address.
    pub gateway: IpAddr,
    /// The link.
    pub link: LinkName,
    /// Don't ask whether the gateway is on the link (`RTNH_F_ONLINK`).
    pub onlink: bool,
}

impl NextHop {
    /// The address family.
    pub fn family(&self) -> Family {
        Family::of(self.gateway)
    }
}

/// A route that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Its key.
    pub key: RouteKey,
    /// Where it leads.
    pub next_hop: NextHop,
}

/// What makes two neighbour entries the same to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey {
    /// The link.
    pub link: LinkName,
    /// The neighbour's address.
    pub address: IpAddr,
}

/// A permanent neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its key.
    pub key: NeighbourKey,
    /// The neighbour's MAC address.
    pub mac: MacAddr,
}

/// What makes two FDB entries the same to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbKey {
    /// The VXLAN device.
    pub link: LinkName,
    /// The inner destination MAC address.
    pub mac: MacAddr,
}

/// A permanent forwarding database entry of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// Its key.
    pub key: FdbKey,
    /// The underlay address that packets go to.
    pub dst: IpAddr,
}

/// A VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VxlanLink {
    /// Its name.
    pub name: LinkName,
    /// Network identifier.
    pub vni: u32,
    /// UDP port, both ends.
    pub port: u16,
    /// The underlay source address (`IFLA_VXLAN_LOCAL[6]`).
    pub local: IpAddr,
    /// The uplink that the tunnel is bound to (`IFLA_VXLAN_LINK`).
    pub uplink: LinkName,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its MTU: the path's less 50 bytes over IPv4, 70 over IPv6.
    pub mtu: Mtu,
}

/// An address on a link of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The link.
    pub link: LinkName,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
}

/// A policy rule: `from all lookup TABLE priority PRIORITY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The family.
    pub family: Family,
    /// Its priority.
    pub priority: u32,
    /// The table that it looks up.
    pub table: u32,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "via {} dev {}", self.gateway, self.link)?;
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if self.table != crate::config::MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if self.metric != 0 { write!(f, " metric {}", self.metric) } else { Ok(()) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.next_hop)
    }
}
