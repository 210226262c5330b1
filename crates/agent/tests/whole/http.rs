//! What the agent answers.

use hopwise_kernel::readiness::{self, Readiness};

use super::support::{Cluster, Inventory, wait_until};

#[test]
fn the_agent_answers() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.start();
    let node = cluster.node(1);
    assert_eq!(node.get("/healthz").1, "ok\n");
    assert_eq!(node.get("/readyz").1, "ready\n");
    assert!(node.get("/").1.contains("/metrics"));
    let (head, metrics) = node.get("/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    for line in [
        "hopwise_agent_ready 1.0",
        "hopwise_agent_peers{mode=\"direct\",family=\"ipv4\"} 1.0",
        "hopwise_agent_peers{mode=\"direct\",family=\"ipv6\"} 1.0",
        "hopwise_agent_routes{family=\"ipv4\"} 1.0",
        "hopwise_agent_view_source{source=\"live\"} 1.0",
        "hopwise_agent_view_nodes 2.0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let status = node.status();
    assert_eq!(status.node, "node1");
    assert_eq!(status.pod_cidrs, ["10.244.1.0/24", "fd00:10:244:1::/64"]);
    assert_eq!(status.peers.len(), 2);
    assert!(status.ready.ready && status.notes.is_empty(), "{status:#?}");
    let file = std::fs::read_to_string(cluster.dir().join("node1/run/node.json")).unwrap();
    assert!(file.contains("\"ready\": true") && file.contains("10.244.1.0/24"), "{file}");
}

/// What the plugin asks for STATUS, twice a second.
#[test]
fn readiness_is_told_by_locks_and_ends_with_the_agent() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.start();
    let run_dir = cluster.dir().join("node1/run");
    let becomes = |expected: Readiness| {
        wait_until(&format!("{expected:?}"), || match readiness::read(&run_dir).unwrap() {
            now if now == expected => Ok(()),
            now => Err(format!("{now:?}")),
        });
    };
    becomes(Readiness::Ready);
    cluster.node_mut(1).kill();
    assert_eq!(readiness::read(&run_dir).unwrap(), Readiness::NoAgent, "killed");
    let file = std::fs::read_to_string(run_dir.join("node.json")).unwrap();
    assert!(file.contains("\"ready\": true"), "what it left behind: {file}");

    // With neither an inventory nor a saved view there is nothing to be ready with.
    let inventory = std::fs::read_to_string(cluster.dir().join("inventory.yaml")).unwrap();
    std::fs::remove_file(cluster.dir().join("inventory.yaml")).unwrap();
    std::fs::remove_dir_all(cluster.dir().join("node1/state")).unwrap();
    cluster.node_mut(1).start();
    becomes(Readiness::NotReady);
    cluster.write_inventory(&inventory);
    becomes(Readiness::Ready);
    cluster.node_mut(1).stop();
    assert_eq!(readiness::read(&run_dir).unwrap(), Readiness::NoAgent, "stopped");
}
