//! Which source address receivers see of pods' packets.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod nft_support;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

use hopwise_core::diff::TableChange;
use hopwise_core::family::Family;
use hopwise_core::netfilter::Masquerade;
use hopwise_kernel::netlink::Socket;
use hopwise_kernel::nft;
use nft_support::{Net, PORT, addresses, received, table};

fn replace(net: &Net, masquerade: &[Masquerade]) {
    net.on_node(|| {
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
        nft::apply(&mut socket, &TableChange::Replace(table(masquerade))).unwrap();
    });
}

fn join(receiver: &UdpSocket, net: &Net, group: IpAddr) {
    match group {
        IpAddr::V4(group) => receiver.join_multicast_v4(&group, &"192.0.2.3".parse().unwrap()).unwrap(),
        IpAddr::V6(group) => {
            let index = net.outside.run(|| index_of("eth0")).unwrap();
            receiver.join_multicast_v6(&group, index).unwrap();
        }
    }
}

fn index_of(link: &str) -> u32 {
    std::fs::read_to_string("/proc/thread-self/net/dev_mcast")
        .unwrap()
        .lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let index = words.next()?.parse().ok()?;
            (words.next()? == link).then_some(index)
        })
        .unwrap()
}

/// Sends from the node's address on the pods' link, out of the uplink.
fn send_multicast(net: &Net, family: Family, text: &str) {
    let addresses = addresses(family);
    net.on_node(|| {
        let socket = UdpSocket::bind((addresses.gateway, 0)).unwrap();
        let device = b"up0";
        // SAFETY: pointer and length describe `device`. Else a source address chooses the link that multicast leaves by.
        let status = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                device.as_ptr().cast(),
                device.len() as libc::socklen_t,
            )
        };
        assert_eq!(status, 0);
        socket.send_to(text.as_bytes(), (addresses.multicast, PORT)).unwrap();
    });
}

#[test]
fn pods_take_the_nodes_address_only_towards_the_outside() {
    let net = Net::new();
    let both =
        [true, false].map(|fully_random| Family::BOTH.map(|family| Masquerade { family, fully_random }));
    for masquerade in both {
        replace(&net, &masquerade);
        for family in Family::BOTH {
            let receiver = net.receiver(&net.outside, family);
            let at = addresses(family);
            assert_eq!(net.source_seen(&receiver, at.outside), Some(at.node), "outside");
            assert_eq!(net.source_seen(&receiver, at.other_pod), Some(at.pod), "another pod");
            assert_eq!(net.source_seen(&receiver, at.other_node), Some(at.pod), "another node");
            assert_eq!(net.source_seen(&receiver, at.exempt), Some(at.pod), "an exempt network");
            let on_node = net.receiver(&net.node, family);
            assert_eq!(net.source_seen(&on_node, at.node), Some(at.pod), "its own node");
            assert_eq!(net.source_seen(&on_node, at.gateway), Some(at.pod), "its own gateway");

            join(&receiver, &net, at.multicast);
            send_multicast(&net, family, "multicast");
            assert_eq!(received(&receiver, "multicast").map(|from| from.ip()), Some(at.gateway), "multicast");
            // The other way round nothing changes either.
            let pod = net.receiver(&net.pod, family);
            net.send(&net.outside, at.outside, at.pod, "in");
            assert_eq!(received(&pod, "in").map(|from| from.ip()), Some(at.outside));
        }
    }
}

#[test]
fn each_family_is_switched_on_its_own() {
    let net = Net::new();
    for on in Family::BOTH {
        replace(&net, &[Masquerade { family: on, fully_random: true }]);
        for family in Family::BOTH {
            let at = addresses(family);
            let receiver = net.receiver(&net.outside, family);
            let expected = if family == on { at.node } else { at.pod };
            assert_eq!(net.source_seen(&receiver, at.outside), Some(expected), "{family} with {on} on");
        }
    }
}

#[test]
fn replacing_the_table_breaks_no_connection() {
    let net = Net::new();
    let masquerade = Family::BOTH.map(|family| Masquerade { family, fully_random: true });
    replace(&net, &masquerade);
    let at = addresses(Family::V4);
    let receiver = net.receiver(&net.outside, Family::V4);
    let lasting = net.pod.run(|| UdpSocket::bind((at.pod, 0)).unwrap()).unwrap();
    let mut port = None;
    let mut n_replaced = 0;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for n in 0..300 {
                let text = format!("lasting {n}");
                lasting.send_to(text.as_bytes(), (at.outside, PORT)).unwrap();
                let source = received(&receiver, &text).expect("a packet was lost");
                assert_eq!(source.ip(), at.node);
                assert_eq!(
                    *port.get_or_insert(source.port()),
                    source.port(),
                    "the connection was translated anew"
                );
                let text = format!("new {n}");
                net.send(&net.pod, at.pod, at.outside, &text);
                assert_eq!(received(&receiver, &text).map(|source| source.ip()), Some(at.node));
            }
        });
        net.on_node(|| {
            let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
            while !sender.is_finished() {
                // Another rule every time, and a family that comes and goes.
                let fully_random = n_replaced % 2 == 0;
                let v4 = Masquerade { family: Family::V4, fully_random };
                let v6 = Masquerade { family: Family::V6, fully_random };
                let structure = if n_replaced % 3 == 0 { vec![v4] } else { vec![v4, v6] };
                nft::apply(&mut socket, &TableChange::Replace(table(&structure))).unwrap();
                n_replaced += 1;
            }
        });
    });
    println!("replaced {n_replaced} times under 600 packets");
    assert!(n_replaced > 10);
}
