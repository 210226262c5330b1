//! Nodes come and go, and pod CIDRs move.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::{Cluster, Inventory, entry, wait_until};

#[test]
fn nodes_are_added_and_removed_and_leave_nothing() {
    let mut cluster = Cluster::new(3);
    let mut inventory = Inventory::of(2);
    cluster.write_inventory(&inventory.text());
    cluster.node_mut(1).start();
    cluster.node_mut(2).start();
    cluster.node(1).wait_ready();
    cluster.node(1).wait_settled();
    inventory.nodes.push(entry(3));
    cluster.write_inventory(&inventory.text());
    cluster.node_mut(3).start();
    for n in 1..=3 {
        cluster.node(n).wait_ready();
        cluster.node(n).wait_settled();
        wait_until("routes to both peers in both families", || {
            let routes = cluster.node(n).routes();
            if routes.len() == 4 { Ok(()) } else { Err(format!("{routes:?}")) }
        });
    }
    inventory.nodes.remove(1);
    cluster.write_inventory(&inventory.text());
    wait_until("node2 is forgotten", || {
        let routes = cluster.node(1).routes();
        if routes.len() == 2 { Ok(()) } else { Err(format!("{routes:?}")) }
    });
    cluster.node(1).wait_settled();
    let left = cluster.node(1).sh("ip nexthop show proto 72; ip neigh show nud permanent; nft list ruleset");
    assert!(!left.contains("192.168.0.2 ") && !left.contains("fd00:1::2 "), "{left}");
}

/// Sends from a pod of node1 to 10.244.2.1, which is on the nodes of `echoes`, and back, every millisecond during
/// something; returns how many got lost, of how many.
pub fn lost_packets(cluster: &Cluster, echoes: &[usize], during: impl FnOnce()) -> (usize, usize) {
    // A socket stays in the namespace in which it was opened. Both are there before the first packet is sent.
    let bind = |n: usize, address: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match cluster.node(n).namespace.run(|| UdpSocket::bind(address)).unwrap() {
                // A process that another test forks holds an earlier socket until its exec.
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                bound => return bound.unwrap(),
            }
        }
    };
    let echoes: Vec<UdpSocket> = echoes.iter().map(|n| bind(*n, "10.244.2.1:7000")).collect();
    let probe = bind(1, "10.244.1.1:0");
    for echo in &echoes {
        echo.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    }
    probe.set_nonblocking(true).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for echo in &echoes {
            scope.spawn(|| {
                let mut buffer = [0; 16];
                while !done.load(Ordering::Relaxed) {
                    if let Ok((len, from)) = echo.recv_from(&mut buffer) {
                        let _ = echo.send_to(&buffer[..len], from);
                    }
                }
            });
        }
        let probing = scope.spawn(|| {
            let (mut sent, mut back) = (0, 0);
            let start = Instant::now();
            while !done.load(Ordering::Relaxed) {
                // An error (no route) is a loss.
                let _ = probe.send_to(b"probe", "10.244.2.1:7000");
                sent += 1;
                back += answers(&probe);
                let next = start + Duration::from_millis(sent as u64);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            (sent, back)
        });
        during();
        std::thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        let (sent, back) = probing.join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let waiting: usize = echoes.iter().map(answers_waiting).sum();
        (sent - back - answers(&probe) - waiting, sent)
    })
}

/// Takes the answers that are there.
fn answers(probe: &UdpSocket) -> usize {
    let mut buffer = [0; 16];
    std::iter::from_fn(|| probe.recv(&mut buffer).ok()).count()
}

/// Probes that arrived, and that nobody answered because the test was over.
fn answers_waiting(echo: &UdpSocket) -> usize {
    echo.set_nonblocking(true).unwrap();
    answers(echo)
}

#[test]
fn a_pod_cidr_is_moved_without_a_gap() {
    let mut cluster = Cluster::new(3);
    let mut inventory = Inventory::of(3);
    cluster.write_inventory(&inventory.text());
    cluster.start();
    cluster.node(1).wait_settled();
    // Wherever its pod CIDR is, the pod is there.
    cluster.node(3).sh("ip addr add 10.244.2.1/32 dev lo");
    cluster.node(2).sh("ip addr add 192.168.0.22/24 dev eth0");
    let route = |address: &str| format!("10.244.2.0/24 via {address} dev eth0");
    let (lost, sent) = lost_packets(&cluster, &[2, 3], || {
        // The peer gets another address and its old one back; the pod CIDR moves to another peer and back.
        for (address2, cidr2, cidr3, next_hop) in [
            ("192.168.0.22", "10.244.2.0/24", "10.244.3.0/24", "192.168.0.22"),
            ("192.168.0.2", "10.244.2.0/24", "10.244.3.0/24", "192.168.0.2"),
            ("192.168.0.2", "10.244.20.0/24", "10.244.2.0/24", "192.168.0.3"),
            ("192.168.0.2", "10.244.2.0/24", "10.244.3.0/24", "192.168.0.2"),
        ] {
            inventory.nodes[1].1[0] = address2.into();
            inventory.nodes[1].2[0] = cidr2.into();
            inventory.nodes[2].2[0] = cidr3.into();
            cluster.write_inventory(&inventory.text());
            wait_until("the change", || {
                let routes = cluster.node(1).routes();
                if routes.contains(&route(next_hop)) { Ok(()) } else { Err(format!("{routes:?}")) }
            });
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert_eq!(lost, 0, "of {sent}");
}
