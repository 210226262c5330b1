//! Pods as hosts of a LAN: addresses that others have are not given out, and caches learn who has them now. Needs root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;

use hopwise_kernel::rtnl::{AddressSpec, Rtnl};
use serde_json::{Value, json};

use harness::{Lan, Pod, Said, eventually};

/// Long intervals cost nothing where somebody answers, and leave a busy machine time for it.
fn patient() -> Value {
    json!({"probes": 3, "intervalMilliseconds": 700, "retryAfterSeconds": 86400})
}

#[test]
fn addresses_of_other_hosts_are_skipped_noted_and_tried_again_later() {
    let lan = Lan::new(&["10.9.0.10/24", "10.9.0.11/24"]);
    let node = lan.node("p1");
    let config = node.config(&["10.9.0.10-10.9.0.12/24"], &patient());
    let (one, two) = (Pod::new(), Pod::new());

    let said = node.add("one", &one, &config);
    assert_eq!(said.addresses(), ["10.9.0.12"]);
    assert!(said.stderr.contains("10.9.0.10 is held by ") && said.stderr.contains("10.9.0.11 is held by "));
    assert_eq!(node.noted(), ["10.9.0.10", "10.9.0.11"]);
    assert_eq!(node.reserved(), ["10.9.0.12"], "nothing of it in the reference's folder");

    let full = node.add("two", &two, &config);
    full.err(999, &["no IP addresses available", "other hosts hold 10.9.0.10 by", "10.9.0.11 by"]);
    node.call("STATUS", "", "", "", &config).err(50, &["no IP addresses available"]);
    node.call("CHECK", "one", &one.path(), "", &with_result(&config, &said)).addresses_or_nothing();

    // The host gives one up. Its note holds until its time is over.
    lan.set_address("10.9.0.10/24", false);
    node.add("two", &two, &config).err(999, &["other hosts hold 10.9.0.10"]);
    let aged = fs::read_to_string(node.notes()).unwrap().lines().map(age).collect::<String>();
    fs::write(node.notes(), aged).unwrap();
    node.call("STATUS", "", "", "", &config).addresses_or_nothing();
    // The other's is looked at again too.
    assert_eq!(node.add("two", &two, &config).addresses(), ["10.9.0.10"]);
    node.call("DEL", "one", &one.path(), "", &config).addresses_or_nothing();
    node.call("DEL", "two", &two.path(), "", &config).addresses_or_nothing();
    assert_eq!(node.reserved(), [""; 0]);
}

/// A note of a day ago.
fn age(line: &str) -> String {
    let (rest, seen) = line.rsplit_once(' ').unwrap();
    format!("{rest} {}\n", seen.parse::<u64>().unwrap() - 86_400)
}

fn with_result(config: &Value, said: &Said) -> Value {
    let mut config = config.clone();
    config["prevResult"] = said.value.clone();
    config
}

impl Said {
    #[track_caller]
    fn addresses_or_nothing(&self) {
        assert!(self.success, "{:#} {}", self.value, self.stderr);
    }
}

#[test]
fn both_families_are_asked_for() {
    let lan = Lan::new(&["fd00:9::10/64", "10.9.0.11/24"]);
    let node = lan.node("p1");
    let config = node.config(&["10.9.0.10-10.9.0.20/24", "fd00:9::10-fd00:9::20/64"], &patient());
    let pod = Pod::new();
    // The first pair meets the IPv6 address, the second the IPv4 one.
    let said = node.add("pod", &pod, &config);
    assert_eq!(said.addresses(), ["10.9.0.12", "fd00:9::12"]);
    assert_eq!(node.noted(), ["10.9.0.11", "fd00:9::10"]);
    assert_eq!(node.reserved(), ["10.9.0.12", "fd00:9::12"]);
}

#[test]
fn two_nodes_that_were_told_the_same_range_do_not_give_out_the_same_address() {
    let lan = Lan::new(&[]);
    let (one, two) = (lan.node("p1"), lan.node("p2"));
    let (pod, other) = (Pod::new(), Pod::new());
    let range = ["10.9.0.10-10.9.0.20/24", "fd00:9::10-fd00:9::20/64"];
    let quick = json!({"probes": 1, "intervalMilliseconds": 20});
    assert_eq!(one.add("a", &pod, &one.config(&range, &quick)).addresses(), ["10.9.0.10", "fd00:9::10"]);
    let said = two.add("b", &other, &two.config(&range, &patient()));
    assert_eq!(said.addresses(), ["10.9.0.11", "fd00:9::11"]);
}

#[test]
fn an_address_that_is_asked_for_is_not_replaced() {
    let lan = Lan::new(&["10.9.0.15/24"]);
    let node = lan.node("p1");
    let pod = Pod::new();
    let config = node.config(&["10.9.0.10-10.9.0.20/24"], &patient());
    let said = node.call("ADD", "pod", &pod.path(), "IgnoreUnknown=1;IP=10.9.0.15", &config);
    said.err(999, &["in use by another host", "10.9.0.15 is held by "]);
    assert_eq!(node.reserved(), [""; 0]);
    let said = node.call("ADD", "pod", &pod.path(), "IgnoreUnknown=1;IP=10.9.0.16", &config);
    assert_eq!(said.addresses(), ["10.9.0.16"]);
}

#[test]
fn the_nodes_own_address_is_a_conflict_too() {
    let lan = Lan::new(&[]);
    let node = lan.node("p1");
    let mut rtnl = Rtnl::open_in(node.namespace.as_fd()).unwrap();
    rtnl.add_address(node.bridge(), &AddressSpec::new("10.9.0.10".parse().unwrap(), 24)).unwrap();
    let config = node.config(&["10.9.0.10-10.9.0.20/24"], &json!({"probes": 1, "intervalMilliseconds": 20}));
    assert_eq!(node.add("pod", &Pod::new(), &config).addresses(), ["10.9.0.11"]);
}

#[test]
fn nobody_is_asked_unless_it_is_wanted() {
    let lan = Lan::new(&["10.9.0.10/24"]);
    let node = lan.node("p1");
    for off in [Value::Null, json!(false)] {
        let pod = Pod::new();
        let config = node.config(&["10.9.0.10-10.9.0.10/24"], &off);
        let said = node.add("pod", &pod, &config);
        assert_eq!((said.addresses(), said.stderr.as_str()), (vec!["10.9.0.10".to_owned()], ""));
        node.call("DEL", "pod", &pod.path(), "", &config).addresses_or_nothing();
    }
    assert!(!node.notes().exists());
}

#[test]
fn pods_that_start_together_do_not_wait_for_each_other_and_get_different_addresses() {
    let lan = Lan::new(&["10.9.0.12/24", "10.9.0.17/24"]);
    let node = lan.node("p1");
    let config = node.config(&["10.9.0.10-10.9.0.60/24"], &json!({"probes": 2, "intervalMilliseconds": 500}));
    let pods: Vec<Pod> = (0..16).map(|_| Pod::new()).collect();
    let start =
        |(index, pod): (usize, &Pod)| node.spawn("ADD", &format!("pod{index}"), &pod.path(), "", &config);
    let children: Vec<_> = pods.iter().enumerate().map(start).collect();
    let all = children.into_iter().map(|child| Said::of(child).addresses().remove(0));
    let all: BTreeSet<String> = all.collect();
    assert_eq!(all.len(), 16);
    assert!(!all.contains("10.9.0.12") && !all.contains("10.9.0.17"), "{all:?}");
    assert_eq!(node.reserved().into_iter().collect::<BTreeSet<String>>(), all);
}

#[test]
fn caches_of_other_hosts_learn_who_has_an_address_now() {
    let lan = Lan::new(&["10.9.0.1/24", "fd00:9::1/64"]);
    let node = lan.node("p1");
    let config = node.config(&["10.9.0.10-10.9.0.10/24", "fd00:9::10-fd00:9::10/64"], &json!(false));
    // Many times: what the kernel announces when a link is raised is heard most of the time.
    for _ in 0..20 {
        // Somebody had these addresses before; the host still sends there.
        for address in ["10.9.0.10", "fd00:9::10"] {
            lan.ip(&format!("neigh replace {address} lladdr 02:00:5e:00:53:77 nud stale dev lan0"));
        }
        let pod = Pod::new();
        let said = node.add("pod", &pod, &config);
        assert_eq!(said.addresses(), ["10.9.0.10", "fd00:9::10"]);
        let mac = said.value["interfaces"][2]["mac"].as_str().unwrap().to_owned();
        for address in ["10.9.0.10", "fd00:9::10"] {
            eventually(&format!("{address} is known to be at {mac}"), || {
                lan.ip(&format!("neigh show {address} dev lan0")).contains(&mac)
            });
        }
        node.call("DEL", "pod", &pod.path(), "", &config).addresses_or_nothing();
    }
}
