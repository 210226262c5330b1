//! Steps as rtnetlink messages.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopwise_core::family::Family;
use hopwise_core::l2::step::{Place, Step};
use hopwise_core::l2::value::{Address, Hop, Neighbour, Route, address_flags};
use hopwise_core::name::LinkName;

use super::read::{
    FOREVER, IFA_PROTO, IFA_RT_PRIORITY, NTF_PROXY, NTF_ROUTER, RTA_PREF, RTA_VIA, RTAX_CC_ALGO,
    RTNH_F_ONLINK,
};
use crate::netlink::{Batch, MessageWriter};
use crate::rt::{self, CREATE, REPLACE};
use crate::rtnl::ifinfomsg;

/// `linux/if_link.h`.
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`.
const GENERATE_NONE: u8 = 1;
const IFA_CACHEINFO: u16 = 6;
const RTA_EXPIRES: u16 = 23;
const NUD_PERMANENT: u16 = 0x80;
const UP: u32 = libc::IFF_UP as u32;

type Links = BTreeMap<LinkName, u32>;

/// Appends the messages of a step; `Err` names a link that isn't there. Sysctls are no messages.
pub(super) fn step(batch: &mut Batch, step: &Step, links: &Links) -> Result<(), LinkName> {
    let index = |link: &LinkName| links.get(link).copied().ok_or(*link);
    match step {
        Step::MakeBridge { name, mac, mtu } => {
            let mut message = batch.message(libc::RTM_NEWLINK, CREATE, &ifinfomsg(0, 0, 0, 0));
            message.str(libc::IFLA_IFNAME, name.as_str());
            message.bytes(libc::IFLA_ADDRESS, &mac.0).u32(libc::IFLA_MTU, *mtu);
            let mut info = message.nested(libc::IFLA_LINKINFO);
            info.str(libc::IFLA_INFO_KIND, "bridge");
            info.nested(libc::IFLA_INFO_DATA).u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0);
            drop(info);
            drop(message);
            // The kernel ignores this at creation, and makes the address when the link is raised.
            let mut message = set_link(batch, *name, 0);
            let mut families = message.nested(IFLA_AF_SPEC);
            families.nested(libc::AF_INET6 as u16).u8(IFLA_INET6_ADDR_GEN_MODE, GENERATE_NONE);
            drop(families);
            drop(message);
            drop(set_link(batch, *name, UP));
        }
        Step::DeleteBridge(name) => {
            batch.message(libc::RTM_DELLINK, 0, &ifinfomsg(0, 0, 0, 0)).str(libc::IFLA_IFNAME, name.as_str());
        }
        Step::SetMac(link, mac) => {
            set_link(batch, *link, 0).bytes(libc::IFLA_ADDRESS, &mac.0);
        }
        Step::SetMtu(link, mtu) => {
            set_link(batch, *link, 0).u32(libc::IFLA_MTU, *mtu);
        }
        Step::SetUp(link) => drop(set_link(batch, *link, UP)),
        Step::Enslave(link, bridge) => {
            let bridge = index(bridge)?;
            set_link(batch, *link, 0).u32(libc::IFLA_MASTER, bridge);
        }
        Step::Release(link) => {
            set_link(batch, *link, 0).u32(libc::IFLA_MASTER, 0);
        }
        Step::SetSysctl(..) => {}
        Step::AddAddress(link, address) => {
            let nodad = if address.address.is_ipv6() { address_flags::NODAD } else { 0 };
            new_address(batch, CREATE, index(link)?, address, nodad);
        }
        Step::SetAddress(link, address) => new_address(batch, REPLACE, index(link)?, address, 0),
        Step::DeleteAddress(link, address) => {
            drop(address_message(batch, libc::RTM_DELADDR, 0, index(link)?, address));
        }
        Step::AddRoute(route, place) => {
            let flags = match place {
                Place::Replace => REPLACE,
                Place::First => libc::NLM_F_CREATE as u16,
                Place::Last => (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16,
            };
            new_route(batch, flags, route, links)?;
        }
        Step::DeleteRoute(route) => drop(route_message(batch, libc::RTM_DELROUTE, 0, route, links)?),
        Step::AddNeighbour(link, neighbour) => {
            let mut message = neighbour_message(batch, libc::RTM_NEWNEIGH, REPLACE, index(link)?, neighbour);
            if let Some(mac) = neighbour.mac {
                message.bytes(libc::NDA_LLADDR, &mac.0);
            }
        }
        Step::DeleteNeighbour(link, neighbour) => {
            drop(neighbour_message(batch, libc::RTM_DELNEIGH, 0, index(link)?, neighbour));
        }
    }
    Ok(())
}

fn set_link(batch: &mut Batch, link: LinkName, raise: u32) -> MessageWriter<'_> {
    let mut message = batch.message(libc::RTM_SETLINK, 0, &ifinfomsg(0, 0, raise, raise));
    message.str(libc::IFLA_IFNAME, link.as_str());
    message
}

fn address_message<'a>(
    batch: &'a mut Batch,
    kind: u16,
    flags: u16,
    link: u32,
    address: &Address,
) -> MessageWriter<'a> {
    let [a, b, c, d] = link.to_ne_bytes();
    let family = rt::af(Family::of(address.address));
    let fixed = [family, address.prefix_len, 0, address.scope, a, b, c, d];
    let mut message = batch.message(kind, flags, &fixed);
    message.ip(libc::IFA_LOCAL, address.address);
    message.ip(libc::IFA_ADDRESS, address.peer.unwrap_or(address.address));
    message
}

fn new_address(batch: &mut Batch, flags: u16, link: u32, address: &Address, more: u32) {
    let mut message = address_message(batch, libc::RTM_NEWADDR, flags, link, address);
    if let Some(broadcast) = address.broadcast {
        message.bytes(libc::IFA_BROADCAST, &broadcast.octets());
    }
    if let Some(label) = &address.label {
        message.str(libc::IFA_LABEL, label);
    }
    message.u32(libc::IFA_FLAGS, address.flags | more);
    if address.metric != 0 {
        message.u32(IFA_RT_PRIORITY, address.metric);
    }
    if address.protocol != 0 {
        message.u8(IFA_PROTO, address.protocol);
    }
    let times = [address.preferred.unwrap_or(FOREVER), address.valid.unwrap_or(FOREVER), 0, 0];
    message.bytes(IFA_CACHEINFO, &times.map(u32::to_ne_bytes).concat());
}

/// The key and the next hops of a route.
fn route_message<'a>(
    batch: &'a mut Batch,
    kind: u16,
    flags: u16,
    route: &Route,
    links: &Links,
) -> Result<MessageWriter<'a>, LinkName> {
    let index = |hop: &Hop| links.get(&hop.link).copied().ok_or(hop.link);
    let indices: Vec<u32> = route.hops.iter().map(index).collect::<Result<_, _>>()?;
    let mut fixed = [0; 12];
    fixed[0] = rt::af(route.dst.family());
    fixed[1] = route.dst.prefix_len();
    fixed[2] = route.from.map_or(0, |from| from.prefix_len());
    fixed[3] = route.tos;
    fixed[4] = u8::try_from(route.table).unwrap_or(libc::RT_TABLE_UNSPEC);
    fixed[5] = route.protocol;
    fixed[6] = route.scope;
    fixed[7] = route.kind;
    if let [hop] = route.hops.as_slice() {
        let flags = if hop.onlink { u32::from(RTNH_F_ONLINK) } else { 0 };
        fixed[8..].copy_from_slice(&flags.to_ne_bytes());
    }
    let mut message = batch.message(kind, flags, &fixed);
    if route.dst.prefix_len() > 0 {
        message.ip(libc::RTA_DST, route.dst.address());
    }
    if let Some(from) = route.from {
        message.ip(libc::RTA_SRC, from.address());
    }
    message.u32(libc::RTA_TABLE, route.table);
    if route.metric != 0 {
        message.u32(libc::RTA_PRIORITY, route.metric);
    }
    if let Some(source) = route.source {
        message.ip(libc::RTA_PREFSRC, source);
    }
    match (route.hops.as_slice(), indices.as_slice()) {
        ([hop], [index]) => {
            message.u32(libc::RTA_OIF, *index);
            if let Some(gateway) = hop.gateway {
                write_gateway(&mut message, gateway, route);
            }
        }
        (hops, indices) => write_hops(&mut message, hops, indices, route),
    }
    Ok(message)
}

fn write_gateway(message: &mut MessageWriter<'_>, gateway: IpAddr, route: &Route) {
    if Family::of(gateway) == route.dst.family() {
        message.ip(libc::RTA_GATEWAY, gateway);
        return;
    }
    let mut via = u16::from(rt::af(Family::of(gateway))).to_ne_bytes().to_vec();
    match gateway {
        IpAddr::V4(address) => via.extend(address.octets()),
        IpAddr::V6(address) => via.extend(address.octets()),
    }
    message.bytes(RTA_VIA, &via);
}

/// `RTA_MULTIPATH`: for each next hop a `struct rtnexthop` and attributes.
fn write_hops(message: &mut MessageWriter<'_>, hops: &[Hop], indices: &[u32], route: &Route) {
    let mut several = Vec::new();
    for (hop, index) in hops.iter().zip(indices) {
        // Attributes of their own, in front of which the length of all goes.
        let mut inner = Batch::new();
        let mut writer = inner.message(0, 0, &[]);
        if let Some(gateway) = hop.gateway {
            write_gateway(&mut writer, gateway, route);
        }
        drop(writer);
        let attributes = inner.as_bytes().get(16..).unwrap_or_default();
        let len = (8 + attributes.len()) as u16;
        several.extend(len.to_ne_bytes());
        several.push(if hop.onlink { RTNH_F_ONLINK } else { 0 });
        several.push(u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX));
        several.extend(index.to_ne_bytes());
        several.extend(attributes);
    }
    message.bytes(libc::RTA_MULTIPATH, &several);
}

fn new_route(batch: &mut Batch, flags: u16, route: &Route, links: &Links) -> Result<(), LinkName> {
    let mut message = route_message(batch, libc::RTM_NEWROUTE, flags, route, links)?;
    if !route.metrics.is_empty() || route.congestion.is_some() {
        let mut metrics = message.nested(libc::RTA_METRICS);
        for (kind, value) in &route.metrics {
            metrics.u32(*kind, *value);
        }
        if let Some(congestion) = &route.congestion {
            metrics.str(RTAX_CC_ALGO, congestion);
        }
    }
    if let Some(preference) = route.preference {
        message.u8(RTA_PREF, preference);
    }
    if let Some(expires) = route.expires {
        message.u32(RTA_EXPIRES, expires);
    }
    Ok(())
}

fn neighbour_message<'a>(
    batch: &'a mut Batch,
    kind: u16,
    flags: u16,
    link: u32,
    neighbour: &Neighbour,
) -> MessageWriter<'a> {
    let mut fixed = [0; 12];
    fixed[0] = rt::af(Family::of(neighbour.address));
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    fixed[10] = if neighbour.proxy { NTF_PROXY } else { 0 } | if neighbour.router { NTF_ROUTER } else { 0 };
    let mut message = batch.message(kind, flags, &fixed);
    message.ip(libc::NDA_DST, neighbour.address);
    message
}
