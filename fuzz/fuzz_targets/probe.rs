//! Feeds frames to the readers of ARP and neighbour discovery. None may panic, whatever is on the LAN.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::name::MacAddr;
use hopwise_kernel::probe::conflicts_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|frame: &[u8]| {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let own = MacAddr([2, 0, 0x5e, 0, 0x53, 1]);
    for conflict in conflicts_in(frame, &addresses, own) {
        assert_ne!(conflict.holder, own);
    }
});
