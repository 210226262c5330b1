//! The real binary in network namespaces, as far as nftables goes: which connections come about by mapped ports, whose
//! ports are whose, what pods with another MAC address can't do, what is left of the reference's rules. Needs root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod macspoof;
mod net;
mod ownership;
mod reference;
mod traffic;

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use net::{CLIENT, Call, HOST, Host, OTHER, Pod, port};
use traffic::{Flow, PROTOCOLS, Protocol, Server, ask};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Both protocols of a server as ports 8080 of the host.
fn both_ports(server: &Server) -> [Value; 2] {
    PROTOCOLS.map(|(protocol, name)| port(8080, server.port(protocol), name))
}

/// Asks port 8080 over both protocols; the answer has to be this.
#[track_caller]
fn assert_answer(from: &hopwise_kernel::netns::Namespace, address: &str, expected: &str) {
    for (protocol, _) in PROTOCOLS {
        match ask(from, protocol, ip(address), 8080) {
            Ok(answer) => assert_eq!(answer, expected, "{protocol:?} to {address}"),
            Err(error) => panic!("{protocol:?} to {address}: {error}"),
        }
    }
}

#[track_caller]
fn assert_refused(from: &hopwise_kernel::netns::Namespace, address: &str) {
    for (protocol, _) in PROTOCOLS {
        let answer = ask(from, protocol, ip(address), 8080);
        let kind = answer.as_ref().err().map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::ConnectionRefused), "{protocol:?} to {address}: {answer:?}");
    }
}

#[test]
fn outsiders_the_host_and_pods_reach_a_mapped_port() {
    for (kind, filtered) in [("bridge", "1"), ("bridge", "0"), ("ptp", "1")] {
        let host = Host::new();
        // Whether frames between ports of a bridge pass through netfilter.
        host.run(|| {
            for family in ["ip", "ip6"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
                std::fs::write(path, filtered).unwrap();
            }
        });
        let (pod, other) = (host.attach(kind, "pod"), host.attach(kind, "other"));
        let server = Server::new(&pod.namespace, "pod");
        assert_refused(&host.client, HOST[0]);
        let result = host.add(&pod, &both_ports(&server)).ok();
        assert_eq!(result, pod.result, "the result is passed through");
        let gateways = ["10.77.0.1", "fd00:77::1"];
        for family in 0..2 {
            // Each side sees the other's own address, unless answers would not come back this way.
            assert_answer(&host.client, HOST[family], &format!("pod {}", CLIENT[family]));
            assert_answer(&host.client, OTHER[family], &format!("pod {}", CLIENT[family]));
            assert_answer(&host.namespace, HOST[family], &format!("pod {}", HOST[family]));
            assert_answer(&host.namespace, gateways[family], &format!("pod {}", gateways[family]));
            assert_answer(&pod.namespace, HOST[family], &format!("pod {}", gateways[family]));
            assert_answer(&other.namespace, HOST[family], &format!("pod {}", gateways[family]));
            assert_answer(&other.namespace, gateways[family], &format!("pod {}", gateways[family]));
            // Without the mapping nobody is asked to masquerade.
            let direct = ask(&other.namespace, Protocol::Tcp, pod.addresses()[family], server.tcp).unwrap();
            assert_eq!(direct, format!("pod {}", other.addresses()[family]));
        }
        for local in ["127.0.0.1", "127.0.0.5"] {
            assert_answer(&host.namespace, local, "pod 10.77.0.1");
        }
        // Nothing that is sent to ::1 could ever come back from a pod.
        assert_refused(&host.namespace, "::1");
        host.del("pod");
        assert_refused(&host.client, HOST[0]);
        assert!(!host.rules().contains("comment"), "{}", host.rules());
        host.detach(kind, &other);
    }
}

#[test]
fn routed_pods_have_mapped_ports() {
    let host = Host::new();
    let mut network = host.network("ptp");
    network["linkLocalGateway"] = true.into();
    let [pod, other] = ["pod", "other"].map(|id| host.attach_in(host.ours(), &network, id));
    assert_eq!(pod.result["ips"][0]["address"], "10.77.0.1/32", "no address is spent on a gateway");
    let server = Server::new(&pod.namespace, "pod");
    host.add(&pod, &both_ports(&server)).ok();
    for family in 0..2 {
        assert_answer(&host.client, HOST[family], &format!("pod {}", CLIENT[family]));
        assert_answer(&host.namespace, HOST[family], &format!("pod {}", HOST[family]));
        // Answers to others come by the host in any case.
        assert_answer(&other.namespace, HOST[family], &format!("pod {}", other.addresses()[family]));
        for (protocol, _) in PROTOCOLS {
            let answer = ask(&pod.namespace, protocol, ip(HOST[family]), 8080).unwrap();
            let masqueraded = [HOST[family], OTHER[family]].map(|address| format!("pod {address}"));
            assert!(masqueraded.contains(&answer), "{answer}");
        }
    }
    assert_answer(&host.namespace, "127.0.0.1", &format!("pod {}", HOST[0]));
}

#[test]
fn a_host_ip_is_the_only_one() {
    let host = Host::new();
    let (one, two) = (host.attach("bridge", "one"), host.attach("bridge", "two"));
    let (first, second) = (Server::new(&one.namespace, "one"), Server::new(&two.namespace, "two"));
    let of = |server: &Server, address: &str| {
        both_ports(server).map(|mut port| {
            port["hostIP"] = address.into();
            port
        })
    };
    host.add(&one, &[of(&first, HOST[0]), of(&first, HOST[1])].concat()).ok();
    for family in 0..2 {
        assert_answer(&host.client, HOST[family], &format!("one {}", CLIENT[family]));
        assert_refused(&host.client, OTHER[family]);
    }
    assert_refused(&host.namespace, "127.0.0.1");
    // All other addresses of IPv4; IPv6 stays as it is.
    host.add(&two, &of(&second, "0.0.0.0")).ok();
    assert_answer(&host.client, HOST[0], &format!("one {}", CLIENT[0]));
    assert_answer(&host.client, OTHER[0], &format!("two {}", CLIENT[0]));
    assert_refused(&host.client, OTHER[1]);
    host.del("one");
    assert_answer(&host.client, HOST[0], &format!("two {}", CLIENT[0]));
}

#[test]
fn keys_say_what_is_masqueraded() {
    let host = Host::new();
    let pod = host.attach("bridge", "pod");
    let server = Server::new(&pod.namespace, "pod");
    let add = |more: Value| host.add_with(&pod, &both_ports(&server), &more).ok();
    add(json!({"masqAll": true, "backend": "iptables"}));
    assert_answer(&host.client, HOST[0], "pod 10.77.0.1");
    assert_answer(&host.client, HOST[1], "pod fd00:77::1");
    add(json!({"snat": false, "backend": "nftables"}));
    assert_answer(&host.client, HOST[0], &format!("pod {}", CLIENT[0]));
    assert_answer(&host.namespace, HOST[0], &format!("pod {}", HOST[0]));
    add(json!({"markMasqBit": 3}));
    assert_answer(&pod.namespace, HOST[0], "pod 10.77.0.1");
    add(json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}));
    assert_answer(&host.namespace, "127.0.0.1", "pod 10.77.0.1");
}

#[test]
fn conditions_say_which_packets_are_meant() {
    let host = Host::new();
    let (pod, other) = (host.attach("bridge", "pod"), host.attach("bridge", "other"));
    let server = Server::new(&pod.namespace, "pod");
    let conditions = [
        json!({"conditionsV4": ["!", "-d", "192.0.2.9"], "conditionsV6": ["!", "-d", "2001:db8:1::9"]}),
        json!({"conditionsV4": ["ip", "daddr", "!=", OTHER[0]], "conditionsV6": ["ip6 daddr", "!=", OTHER[1]]}),
    ];
    for more in conditions {
        host.add_with(&pod, &both_ports(&server), &more).ok();
        for family in 0..2 {
            assert_answer(&host.client, HOST[family], &format!("pod {}", CLIENT[family]));
            assert_refused(&host.client, OTHER[family]);
        }
        assert_answer(&host.namespace, "127.0.0.1", "pod 10.77.0.1");
    }
    let more = json!({"conditionsV4": ["-i", "up+"], "conditionsV6": ["iifname", "up0"]});
    host.add_with(&pod, &both_ports(&server), &more).ok();
    for family in 0..2 {
        assert_answer(&host.client, HOST[family], &format!("pod {}", CLIENT[family]));
        assert_refused(&other.namespace, HOST[family]);
    }
    assert_refused(&host.namespace, HOST[0]);
    host.add_with(&pod, &[], &json!({"conditionsV4": ["-p", "tcp"]}))
        .err(2, "\"-p\", which is not understood");
}

#[test]
fn flows_of_udp_find_a_new_mapping() {
    let host = Host::new();
    let pod = host.attach("bridge", "pod");
    // The kernel tracks flows from the first mapping on.
    host.add(&host.attach("bridge", "other"), &[port(1, 1, "tcp")]).ok();
    let (inside, outside) = (Server::new(&host.namespace, "host"), Server::new(&host.client, "client"));
    let server = Server::new(&pod.namespace, "pod");
    let flow = |address: &str, port: u16| Flow::new(SocketAddr::new(ip(address), port)).unwrap();
    // One from outside to the host, and one of the host to the same port outside, for each family.
    let flows: Vec<[Flow; 2]> = (0..2)
        .map(|family| {
            let to_host = host.client.run(|| flow(HOST[family], inside.udp)).unwrap();
            let from_host = host.run(|| flow(CLIENT[family], outside.udp));
            [to_host, from_host]
        })
        .collect();
    for (family, [to_host, from_host]) in flows.iter().enumerate() {
        assert_eq!(to_host.ask().unwrap(), format!("host {}", CLIENT[family]));
        assert_eq!(from_host.ask().unwrap(), format!("client {}", HOST[family]));
    }
    let tracked =
        |port: u16| host.command("conntrack", &["-L", "-p", "udp", "--orig-port-dst", &port.to_string()]);
    let before = tracked(outside.udp);
    assert!(before.contains(HOST[0]), "{before}");
    let ports = [port(inside.udp, server.udp, "udp"), port(outside.udp, server.udp, "udp")];
    host.add(&pod, &ports).ok();
    for (family, [to_host, _]) in flows.iter().enumerate() {
        assert_eq!(to_host.ask().unwrap(), format!("pod {}", CLIENT[family]));
    }
    // The host's own flow to elsewhere is not the mapping's concern.
    let after = tracked(outside.udp);
    assert!(after.contains(&format!("dst={}", CLIENT[0])), "{after}");
    // The flow through the mapping is the mapping's own: repeating the ADD does not disturb it.
    let through = tracked(inside.udp);
    host.add(&pod, &ports).ok();
    let id = |text: &str| text.lines().find(|line| line.contains("src=10.77.0.")).map(str::to_owned);
    assert!(id(&through).is_some() && id(&tracked(inside.udp)).is_some(), "{through}");
}

#[test]
fn sctp_is_mapped_as_the_others() {
    let host = Host::new();
    let pod = host.attach("bridge", "pod");
    host.add(&pod, &[port(9999, 3868, "sctp")]).ok();
    let rules = host.rules();
    for element in ["sctp . 9999", ": 10.77.0.2 . 3868", ": fd00:77::2 . 3868"] {
        assert!(rules.contains(element), "{rules}");
    }
}

#[test]
fn results_have_the_configured_version() {
    let host = Host::new();
    let pod = host.attach("bridge", "pod");
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let result = host.add_with(&pod, &[port(80, 80, "tcp")], &json!({"cniVersion": version})).ok();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ips"][0]["version"].is_string(), version < "1.0.0");
        assert_eq!(result["ips"][0]["address"], pod.result["ips"][0]["address"]);
    }
    // A pod without mappings costs nothing, not even a table.
    let quiet = Host::new();
    let pod: Pod = quiet.attach("bridge", "pod");
    assert_eq!(quiet.add(&pod, &[]).ok(), pod.result);
    quiet.del("pod");
    assert_eq!(quiet.rules(), "");
    // As in the reference, a namespace has to be there, and not the host's.
    let call = |netns| {
        let call = Call { command: "ADD", id: "pod", netns };
        quiet.call_in(quiet.ours(), &call, &quiet.portmap(&pod, &[port(1, 1, "tcp")], &Value::Null))
    };
    call("/nowhere").err(999, "/nowhere");
    call("/proc/self/ns/net").err(8, "should not be the same");
    assert_eq!(quiet.rules(), "");
}
