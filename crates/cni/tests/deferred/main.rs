//! `deferDeletion`: a DEL that leaves the deletion of links to others, in network namespaces. Needs root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../attach/harness.rs"]
mod harness;
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../shaping/support.rs"]
mod support;

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hopwise_core::mark::{DISCARDED_ALIAS, DISCARDED_GROUP};
use hopwise_core::name::LinkName;
use hopwise_kernel::rtnl::{LinkInfo, Requests, Rtnl, VethSpec};
use serde_json::{Value, json};

use harness::{Call, Host, Pod};
use support::{call, reference};

const V4: &str = "10.77.0.0/24";
const ETH0: LinkName = LinkName::new_static("eth0");

fn config(host: &Host, keys: &Value) -> Value {
    let mut config = host.config("1.1.0", &[V4], json!({"isGateway": true, "deferDeletion": true}));
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config
}

/// Polls: the machine may be busy with anything else.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn discarded(host: &Host) -> Vec<LinkInfo> {
    host.links().into_values().filter(|link| link.alias == DISCARDED_ALIAS).collect()
}

/// Whether a child of a DEL is at work: it holds an abstract socket of the host's namespace.
fn is_at_work(host: &Host) -> bool {
    let sockets = host.namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/unix").unwrap());
    sockets.unwrap().contains("@hopwise-cni-reaper")
}

#[track_caller]
fn wait_reaped(host: &Host) {
    wait_until("discarded links are deleted", || discarded(host).is_empty());
    wait_until("the child ends", || !is_at_work(host));
}

fn reaches_host(host: &Host, pod: &Pod, address: &str) {
    let listener = host.namespace.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(30));
    pod.namespace.run(connect).unwrap().unwrap();
}

#[test]
fn a_pod_is_detached_at_once_and_can_be_attached_again() {
    for keys in [json!({}), json!({"type": "ptp"}), json!({"ipMasq": true})] {
        let host = Host::new();
        let pod = Pod::new();
        let config = config(&host, &keys);
        for _ in 0..5 {
            let result = host.add("pod", &pod, &config);
            assert_eq!(result.addresses().len(), 1);
            let eth0 = &pod.links()["eth0"];
            reaches_host(&host, &pod, "10.77.0.1");
            host.del("pod", &pod.path(), &config).ok();
            assert_eq!(host.reserved(), [""; 0]);
            assert!(!pod.links().contains_key("eth0"));
            // What is left of it, if anything is, is out of use on both sides.
            for link in pod.links().values().filter(|link| link.index == eth0.index) {
                assert!(!link.up, "{link:?}");
            }
            for link in discarded(&host) {
                assert!([DISCARDED_GROUP, DISCARDED_GROUP + 1].contains(&link.group), "{link:?}");
                assert!(!link.up && link.master.is_none(), "{link:?}");
            }
            // Once more is no error.
            host.del("pod", &pod.path(), &config).ok();
        }
        wait_reaped(&host);
        host.assert_empty();
        assert_eq!(pod.links().len(), 1, "{:?}", pod.links());
    }
}

#[test]
fn a_pod_that_was_attached_again_keeps_its_link() {
    let host = Host::new();
    let pod = Pod::new();
    let config = config(&host, &json!({}));
    host.add("pod", &pod, &config).ok();
    host.del("pod", &pod.path(), &config).ok();
    host.add("pod", &pod, &config).ok();
    wait_reaped(&host);
    assert_eq!((host.n_veths(), pod.links().len()), (1, 2));
    reaches_host(&host, &pod, "10.77.0.1");
    host.del("pod", &pod.path(), &config).ok();
    wait_reaped(&host);
    host.assert_empty();
}

#[test]
fn many_at_once_leave_nothing() {
    let host = Host::new();
    let config = config(&host, &json!({}));
    let pods: Vec<Pod> = (0..32).map(|_| Pod::new()).collect();
    for _ in 0..2 {
        for command in ["ADD", "DEL"] {
            std::thread::scope(|scope| {
                for (index, pod) in pods.iter().enumerate() {
                    let (host, config) = (&host, &config);
                    scope.spawn(move || {
                        host.call(&Call::new(command, &format!("pod{index}"), &pod.path()), config).ok()
                    });
                }
            });
        }
        assert_eq!(host.reserved(), [""; 0]);
    }
    wait_reaped(&host);
    host.assert_empty();
    assert!(pods.iter().all(|pod| pod.links().len() == 1));
}

#[test]
fn the_same_pod_can_be_deleted_twice_at_once() {
    let host = Host::new();
    let pod = Pod::new();
    let config = config(&host, &json!({}));
    for _ in 0..5 {
        host.add("pod", &pod, &config).ok();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| host.del("pod", &pod.path(), &config).ok());
            }
        });
        assert!(!pod.links().contains_key("eth0"));
    }
    wait_reaped(&host);
    host.assert_empty();
}

#[test]
fn pods_of_the_reference_are_deleted_too() {
    let host = Host::new();
    let pod = Pod::new();
    let mut without = config(&host, &json!({}));
    without.as_object_mut().unwrap().remove("deferDeletion");
    call(&host, &reference(), &Call::new("ADD", "pod", &pod.path()), &without).ok();
    host.del("pod", &pod.path(), &config(&host, &json!({}))).ok();
    assert!(!pod.links().contains_key("eth0"));
    wait_reaped(&host);
    host.assert_empty();
}

#[test]
fn a_namespace_that_is_gone_or_ends_is_no_error() {
    let host = Host::new();
    let config = config(&host, &json!({}));
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    drop(pod);
    host.del("pod", "/nowhere", &config).ok();
    assert_eq!(host.reserved(), [""; 0]);
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    host.del("pod", &pod.path(), &config).ok();
    drop(pod);
    wait_reaped(&host);
    wait_until("the kernel ends the namespaces", || host.n_veths() == 0);
}

#[test]
fn a_link_that_leads_elsewhere_is_deleted_at_once() {
    let host = Host::new();
    let (pod, elsewhere) = (Pod::new(), Pod::new());
    let mut rtnl = Rtnl::open_in(elsewhere.namespace.as_fd()).unwrap();
    rtnl.add_veth(&VethSpec::new(ETH0, ETH0, Some(pod.namespace.as_fd()))).unwrap();
    // On the host a link with the same index is another pod's.
    let other = Pod::new();
    let config = config(&host, &json!({}));
    host.add("other", &other, &config).ok();
    host.del("pod", &pod.path(), &config).ok();
    assert_eq!((pod.links().len(), elsewhere.links().len()), (1, 1));
    assert!(discarded(&host).is_empty());
    reaches_host(&host, &other, "10.77.0.1");
}

#[test]
fn what_a_killed_child_left_is_deleted_by_the_next_and_by_gc() {
    let host = Host::new();
    let config = config(&host, &json!({}));
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    let mut leave = |name: &'static str| {
        let (name, peer) = (LinkName::new_static(name), "peer".parse().unwrap());
        rtnl.add_veth(&VethSpec::new(name, peer, None)).unwrap();
        let index = rtnl.link_by_name(name).unwrap().unwrap().index;
        rtnl.execute_all(Requests::new().discard(index)).unwrap();
    };
    leave("left");
    let mut gc = config.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    host.call(&Call { command: "GC", id: "", netns: "", ifname: "", args: "" }, &gc).ok();
    assert_eq!(host.n_veths(), 0, "GC waits for it");
    leave("left");
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    host.del("pod", &pod.path(), &config).ok();
    wait_reaped(&host);
    host.assert_empty();
}

#[test]
fn killed_at_any_time_nothing_is_left() {
    let host = Host::new();
    let pod = Pod::new();
    let config = config(&host, &json!({}));
    // Delays that cover the whole run, which is a few milliseconds.
    for round in 0..20_u64 {
        host.add("pod", &pod, &config).ok();
        let mut child = host.spawn(&Call::new("DEL", "pod", &pod.path()), &config);
        std::thread::sleep(Duration::from_micros(round * 200));
        child.kill().unwrap();
        child.wait().unwrap();
        host.del("pod", &pod.path(), &config).ok();
        assert!(!pod.links().contains_key("eth0"));
        assert_eq!(host.reserved(), [""; 0]);
    }
    wait_reaped(&host);
    host.assert_empty();
    assert_eq!(pod.links().len(), 1, "{:?}", pod.links());
}

#[test]
fn devices_that_shape_traffic_are_deleted_later_too() {
    let host = Host::new();
    let pod = Pod::new();
    let config = config(&host, &json!({}));
    let made = host.add("pod", &pod, &config).ok();
    let keys = json!({"egressRate": 8_000_000, "egressBurst": 800_000, "deferDeletion": true});
    let shape = support::bandwidth(&keys, &made);
    for _ in 0..3 {
        let call = |command: &str| host.call(&Call::new(command, "pod", &pod.path()), &shape);
        let result = call("ADD").ok();
        let ifb = result["interfaces"][3]["name"].as_str().unwrap().to_owned();
        call("DEL").ok();
        assert!(!host.links().contains_key(&ifb));
        call("DEL").ok();
        // The pod's link lives on; what leads to the device has to go before the next one.
        let veth = host.links()[made["interfaces"][1]["name"].as_str().unwrap()].index;
        let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
        rtnl.execute_all(Requests::new().delete_ingress(veth)).unwrap();
    }
    wait_reaped(&host);
    assert!(host.links().values().all(|link| link.kind != "ifb"));
}
