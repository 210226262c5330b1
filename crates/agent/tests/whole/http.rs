//! What the agent answers.

use super::support::{Cluster, Inventory};

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
