//! Tracked UDP flows that started before there was a mapping.
//!
//! A tracked flow keeps its translation, or its lack of one, for as long as packets come. So flows to a port that is mapped
//! now are forgotten: their next packet finds the mapping. Formats: `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopwise_core::family::Family;
use hopwise_kernel::netlink::{Attribute, Attributes, Batch, Message, NetlinkError, Socket};
use hopwise_kernel::rtnl::Rtnl;

use super::config::{Mapping, Protocol};
use super::table::Way;

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
/// `IPCTNL_MSG_CT_GET`, `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1;
const DELETE: u16 = 2;
const NFGENMSG: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `CTA_*`.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
/// `CTA_FILTER_ORIG_FLAGS`, and its bits: the protocol's number, the destination port.
const FILTER_ORIGINAL: u16 = 1;
const FILTER_PROTOCOL: u32 = 1 << 3;
const FILTER_PORT: u32 = 1 << 5;
/// `CTA_TUPLE_*`, `CTA_IP_*`, `CTA_PROTO_*`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const IPV4_DESTINATION: u16 = 2;
const IPV6_SOURCE: u16 = 3;
const IPV6_DESTINATION: u16 = 4;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tuple {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    protocol: u8,
}

fn read_tuple(tuple: Attribute<'_>) -> Option<Tuple> {
    let tuple = tuple.nested();
    let (ip, proto) = (tuple.find(TUPLE_IP)?.nested(), tuple.find(TUPLE_PROTO)?.nested());
    let address = |kinds: [u16; 2]| kinds.into_iter().find_map(|kind| ip.find(kind)?.ip());
    let port = |kind| proto.find(kind)?.be16();
    Some(Tuple {
        source: (address([IPV4_SOURCE, IPV6_SOURCE])?, port(PROTO_SOURCE_PORT)?),
        destination: (address([IPV4_DESTINATION, IPV6_DESTINATION])?, port(PROTO_DESTINATION_PORT)?),
        protocol: proto.find(PROTO_NUMBER)?.u8()?,
    })
}

/// What identifies a flow to the kernel, as it said it.
struct Flow {
    destination: IpAddr,
    original: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Reads a flow if it goes to a mapping's port and elsewhere than the mapping.
fn read_stale(message: &Message<'_>, mapping: &Mapping) -> Option<Flow> {
    let attributes: Attributes<'_> = message.attributes(NFGENMSG);
    let original = attributes.find(TUPLE_ORIGINAL)?;
    let (there, back) = (read_tuple(original)?, read_tuple(attributes.find(TUPLE_REPLY)?)?);
    let (address, port) = there.destination;
    let is_meant = there.protocol == mapping.protocol.number()
        && port == mapping.host_port
        && mapping.host.is_none_or(|host| host == address);
    let is_right = back.source == (mapping.target.ip(), mapping.target.port());
    (is_meant && !is_right).then(|| Flow {
        destination: address,
        original: original.payload.to_vec(),
        id: attributes.find(ID).map(|id| id.payload.to_vec()).unwrap_or_default(),
        zone: attributes.find(ZONE).map(|zone| zone.payload.to_vec()),
    })
}

fn start(family: Family) -> [u8; NFGENMSG] {
    let family = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    [family as u8, 0, 0, 0]
}

/// Forgets tracked flows of UDP to a mapping's port that go elsewhere than the mapping. Those to other hosts' ports of the
/// same number are left alone, which the reference forgets too.
///
/// # Errors
///
/// When the kernel refuses to tell or to forget.
pub fn forget_stale(host: &mut Rtnl, mappings: &[(Mapping, Way)]) -> Result<(), NetlinkError> {
    let udp = || mappings.iter().map(|(mapping, _)| mapping).filter(|m| m.protocol == Protocol::Udp);
    if udp().next().is_none() {
        return Ok(());
    }
    let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
    let mut local = BTreeMap::new();
    for mapping in udp() {
        let mut batch = Batch::new();
        for flow in stale(&mut socket, mapping)? {
            let is_local = local.entry(flow.destination).or_insert_with(|| {
                host.route_to(flow.destination).is_ok_and(|route| {
                    route.is_some_and(|route| {
                        route.kind == libc::RTN_LOCAL || route.kind == libc::RTN_BROADCAST
                    })
                })
            });
            if *is_local {
                write_delete(&mut batch, mapping.family(), &flow);
            }
        }
        for verdict in socket.execute(&mut batch)? {
            match verdict {
                // It ended by itself.
                Err(error) if error.errno() != libc::ENOENT => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn stale(socket: &mut Socket, mapping: &Mapping) -> Result<Vec<Flow>, NetlinkError> {
    let mut batch = Batch::new();
    let mut message = batch.message(SUBSYSTEM << 8 | GET, 0, &start(mapping.family()));
    // Since Linux 5.8 the kernel says only what passes; before, all.
    message.nested(FILTER).u32(FILTER_ORIGINAL, FILTER_PROTOCOL | FILTER_PORT);
    message
        .nested(TUPLE_ORIGINAL)
        .nested(TUPLE_PROTO)
        .u8(PROTO_NUMBER, mapping.protocol.number())
        .be16(PROTO_DESTINATION_PORT, mapping.host_port);
    drop(message);
    let mut flows = Vec::new();
    socket.dump(&mut batch, &mut flows, Vec::clear, |flows, message| {
        flows.extend(read_stale(&message, mapping));
    })?;
    Ok(flows)
}

fn write_delete(batch: &mut Batch, family: Family, flow: &Flow) {
    let mut message = batch.message(SUBSYSTEM << 8 | DELETE, 0, &start(family));
    message.bytes(TUPLE_ORIGINAL | NESTED, &flow.original).bytes(ID, &flow.id);
    if let Some(zone) = &flow.zone {
        message.bytes(ZONE, zone);
    }
}
