//! Neighbour discovery: RFC 4861, and its use for duplicate address detection, RFC 4862.

use std::net::Ipv6Addr;

use hopwise_core::name::MacAddr;

use super::frame;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// IPv6 header, and the fixed part of either message.
const IPV6_HEADER: usize = 40;
const MESSAGE: usize = 24;

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// Whether it tells (type 136) or asks (135).
    pub is_advertisement: bool,
    /// The MAC address of the frame's sender.
    pub sender_mac: MacAddr,
    /// The sender's address; `::` in duplicate address detection.
    pub sender: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
}

/// A frame that asks all who could have `target` whether they have it, without claiming it: RFC 4862, 5.4.2.
pub fn solicitation(from: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut bytes = frame::header(MacAddr([0x33, 0x33, 0xff, a, b, c]), from, frame::IPV6);
    let mut message = [0; MESSAGE];
    message[0] = SOLICITATION;
    message[8..].copy_from_slice(&target.octets());
    let sum = checksum(Ipv6Addr::UNSPECIFIED, group, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // Version 6, no class or flow label; the hop limit of 255 shows that no router has passed it on.
    bytes.extend_from_slice(&[0x60, 0, 0, 0, 0, MESSAGE as u8, ICMPV6, 255]);
    bytes.extend_from_slice(&Ipv6Addr::UNSPECIFIED.octets());
    bytes.extend_from_slice(&group.octets());
    bytes.extend_from_slice(&message);
    bytes
}

/// RFC 1071 over the pseudo-header of RFC 8200, 8.1, and an ICMPv6 message of an even length.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = from.segments().into_iter().chain(to.segments());
    let message_words = message.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let sum: u32 = words.chain(message_words).map(u32::from).sum::<u32>()
        + u32::try_from(message.len()).unwrap_or_default()
        + u32::from(ICMPV6);
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

impl NeighbourMessage {
    /// Reads a frame; `None` when it is anything else, or came through a router (RFC 4861, 7.1). The checksum is not
    /// looked at: what looks like a conflict costs one address, what is missed costs two hosts.
    pub fn parse(bytes: &[u8]) -> Option<NeighbourMessage> {
        let (sender_mac, packet) = frame::packet(bytes, frame::IPV6)?;
        if packet.first()? >> 4 != 6 || frame::array(packet, 6)? != [ICMPV6, 255] {
            return None;
        }
        let message = packet.get(IPV6_HEADER..IPV6_HEADER + MESSAGE)?;
        Some(NeighbourMessage {
            is_advertisement: match message[..2] {
                [SOLICITATION, 0] => false,
                [ADVERTISEMENT, 0] => true,
                _ => return None,
            },
            sender_mac,
            sender: Ipv6Addr::from(frame::array::<16>(packet, 8)?),
            target: Ipv6Addr::from(frame::array::<16>(message, 8)?),
        })
    }

    /// Whether somebody other than `own` shows that `address` is theirs, or is about to be (RFC 4862, 5.4.3 and 5.4.4).
    pub fn claims(&self, address: Ipv6Addr, own: MacAddr) -> bool {
        let detects = !self.is_advertisement && self.sender.is_unspecified();
        self.sender_mac != own && self.target == address && (self.is_advertisement || detects)
    }
}
