//! A pod, its node and the world outside, in namespaces joined by veths.
//!
//! ```text
//! pod ── (p0) node (up0) ── outside
//! ```
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::netfilter::{Masquerade, SetName, SetRole, Table};
use hopwise_kernel::netns::Namespace;

/// Where a receiver outside listens.
pub const PORT: u16 = 4857;

/// The addresses of one family.
pub struct Addresses {
    pub pod: IpAddr,
    /// The node's on the pod's link.
    pub gateway: IpAddr,
    pub node: IpAddr,
    /// Outside: nobody special.
    pub outside: IpAddr,
    /// Outside: another node.
    pub other_node: IpAddr,
    /// Outside: a pod on that node.
    pub other_pod: IpAddr,
    /// Outside: exempt from masquerading.
    pub exempt: IpAddr,
    pub multicast: IpAddr,
    pub pod_network: Cidr,
    pub local_pods: Cidr,
}

pub fn addresses(family: Family) -> Addresses {
    let ip = |v4: &str, v6: &str| {
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
        .parse::<IpAddr>()
        .unwrap()
    };
    Addresses {
        pod: ip("10.244.1.2", "fd00:244:1::2"),
        gateway: ip("10.244.1.1", "fd00:244:1::1"),
        node: ip("192.0.2.1", "2001:db8::1"),
        other_node: ip("192.0.2.2", "2001:db8::2"),
        outside: ip("192.0.2.3", "2001:db8::3"),
        exempt: ip("192.0.2.4", "2001:db8::4"),
        other_pod: ip("10.244.2.2", "fd00:244:2::2"),
        multicast: ip("239.1.2.3", "ff0e::1:2:3"),
        pod_network: Cidr::containing(ip("10.244.0.0", "fd00:244::"), 16).unwrap(),
        local_pods: match family {
            Family::V4 => "10.244.1.0/24".parse().unwrap(),
            Family::V6 => "fd00:244:1::/64".parse().unwrap(),
        },
    }
}

/// Runs a program to its end, in the namespace of the calling thread.
pub fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} <<< {input}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A command line without quoting.
pub fn sh(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    run(words[0], &words[1..], "")
}

pub struct Net {
    pub pod: Namespace,
    pub node: Namespace,
    pub outside: Namespace,
}

impl Net {
    pub fn new() -> Net {
        let net = Net {
            pod: Namespace::new().unwrap(),
            node: Namespace::new().unwrap(),
            outside: Namespace::new().unwrap(),
        };
        for namespace in [&net.pod, &net.node, &net.outside] {
            // Else IPv6 resolves no neighbours for the first second or two.
            namespace
                .run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap())
                .unwrap();
        }
        let path = |namespace: &Namespace| {
            format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
        };
        net.on_node(|| {
            for knob in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{knob}"), "1").unwrap();
            }
            sh(&format!("ip link add p0 type veth peer name eth0 netns {}", path(&net.pod)));
            sh(&format!("ip link add up0 type veth peer name eth0 netns {}", path(&net.outside)));
            sh("ip link set p0 up");
            sh("ip link set up0 up");
            sh("ip address add 10.244.1.1/24 dev p0");
            sh("ip address add fd00:244:1::1/64 dev p0 nodad");
            sh("ip address add 192.0.2.1/24 dev up0");
            sh("ip address add 2001:db8::1/64 dev up0 nodad");
            sh("ip route add 10.244.2.0/24 via 192.0.2.2");
        });
        net.pod
            .run(|| {
                sh("ip link set eth0 up");
                sh("ip address add 10.244.1.2/24 dev eth0");
                sh("ip address add fd00:244:1::2/64 dev eth0 nodad");
                sh("ip route add default via 10.244.1.1");
                sh("ip route add default via fd00:244:1::1");
            })
            .unwrap();
        net.outside
            .run(|| {
                sh("ip link set eth0 up");
                for last in 2..=4 {
                    sh(&format!("ip address add 192.0.2.{last}/24 dev eth0"));
                    sh(&format!("ip address add 2001:db8::{last}/64 dev eth0 nodad"));
                }
                sh("ip address add 10.244.2.2/32 dev eth0");
                sh("ip address add fd00:244:2::2/128 dev eth0 nodad");
                sh("ip route add 10.244.1.0/24 via 192.0.2.1");
                sh("ip route add fd00:244:1::/64 via 2001:db8::1");
            })
            .unwrap();
        // A gateway that is still being brought up is refused.
        net.on_node(|| sh("ip route add fd00:244:2::/64 via 2001:db8::2"));
        net
    }

    pub fn on_node<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.node.run(inside).unwrap()
    }

    /// A receiver in a namespace, for all addresses of a family.
    pub fn receiver(&self, namespace: &Namespace, family: Family) -> UdpSocket {
        let any: IpAddr = match family {
            Family::V4 => [0; 4].into(),
            Family::V6 => [0; 16].into(),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match namespace.run(|| UdpSocket::bind((any, PORT))).unwrap() {
                // A process that another test forks holds an earlier receiver until its exec.
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                bound => return bound.unwrap(),
            }
        }
    }

    /// Sends one datagram, of a new connection, from an address in a namespace.
    pub fn send(&self, namespace: &Namespace, source: IpAddr, destination: IpAddr, text: &str) {
        namespace
            .run(|| {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.send_to(text.as_bytes(), (destination, PORT)).unwrap();
            })
            .unwrap();
    }

    /// The source that a receiver outside sees of a datagram from the pod; `None` when it doesn't come.
    pub fn source_seen(&self, receiver: &UdpSocket, destination: IpAddr) -> Option<IpAddr> {
        self.send(&self.pod, addresses(Family::of(destination)).pod, destination, &destination.to_string());
        received(receiver, &destination.to_string()).map(|source| source.ip())
    }

    /// Whether a datagram from the pod gets outside.
    pub fn passes(&self, receiver: &UdpSocket, family: Family) -> bool {
        self.source_seen(receiver, addresses(family).outside).is_some()
    }
}

/// Waits for a text, drops others, and says where it came from.
pub fn received(receiver: &UdpSocket, text: &str) -> Option<SocketAddr> {
    receiver.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut buffer = [0; 100];
    loop {
        match receiver.recv_from(&mut buffer) {
            Ok((len, source)) if buffer[..len] == *text.as_bytes() => return Some(source),
            Ok(_) => {}
            // A receive with a timeout is not restarted after another test's child has ended.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The table of the node in [`Net`].
pub fn table(masquerade: &[Masquerade]) -> Table {
    let mut table = Table { masquerade: masquerade.to_vec(), sets: BTreeMap::new() };
    for family in masquerade.iter().map(|masquerade| masquerade.family) {
        let addresses = addresses(family);
        let mut set = |role, elements: &[Cidr]| {
            table.sets.insert(SetName { role, family }, BTreeSet::from_iter(elements.iter().copied()));
        };
        set(SetRole::LocalPods, &[addresses.local_pods]);
        set(SetRole::Exempt, &[addresses.pod_network, Cidr::host(addresses.exempt)]);
        set(SetRole::Nodes, &[Cidr::host(addresses.node), Cidr::host(addresses.other_node)]);
    }
    table
}
