//! Many calls at once, as a runtime makes them.

use std::collections::BTreeSet;
use std::process::Child;

use serde_json::{Value, json};

use crate::harness::{Call, Host, Pod, Said};
use crate::{V4, V6};

const PODS: usize = 64;

fn finish(child: Child) -> Said {
    Said::from_output(&child.wait_with_output().unwrap())
}

/// One call for each pod, all of them started before the first is waited for.
fn all(host: &Host, command: &str, pods: &[Pod], config: &Value) -> Vec<Said> {
    let paths: Vec<(String, String)> =
        pods.iter().enumerate().map(|(number, pod)| (format!("pod{number}"), pod.path())).collect();
    let children: Vec<Child> =
        paths.iter().map(|(id, path)| host.spawn(&Call::new(command, id, path), config)).collect();
    children.into_iter().map(finish).collect()
}

#[test]
fn sixty_four_pods_at_once() {
    for keys in [json!({"isDefaultGateway": true, "ipMasq": true}), json!({"type": "ptp", "ipMasq": true})] {
        let host = Host::new();
        let config = host.config("1.1.0", &[V4, V6], keys);
        let pods: Vec<Pod> = (0..PODS).map(|_| Pod::new()).collect();
        for _ in 0..2 {
            // The first of them all want to make the bridge, the table and the folder.
            let mut addresses = BTreeSet::new();
            for said in all(&host, "ADD", &pods, &config) {
                addresses.extend(said.addresses());
            }
            assert_eq!(addresses.len(), 2 * PODS, "no address twice: {addresses:?}");
            assert_eq!((host.reserved().len(), host.n_veths()), (2 * PODS, PODS));
            for said in all(&host, "DEL", &pods, &config) {
                said.ok();
            }
            host.assert_empty();
        }
    }
}

#[test]
fn adds_among_dels() {
    let host = Host::new();
    // Room for one half at a time and a little more: addresses go round.
    let config = host.config("1.1.0", &["10.77.0.0/25"], json!({"isGateway": true}));
    let (first, second): (Vec<Pod>, Vec<Pod>) = (0..PODS / 2).map(|_| (Pod::new(), Pod::new())).unzip();
    for said in all(&host, "ADD", &first, &config) {
        said.ok();
    }
    for round in 0..4 {
        let (old, new) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let id = |number: usize, round: usize| format!("pod{number}-{round}");
        let mut children = Vec::new();
        for (number, (old, new)) in old.iter().zip(new).enumerate() {
            let before = if round == 0 { format!("pod{number}") } else { id(number, round - 1) };
            children.push(host.spawn(&Call::new("DEL", &before, &old.path()), &config));
            children.push(host.spawn(&Call::new("ADD", &id(number, round), &new.path()), &config));
        }
        for child in children {
            finish(child).ok();
        }
        assert_eq!((host.reserved().len(), host.n_veths()), (PODS / 2, PODS / 2), "round {round}");
    }
}

#[test]
fn two_networks_of_a_pod_at_once() {
    let host = Host::new();
    let networks: Vec<Value> = [("net", "cni0", V4, "eth0"), ("other", "cni1", "10.78.0.0/24", "net1")]
        .into_iter()
        .map(|(name, bridge, subnet, _)| {
            host.config("1.1.0", &[subnet], json!({"name": name, "bridge": bridge, "isGateway": true}))
        })
        .collect();
    for round in 0..16 {
        let pod = Pod::new();
        let path = pod.path();
        let call =
            |command: &'static str, ifname: &'static str| Call { ifname, ..Call::new(command, "pod", &path) };
        for command in ["ADD", "DEL"] {
            let both = [("eth0", &networks[0]), ("net1", &networks[1])];
            let children: Vec<Child> =
                both.iter().map(|(ifname, config)| host.spawn(&call(command, ifname), config)).collect();
            for child in children {
                finish(child).ok();
            }
            let there = ["eth0", "net1"].map(|name| pod.links().contains_key(name));
            assert_eq!(there, [command == "ADD"; 2], "round {round}");
        }
        host.assert_empty();
    }
}
