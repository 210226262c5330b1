//! Each built-in topology comes up all green, and its nodes reach each other the way it is there to show.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy takes only #[test] functions for tests"
)]

mod support;

use hopwise_api::status::ReachMode;
use hopwise_lab::check::{CheckReport, Outcome};
use hopwise_lab::layout::Numbers;
use support::TestLab;

/// How each node says that it reaches each other, IPv4 then IPv6, without repetitions.
fn modes(report: &CheckReport) -> Vec<(&str, &str, ReachMode)> {
    let mut modes: Vec<_> =
        report.modes.iter().map(|mode| (mode.from.as_str(), mode.to.as_str(), mode.seen.unwrap())).collect();
    modes.dedup();
    modes
}

fn seen_mtu<'a>(report: &'a CheckReport, from: &str, to: &str) -> &'a str {
    let cell = report.cells.iter().find(|cell| cell.from == from && cell.to == to).unwrap();
    assert_eq!(cell.mtu.result, Outcome::Pass);
    cell.mtu.seen.as_deref().unwrap()
}

#[test]
fn one_segment() {
    let lab = TestLab::up("one-segment", Numbers::default());
    let report = lab.check();
    lab.assert_all_green();
    assert!(modes(&report).iter().all(|(_, _, mode)| *mode == ReachMode::Direct));
    assert_eq!(modes(&report).len(), 6);
    let out = report.cells.iter().find(|cell| cell.from == "node1-pod1" && cell.to == "internet").unwrap();
    assert_eq!(out.source.seen.as_deref(), Some("192.168.0.11"), "pods leave with their node's address");
}

#[test]
fn two_segments_take_vxlan_across() {
    let lab = TestLab::up("two-segments", Numbers { nodes: Some(3), pods_per_node: Some(1) });
    lab.assert_all_green();
    use ReachMode::{Direct, Vxlan};
    let expected = [
        ("node1", "node2", Direct),
        ("node1", "node3", Vxlan),
        ("node2", "node1", Direct),
        ("node2", "node3", Vxlan),
        ("node3", "node1", Vxlan),
        ("node3", "node2", Vxlan),
    ];
    // The fourth template of the topology is not used with three nodes: rack1, rack1, rack2.
    assert_eq!(modes(&lab.check()), expected);
}

#[test]
fn two_segments_take_the_fabric_when_the_router_knows() {
    let lab = TestLab::up("two-segments-fabric", Numbers { nodes: Some(3), pods_per_node: Some(1) });
    lab.assert_all_green();
    let report = lab.check();
    let mode = |from, to| modes(&report).into_iter().find(|(f, t, _)| (*f, *t) == (from, to)).unwrap().2;
    assert_eq!((mode("node1", "node2"), mode("node1", "node3")), (ReachMode::Direct, ReachMode::Fabric));
    assert_eq!((mode("node3", "node1"), mode("node3", "node2")), (ReachMode::Fabric, ReachMode::Fabric));
    let from_outside =
        report.cells.iter().find(|cell| cell.from == "internet" && cell.to == "node3-pod1").unwrap();
    assert!(from_outside.is_ok(), "a router that knows pods lets others in: {from_outside:?}");
}

/// The router is told of the pod CIDRs while everything runs, and the inventory says so: VXLAN gives way to the fabric.
#[test]
fn nodes_move_to_the_fabric_when_the_router_learns() {
    let lab = TestLab::up("two-segments", Numbers { nodes: Some(3), pods_per_node: Some(1) });
    for (member, role) in lab.layout().nodes() {
        let via = member.interfaces[0].addresses[0].0;
        lab.set_route("gateway", role.pod_cidrs[0], Some(via)).unwrap();
    }
    lab.edit_inventory(|inventory| inventory.networks.fabric = vec!["10.244.0.0/16".into()]).unwrap();
    let mode = |lab: &TestLab| {
        let status = lab.agent_status("node1").unwrap();
        status.peers.iter().find(|peer| peer.node == "node3").map(|peer| peer.mode)
    };
    support::eventually("node1 reaches node3 by the fabric", || mode(&lab) == Some(ReachMode::Fabric));
    lab.wait_ready("node1", std::time::Duration::from_secs(10)).unwrap();
    let address = lab.pod_address("node3-pod1", hopwise_core::family::Family::V4).unwrap().to_string();
    let route = lab.output("node1", "ip", &["route", "get", &address]).unwrap();
    let route = String::from_utf8_lossy(&route.stdout).into_owned();
    assert!(route.contains("via 192.168.1.1 dev eth0"), "{route}");
}

#[test]
fn dual_stack() {
    let lab = TestLab::up("dual-stack", Numbers { nodes: None, pods_per_node: Some(1) });
    lab.assert_all_green();
    let report = lab.check();
    let of_node1 = report.cells.iter().filter(|cell| cell.from == "node1-pod1" && cell.to == "node3-pod1");
    assert_eq!(of_node1.count(), 2, "both families are checked");
}

#[test]
fn jumbo() {
    let lab = TestLab::up("jumbo", Numbers { nodes: None, pods_per_node: Some(1) });
    lab.assert_all_green();
    let report = lab.check();
    assert_eq!(seen_mtu(&report, "node1-pod1", "node2-pod1"), "9000");
    assert_eq!(seen_mtu(&report, "node1-pod1", "node3-pod1"), "1500");
    assert_eq!(seen_mtu(&report, "node3-pod1", "node4-pod1"), "1500");
}

/// Frames of two sizes and a tunnel between them. The router knows the pod CIDRs but isn't declared to, so that it can tell
/// pods what it doesn't carry while they still take VXLAN.
#[test]
fn mixed_mtu_through_vxlan() {
    let lab = TestLab::up_text(
        "
segments: [{name: jumbo, cidrs: [192.168.1.0/24], mtu: 9000}, {name: plain, cidrs: [192.168.2.0/24]}]
routers: [{name: gateway, segments: [jumbo, plain], knowsPodCidrs: true}]
nodes: [{segment: jumbo, count: 2}, {segment: plain}]
podsPerNode: 1
",
    );
    lab.assert_all_green();
    let report = lab.check();
    assert_eq!(seen_mtu(&report, "node1-pod1", "node2-pod1"), "8950");
    assert_eq!(seen_mtu(&report, "node1-pod1", "node3-pod1"), "1450");
    assert_eq!(seen_mtu(&report, "node3-pod1", "node1-pod1"), "1450");
    assert_eq!(seen_mtu(&report, "node1-pod1", "node3"), "1500");
}
