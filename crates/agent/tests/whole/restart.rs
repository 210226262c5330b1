//! Ending and starting again, politely and not.

use std::time::{Duration, Instant};

use hopwise_kernel::watch::Watch;

use super::nodes::lost_packets;
use super::support::{Cluster, Inventory};

#[test]
fn a_restart_changes_nothing_at_all() {
    let mut cluster = Cluster::new(2);
    let mut inventory = Inventory::of(2).with_far(&["172.16.0.9"], &["10.244.9.0/24"]);
    inventory.settings = "mode: auto, routeTable: 100".into();
    cluster.write_inventory(&inventory.text());
    cluster.node(1).sh("ip route add 172.16.0.0/16 via 192.168.0.254");
    cluster.start();
    cluster.node(1).wait_settled();
    std::thread::sleep(Duration::from_millis(700));

    let mut watch = cluster.node(1).namespace.run(|| Watch::open().unwrap()).unwrap();
    let mut events = Vec::new();
    cluster.node_mut(1).stop();
    watch.read(&mut events).unwrap();
    assert_eq!(events, [], "stopping touches nothing");
    cluster.node_mut(1).start();
    cluster.node(1).wait_ready();
    std::thread::sleep(Duration::from_millis(500));
    watch.read(&mut events).unwrap();
    assert_eq!(events, [], "starting again touches nothing");
    assert_eq!(cluster.node(1).status().counters.applied, 0);
}

/// Numbers that look random enough and are the same in every run.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn killed_a_hundred_times_no_packet_is_lost_and_the_end_is_right() {
    let mut cluster = Cluster::new(2);
    // Every start has something to do: one inventory has other peers than the other.
    let inventories: Vec<String> = [0, 1]
        .map(|odd| {
            let mut inventory = Inventory::of(2);
            for i in 3..60 {
                let (a, b) = (i + odd, i + odd * 100);
                inventory.nodes.push((
                    format!("peer{a}"),
                    vec![format!("192.168.0.{b}"), format!("fd00:1::{b}")],
                    vec![format!("10.244.{a}.0/24"), format!("fd00:10:244:{a}::/64")],
                    String::new(),
                ));
            }
            inventory.text()
        })
        .into();
    cluster.write_inventory(&inventories[0]);
    cluster.start();
    let mut node = cluster.nodes.remove(0);
    // `lost_packets` looks at the cluster while we hold node1's process.
    cluster.nodes.insert(0, node.alias());
    let mut seed = 4857;
    let start = Instant::now();
    let (lost, sent) = lost_packets(&cluster, &[2], || {
        for round in 0..100 {
            std::thread::sleep(Duration::from_millis(random(&mut seed) % 60));
            node.kill();
            cluster.write_inventory(&inventories[round % 2]);
            node.start();
        }
    });
    println!("100 kills in {:?}, {sent} packets sent", start.elapsed());
    assert_eq!(lost, 0, "of {sent}");
    node.wait_ready();
    node.wait_settled();
    assert_eq!(node.routes().len(), 2 * 58);
}
