//! Pods as hosts of a plain LAN: the node's uplink is a port of their bridge.

use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use hopwise_core::l2::value::Wanted;
use hopwise_core::l2::{attach, detach};
use hopwise_core::name::LinkName;
use hopwise_kernel::l2::L2;
use hopwise_kernel::netns::Namespace;
use serde_json::json;

use crate::harness::{Host, Pod};

const WANTED: Wanted = Wanted { uplink: LinkName::new_static("eth1"), bridge: LinkName::new_static("cni0") };

fn ip(namespace: &Namespace, args: &str) -> String {
    let output = namespace.run(|| Command::new("ip").args(args.split(' ')).output().unwrap()).unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One answer is enough, whenever it comes.
#[track_caller]
fn ping(from: &Namespace, to: &str) {
    let output = from
        .run(|| Command::new("ping").args(["-n", "-c", "1", "-i", "0.2", "-w", "60", to]).output().unwrap())
        .unwrap();
    assert!(output.status.success(), "{to}: {}", String::from_utf8_lossy(&output.stdout));
}

/// Puts a link with two addresses on the switch.
fn plug(switch: &Namespace, port: &str, namespace: &Namespace, link: &str, n: u8) {
    let there = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    ip(switch, &format!("link add {port} type veth peer name {link} netns {there}"));
    ip(switch, &format!("link set {port} master lan up"));
    ip(namespace, &format!("link set {link} up"));
    ip(namespace, &format!("address add 192.168.7.{n}/24 dev {link}"));
    ip(namespace, &format!("address add fd07::{n}/64 dev {link} nodad"));
}

/// The switch, a router that knows 203.0.113.1 and 2001:db8:ffff::1, another host, and the node with its uplink.
fn lan(node: &Host) -> [Namespace; 3] {
    let [switch, router, other] = [(); 3].map(|()| Namespace::new().unwrap());
    ip(&switch, "link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
    ip(&switch, "link set lan up");
    plug(&switch, "p1", &router, "eth0", 1);
    plug(&switch, "p2", &other, "eth0", 20);
    plug(&switch, "p3", &node.namespace, "eth1", 5);
    ip(&router, "address add 203.0.113.1/32 dev lo");
    ip(&router, "address add 2001:db8:ffff::1/128 dev lo nodad");
    ip(&node.namespace, "route add default via 192.168.7.1");
    [switch, router, other]
}

#[test]
fn pods_are_hosts_of_the_lan() {
    let node = Host::new();
    let [_switch, router, other] = lan(&node);
    let plan = node
        .namespace
        .run(|| {
            let mut l2 = L2::open().unwrap();
            let plan = attach::plan(&l2.observe(WANTED).unwrap(), WANTED).unwrap();
            assert!(l2.apply(&plan.steps, false, &mut |_| {}).unwrap().is_empty());
            plan
        })
        .unwrap();

    let config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0",
        "ipam": {
            "type": "host-local", "dataDir": node.data_dir(),
            "ranges": [
                [{"subnet": "192.168.7.0/24", "rangeStart": "192.168.7.100", "rangeEnd": "192.168.7.199"}],
                [{"subnet": "fd07::/64", "rangeStart": "fd07::100", "rangeEnd": "fd07::199"}],
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    let mac = node.links()["cni0"].mac;
    let pods = [Pod::new(), Pod::new()];
    for (n, pod) in pods.iter().enumerate() {
        let said = node.add(&format!("pod{n}"), pod, &config);
        assert_eq!(said.addresses(), [format!("192.168.7.{}", 100 + n), format!("fd07::10{n}")]);
    }
    assert_eq!(node.links()["cni0"].mac, mac, "the bridge keeps the uplink's MAC address");
    for pod in &pods {
        // A host of the LAN, the router and what lies behind it, the node.
        for there in ["192.168.7.20", "fd07::20", "203.0.113.1", "2001:db8:ffff::1", "192.168.7.5", "fd07::5"]
        {
            ping(&pod.namespace, there);
        }
    }
    for from in [&other, &router, &node.namespace, &pods[0].namespace] {
        ping(from, "192.168.7.101");
        ping(from, "fd07::101");
    }
    // Under their own addresses: the other host has seen the pod's MAC address for it, not the node's.
    let seen = ip(&other, "neighbour show 192.168.7.101");
    let own = pods[1].links()["eth0"].mac.unwrap().to_string();
    assert!(seen.contains(&own), "{seen} has no {own}");

    for (n, pod) in pods.iter().enumerate() {
        node.del(&format!("pod{n}"), &pod.path(), &config).ok();
    }
    node.namespace
        .run(|| {
            let mut l2 = L2::open().unwrap();
            let steps = detach::plan(&l2.observe(WANTED).unwrap(), &plan.record);
            assert!(l2.apply(&steps, false, &mut |_| {}).unwrap().is_empty());
        })
        .unwrap();
    assert!(!node.links().contains_key("cni0"));
    ping(&other, "192.168.7.5");
}
