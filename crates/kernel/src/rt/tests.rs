use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::{RouteChange, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::name::{LinkName, MacAddr, Mtu};
use hopwise_core::object::{NextHop, Route, RouteKey, Rule, VxlanLink};
use proptest::prelude::*;

use super::*;
use crate::netlink::{Batch, Message, Messages};

/// What all decoders make of a message does not matter here: only that they come back.
fn decode_all(message: &Message<'_>) {
    let _ = link::decode(message);
    let _ = address::decode(message);
    let _ = route::decode(message);
    let _ = nexthop::decode(message);
    let _ = neighbour::decode(message);
    let _ = rule::decode(message);
    let _ = netconf::decode(message);
    let _ = crate::nft::event(message);
}

/// The only message of a batch, as the kernel would read it.
fn only(batch: &Batch) -> Message<'_> {
    let mut messages = Messages::new(batch.as_bytes());
    let message = messages.next().unwrap();
    assert!(messages.next().is_none());
    message
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (ip(), 0_u8..=128)
        .prop_map(|(address, len)| Cidr::containing(address, len.min(Family::of(address).bits())).unwrap())
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn name() -> impl Strategy<Value = LinkName> {
    "[a-z0-9._-]{1,15}".prop_filter_map("dots", |name| name.parse().ok())
}

proptest! {
    #[test]
    fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        for message in Messages::new(&bytes) {
            decode_all(&message);
        }
        decode_all(&Message { kind: 16, flags: 0, seq: 0, port: 0, payload: &bytes });
    }

    /// Attributes that are in place but cut, too long or of the wrong size.
    #[test]
    fn decoders_survive_broken_attributes(
        family in prop_oneof![Just(2_u8), Just(10), Just(7)],
        header in proptest::collection::vec(any::<u8>(), 7..15),
        attributes in proptest::collection::vec(
            (0_u16..40, proptest::collection::vec(any::<u8>(), 0..24)), 0..12),
        cut in 0_usize..8,
    ) {
        let mut batch = Batch::new();
        {
            let fixed = [vec![family], header].concat();
            let mut message = batch.message(24, 0, &fixed);
            for (kind, value) in &attributes {
                message.bytes(*kind, value);
            }
        }
        decode_all(&only(&batch));
        let payload = only(&batch).payload;
        let payload = &payload[..payload.len().saturating_sub(cut)];
        decode_all(&Message { kind: 24, flags: 0, seq: 0, port: 0, payload });
    }

    #[test]
    fn routes_round_trip(
        dst in cidr(), table in any::<u32>(), metric in any::<u32>(), gateway in ip(), onlink: bool,
        object in proptest::option::of(any::<u32>()), replace: bool, index in any::<u32>(),
    ) {
        let key = RouteKey { table, dst, metric };
        let next_hop = NextHop { gateway, link: LinkName::new_static("up0"), onlink };
        let target = object.map_or(RouteTarget::Gateway, RouteTarget::Object);
        let mut batch = Batch::new();
        route::set(&mut batch, &RouteChange { route: Route { key, next_hop }, target, replace }, index);
        let read = route::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.dst, read.table, read.metric, read.protocol), (dst, table, metric, PROTOCOL));
        prop_assert!(read.unicast() && !read.qualified && !read.multipath && !read.cloned);
        prop_assert_eq!(read.nexthop, object);
        if object.is_none() {
            prop_assert_eq!((read.gateway, read.link, read.onlink), (Some(gateway), Some(index), onlink));
        }
        let mut batch = Batch::new();
        route::delete(&mut batch, &key);
        let read = route::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.dst, read.table, read.metric, read.protocol), (dst, table, metric, PROTOCOL));
    }

    #[test]
    fn next_hops_round_trip(id in any::<u32>(), gateway in ip(), onlink: bool, index in any::<u32>()) {
        let mut batch = Batch::new();
        nexthop::add(&mut batch, id, &NextHop { gateway, link: LinkName::new_static("up0"), onlink }, index);
        let read = nexthop::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.id, read.protocol, read.special), (id, PROTOCOL, false));
        prop_assert_eq!((read.gateway, read.link, read.onlink), (Some(gateway), Some(index), onlink));
    }

    #[test]
    fn neighbours_and_fdb_entries_round_trip(address in ip(), mac in mac(), index in any::<u32>()) {
        let mut batch = Batch::new();
        neighbour::set(&mut batch, index, address, mac);
        let read = neighbour::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.link, read.address, read.mac), (index, Some(address), Some(mac)));
        prop_assert!(read.permanent() && !read.is_fdb() && !read.dead() && !read.special);
        prop_assert_eq!(read.protocol, PROTOCOL);
        let mut batch = Batch::new();
        neighbour::set_fdb(&mut batch, index, mac, address);
        let read = neighbour::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.link, read.address, read.mac), (index, Some(address), Some(mac)));
        prop_assert!(read.permanent() && read.is_fdb() && read.of_device() && !read.special);
    }

    #[test]
    fn rules_and_addresses_round_trip(
        v6: bool, priority in any::<u32>(), table in 1_u32.., address in ip(), index in any::<u32>(),
    ) {
        let rule = Rule { family: if v6 { Family::V6 } else { Family::V4 }, priority, table };
        let mut batch = Batch::new();
        rule::add(&mut batch, &rule);
        let read = rule::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.rule, read.protocol, read.qualified), (rule, PROTOCOL, false));
        let mut batch = Batch::new();
        let prefix_len = Family::of(address).bits();
        address::add(&mut batch, index, address, prefix_len);
        let read = address::decode(&only(&batch)).unwrap();
        prop_assert_eq!((read.link, read.address, read.prefix_len), (index, address, prefix_len));
        prop_assert!(read.global() && !read.unusable());
    }

    #[test]
    fn vxlan_devices_round_trip(
        name in name(), vni in 0_u32..1 << 24, port in any::<u16>(), local in ip(), mac in mac(),
        mtu in 68_u32..=65_535, index in any::<u32>(),
    ) {
        let uplink = LinkName::new_static("up0");
        let device = VxlanLink { name, vni, port, local, uplink, mac, mtu: Mtu::new(mtu).unwrap() };
        let mut batch = Batch::new();
        link::add_vxlan(&mut batch, &device, index);
        prop_assert_eq!(batch.len(), link::ADD_VXLAN_MESSAGES);
        let messages: Vec<_> = Messages::new(batch.as_bytes()).collect();
        let made = link::decode(&messages[0]).unwrap();
        prop_assert_eq!((made.name, made.mac, made.mtu, made.kind), (Some(name), Some(mac), mtu, "vxlan"));
        let vxlan = link::Vxlan { vni, port, local: Some(local), link: Some(index), learning: false };
        prop_assert_eq!(made.vxlan, Some(vxlan));
        let marked = link::decode(&messages[1]).unwrap();
        prop_assert!(crate::observe::translate::is_ours(&marked));
        prop_assert!(link::decode(&messages[2]).unwrap().up());
    }
}
