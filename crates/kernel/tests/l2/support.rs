//! A node on a LAN.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, Instant};

use hopwise_core::l2::value::Wanted;
use hopwise_core::name::LinkName;
use hopwise_kernel::netns::{Namespace, in_new_namespace};

pub const UPLINK: LinkName = LinkName::new_static("eth1");
pub const BRIDGE: LinkName = LinkName::new_static("cni0");
pub const WANTED: Wanted = Wanted { uplink: UPLINK, bridge: BRIDGE };

/// Runs a test in a namespace whose `eth1` leads to another namespace, where `gw` has 192.168.7.1 and fd07::1.
pub fn on_a_lan(test: impl FnOnce() + Send) {
    on_a_lan_with(|_| test());
}

/// [`on_a_lan`], with that other namespace.
pub fn on_a_lan_with(test: impl FnOnce(&Namespace) + Send) {
    let lan = Namespace::new().unwrap();
    in_new_namespace(|| {
        let here = Namespace::current().unwrap();
        lan.run(|| {
            ip("link add gw address 02:00:00:00:00:fe type veth peer name eth1");
            ip("link set gw addrgenmode none");
            ip("link set gw up");
            ip("address add 192.168.7.1/24 dev gw");
            ip("address add fd07::1/64 dev gw nodad");
            ip("address add fe80::fe/64 dev gw nodad");
            move_link("eth1", &here);
        })
        .unwrap();
        ip("link set eth1 address 02:00:00:00:00:05");
        std::fs::write("/proc/sys/net/ipv6/conf/eth1/accept_dad", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/eth1/accept_ra", "0").unwrap();
        ip("link set eth1 up");
        until(|| ip("-6 route show table local").contains("local fe80::ff:fe00:5 dev eth1 "));
        test(&lan);
    });
}

/// Gives a link of the calling thread's namespace to another one.
fn move_link(link: &str, to: &Namespace) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), to.as_fd().as_raw_fd());
    ip(&format!("link set {link} netns {path}"));
}

/// Runs `ip`; it must work.
pub fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All that `ip` tells of addresses, routes, permanent neighbours and links, as it differs between two moments only if something
/// was changed.
pub fn shown() -> String {
    let mut shown = String::new();
    for args in [
        "-d link show",
        "address show",
        "-4 route show table all",
        "-6 route show table all",
        "neighbour show nud permanent",
        "neighbour show proxy",
        "rule show",
        "-6 rule show",
    ] {
        shown += &format!("# {args}\n");
        // Lifetimes run, and the kernel lists IPv6's table of local routes in the order of making.
        let mut lines: Vec<String> = ip(args).lines().map(without_times).collect();
        if args.contains("route") {
            lines.sort();
        }
        shown += &(lines.join("\n") + "\n");
    }
    shown
}

fn without_times(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for name in ["valid_lft", "preferred_lft", "expires"] {
        if let Some(at) = words.iter().position(|word| *word == name)
            && words.get(at + 1).is_some_and(|time| *time != "forever")
        {
            words[at + 1] = "SOME";
        }
    }
    words.join(" ")
}

/// Waits until all IPv6 addresses of the uplink can be used: the kernel sees to that from a work queue.
pub fn until_usable() {
    until(|| {
        let routes = ip("-6 route show table local");
        let addresses = ip("-6 -o address show dev eth1");
        let usable = |line: &str| {
            let address = line.split_whitespace().nth(3).and_then(|prefix| prefix.split('/').next());
            address.is_some_and(|address| routes.contains(&format!("local {address} dev eth1 ")))
        };
        addresses.lines().all(usable)
    });
}

/// Whether all becomes what it was, in the kernel's own time.
#[track_caller]
pub fn assert_becomes(before: &str, mut now: impl FnMut() -> String) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while now() != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(now(), before);
}

/// Waits for something that the kernel does in its own time.
pub fn until(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "still not so after a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}
