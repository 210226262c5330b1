use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const OWN: MacAddr = MacAddr([2, 0, 0x5e, 0, 0x53, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0x5e, 0, 0x53, 2]);

#[test]
fn a_probe_claims_nothing() {
    let target = Ipv4Addr::new(192, 168, 1, 9);
    let frame = arp::probe(OWN, target);
    let expected = [
        "ffffffffffff",
        "02005e005301",
        "0806", // to all, from us, ARP
        "0001",
        "0800",
        "06",
        "04",
        "0001", // Ethernet, IPv4, a question
        "02005e005301",
        "00000000",
        "000000000000",
        "c0a80109",
    ];
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected.concat());
}

#[test]
fn a_solicitation_is_as_rfc_4862_wants_it() {
    let frame = ndp::solicitation(OWN, "fd00:1::12:3456".parse().unwrap());
    assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    let packet = &frame[frame::HEADER..];
    assert_eq!((packet.len(), packet[7]), (64, 255));
    assert_eq!(packet[8..24], [0; 16], "from nobody");
    assert_eq!(
        Ipv6Addr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap()).to_string(),
        "ff02::1:ff12:3456"
    );
    // The sum over all, the checksum included, is all ones.
    let words = packet[8..].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum::<u32>() + 24 + 58;
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

#[test]
fn who_shows_that_an_address_is_taken() {
    let ours = Ipv4Addr::new(10, 0, 0, 9);
    let host = Ipv4Addr::new(10, 0, 0, 1);
    let packet = |is_reply, sender_mac, sender, target| ArpPacket { is_reply, sender_mac, sender, target };
    let cases = [
        (packet(true, OTHER, ours, Ipv4Addr::UNSPECIFIED), true, "an answer"),
        (packet(false, OTHER, ours, host), true, "its holder asks for somebody else"),
        (packet(false, OTHER, ours, ours), true, "an announcement"),
        (packet(false, OTHER, Ipv4Addr::UNSPECIFIED, ours), true, "another's probe"),
        (packet(false, OTHER, host, ours), false, "somebody looks for it"),
        (packet(true, OTHER, host, ours), false, "somebody answers to it"),
        (packet(false, OWN, Ipv4Addr::UNSPECIFIED, ours), false, "our own probe comes back"),
        (packet(true, OWN, ours, ours), false, "our own announcement"),
    ];
    for (packet, expected, what) in cases {
        let found = conflicts_in(&packet.to_frame(OWN), &[host.into(), ours.into()], OWN);
        let about_ours: Vec<_> =
            found.iter().filter(|conflict| conflict.address == IpAddr::V4(ours)).collect();
        assert_eq!(!about_ours.is_empty(), expected, "{what}");
        assert!(about_ours.iter().all(|conflict| conflict.holder == OTHER));
    }
    let target: Ipv6Addr = "fd00::9".parse().unwrap();
    let message = |is_advertisement, sender_mac, sender: &str| NeighbourMessage {
        is_advertisement,
        sender_mac,
        sender: sender.parse().unwrap(),
        target,
    };
    assert!(message(true, OTHER, "fd00::9").claims(target, OWN));
    assert!(message(true, OTHER, "fe80::1").claims(target, OWN), "from its link-local address");
    assert!(message(false, OTHER, "::").claims(target, OWN), "it looks for duplicates too");
    assert!(!message(false, OTHER, "fd00::1").claims(target, OWN), "somebody looks for it");
    assert!(!message(false, OWN, "::").claims(target, OWN), "our own comes back");
    assert!(!message(true, OTHER, "fd00::9").claims("fd00::8".parse().unwrap(), OWN));
    let theirs = ndp::solicitation(OTHER, target);
    assert_eq!(
        conflicts_in(&theirs, &[target.into()], OWN),
        [Conflict { address: target.into(), holder: OTHER }]
    );
    assert_eq!(conflicts_in(&theirs, &[target.into()], OTHER), []);
}

#[test]
fn what_a_router_passed_on_is_no_neighbours() {
    let mut frame = ndp::solicitation(OTHER, "fd00::9".parse().unwrap());
    assert!(NeighbourMessage::parse(&frame).is_some());
    frame[frame::HEADER + 7] = 254;
    assert_eq!(NeighbourMessage::parse(&frame), None);
}

proptest! {
    #[test]
    fn packets_read_back(
        from in any::<[u8; 6]>(), to in any::<[u8; 6]>(), is_reply in any::<bool>(),
        sender in any::<Ipv4Addr>(), target in any::<Ipv4Addr>(), six in any::<Ipv6Addr>(), padding in 0_usize..20,
    ) {
        let packet = ArpPacket { is_reply, sender_mac: MacAddr(from), sender, target };
        let mut frame = packet.to_frame(MacAddr(to));
        frame.resize(frame.len() + padding, 0);
        prop_assert_eq!(ArpPacket::parse(&frame), Some(packet));
        prop_assert_eq!(NeighbourMessage::parse(&frame), None);
        let frame = ndp::solicitation(MacAddr(from), six);
        let read = NeighbourMessage::parse(&frame).unwrap();
        prop_assert_eq!((read.sender_mac, read.sender, read.target), (MacAddr(from), Ipv6Addr::UNSPECIFIED, six));
        prop_assert_eq!(ArpPacket::parse(&frame), None);
    }

    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in prop::sample::select(vec![0, frame::ARP, frame::IPV6]),
        addresses in prop::collection::vec(any::<IpAddr>(), 0..3),
    ) {
        if bytes.len() > 14 { bytes[12..14].copy_from_slice(&kind.to_be_bytes()); }
        let _ = conflicts_in(&bytes, &addresses, OWN);
        let short = arp::probe(OWN, Ipv4Addr::LOCALHOST);
        for len in 0..short.len() { prop_assert_eq!(ArpPacket::parse(&short[..len]), None); }
        let short = ndp::solicitation(OWN, Ipv6Addr::LOCALHOST);
        for len in 0..short.len() { prop_assert_eq!(NeighbourMessage::parse(&short[..len]), None); }
    }
}
