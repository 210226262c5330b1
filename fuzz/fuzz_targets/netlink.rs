//! Feeds datagrams to the netlink parser and to every message decoder. None may panic, whatever a kernel of another
//! version (or a confused one) sends.
#![no_main]

use hopwise_kernel::netlink::{Attributes, Message, Messages};
use hopwise_kernel::{nft, rt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    for message in Messages::new(datagram) {
        decode(&message);
    }
    // Most inputs are no whole message: as payloads they get past the header.
    decode(&Message { kind: 0, flags: 0, seq: 0, port: 0, payload: datagram });
});

fn decode(message: &Message<'_>) {
    let _ = rt::link::decode(message);
    let _ = rt::address::decode(message);
    let _ = rt::route::decode(message);
    let _ = rt::nexthop::decode(message);
    let _ = rt::neighbour::decode(message);
    let _ = rt::rule::decode(message);
    let _ = rt::netconf::decode(message);
    let _ = nft::event(message);
    walk(message.attributes(0), 4);
}

fn walk(attributes: Attributes<'_>, depth: u32) {
    for attribute in attributes {
        let _ = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.be16(), attribute.be32());
        let _ = (attribute.be64(), attribute.ip(), attribute.mac(), attribute.str());
        if depth > 0 {
            walk(attribute.nested(), depth - 1);
        }
    }
}
