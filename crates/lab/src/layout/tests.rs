use expect_test::expect;

use super::*;
use crate::topology;

fn layout(name: &str, numbers: Numbers) -> Layout {
    Layout::resolve(LabName::default(), topology::load(name).unwrap(), numbers).unwrap()
}

fn describe(layout: &Layout) -> String {
    let mut text = String::new();
    for member in &layout.members {
        text += &member.name;
        for link in &member.interfaces {
            let addresses: Vec<String> = link.addresses.iter().map(|(a, len)| format!("{a}/{len}")).collect();
            text += &format!(
                "  {} on {} as {} mtu {} {}",
                link.name,
                link.segment,
                link.port,
                link.mtu,
                addresses.join(" ")
            );
        }
        text += "\n";
        for route in &member.routes {
            text += &format!("    {} via {}\n", route.to, route.via);
        }
        if let Role::Node(node) = &member.role {
            text += &format!("    pods {:?} of {:?}\n", node.pods, node.pod_cidrs);
        }
    }
    text
}

#[test]
fn two_segments_with_a_knowing_router() {
    let layout = layout("two-segments-fabric", Numbers { nodes: Some(3), pods_per_node: Some(1) });
    expect![[r#"
        gateway  eth0 on rack1 as gateway mtu 1500 192.168.1.1/24  eth1 on rack2 as gateway.rack2 mtu 1500 192.168.2.1/24  eth2 on wan as gateway.wan mtu 1500 203.0.113.1/24
            10.244.1.0/24 via 192.168.1.11
            10.244.2.0/24 via 192.168.1.12
            10.244.3.0/24 via 192.168.2.11
        node1  eth0 on rack1 as node1 mtu 1500 192.168.1.11/24
            0.0.0.0/0 via 192.168.1.1
            pods ["node1-pod1"] of [10.244.1.0/24]
        node2  eth0 on rack1 as node2 mtu 1500 192.168.1.12/24
            0.0.0.0/0 via 192.168.1.1
            pods ["node2-pod1"] of [10.244.2.0/24]
        node3  eth0 on rack2 as node3 mtu 1500 192.168.2.11/24
            0.0.0.0/0 via 192.168.2.1
            pods ["node3-pod1"] of [10.244.3.0/24]
        internet  eth0 on wan as internet mtu 1500 203.0.113.2/24
            0.0.0.0/0 via 203.0.113.1
    "#]]
    .assert_eq(&describe(&layout));
}

#[test]
fn dual_stack() {
    let layout = layout("dual-stack", Numbers { nodes: None, pods_per_node: Some(1) });
    expect![[r#"
        gateway  eth0 on rack1 as gateway mtu 1500 192.168.1.1/24 fd00:192:168:1::1/64  eth1 on rack2 as gateway.rack2 mtu 1500 192.168.2.1/24 fd00:192:168:2::1/64  eth2 on wan as gateway.wan mtu 1500 203.0.113.1/24 2001:db8:113::1/64
        node1  eth0 on rack1 as node1 mtu 1500 192.168.1.11/24 fd00:192:168:1::b/64
            0.0.0.0/0 via 192.168.1.1
            ::/0 via fd00:192:168:1::1
            pods ["node1-pod1"] of [10.244.1.0/24, fd00:10:244:1::/64]
        node2  eth0 on rack1 as node2 mtu 1500 192.168.1.12/24 fd00:192:168:1::c/64
            0.0.0.0/0 via 192.168.1.1
            ::/0 via fd00:192:168:1::1
            pods ["node2-pod1"] of [10.244.2.0/24, fd00:10:244:2::/64]
        node3  eth0 on rack2 as node3 mtu 1500 192.168.2.11/24 fd00:192:168:2::b/64
            0.0.0.0/0 via 192.168.2.1
            ::/0 via fd00:192:168:2::1
            pods ["node3-pod1"] of [10.244.3.0/24, fd00:10:244:3::/64]
        internet  eth0 on wan as internet mtu 1500 203.0.113.2/24 2001:db8:113::2/64
            0.0.0.0/0 via 203.0.113.1
            ::/0 via 2001:db8:113::1
    "#]]
    .assert_eq(&describe(&layout));
}

#[test]
fn routers_in_a_row_know_each_others_segments() {
    let text = "
segments: [{name: a, cidrs: [10.1.0.0/24]}, {name: b, cidrs: [10.2.0.0/24]}, {name: c, cidrs: [10.3.0.0/24]}]
routers: [{name: r1, segments: [a, b]}, {name: r2, segments: [b, c], knowsPodCidrs: true}]
nodes: [{segment: a, pods: 1}, {name: far, segment: c, pods: 0}]
";
    let topology = topology::parse(text, "row.yaml").unwrap();
    let layout = Layout::resolve(LabName::default(), topology, Numbers::default()).unwrap();
    expect![[r#"
        r1  eth0 on a as r1 mtu 1500 10.1.0.1/24  eth1 on b as r1.b mtu 1500 10.2.0.1/24
            10.3.0.0/24 via 10.2.0.2
        r2  eth0 on b as r2 mtu 1500 10.2.0.2/24  eth1 on c as r2.c mtu 1500 10.3.0.1/24
            10.1.0.0/24 via 10.2.0.1
            10.244.1.0/24 via 10.2.0.1
            10.244.2.0/24 via 10.3.0.11
        node1  eth0 on a as node1 mtu 1500 10.1.0.11/24
            0.0.0.0/0 via 10.1.0.1
            pods ["node1-pod1"] of [10.244.1.0/24]
        far  eth0 on c as far mtu 1500 10.3.0.11/24
            0.0.0.0/0 via 10.3.0.1
            pods [] of [10.244.2.0/24]
    "#]]
    .assert_eq(&describe(&layout));
}

#[test]
fn what_does_not_fit_is_named_with_the_fix() {
    let cases = [
        "segments: []\nnodes: [{segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24], mtu: 100}]\nnodes: [{segment: a}]",
        "segments: [{name: a, cidrs: [\"fd00::/64\"], mtu: 1000}]\nnodes: [{segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}, {name: b, cidrs: [10.1.0.0/16]}]\nnodes: [{segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: [{segment: x}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: [{segment: a, mtu: 9000}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: []",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: [{name: n, count: 2, segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: [{name: switch, segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/24]}]\nnodes: [{segment: a}, {name: node1-pod1, segment: a}]",
        "segments: [{name: a, cidrs: [10.1.0.0/28]}]\nnodes: [{segment: a, count: 5}]",
        "segments: [{name: a, cidrs: [10.1.0.0/16]}]\nnodes: [{segment: a, count: 256}]",
        "segments: [{name: a, cidrs: [10.1.0.0/16]}]\nnodes: [{segment: a}]\noutside: [{name: o, segment: a, routes: [{to: 0.0.0.0/0, via: x}]}]",
    ];
    let mut said = String::new();
    for text in cases {
        let topology = topology::parse(text, "case.yaml").unwrap();
        let error = Layout::resolve(LabName::default(), topology, Numbers::default()).unwrap_err();
        said += &format!("{error}\n");
    }
    expect![[r#"
        topology: segments: there is none; add one: {name: lan, cidrs: [192.168.0.0/24]}
        topology: segment a: mtu: 100 can't be used; use 576 to 61000
        topology: segment a: mtu: 1000 is less than IPv6 needs; use 1280 or more
        topology: segment b: 10.1.0.0/16 overlaps 10.1.0.0/24 of segment a; give each segment its own addresses
        topology: node1: segment "x" is not there; use one of a
        topology: node1: mtu: 9000 is more than the 1500 of segment a; use the segment's or less
        topology: nodes: there is none; add one: {segment: lan}, or ask for at least one
        topology: node n: count is 2; leave out the name or the count
        topology: member "switch": the name switch is taken; give each member its own name
        topology: member "node1-pod1": the name node1-pod1 is taken; give each member its own name
        topology: segment a: 10.1.0.0/28 has no room for node5; use a wider CIDR or fewer members
        topology: networks.pods: 10.244.0.0/16 has no /24 number 256 for node node256; use a wider network or fewer nodes
        topology: o: routes: via "x" has no address of 0.0.0.0/0's family on a; name a router or node on the same segment
    "#]]
    .assert_eq(&said);
}
