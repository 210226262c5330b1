use std::process::Command as Process;

use hopwise_kernel::netns::in_new_namespace;
use serde_json::{Value, json};

use super::*;
use crate::config::NetworkConfig;
use crate::nft::Table;
use crate::spec::{Command, Request};

fn port(host: u16, container: u16, protocol: &str, host_ip: &str) -> Value {
    json!({"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": host_ip})
}

fn config(ports: &[Value], more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "portmap",
        "runtimeConfig": {"portMappings": ports},
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [
                {"address": "192.168.0.1/24", "interface": 0},
                {"address": "10.9.0.2/24", "interface": 1},
                {"address": "10.9.1.2/24", "interface": 1},
                {"address": "fd00:9::2/64"},
            ],
        },
    });
    if let Value::Object(more) = more {
        config.as_object_mut().unwrap().extend(more);
    }
    config
}

fn invocation(id: &str, config: &Value) -> Invocation {
    let request = Request {
        command: Command::Add,
        container_id: id.to_owned(),
        netns: "/proc/self/ns/net".to_owned(),
        ifname: "eth0".to_owned(),
        args: String::new(),
        path: "/".to_owned(),
        netns_override: false,
    };
    Invocation { request, config: NetworkConfig::from_json(config.to_string().into_bytes()).unwrap() }
}

fn refused(config: &Value) -> String {
    Portmap.add(&invocation("one", config)).unwrap_err().to_string()
}

fn nft(arguments: &[&str]) -> String {
    let output = Process::new("nft").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn listed() -> String {
    nft(&["list", "table", "inet", Table::INET.name])
}

#[test]
fn the_table_is_what_nft_reads_it_as() {
    in_new_namespace(|| {
        let ports = [
            port(8080, 80, "tcp", ""),
            port(8080, 81, "UDP", "0.0.0.0"),
            port(8081, 82, "sctp", "192.0.2.1"),
            port(8082, 83, "tcp", "2001:db8::1"),
            port(8083, 84, "tcp", "::"),
            port(8083, 84, "tcp", "::"),
        ];
        let conditions = json!({
            "conditionsV4": ["!", "-d", "192.0.2.0/24", "-i", "eth+"],
            "conditionsV6": ["iifname eth1 ip6 saddr { fd00::/8, fc00::1 } meta mark & 0xf != 1"],
        });
        let _ = Portmap.add(&invocation("one", &config(&ports, conditions))).unwrap();
        let _ = Portmap
            .add(&invocation("two", &config(&[port(1, 1, "tcp", "")], json!({"snat": false}))))
            .unwrap();
        let more = json!({"masqAll": true, "markMasqBit": 5});
        let _ = Portmap.add(&invocation("three", &config(&[port(2, 2, "tcp", "")], more))).unwrap();
        expect_test::expect_file!["./table.golden"].assert_eq(&listed());
        for id in ["one", "two", "three"] {
            Portmap.del(&invocation(id, &json!({"name": "net"}))).unwrap();
        }
        assert!(!listed().contains("elements"), "{}", listed());
    });
}

#[test]
fn bad_configurations_are_refused_before_anything_is_changed() {
    in_new_namespace(|| {
        let with = |more: Value| config(&[port(1, 2, "tcp", "")], more);
        let cases = [
            (
                config(&[port(0, 1, "tcp", "")], json!({})),
                "failed to parse config: Invalid host port number: 0",
            ),
            (
                config(&[port(1, 0, "tcp", "")], json!({})),
                "failed to parse config: Invalid container port number: 0",
            ),
            (
                config(&[port(1, 1, "icmp", "")], json!({})),
                "failed to load netconf: runtimeConfig.portMappings[0].protocol: \"icmp\" is none of tcp, udp, sctp",
            ),
            (
                config(&[port(1, 1, "tcp", "x")], json!({})),
                "failed to load netconf: runtimeConfig.portMappings[0].hostIP: \"x\" is not an IP address",
            ),
            (
                config(&[json!({"hostPort": 70000, "containerPort": 1, "protocol": "tcp"})], json!({})),
                "failed to parse config: Invalid host port number: 70000",
            ),
            (
                config(&[port(1, 1, "tcp", ""), port(1, 2, "tcp", "")], json!({})),
                "runtimeConfig.portMappings: hostPort 1/tcp (IPv4) is to lead to the container's ports 1 and 2",
            ),
            (with(json!({"prevResult": null})), "must be called as chained plugin"),
            (with(json!({"prevResult": {"ips": 5}})), "failed to parse config: could not parse prevResult"),
            (
                with(json!({"markMasqBit": 32})),
                "failed to parse config: MasqMarkBit must be between 0 and 31",
            ),
            (
                with(json!({"markMasqBit": 1, "externalSetMarkChain": "X"})),
                "failed to parse config: Cannot specify externalSetMarkChain and markMasqBit",
            ),
            (with(json!({"backend": "ipfw"})), "failed to parse config: unrecognized backend \"ipfw\""),
            (
                with(
                    json!({"backend": "nftables", "externalSetMarkChain": "X", "conditionsV4": ["-i", "eth0"]}),
                ),
                "failed to parse config: nftables backend was requested but configuration contains \
                 iptables-specific options [externalSetMarkChain conditionsV4]",
            ),
            (
                with(json!({"backend": "iptables", "conditionsV6": ["iifname", "eth0"]})),
                "failed to parse config: iptables backend was requested but configuration contains \
                 nftables-specific options [conditionsV6]",
            ),
            (
                with(json!({"conditionsV4": ["a", "b"]})),
                "conditionsV4: the conditions have \"a\", which is not understood",
            ),
        ];
        for (config, expected) in cases {
            let said = refused(&config);
            assert!(said.starts_with(expected), "{said}");
        }
        assert_eq!(nft(&["list", "ruleset"]), "");
    });
}

#[test]
fn a_repeated_add_replaces() {
    in_new_namespace(|| {
        let add = |id: &str, ports: &[Value]| {
            let _ = Portmap.add(&invocation(id, &config(ports, json!({})))).unwrap();
        };
        add("one", &[port(1, 11, "tcp", ""), port(2, 12, "udp", "192.0.2.1")]);
        let before = listed();
        add("one", &[port(1, 11, "tcp", ""), port(2, 12, "udp", "192.0.2.1")]);
        assert_eq!(listed(), before);
        add("one", &[port(3, 13, "tcp", "")]);
        let after = listed();
        assert!(
            after.contains("tcp . 3") && !after.contains("tcp . 1 ") && !after.contains("udp . 2"),
            "{after}"
        );
    });
}

#[test]
fn what_was_flushed_comes_back() {
    in_new_namespace(|| {
        let check = |id: &str, ports: &[Value]| Portmap.check(&invocation(id, &config(ports, json!({}))));
        let (first, second) = ([port(1, 11, "tcp", "")], [port(2, 12, "tcp", "192.0.2.7")]);
        let _ = Portmap.add(&invocation("one", &config(&first, json!({})))).unwrap();
        check("one", &first).unwrap();
        let whole = listed();
        // Rules gone, elements there.
        nft(&["flush", "table", "inet", Table::INET.name]);
        let said = check("one", &first).unwrap_err().to_string();
        assert!(said.contains("is missing or has lost its rules"), "{said}");
        let _ = Portmap.add(&invocation("one", &config(&first, json!({})))).unwrap();
        assert_eq!(listed(), whole);
        nft(&["flush", "ruleset"]);
        let said = check("one", &first).unwrap_err().to_string();
        assert!(said.contains("hostPort 1/tcp (IPv4) does not lead to 10.9.0.2:11"), "{said}");
        // It has the addresses of the first, which therefore is gone.
        let _ = Portmap.add(&invocation("two", &config(&second, json!({})))).unwrap();
        check("two", &second).unwrap();
        let said = check("two", &first).unwrap_err().to_string();
        assert!(said.contains("is not in map"), "{said}");
    });
}

#[test]
fn status_asks_the_kernel() {
    in_new_namespace(|| {
        let config = |more: Value| config(&[], more);
        Portmap.status(&invocation("", &config(json!({"prevResult": null})))).unwrap();
        let error = Portmap.status(&invocation("", &config(json!({"backend": "x"})))).unwrap_err();
        assert!(error.msg.contains("unrecognized backend"));
    });
}
