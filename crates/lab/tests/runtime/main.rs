//! Real containers on a real runtime: containerd and runc run pods on two nodes, and attach them through the configuration
//! and the plugins that `hopwise cni install` put in place.
//!
//! Each node is a set of namespaces around one process (module `node`), so nothing of the machine's own is touched: network,
//! mounts, control groups, /etc, /opt, /run and /var/lib are the node's. It takes root, and control groups version 1.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

mod cluster;
mod cri;
mod image;
mod node;
mod support;

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use cluster::Cluster;
use cri::Pod;
use support::eventually_within;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What containerd asks a plugin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Also for STATUS: from 2.0.1 on.
    Status,
    /// Not for STATUS.
    NoStatus,
}

#[test]
fn containerd_of_today() {
    everything("now", "HOPWISE_CONTAINERD", Asks::Status);
}

#[test]
fn containerd_of_debian() {
    everything("old", "HOPWISE_CONTAINERD_DEBIAN", Asks::NoStatus);
}

fn everything(label: &str, containerd: &str, asks: Asks) {
    let start = Instant::now();
    let done =
        |what: &str| println!("{label}: {what}: {:.1} s after the start", start.elapsed().as_secs_f64());
    let mut cluster = Cluster::new(label, containerd);
    done("nodes are up");
    the_network_is_ready_when_the_agent_is(&mut cluster, asks);
    done("the network is ready");
    let pods = pods_reach_each_other(&cluster);
    done("pods reach each other");
    host_ports_lead_to_pods(&cluster, &pods);
    done("host ports");
    bandwidth_is_limited(&cluster, &pods);
    done("bandwidth");
    a_killed_agent_makes_the_network_not_ready(&mut cluster, asks);
    done("agent killed");
    restarting_the_runtime_changes_nothing(&mut cluster, &pods);
    done("runtime restarted");
    a_node_that_starts_anew_leaks_nothing(&mut cluster);
    done("node started anew");
    garbage_is_collected(&mut cluster, asks);
    done("garbage collected");
    uninstalling_brings_the_reference_back(&mut cluster);
    done("uninstalled");
}

/// The second node's configuration: pods as ports of a bridge, each limited to 16 Mbit/s.
fn limited(node: &node::Node) -> String {
    let ranges = json!([[{"subnet": "10.244.2.0/24"}], [{"subnet": "fd00:10:244:2::/64"}]]);
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "limited",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true, "agentStatus": true,
                "ipam": {"type": "host-local", "ranges": ranges},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {
                "type": "bandwidth",
                "ingressRate": 16_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000,
            },
        ],
    });
    let path = node.disk("limited.conflist");
    fs::write(&path, list.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn the_network_is_ready_when_the_agent_is(cluster: &mut Cluster, asks: Asks) {
    let ranges = "10.244.1.0/24,fd00:10:244:1::/64";
    let said = cluster.install(1, &["--range", ranges, "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["changes"].to_string().contains("displace"), "the reference's bridge was there: {said}");
    let list = limited(cluster.node(2));
    cluster.install(2, &["--conflist", &list]);
    cluster.start_containerd();
    if asks == Asks::Status {
        cluster.runtime(1).wait_network(cluster.node(1), false, "no agent runs");
        cluster.runtime(2).wait_network(cluster.node(2), false, "no agent runs");
    }
    for number in [1, 2] {
        cluster.start_agent(number);
        cluster.runtime(number).wait_network(cluster.node(number), true, "");
    }
    // With the agent up its word is enough, and nothing that the runtime reads is another.
    let again = cluster.install(1, &["--range", ranges]);
    assert!(!again.contains("put "), "{again}");
}

fn pods_reach_each_other(cluster: &Cluster) -> [Pod; 2] {
    let host_port = |port: u16| json!([{"protocol": 0, "container_port": 80, "host_port": port}]);
    let annotations =
        json!({"kubernetes.io/ingress-bandwidth": "64M", "kubernetes.io/egress-bandwidth": "32M"});
    let first = json!({"port_mappings": host_port(8080), "annotations": annotations});
    let second = json!({"port_mappings": host_port(8081)});
    let pods = [
        cluster.runtime(1).run_pod(cluster.node(1), "web1", &first),
        cluster.runtime(2).run_pod(cluster.node(2), "web2", &second),
    ];
    for (number, network) in [(1, "hopwise"), (2, "limited")] {
        let mut addresses = pods[number - 1].addresses.clone();
        addresses.sort();
        assert_eq!(cluster.taken(number, network), addresses, "both families, and nothing else");
    }
    for (from, to) in [(1, 2), (2, 1)] {
        let (pod, target) = (&pods[from - 1], &pods[to - 1]);
        assert_pings(cluster, from, pod, target);
        let url = format!("http://{}/", target.v4());
        eventually_within(PATIENCE, &url, || {
            let said =
                cluster.runtime(from).exec(cluster.node(from), pod, &["wget", "-q", "-O", "-", &url])?;
            if said.trim() == "hello" { Ok(()) } else { Err(said) }
        });
        // A host that is no node reaches pods by their own addresses.
        cluster.wait_hello(&format!("{}:80", target.v4()));
        cluster.wait_hello(&format!("[{}]:80", target.v6()));
    }
    pods
}

fn assert_pings(cluster: &Cluster, from: usize, pod: &Pod, target: &Pod) {
    for (ping, address) in [("ping", target.v4()), ("ping6", target.v6())] {
        eventually_within(PATIENCE, &format!("{ping} {address} from node{from}"), || {
            cluster
                .runtime(from)
                .exec(cluster.node(from), pod, &[ping, "-c", "1", "-W", "2", &address])
                .map(drop)
        });
    }
}

fn host_ports_lead_to_pods(cluster: &Cluster, pods: &[Pod; 2]) {
    cluster.wait_hello("192.168.77.1:8080");
    cluster.wait_hello("192.168.77.2:8081");
    cluster.wait_hello("[fd00:77::1]:8080");
    let said = cluster.runtime(2).exec(
        cluster.node(2),
        &pods[1],
        &["wget", "-q", "-O", "-", "http://192.168.77.1:8080/"],
    );
    assert_eq!(said.unwrap().trim(), "hello", "from a pod of the other node");
}

fn bandwidth_is_limited(cluster: &Cluster, pods: &[Pod; 2]) {
    // What containerd makes of a pod's annotations; its burst, 4 Gbit, is more than can be tried here.
    let shapers = cluster.node(1).ok(&["tc", "qdisc", "show"]);
    for rate in ["rate 64Mbit", "rate 32Mbit"] {
        assert!(shapers.contains(rate), "{rate} is not in\n{shapers}");
    }
    // 3,000,000 bytes at 2,000,000 bytes a second with a burst of 100,000 take 1.45 s, however fast the machine is.
    let (_, length, took) = cluster.fetch(&format!("{}:80", pods[1].v4()), "/big").unwrap();
    assert_eq!(length, 3_000_000);
    assert!(took > Duration::from_millis(1300), "{took:?}");
}

fn a_killed_agent_makes_the_network_not_ready(cluster: &mut Cluster, asks: Asks) {
    cluster.cnitool(1, "status", "hopwise").unwrap();
    cluster.end_agent(1, "KILL");
    let said = cluster.cnitool(1, "status", "hopwise").unwrap_err();
    assert!(said.contains("no agent runs on this node"), "{said}");
    if asks == Asks::Status {
        cluster.runtime(1).wait_network(cluster.node(1), false, "no agent runs");
    }
    cluster.start_agent(1);
    cluster.runtime(1).wait_network(cluster.node(1), true, "");
    // The agent tells by HTTP first.
    eventually_within(PATIENCE, "STATUS", || cluster.cnitool(1, "status", "hopwise").map(drop));
}

fn restarting_the_runtime_changes_nothing(cluster: &mut Cluster, pods: &[Pod; 2]) {
    for signal in ["TERM", "KILL"] {
        let mut runtime = cluster.containerd.remove(0);
        runtime.restart(cluster.node(1), signal);
        cluster.containerd.insert(0, runtime);
        let (node, runtime) = (cluster.node(1), cluster.runtime(1));
        runtime.wait_network(node, true, "");
        assert_eq!(runtime.sandboxes(node, "ready"), [pods[0].sandbox.clone()], "after SIG{signal}");
        assert_pings(cluster, 1, &pods[0], &pods[1]);
        cluster.wait_hello("192.168.77.1:8080");
        let more = runtime.run_pod(node, &format!("more-{signal}").to_lowercase(), &json!({}));
        assert_pings(cluster, 1, &more, &pods[1]);
        runtime.remove_pod(node, &more);
    }
    let (node, runtime) = (cluster.node(1), cluster.runtime(1));
    runtime.remove_pod(node, &pods[0]);
    assert_eq!(cluster.taken(1, "hopwise"), [] as [IpAddr; 0]);
    assert_eq!(cluster.pod_links(1), [] as [String; 0]);
    assert!(cluster.fetch("192.168.77.1:8080", "/").is_err(), "the port is closed with its pod");
    assert!(!node.ok(&["tc", "qdisc", "show"]).contains("Mbit"), "no shaper is left");
    let again = runtime.run_pod(
        node,
        "again",
        &json!({"port_mappings": [{"container_port": 80, "host_port": 8080}]}),
    );
    cluster.wait_hello("192.168.77.1:8080");
    assert_pings(cluster, 1, &again, &pods[1]);
}

/// The namespaces, links and processes of a node are gone at once, and no DEL was called for any pod.
fn a_node_that_starts_anew_leaks_nothing(cluster: &mut Cluster) {
    let before = cluster.taken(1, "hopwise");
    assert_eq!(before.len(), 2, "one pod, two families");
    cluster.restart_node(1);
    let (node, runtime) = (cluster.node(1), cluster.runtime(1));
    runtime.wait_network(node, true, "");
    assert_eq!(runtime.sandboxes(node, "ready"), [] as [String; 0]);
    let pod =
        runtime.run_pod(node, "anew", &json!({"port_mappings": [{"container_port": 80, "host_port": 8080}]}));
    cluster.wait_hello("192.168.77.1:8080");
    // The kubelet removes what it finds dead; the runtime calls DEL without a namespace then.
    for sandbox in runtime.sandboxes(node, "notready") {
        runtime.ok(node, &["stopp", &sandbox]);
        runtime.ok(node, &["rmp", &sandbox]);
    }
    let mut addresses = pod.addresses.clone();
    addresses.sort();
    assert_eq!(cluster.taken(1, "hopwise"), addresses, "taken before: {before:?}");
    cluster.wait_hello("192.168.77.1:8080");
    cluster.wait_hello(&format!("{}:80", pod.v4()));
}

/// Pods that their runtime forgets.
fn garbage_is_collected(cluster: &mut Cluster, asks: Asks) {
    let mut runtime = cluster.containerd.remove(1);
    runtime.end(cluster.node(2), "KILL");
    assert_eq!(cluster.taken(2, "limited").len(), 2);
    if asks == Asks::NoStatus {
        // An older runtime wrote no namespaces down, so `cnitool`'s DEL has none; GC knows them from our index.
        cluster.call_gc(2, "limited");
    }
    // DEL for every attachment that the runtime wrote down, then GC without a list.
    cluster.cnitool(2, "gc", "limited").unwrap();
    assert_eq!(cluster.taken(2, "limited"), [] as [IpAddr; 0]);
    assert_eq!(cluster.pod_links(2), [] as [String; 0]);
    assert!(!cluster.node(2).ok(&["tc", "qdisc", "show"]).contains("Mbit"), "no shaper is left");
    assert!(cluster.fetch("192.168.77.2:8081", "/").is_err(), "the port is closed with its pod");
}

fn uninstalling_brings_the_reference_back(cluster: &mut Cluster) {
    let (node, runtime) = (cluster.node(1), cluster.runtime(1));
    for sandbox in runtime.sandboxes(node, "ready") {
        runtime.ok(node, &["stopp", &sandbox]);
        runtime.ok(node, &["rmp", &sandbox]);
    }
    assert_eq!(cluster.taken(1, "hopwise"), [] as [IpAddr; 0]);
    assert_ne!(cluster.plugin_bytes(1, "bridge"), cluster.reference_bytes("bridge"));
    cluster.hopwise(1, &["cni", "uninstall"]);
    for name in ["bridge", "host-local", "loopback", "portmap", "bandwidth"] {
        assert_eq!(cluster.plugin_bytes(1, name), cluster.reference_bytes(name), "{name}");
    }
    assert_eq!(cluster.plugin_bytes(1, "hopwise"), [] as [u8; 0]);
    cluster.runtime(1).wait_network(cluster.node(1), false, "");
}
