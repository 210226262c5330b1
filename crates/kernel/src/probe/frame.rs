//! Ethernet frames around a packet.

use hopwise_core::name::MacAddr;

/// The length of an Ethernet header without a VLAN tag.
pub const HEADER: usize = 14;
/// `ETH_P_ARP`.
pub const ARP: u16 = 0x0806;
/// `ETH_P_IPV6`.
pub const IPV6: u16 = 0x86dd;

/// Where everybody is.
pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

/// Writes a header; the packet follows.
pub fn header(to: MacAddr, from: MacAddr, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

/// The sender and the packet of a frame of that kind; `None` for one of another kind or cut short.
pub fn packet(frame: &[u8], kind: u16) -> Option<(MacAddr, &[u8])> {
    let from = MacAddr(array(frame, 6)?);
    (array(frame, 12)? == kind.to_be_bytes()).then_some((from, frame.get(HEADER..)?))
}

/// Bytes at an offset; `None` past the end.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
