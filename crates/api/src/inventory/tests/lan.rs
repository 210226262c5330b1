//! `networks.lan` and `nodes[].slices`.

use std::path::Path;

use expect_test::expect;

use super::{body, file};
use crate::inventory::{parse, parse_lan};

#[test]
fn a_lan_is_read_with_the_nodes_addresses_left_alone() {
    let text = "\
networks:
  pods: [192.168.1.0/24]
  services: [10.96.0.0/12]
  lan:
    subnets: [192.168.1.0/24, \"fd00:1::/64\"]
    gateways: [192.168.1.254, \"fe80::1\"]
    exclude: [192.168.1.2..20, 192.168.1.200-192.168.1.250, 192.168.1.64/28]
    addressesPerNode: 50
nodes:
  - {name: b, addresses: [192.168.1.30, \"fd00:1::30\"]}
  - {name: a, addresses: [192.168.1.31], slices: [192.168.1.100-149, \"fd00:1::100-fd00:1::131\"]}
";
    let plan = parse_lan(text, Path::new("i.yaml")).unwrap().unwrap();
    let exclude: Vec<String> = plan.lan.exclude.iter().map(ToString::to_string).collect();
    let expected = [
        "192.168.1.2-192.168.1.20",
        "192.168.1.200-192.168.1.250",
        "192.168.1.64-192.168.1.79",
        "192.168.1.30",
        "fd00:1::30",
        "192.168.1.31",
    ];
    assert_eq!(exclude, expected);
    assert_eq!((plan.lan.per_node, plan.lan.subnets.len(), plan.lan.gateways.len()), (50, 2, 2));
    assert_eq!(plan.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b", "a"], "as in the file");
    let slice = &plan.assigned.nodes[&plan.nodes[1]];
    assert_eq!((slice.v4.len(), slice.v6.len()), (50, 50));
    assert_eq!(plan.node_addresses[&plan.nodes[0]].v6, Some("fd00:1::30".parse().unwrap()));
    assert_eq!(plan.services.len(), 1);
    // The agent's view is the same with it and without.
    let view = parse(text, Path::new("i.yaml")).unwrap();
    assert_eq!((view.nodes.len(), view.networks.pods.len()), (2, 1));
    let without = parse_lan("networks: {pods: [10.0.0.0/8]}\nnodes: []\n", Path::new("i.yaml")).unwrap();
    assert_eq!(without, None);
    let short = "networks: {pods: [10.0.0.0/8], lan: {subnets: [10.0.0.0/24]}}\nnodes: []\n";
    assert_eq!(parse_lan(short, Path::new("i.yaml")).unwrap().unwrap().lan.per_node, 100);
}

#[test]
fn a_lan_that_can_not_be_meant_is_refused() {
    let lan = |lan: &str| format!("networks: {{pods: [10.0.0.0/8], lan: {lan}}}\nnodes: []\n");
    file(
        &lan("{subnets: []}"),
        &expect![
            "inventory.yaml:1:47: networks.lan.subnets: the LAN has no subnet; give at least one, for example 192.168.1.0/24"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24, 10.0.0.0/16]}"),
        &expect![
            "inventory.yaml:1:61: networks.lan.subnets[1]: subnets 10.0.0.0/24 and 10.0.0.0/16 overlap; keep one of the two"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/31]}"),
        &expect![
            "inventory.yaml:1:48: networks.lan.subnets[0]: subnet 10.0.0.0/31 is too small for slices; it needs at least two bits for hosts"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], addressesPerNode: 0}"),
        &expect![
            "inventory.yaml:1:80: networks.lan.addressesPerNode: 0 addresses for each node is no slice; give at least 1"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], addressesPerNode: 5000000000}"),
        &expect![
            "inventory.yaml:1:80: networks.lan.addressesPerNode: 5000000000 addresses for each node are more than 4294967295; give fewer"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], gateways: [10.0.0.1, 10.0.1.1]}"),
        &expect![
            "inventory.yaml:1:83: networks.lan.gateways[1]: gateway 10.0.1.1 is in none of the LAN's subnets and not link-local; give the LAN's own router"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], exclude: [10.0.0.5, 10.0.0.9-7]}"),
        &expect![[
            r#"inventory.yaml:1:82: networks.lan.exclude[1]: "10.0.0.9-7" ends before it begins; write 10.0.0.7-10.0.0.9"#
        ]],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], exclude: [10.0.0.9/24]}"),
        &expect![
            "inventory.yaml:1:72: networks.lan.exclude[0]: 10.0.0.9/24 has host bits set; write 10.0.0.9 for the one address, 10.0.0.0/24 for the network"
        ],
    );
    file(
        &lan("{subnets: [10.0.0.0/24], gateway: 10.0.0.1}"),
        &expect!["inventory.yaml:1:62: networks.lan.gateway: this key is not known; did you mean gateways?"],
    );
    body(
        "nodes:\n  - {name: a, slices: [10.0.0.1-9]}\n",
        &expect![
            "inventory.yaml:4:23: nodes[0].slices: there are slices, but no LAN; add networks.lan with the subnets that they are slices of, or take them out"
        ],
    );
    let slices = "networks: {pods: [10.0.0.0/8], lan: {subnets: [10.0.0.0/24]}}\nnodes:\n  - {name: a, slices: [10.0.1.1-9]}\n";
    file(
        slices,
        &expect![
            "inventory.yaml:3:24: nodes[0].slices[0]: 10.0.1.1-10.0.1.9 is in none of the LAN's subnets; give addresses of networks.lan.subnets, or take it out"
        ],
    );
}
