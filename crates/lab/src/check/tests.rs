use expect_test::expect;
use hopwise_api::status::{FamilyName, ReachMode};
use hopwise_kernel::netns::in_new_namespace;

use super::*;

fn end(name: &str, kind: EndpointKind, host: &str) -> EndpointReport {
    EndpointReport { name: name.into(), kind, host: host.into(), addresses: Vec::new() }
}

fn report(n_nodes: usize, n_pods: usize) -> CheckReport {
    let mut endpoints = Vec::new();
    for node in 1..=n_nodes {
        let host = format!("node{node}");
        endpoints.extend((1..=n_pods).map(|pod| end(&format!("{host}-pod{pod}"), EndpointKind::Pod, &host)));
        endpoints.push(end(&host, EndpointKind::Node, &host));
    }
    endpoints.push(end("internet", EndpointKind::Outside, "internet"));
    let mut cells = Vec::new();
    for from in &endpoints {
        for to in endpoints.iter().filter(|to| to.name != from.name && from.kind != EndpointKind::Outside) {
            cells.push(Cell {
                from: from.name.clone(),
                to: to.name.clone(),
                family: FamilyName::Ipv4,
                address: [10, 0, 0, 1].into(),
                icmp: Finding::pass(),
                tcp: Finding::pass(),
                udp: Finding::pass(),
                mtu: Finding::pass_with(1500),
                source: Finding::pass(),
            });
        }
    }
    let mode = |from: &str, to: &str| ModeFinding {
        from: from.into(),
        to: to.into(),
        family: FamilyName::Ipv4,
        expected: ReachMode::Direct,
        seen: Some(ReachMode::Direct),
    };
    let modes = vec![mode("node1", "node2"), mode("node2", "node1")];
    CheckReport {
        lab: "lab".into(),
        ok: true,
        endpoints,
        cells,
        modes,
        agents: Vec::new(),
        elapsed_millis: 412,
    }
}

#[test]
fn all_green() {
    expect![[r#"
        IPv4          node1              node2              internet
        from ↓ to →   pod1  pod2  node   pod1  pod2  node   outside
        node1-pod1    ·     ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓
        node1-pod2    ✓✓✓✓✓ ·     ✓✓✓✓✓  ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓
        node1         ✓✓✓✓✓ ✓✓✓✓✓ ·      ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓
        node2-pod1    ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ·     ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓
        node2-pod2    ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓ ·     ✓✓✓✓✓  ✓✓✓✓✓
        node2         ✓✓✓✓✓ ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓ ✓✓✓✓✓ ·      ✓✓✓✓✓
        marks: icmp, tcp, udp, mtu, source address

                node1        node2
        node1   ·            direct
        node2   direct       ·

        all 36 paths are as they should be (0.41 s)
    "#]]
    .assert_eq(&report(2, 2).table(TableOptions::default()));
}

#[test]
fn failures_stand_out_and_say_why() {
    let mut report = report(2, 1);
    report.ok = false;
    report.modes[0].seen = Some(ReachMode::Vxlan);
    report.agents.push(AgentFinding { node: "node2".into(), problem: "not running".into() });
    let cell =
        report.cells.iter_mut().find(|cell| cell.from == "node1-pod1" && cell.to == "node2-pod1").unwrap();
    cell.icmp = Finding::fail("an echo reply", "no answer");
    cell.mtu = Finding::skipped();
    cell.source = Finding::compare("10.244.1.2", "192.168.0.11");
    expect![[r#"
        IPv4          node1        node2        internet
        from ↓ to →   pod1  node   pod1  node   outside
        node1-pod1    ·     ✓✓✓✓✓  ✗✓✓-✗ ✓✓✓✓✓  ✓✓✓✓✓
        node1         ✓✓✓✓✓ ·      ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓
        node2-pod1    ✓✓✓✓✓ ✓✓✓✓✓  ·     ✓✓✓✓✓  ✓✓✓✓✓
        node2         ✓✓✓✓✓ ✓✓✓✓✓  ✓✓✓✓✓ ·      ✓✓✓✓✓
        marks: icmp, tcp, udp, mtu, source address

                node1        node2
        node1   ·            vxlan
        node2   direct       ·

        ✗ agent of node2: not running
        ✗ node1 → node2 ipv4 mode: expected direct, the agent says vxlan
        ✗ node1-pod1 → node2-pod1 (10.0.0.1) icmp: expected an echo reply, seen no answer
        ✗ node1-pod1 → node2-pod1 (10.0.0.1) source: expected 10.244.1.2, seen 192.168.0.11

        15 of 16 paths are as they should be (0.41 s)
    "#]]
    .assert_eq(&report.table(TableOptions::default()));
    assert!(report.table(TableOptions { colour: true, width: 120 }).contains("\x1b[31;1m✗\x1b[0m"));
}

#[test]
fn a_wide_matrix_has_one_mark_a_path() {
    let table = report(6, 2).table(TableOptions { colour: false, width: 80 });
    expect![[r#"
        IPv4             0                    1
        from ↓ to →      1 2 3  4 5 6  7 8 9  0 1 2  3 4 5  6 7 8  9
          1 node1-pod1   · ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          2 node1-pod2   ✓ · ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          3 node1        ✓ ✓ ·  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          4 node2-pod1   ✓ ✓ ✓  · ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          5 node2-pod2   ✓ ✓ ✓  ✓ · ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          6 node2        ✓ ✓ ✓  ✓ ✓ ·  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          7 node3-pod1   ✓ ✓ ✓  ✓ ✓ ✓  · ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          8 node3-pod2   ✓ ✓ ✓  ✓ ✓ ✓  ✓ · ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
          9 node3        ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ·  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
         10 node4-pod1   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  · ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
         11 node4-pod2   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ · ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓
         12 node4        ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ·  ✓ ✓ ✓  ✓ ✓ ✓  ✓
         13 node5-pod1   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  · ✓ ✓  ✓ ✓ ✓  ✓
         14 node5-pod2   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ · ✓  ✓ ✓ ✓  ✓
         15 node5        ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ·  ✓ ✓ ✓  ✓
         16 node6-pod1   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  · ✓ ✓  ✓
         17 node6-pod2   ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ · ✓  ✓
         18 node6        ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ✓  ✓ ✓ ·  ✓
        one mark a path; columns are numbered like rows

        all 324 paths are as they should be (0.41 s)
    "#]]
    .assert_eq(&table);
    assert!(table.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn a_very_wide_matrix_has_one_mark_a_pair_of_hosts() {
    let mut report = report(12, 4);
    let cell =
        report.cells.iter_mut().find(|cell| cell.from == "node2-pod1" && cell.to == "node5-pod4").unwrap();
    cell.mtu = Finding::fail(1500, 1450);
    report.modes.clear();
    report.ok = false;
    expect![[r#"
        IPv4           0                 1
        from ↓ to →    1 2 3 4 5 6 7 8 9 0 1 2 3
          1 node1      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          2 node2      ✓ ✓ ✓ ✓ ✗ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          3 node3      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          4 node4      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          5 node5      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          6 node6      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          7 node7      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          8 node8      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
          9 node9      ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
         10 node10     ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
         11 node11     ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
         12 node12     ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓ ✓
        one mark for all paths between two hosts and their pods; columns are numbered like rows

        ✗ node2-pod1 → node5-pod4 (10.0.0.1) mtu: expected 1500, seen 1450

        3599 of 3600 paths are as they should be (0.41 s)
    "#]]
    .assert_eq(&report.table(TableOptions { colour: false, width: 80 }));
}

#[test]
fn a_report_survives_json() {
    let report = report(2, 1);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<CheckReport>(&json).unwrap(), report);
    expect![[r#"
        {"from":"node1-pod1","to":"node1","family":"ipv4","address":"10.0.0.1","icmp":{"result":"pass"},"tcp":{"result":"pass"},"udp":{"result":"pass"},"mtu":{"result":"pass","seen":"1500"},"source":{"result":"pass"}}"#]]
    .assert_eq(&serde_json::to_string(&report.cells[0]).unwrap());
}

/// Everything on loopback, whose MTU is 65,536, and whose source address is the target's.
#[test]
fn a_probe_finds_what_is_there_and_what_is_not() {
    in_new_namespace(|| {
        for (family, address) in [(Family::V4, "127.0.0.1"), (Family::V6, "::1")] {
            let address: std::net::IpAddr = address.parse().unwrap();
            let listening = Listening::open(address).unwrap();
            let ports = listening.ports().unwrap();
            let both = match family {
                Family::V4 => PerFamily { v4: Some(listening), v6: None },
                Family::V6 => PerFamily { v4: None, v6: Some(listening) },
            };
            let server = Server::start(vec![both]).unwrap();
            let expected = Expected { path_mtu: 65_000, source: [127, 0, 0, 9].into() };
            let probed = probe(address, ports, 1, &expected);
            assert_eq!(
                (probed.icmp, probed.tcp, probed.udp),
                (Finding::pass(), Finding::pass(), Finding::pass())
            );
            assert_eq!(probed.mtu, Finding::fail(65_000, "65001 or more"));
            assert_eq!(probed.source, Finding::fail("127.0.0.9", address));
            drop(server);
            let probed = probe(address, ports, 1, &expected);
            assert!(probed.tcp.is_failure() && probed.udp.is_failure(), "{probed:?}");
            assert_eq!(probed.source, Finding::skipped());
        }
    });
}
