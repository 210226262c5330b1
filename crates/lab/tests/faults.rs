//! What tests can do to a lab, and what the lab's agents make of it.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy takes only #[test] functions for tests"
)]

mod support;

use std::time::Duration;

use hopwise_core::family::Family;
use hopwise_lab::layout::Numbers;
use support::{TestLab, eventually};

const SPACING: Duration = Duration::from_millis(1);
const SMALL: Numbers = Numbers { nodes: Some(2), pods_per_node: Some(1) };

/// A running ping from node1's pod to node2's.
fn ping(lab: &TestLab) -> hopwise_lab::ping::PingStream {
    let to = lab.pod_address("node2-pod1", Family::V4).unwrap();
    lab.ping("node1-pod1", to, SPACING).unwrap()
}

#[test]
fn the_stream_counts_what_is_lost() {
    let lab = TestLab::up("one-segment", SMALL);
    let stream = ping(&lab);
    std::thread::sleep(Duration::from_millis(300));
    lab.set_uplink("node2", false).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    lab.set_uplink("node2", true).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let count = stream.stop().unwrap();
    assert!(count.n_sent > 500, "{count:?}");
    assert!((100..500).contains(&count.lost.len()), "{count:?}");
    assert!(count.longest_gap > Duration::from_millis(150), "{count:?}");
    lab.assert_all_green();
}

#[test]
fn restarting_and_killing_agents_loses_nothing() {
    let lab = TestLab::up("one-segment", SMALL);
    let stream = ping(&lab);
    lab.restart_agent("node1").unwrap();
    lab.wait_ready("node1", Duration::from_secs(10)).unwrap();
    lab.kill_agent("node2").unwrap();
    assert_eq!(lab.agent("node2").unwrap(), None);
    std::thread::sleep(Duration::from_millis(100));
    lab.start_agent("node2").unwrap();
    lab.wait_ready("node2", Duration::from_secs(10)).unwrap();
    let count = stream.stop().unwrap();
    assert!(count.lost.is_empty() && count.n_duplicates == 0, "{count:?}");
    lab.assert_all_green();
}

#[test]
fn a_deleted_uplink_that_comes_back_is_taken_into_use() {
    let lab = TestLab::up("dual-stack", Numbers { nodes: None, pods_per_node: Some(1) });
    for node in ["node1", "node3"] {
        lab.delete_uplink(node).unwrap();
        assert!(!lab.output(node, "ip", &["link", "show", "eth0"]).unwrap().status.success());
        lab.create_uplink(node).unwrap();
    }
    eventually("every agent is ready again", || ["node1", "node2", "node3"].iter().all(|n| lab.is_ready(n)));
    eventually("all is green again", || lab.check().ok);
}

#[test]
fn a_check_finds_a_stopped_agent_and_a_cut_link() {
    let lab = TestLab::up("one-segment", SMALL);
    lab.kill_agent("node2").unwrap();
    lab.set_uplink("node2", false).unwrap();
    let report = lab.check();
    assert!(!report.ok);
    assert_eq!(report.agents.iter().map(|agent| agent.node.as_str()).collect::<Vec<_>>(), ["node2"]);
    let cell = report.cells.iter().find(|cell| cell.from == "node1-pod1" && cell.to == "node2-pod1").unwrap();
    assert!(cell.icmp.is_failure() && cell.tcp.is_failure() && cell.udp.is_failure(), "{cell:?}");
    let local = report.cells.iter().find(|cell| cell.from == "node1-pod1" && cell.to == "node1").unwrap();
    assert!(local.is_ok(), "{local:?}");
}

#[test]
fn a_pod_is_detached_and_attached_again() {
    let lab = TestLab::up("one-segment", SMALL);
    lab.detach_pod("node1-pod1").unwrap();
    assert!(!lab.output("node1-pod1", "ip", &["link", "show", "eth0"]).unwrap().status.success());
    lab.attach_pod("node1-pod1").unwrap();
    lab.assert_all_green();
}

#[test]
fn a_node_that_lies_is_noted_and_hurts_nobody() {
    let lab = TestLab::up_text(
        "
segments: [{name: lan, cidrs: [192.168.0.0/24]}]
nodes: [{segment: lan, count: 2}, {segment: lan, lies: {podCIDRs: [10.244.1.0/24]}}]
podsPerNode: 1
",
    );
    // The liar believes itself: what it sends to node1's pods stays with it. Nobody else loses anything.
    let of_liar = |name: &str| name.starts_with("node3");
    let of_victim = |name: &str| name.starts_with("node1");
    for cell in lab.check().cells {
        let between_them =
            of_liar(&cell.from) && of_victim(&cell.to) || of_victim(&cell.from) && of_liar(&cell.to);
        assert!(between_them || cell.is_ok(), "{cell:?}");
    }
    let notes = lab.agent_status("node2").unwrap().notes;
    assert!(notes.iter().any(|note| note.subject.contains("node3")), "{notes:?}");
}
