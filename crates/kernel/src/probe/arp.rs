//! ARP for IPv4 over Ethernet: RFC 826, and the probe of RFC 5227.

use std::net::Ipv4Addr;

use hopwise_core::name::MacAddr;

use super::frame;

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Whether it answers (operation 2) or asks (1).
    pub is_reply: bool,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    /// The address that is asked for, or the asker's.
    pub target: Ipv4Addr,
}

/// Hardware type Ethernet, protocol IPv4, their address lengths.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A frame that asks everybody whether `target` is theirs, without claiming it: RFC 5227, 2.1.1.
pub fn probe(from: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    ArpPacket { is_reply: false, sender_mac: from, sender: Ipv4Addr::UNSPECIFIED, target }
        .to_frame(frame::BROADCAST)
}

impl ArpPacket {
    /// The packet in a frame. The target's MAC address is left 0, as it is in questions.
    pub fn to_frame(self, to: MacAddr) -> Vec<u8> {
        let mut bytes = frame::header(to, self.sender_mac, frame::ARP);
        bytes.extend_from_slice(&PREAMBLE);
        bytes.extend_from_slice(&[0, if self.is_reply { 2 } else { 1 }]);
        bytes.extend_from_slice(&self.sender_mac.0);
        bytes.extend_from_slice(&self.sender.octets());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&self.target.octets());
        bytes
    }

    /// Reads a frame; `None` when it is anything else. Padding after the packet is normal.
    pub fn parse(bytes: &[u8]) -> Option<ArpPacket> {
        let (_, packet) = frame::packet(bytes, frame::ARP)?;
        if frame::array(packet, 0)? != PREAMBLE {
            return None;
        }
        Some(ArpPacket {
            is_reply: match frame::array(packet, 6)? {
                [0, 1] => false,
                [0, 2] => true,
                _ => return None,
            },
            sender_mac: MacAddr(frame::array(packet, 8)?),
            sender: Ipv4Addr::from(frame::array::<4>(packet, 14)?),
            target: Ipv4Addr::from(frame::array::<4>(packet, 24)?),
        })
    }

    /// Whether somebody other than `own` shows that `address` is theirs, or is about to be (RFC 5227, 2.1.1: any packet
    /// with it as the sender's address, or another's probe for it).
    pub fn claims(&self, address: Ipv4Addr, own: MacAddr) -> bool {
        let probes = !self.is_reply && self.sender.is_unspecified() && self.target == address;
        self.sender_mac != own && (self.sender == address || probes)
    }
}
