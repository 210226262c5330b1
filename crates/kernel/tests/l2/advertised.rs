//! An uplink that has its IPv6 address and default route from a router's advertisements (RFC 4861).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hopwise_core::l2::transfer::stand_ins_done;
use hopwise_core::l2::{attach, detach, heal};
use hopwise_kernel::l2::L2;
use hopwise_kernel::netns::Namespace;

use crate::back_and_forth::{do_all, observe};
use crate::support::{WANTED, ip, on_a_lan_with, until};

/// A router advertisement: a default router for half an hour, with an on-link prefix for addresses, fd0b::/64.
fn advertisement() -> Vec<u8> {
    let mut packet = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08];
    packet.extend([0; 8]);
    packet.extend([1, 1, 2, 0, 0, 0, 0, 0xfe]);
    packet.extend([3, 4, 64, 0xc0]);
    packet.extend(7200_u32.to_be_bytes());
    packet.extend(3600_u32.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend("fd0b::".parse::<std::net::Ipv6Addr>().unwrap().octets());
    packet
}

/// A raw ICMPv6 socket whose multicast goes out of a link, with the hop limit that advertisements need.
fn socket(link: u32) -> OwnedFd {
    // SAFETY: a plain system call; the descriptor is checked before it is owned.
    let fd =
        unsafe { libc::socket(libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMPV6) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: nobody else has the descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for (option, value) in [(libc::IPV6_MULTICAST_HOPS, 255), (libc::IPV6_MULTICAST_IF, link.cast_signed())] {
        // SAFETY: both options take an int; pointer and length are those of one that lives across the call.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
    socket
}

/// Advertises ten times a second until it is told to stop. (A real router waits for a solicitation.)
fn advertise(stop: &AtomicBool) {
    let index: u32 = ip("-o link show gw").split(':').next().unwrap().parse().unwrap();
    let socket = socket(index);
    let packet = advertisement();
    // SAFETY: zeroes are a valid address structure.
    let mut all_nodes: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    all_nodes.sin6_family = libc::AF_INET6 as u16;
    all_nodes.sin6_addr.s6_addr = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    all_nodes.sin6_scope_id = index;
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: pointers and lengths are those of values that live across the call. A lost one is sent again.
        unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const all_nodes).cast(),
                size_of_val(&all_nodes) as libc::socklen_t,
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The kernel's own default route and address through a link, and no stand-in.
fn advertised_on(link: &str) -> bool {
    let routes = ip("-6 route show default");
    let addresses = ip(&format!("-6 address show dev {link} scope global"));
    routes.lines().count() == 1
        && routes.contains(&format!("via fe80::fe dev {link} proto ra metric 1024 "))
        && addresses.contains("fd0b::ff:fe00:5/64")
}

#[test]
fn what_a_router_advertised_is_advertised_again_on_the_bridge() {
    on_a_lan_with(|lan: &Namespace| {
        let stop = Arc::new(AtomicBool::new(false));
        let (router, stopped) = (lan.try_clone().unwrap(), stop.clone());
        let thread = std::thread::spawn(move || router.run(|| advertise(&stopped)).unwrap());
        std::fs::write("/proc/sys/net/ipv6/conf/eth1/accept_ra", "2").unwrap();
        until(|| advertised_on("eth1"));

        let mut l2 = L2::open().unwrap();
        let plan = attach::plan(&observe(&mut l2), WANTED).unwrap();
        assert_eq!(plan.gateways, ["fe80::fe".parse::<std::net::IpAddr>().unwrap()]);
        do_all(&mut l2, &plan.steps);
        // Before and after the router is heard again there is a default route.
        until(|| {
            assert_ne!(ip("-6 route show default"), "", "no moment without");
            let done = stand_ins_done(&observe(&mut l2), WANTED.bridge);
            do_all(&mut l2, &done);
            advertised_on("cni0")
        });
        let healing = heal::plan(&observe(&mut l2), &plan.record, 0);
        assert_eq!((healing.findings, healing.steps), (vec![], vec![]));

        let attached = observe(&mut l2);
        do_all(&mut l2, &detach::plan(&attached, &plan.record));
        until(|| {
            assert_ne!(ip("-6 route show default"), "", "no moment without");
            let done = stand_ins_done(&observe(&mut l2), WANTED.uplink);
            do_all(&mut l2, &done);
            advertised_on("eth1")
        });
        assert!(!ip("link show").contains("cni0"));
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    });
}
