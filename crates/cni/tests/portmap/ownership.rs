//! Whose ports are whose.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::net::{CLIENT, Call, HOST, Host, port};
use crate::traffic::Server;
use crate::{assert_answer, assert_refused, both_ports};

fn listed(host: &Host, word: &str) -> usize {
    host.rules().matches(word).count()
}

#[test]
fn a_port_that_another_pod_has_is_refused_by_its_name() {
    let host = Host::new();
    let (one, two) = (host.attach("bridge", "one"), host.attach("bridge", "two"));
    let server = Server::new(&one.namespace, "one");
    host.add(&one, &both_ports(&server)).ok();
    let before = host.rules();
    let said =
        host.add(&two, &[port(7, 7, "tcp"), port(8080, 80, "udp")]).err(999, "hostPort 8080/udp (IPv4)");
    let holder =
        format!("it leads to 10.77.0.2:{}, eth0 of container \"one\" in network \"net\"", server.udp);
    assert!(said.contains(&holder), "{said}");
    assert_eq!(host.rules(), before, "nothing was changed");
    assert_answer(&host.client, HOST[0], &format!("one {}", CLIENT[0]));
    // Another pod's DEL takes nothing from the first.
    host.del("two");
    host.add(&two, &[port(8081, 80, "udp")]).ok();
    host.del("two");
    assert_eq!(host.rules(), before);
}

#[test]
fn what_a_pod_left_that_is_gone_is_taken_back() {
    let host = Host::new();
    let one = host.attach("bridge", "one");
    let ports = both_ports(&Server::new(&one.namespace, "one"));
    let path = host.dir.path().join("one");
    symlink(one.path(), &path).unwrap();
    let call = Call { command: "ADD", id: "one", netns: path.to_str().unwrap() };
    host.call_in(host.ours(), &call, &host.portmap(&one, &ports, &Value::Null)).ok();
    let bystander = host.attach("bridge", "bystander");
    host.add(&bystander, &[port(1, 1, "tcp")]).ok();
    // Nobody says DEL: the namespace is just no more.
    std::fs::remove_file(&path).unwrap();
    let two = host.attach("bridge", "two");
    let server = Server::new(&two.namespace, "two");
    host.add(&two, &both_ports(&server)).ok();
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
    assert_eq!((listed(&host, "\"net one"), listed(&host, "\"net bystander")), (0, 5));
    // And a pod whose address another has by now.
    let mut three = host.attach("bridge", "three");
    three.result = two.result.clone();
    host.add(&three, &both_ports(&server)).ok();
    assert_eq!((listed(&host, "\"net two"), listed(&host, "\"net three")), (0, 9));
    host.del("two");
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    const PODS: u16 = 24;
    let host = Host::new();
    let server = Server::new(&host.client, "nobody");
    let ids: Vec<String> = (0..PODS).map(|n| format!("pod{n}")).collect();
    let pods: Vec<_> = ids.iter().map(|id| host.attach("bridge", id)).collect();
    std::thread::scope(|scope| {
        for (pod, n) in pods.iter().zip(0..) {
            let (host, server) = (&host, &server);
            scope.spawn(move || {
                let ports = [port(1000 + n, 80, "tcp"), port(1000 + n, server.udp, "udp")];
                host.add(pod, &ports).ok();
                // Again and again, with one port that is fought for.
                host.add(pod, &ports).ok();
                host.add(pod, &[&ports[..], &[port(999, 80, "tcp")]].concat()).success
            });
        }
    });
    assert_eq!(listed(&host, "tcp . 999 "), 4, "one has it: {}", host.rules());
    assert_eq!(listed(&host, "udp . 1"), 4 * usize::from(PODS));
    std::thread::scope(|scope| {
        for id in &ids[1..] {
            scope.spawn(|| host.del(id));
        }
    });
    assert_eq!(listed(&host, "comment"), listed(&host, "\"net pod0 eth0\""));
    host.del("pod0");
    assert_eq!(listed(&host, "comment"), 0);
}

#[test]
fn check_gc_and_status() {
    let host = Host::new();
    let (one, two) = (host.attach("bridge", "one"), host.attach("bridge", "two"));
    let server = Server::new(&one.namespace, "one");
    let ports = both_ports(&server);
    let say = |command: &str, more: Value| {
        let mut config = host.portmap(&one, &ports, &more);
        config["cniVersion"] = "1.1.0".into();
        host.call_in(host.ours(), &Call { command, id: "one", netns: &one.path() }, &config)
    };
    say("STATUS", json!({"prevResult": null})).ok();
    say("CHECK", json!({})).err(999, "hostPort 8080/tcp (IPv4) does not lead to 10.77.0.2:");
    say("ADD", json!({})).ok();
    say("CHECK", json!({})).ok();
    say("CHECK", json!({"prevResult": null})).err(999, "Required prevResult missing");
    host.command("nft", &["delete element inet hopwise_cni targets_v6 { udp . 8080 }"]);
    say("CHECK", json!({})).err(999, "hostPort 8080/udp (IPv6) does not lead to [fd00:77::2]:");
    say("ADD", json!({})).ok();
    host.add(&two, &[port(1, 1, "tcp")]).ok();
    let valid = json!([{"containerID": "one", "ifname": "eth0"}]);
    say("GC", json!({"name": "other", "cni.dev/valid-attachments": []})).ok();
    say("GC", json!({})).ok();
    assert_eq!((listed(&host, "\"net one"), listed(&host, "\"net two")), (9, 5));
    say("GC", json!({"cni.dev/valid-attachments": valid})).ok();
    assert_eq!((listed(&host, "\"net one"), listed(&host, "\"net two")), (9, 0));
    say("CHECK", json!({})).ok();
    say("GC", json!({"cni.dev/valid-attachments": []})).ok();
    assert_refused(&host.client, HOST[0]);
}

#[test]
fn a_flushed_ruleset_comes_back_with_the_next_add() {
    let host = Host::new();
    let (one, two) = (host.attach("bridge", "one"), host.attach("bridge", "two"));
    host.add(&one, &[port(1, 1, "tcp")]).ok();
    host.command("nft", &["flush", "ruleset"]);
    let server = Server::new(&two.namespace, "two");
    host.add(&two, &both_ports(&server)).ok();
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
    // Rules gone, elements there: whoever flushed the table did not mean the maps.
    host.command("nft", &["flush", "table", "inet", "hopwise_cni"]);
    assert_refused(&host.client, HOST[0]);
    host.add(&one, &[port(1, 1, "tcp")]).ok();
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
    // Chains that elements lead to: their uses don't tell that they are empty.
    for chain in ["near_10.77.0.0/24_13", "portmap_dnat_v4"] {
        host.command("nft", &["flush", "chain", "inet", "hopwise_cni", chain]);
        assert_refused(&host.client, HOST[0]);
        let config = host.portmap(&two, &both_ports(&server), &Value::Null);
        let call = Call { command: "CHECK", id: "two", netns: &two.path() };
        let said = host.call_in(host.ours(), &call, &config).err(999, "is missing or has lost its rules");
        assert!(said.contains(chain), "{said}");
        host.add(&one, &[port(1, 1, "tcp")]).ok();
        assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
    }
    host.del("one");
    host.del("two");
}

#[test]
fn an_add_that_is_repeated_without_mappings_takes_the_first_ones_away() {
    let host = Host::new();
    let (one, two) = (host.attach("bridge", "one"), host.attach("bridge", "two"));
    let server = Server::new(&one.namespace, "one");
    host.add(&one, &both_ports(&server)).ok();
    host.add(&two, &[port(1, 1, "tcp")]).ok();
    host.add(&one, &[]).ok();
    assert_refused(&host.client, HOST[0]);
    assert_eq!((listed(&host, "\"net one"), listed(&host, "\"net two")), (0, 5));
    let server = Server::new(&two.namespace, "two");
    host.add(&two, &both_ports(&server)).ok();
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
}
