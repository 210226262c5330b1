//! Large clusters: what planning and diffing cost, and that the cost grows no faster than the cluster.
//!
//! `cargo test --release -p hopwise-core --test scale -- --nocapture` prints figures for up to 100,000 peers.

mod common;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use common::kernel;
use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterView, ViewDelta};
use hopwise_core::diff::{diff, diff_touched};
use hopwise_core::host::HostView;
use hopwise_core::name::MacAddr;
use hopwise_core::observed::Observed;
use hopwise_core::plan::{Planner, Reach};

/// Node addresses from 172.16.0.0/12, every tenth one behind the router; pod CIDRs of 64 addresses from 10.0.0.0/8.
fn cluster(n_peers: u32) -> (ClusterView, HostView) {
    let mut view = common::three_nodes();
    view.networks.pods = vec![common::cidr("10.0.0.0/8")];
    view.networks.services = vec![common::cidr("192.168.128.0/17")];
    view.networks.nodes = vec![common::cidr("172.16.0.0/12"), common::cidr("192.168.0.0/24")];
    view.nodes.retain(|name, _| name.as_str() == "node1");
    let mut host = common::host();
    host.lookups.clear();
    for number in 1..=n_peers {
        let node = peer(number, 0);
        let lookup = if number % 10 == 0 { common::via(2, "192.168.0.254") } else { common::on_link(2) };
        host.lookups.insert(node.addresses[0].value, lookup);
        view.nodes.insert(node.name.clone(), Arc::new(node));
    }
    (view, host)
}

/// A peer; `edition` moves its pod CIDR.
fn peer(number: u32, edition: u32) -> hopwise_core::cluster::Node {
    let address = IpAddr::V4(Ipv4Addr::from(0xac10_0000 + number));
    let pods = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + ((number + edition * 130_000) << 6)));
    let mut node = common::node(&format!("peer{number}"), &[], &[]);
    node.addresses = vec![Claim::original(address)];
    node.pod_cidrs = vec![Claim::original(Cidr::containing(pods, 26).expect("26 bits are within IPv4"))];
    let [_, a, b, c] = number.to_be_bytes();
    node.data.link_mac.v4 = Some(MacAddr([2, 1, 0, a, b, c]));
    node
}

struct Figures {
    n_peers: u32,
    plan: Duration,
    diff: Duration,
    no_change: Duration,
    one_peer: Duration,
    bytes_per_peer: u64,
}

fn measure(n_peers: u32) -> Figures {
    let resident_before = resident();
    let (view, host) = cluster(n_peers);
    let uplinks = [(common::link_name("eth0"), hopwise_core::name::IfIndex(2))];
    let start = cpu_time();
    let mut planner = Planner::new(view, host, common::config());
    let plan = cpu_time() - start;
    let mut observed = Observed::default();
    let start = cpu_time();
    let changes = diff(&observed, planner.desired());
    let diff_time = cpu_time() - start;
    assert_eq!(changes.routes_set.len(), n_peers as usize);
    let n_tunnels = planner.plan().peer_plans().filter(|peer| peer.reach == Reach::Vxlan).count();
    assert_eq!(n_tunnels, n_peers as usize / 10);
    kernel::apply(&mut observed, &changes, &uplinks);
    drop(changes);
    observed.compact();
    let bytes_per_peer = resident().saturating_sub(resident_before) / u64::from(n_peers);
    let start = cpu_time();
    let nothing = diff(&observed, planner.desired());
    let no_change = cpu_time() - start;
    assert!(nothing.routes_set.is_empty() && nothing.routes_delete.is_empty());

    let n_rounds = 200;
    let mut spent = Duration::ZERO;
    for round in 0..n_rounds {
        let delta = ViewDelta {
            upserted: vec![Arc::new(peer(7 + round % 50, 1 + round / 50 % 2))],
            removed: Vec::new(),
        };
        let start = cpu_time();
        let touched = planner.update(delta);
        let changes = diff_touched(&observed, planner.desired(), &touched);
        spent += cpu_time() - start;
        kernel::apply(&mut observed, &changes, &uplinks);
    }
    Figures { n_peers, plan, diff: diff_time, no_change, one_peer: spent / n_rounds, bytes_per_peer }
}

/// What this thread has had of a processor, so that a busy machine makes no difference.
fn cpu_time() -> Duration {
    // The kernel brings the figure up to date when a thread gives up its processor.
    std::thread::yield_now();
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    let nanoseconds = schedstat.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first field is a number"))
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096)
}

#[test]
fn cost_is_linear_and_one_peer_costs_the_same_everywhere() {
    let sizes: &[u32] = if cfg!(debug_assertions) { &[1_000, 10_000] } else { &[5_000, 60_000, 100_000] };
    let figures: Vec<Figures> = sizes.iter().map(|n_peers| measure(*n_peers)).collect();
    let mut text =
        String::from("peers    plan        diff, empty  diff, same  one peer    bytes/peer, all values\n");
    for f in &figures {
        let _ = writeln!(
            text,
            "{:<8} {:<11.2?} {:<12.2?} {:<11.2?} {:<11.2?} {}",
            f.n_peers, f.plan, f.diff, f.no_change, f.one_peer, f.bytes_per_peer
        );
    }
    println!("{text}");
    let [.., small, large] = &figures[..] else { unreachable!("at least two sizes are measured") };
    let growth = f64::from(large.n_peers) / f64::from(small.n_peers);
    // Far from quadratic, with room for caches and for a busy machine.
    let within = |large: Duration, small: Duration, growth: f64| {
        large.as_secs_f64() < small.as_secs_f64() * growth * 4.0 + 0.02
    };
    assert!(within(large.plan, small.plan, growth), "{text}");
    assert!(within(large.diff, small.diff, growth), "{text}");
    assert!(large.one_peer < small.one_peer * 4 + Duration::from_micros(100), "{text}");
}

#[test]
fn colliding_claims_are_judged_in_linear_time() {
    // Every node claims the same, and a wide range around it besides.
    let judge = |n_peers: u32| {
        let (mut view, host) = cluster(n_peers);
        for node in view.nodes.values_mut().skip(1) {
            let node = Arc::make_mut(node);
            node.pod_cidrs.push(Claim { since: 7, value: common::cidr("10.0.0.0/8") });
            node.pod_cidrs.push(Claim { since: 8, value: common::cidr("10.0.0.0/9") });
        }
        let start = cpu_time();
        let planner = Planner::new(view, host, common::config());
        let elapsed = cpu_time() - start;
        let n_routes: usize = planner.plan().peer_plans().map(|peer| peer.routes.len()).sum();
        assert_eq!(n_routes, n_peers as usize);
        elapsed
    };
    let (small, large) = if cfg!(debug_assertions) { (500, 5_000) } else { (10_000, 100_000) };
    let (few, many) = (judge(small), judge(large));
    println!("colliding claims: {small} peers {few:.2?}, {large} peers {many:.2?}");
    assert!(many.as_secs_f64() < few.as_secs_f64() * 40.0 + 0.02, "{few:?} {many:?}");
}
