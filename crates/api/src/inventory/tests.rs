//! Every error as it is printed, and what is read and written.

use std::path::Path;

use expect_test::{Expect, expect};

use super::{parse, render};

mod documentation;
mod lan;
mod round_trip;

const NETWORKS: &str = "networks:\n  pods: [10.244.0.0/16]\n";

/// A whole file.
fn file(text: &str, expected: &Expect) {
    let error = parse(text, Path::new("inventory.yaml")).expect_err(text);
    expected.assert_eq(&error.to_string());
}

/// A file whose networks, on its first two lines, are right.
fn body(text: &str, expected: &Expect) {
    file(&format!("{NETWORKS}{text}"), expected);
}

#[test]
fn yaml_that_is_none_says_where_and_what() {
    file(
        "",
        &expect![
            "inventory.yaml:1:1: the file is empty; write an inventory into it; docs/inventory.md has examples"
        ],
    );
    file(
        "# only a comment\n",
        &expect![
            "inventory.yaml:2:1: the file is empty; write an inventory into it; docs/inventory.md has examples"
        ],
    );
    file("- a\n", &expect!["inventory.yaml:1:1: a list is not a mapping; write `KEY: VALUE` pairs"]);
    file("text\n", &expect![[r#"inventory.yaml:1:1: "text" is not a mapping; write `KEY: VALUE` pairs"#]]);
    body(
        "nodes:\n  - name: a\n    addresses: [192.0.2.1\n",
        &expect![
            "inventory.yaml:5:16: not valid YAML: unclosed bracket '['; check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes:\n  - name: a\n   addresses: [192.0.2.1]\n",
        &expect![
            "inventory.yaml:5:4: not valid YAML: while parsing a block collection, did not find expected '-' indicator; check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes:\n\t- name: a\n",
        &expect![
            "inventory.yaml:4:2: not valid YAML: tabs disallowed within this context (block indentation); check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes:\n  - name: \"a\n",
        &expect![
            "inventory.yaml:5:1: not valid YAML: invalid indentation in multiline quoted scalar; check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes:\n  - name: a: b\n",
        &expect![
            "inventory.yaml:4:12: not valid YAML: mapping values are not allowed in this context; check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes:\n  - name: !foo a\n",
        &expect![
            "inventory.yaml:4:16: not valid YAML: unsupported tag `!foo`; check the indentation, brackets and quotes here and on the lines before"
        ],
    );
    body(
        "nodes: []\n---\nnodes: []\n",
        &expect![
            "inventory.yaml:5:1: a second document starts here; keep one inventory in a file, without `---`"
        ],
    );
    body(
        "nodes:\n  - name: a\n    settings: *rack\n",
        &expect![
            "inventory.yaml:5:15: this alias stands for nothing; set the anchor (&NAME) before it, or put a text that starts with * in quotes"
        ],
    );
}

#[test]
fn keys_that_are_unknown_missing_or_twice_there_are_named() {
    body(
        "nodes:\n  - name: a\n    podCidrs: []\n",
        &expect!["inventory.yaml:5:5: nodes[0].podCidrs: this key is not known; did you mean podCIDRs?"],
    );
    body(
        "nodes:\n  - name: a\n    wombat: []\n",
        &expect![
            "inventory.yaml:5:5: nodes[0].wombat: this key is not known; the keys here are name, addresses, podCIDRs, mac, vxlanMac, os, slices, settings"
        ],
    );
    body(
        "network: {}\nnodes: []\n",
        &expect!["inventory.yaml:3:1: network: this key is not known; did you mean networks?"],
    );
    body(
        "nodes:\n  - addresses: [192.0.2.1]\n",
        &expect!["inventory.yaml:4:5: nodes[0].name: this key is missing; add `name:` with its value"],
    );
    body(
        "nodes:\n  -\n",
        &expect!["inventory.yaml:4:4: nodes[0].name: this key is missing; add `name:` with its value"],
    );
    body(
        "nodes:\n  - name: a\n    name: b\n",
        &expect![
            "inventory.yaml:5:5: nodes[0].name: this key stands here a second time; keep one of the two"
        ],
    );
    body(
        "nodes: []\nnodes: []\n",
        &expect!["inventory.yaml:4:1: nodes: this key stands here a second time; keep one of the two"],
    );
    body(
        "nodes:\n  - name: a\n    mac: {ipv5: a}\n",
        &expect!["inventory.yaml:5:11: nodes[0].mac.ipv5: this key is not known; did you mean ipv4?"],
    );
    body(
        "settings: &rack {mtux: 1400}\nnodes:\n  - name: b\n    settings: *rack\n",
        &expect!["inventory.yaml:3:18: settings.mtux: this key is not known; did you mean mtu?"],
    );
    file(
        "nodes: []\n",
        &expect!["inventory.yaml:1:1: networks: this key is missing; add `networks:` with its value"],
    );
    file(
        "networks: {}\nnodes: []\n",
        &expect!["inventory.yaml:1:11: networks.pods: this key is missing; add `pods:` with its value"],
    );
}

#[test]
fn values_of_another_kind_are_named() {
    body(
        "",
        &expect![
            "inventory.yaml:1:1: nodes: there are no nodes; list them; if there are to be none, write `nodes: []`"
        ],
    );
    body(
        "nodes:\n",
        &expect![
            "inventory.yaml:3:6: nodes: there are no nodes; list them; if there are to be none, write `nodes: []`"
        ],
    );
    body(
        "nodes: {}\n",
        &expect![
            "inventory.yaml:3:8: nodes: a mapping is not a list; write [A, B], or each entry on a line of its own after `- `"
        ],
    );
    body(
        "nodes: 5\n",
        &expect![[
            r#"inventory.yaml:3:8: nodes: "5" is not a list; write [A, B], or each entry on a line of its own after `- `"#
        ]],
    );
    body(
        "nodes:\n  - 5\n",
        &expect![[r#"inventory.yaml:4:5: nodes[0]: "5" is not a mapping; write `KEY: VALUE` pairs"#]],
    );
    body(
        "nodes:\n  - name: [a]\n",
        &expect!["inventory.yaml:4:11: nodes[0].name: a list is not a text; write one value"],
    );
    body(
        "nodes:\n  - name:\n",
        &expect!["inventory.yaml:4:9: nodes[0].name: nothing is not a text; write one value"],
    );
    body(
        "nodes:\n  - name: a\n    addresses: 192.0.2.1\n",
        &expect![[
            r#"inventory.yaml:5:16: nodes[0].addresses: "192.0.2.1" is not a list; write [A, B], or each entry on a line of its own after `- `"#
        ]],
    );
    body(
        "nodes:\n  - name: a\n    addresses: [fd00::]\n",
        &expect![
            "inventory.yaml:5:17: nodes[0].addresses[0]: a mapping is not a text; put it in quotes if it is a text with colons"
        ],
    );
}

#[test]
fn settings_of_another_kind_are_named() {
    body(
        "nodes:\n  - name: a\n    mac: 5\n",
        &expect![[
            r#"inventory.yaml:5:5: nodes[0].mac: "5" is not one value for both families, or a mapping with ipv4 and ipv6; docs/inventory.md shows what can stand here"#
        ]],
    );
    body(
        "settings: {vxlanVni: -5}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:22: settings.vxlanVni: "-5" is not a whole number; write digits only, as in 1450"#
        ]],
    );
    body(
        "settings: {mtu: 1400.5}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:17: settings.mtu: "1400.5" is not a whole number; write digits only, as in 1450"#
        ]],
    );
    body(
        "settings: {vxlan: maybe}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:19: settings.vxlan: "maybe" is not true or false; write true or false"#
        ]],
    );
    body(
        "settings: {masquerade: {ipv4: maybe}}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:31: settings.masquerade.ipv4: "maybe" is not true or false; write true or false"#
        ]],
    );
    body(
        "settings: {uplink: eth0}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:20: settings.uplink: "eth0" is not known here; write auto, or a mapping with one of name, regex, address, canReach, such as {name: eth0}"#
        ]],
    );
    body(
        "settings: {uplink: {nam: eth0}}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:3:21: settings.uplink.nam: "nam" is not known here; write auto, or a mapping with one of name, regex, address, canReach, such as {name: eth0}"#
        ]],
    );
    body(
        "settings: {uplink: {name: eth0, regex: x}}\nnodes: []\n",
        &expect![
            "inventory.yaml:3:33: settings.uplink.regex: there is more than one key; write auto, or a mapping with one of name, regex, address, canReach, such as {name: eth0}"
        ],
    );
    body(
        "settings: {uplink: [eth0]}\nnodes: []\n",
        &expect![
            "inventory.yaml:3:20: settings.uplink: a list does not choose a link; write auto, or a mapping with one of name, regex, address, canReach, such as {name: eth0}"
        ],
    );
}

#[test]
fn networks_that_can_not_be_meant_are_refused() {
    file(
        "networks: {pods: []}\nnodes: []\n",
        &expect![
            "inventory.yaml:1:18: networks.pods: there is no pod network, so that no pod CIDR can be taken; list the networks that pod CIDRs are cut from, for example [10.244.0.0/16]"
        ],
    );
    file(
        "networks: {pods: [10.244.0.0]}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:1:19: networks.pods[0]: "10.244.0.0" is not a CIDR; write it as ADDRESS/LENGTH, for example 10.244.1.0/24 or fd00:10:244:1::/64"#
        ]],
    );
    file(
        "networks: {pods: [10.244.1.0/16]}\nnodes: []\n",
        &expect![
            "inventory.yaml:1:19: networks.pods[0]: 10.244.1.0/16 has host bits set; write 10.244.0.0/16"
        ],
    );
    file(
        "networks: {pods: [10.244.0.0/33]}\nnodes: []\n",
        &expect![[
            r#"inventory.yaml:1:19: networks.pods[0]: "10.244.0.0/33" is not a CIDR; write it as ADDRESS/LENGTH, for example 10.244.1.0/24 or fd00:10:244:1::/64"#
        ]],
    );
    file(
        "networks:\n  pods: [10.244.0.0/16]\n  services: [10.96.0.0/12, 10.244.255.0/24]\nnodes: []\n",
        &expect![
            "inventory.yaml:3:28: networks.services[1]: the service range 10.244.255.0/24 overlaps the pod network 10.244.0.0/16; make one of them smaller or move it"
        ],
    );
    file(
        "networks:\n  pods: [10.244.0.0/16]\n  fabric: [10.244.0.0/17, 10.245.0.0/16]\nnodes: []\n",
        &expect![
            "inventory.yaml:3:27: networks.fabric[1]: 10.245.0.0/16 is in none of the pod networks; list only parts of networks.pods here: those that the routers between the nodes know"
        ],
    );
}

#[test]
fn nodes_that_can_not_be_meant_are_refused() {
    body(
        "nodes:\n  - name: Node_1\n",
        &expect![[
            r#"inventory.yaml:4:11: nodes[0].name: "Node_1" is not a node name; use lower-case letters, digits, '-' and '.', at most 253 characters, as `kubectl get nodes` shows it"#
        ]],
    );
    body(
        "nodes:\n  - name: a\n  - name: b\n  - name: a\n",
        &expect![
            "inventory.yaml:6:11: nodes[2].name: node a stands here and in nodes[0]; give each node one entry"
        ],
    );
    body(
        "nodes:\n  - name: a\n    addresses: [192.0.2.300]\n",
        &expect![[
            r#"inventory.yaml:5:17: nodes[0].addresses[0]: "192.0.2.300" is not an IP address; write it as 192.0.2.1 or 2001:db8::1"#
        ]],
    );
    body(
        "nodes:\n  - name: a\n    addresses: [192.0.2.1/24]\n",
        &expect![[
            r#"inventory.yaml:5:17: nodes[0].addresses[0]: "192.0.2.1/24" is not an IP address; leave off the prefix length: write 192.0.2.1"#
        ]],
    );
    body(
        "nodes:\n  - name: a\n    addresses: [192.0.2.1, 192.0.2.1]\n",
        &expect![
            "inventory.yaml:5:28: nodes[0].addresses[1]: 192.0.2.1 stands here twice; keep one of the two"
        ],
    );
    body(
        "nodes:\n  - name: a\n    podCIDRs:\n      - 10.244.1.0/24\n      - 10.244.2.7/24\n",
        &expect![
            "inventory.yaml:7:9: nodes[0].podCIDRs[1]: 10.244.2.7/24 has host bits set; write 10.244.2.0/24"
        ],
    );
    body(
        "nodes:\n  - name: a\n    podCIDRs: [10.244.0.0/23, 10.244.1.0/24]\n",
        &expect![
            "inventory.yaml:5:31: nodes[0].podCIDRs[1]: 10.244.1.0/24 overlaps 10.244.0.0/23, another pod CIDR of this node; keep one of the two, or make them disjoint"
        ],
    );
    body(
        "nodes:\n  - name: a\n    mac: 02-00-5e-00-53-01\n",
        &expect![[
            r#"inventory.yaml:5:10: nodes[0].mac: "02-00-5e-00-53-01" is not a MAC address; write six pairs of hexadecimal digits, as in "02:00:5e:00:53:01""#
        ]],
    );
    body(
        "nodes:\n  - name: a\n    mac: {ipv6: \"03:00:5e:00:53:01\"}\n",
        &expect![
            "inventory.yaml:5:17: nodes[0].mac.ipv6: 03:00:5e:00:53:01 is not the address of a single host; give the MAC address of the node's link, as `ip link` shows it"
        ],
    );
    body(
        "nodes:\n  - name: a\n    vxlanMac: \"00:00:00:00:00:00\"\n",
        &expect![
            "inventory.yaml:5:15: nodes[0].vxlanMac: 00:00:00:00:00:00 is not the address of a single host; give the MAC address of the node's link, as `ip link` shows it"
        ],
    );
    body(
        "nodes:\n  - name: a\n    os: plan9\n",
        &expect![[
            r#"inventory.yaml:5:9: nodes[0].os: "plan9" is not an operating system; write linux or windows"#
        ]],
    );
    body(
        "nodes:\n  - name: a\n    settings: {mode: vxlam}\n",
        &expect![[
            r#"inventory.yaml:5:22: nodes[0].settings.mode: "vxlam" is not a mode; did you mean vxlan?"#
        ]],
    );
}

#[test]
fn lies_are_for_the_planner() {
    let text = format!(
        "{NETWORKS}nodes:\n\
         - {{name: a, addresses: [192.0.2.1], podCIDRs: [10.244.1.0/24]}}\n\
         - {{name: b, addresses: [192.0.2.1, 127.0.0.1, 224.0.0.1], podCIDRs: [10.244.0.0/16, 10.96.0.0/24]}}\n"
    );
    let view = parse(&text, Path::new("inventory.yaml")).unwrap();
    assert_eq!(view.nodes.len(), 2);
}

/// Every field.
const EVERYTHING: &str = r#"
networks:
  pods: [10.244.0.0/16, "fd00:10:244::/48"]
  services: [10.96.0.0/12]
  nodes: [192.168.0.0/16, fd00:1::/64]
  fabric: [10.244.128.0/17]
settings:
  mode: auto
  vxlan: true
  vxlanVni: 4857
  vxlanPort: 4789
  uplink: {regex: "eth[0-9]+"}
  masquerade: {ipv4: true, ipv6: false}
  masqueradeRandom: true
  masqueradeExempt: [172.16.0.0/12]
  routeTable: 254
  rulePriority: 32000
  routeMetric: 0
  manageSysctls: true
  forwardAccept: true
  permanentNeighbours: true
  mtu: 1450
nodes:
  - name: node1
    addresses: [192.168.0.1, fd00:1::1]
    podCIDRs: [10.244.1.0/24, fd00:10:244:1::/64]
    mac: 02:00:5e:00:53:01
    vxlanMac: 02:00:5e:00:53:02
    os: linux
    settings: {uplink: {name: eth0}, masquerade: false}
  - name: "2"
    addresses: [192.168.0.2]
    mac: {ipv4: "02:00:5e:00:53:03"}
    os: windows
    settings: {uplink: {canReach: 192.0.2.1}, mode: direct}
  - name: node3
"#;

#[test]
fn everything_that_can_be_said_is_read_and_written() {
    let view = parse(EVERYTHING, Path::new("inventory.yaml")).unwrap();
    let written = render(&view);
    expect![[r##"
        # hopwise inventory, version 1
        networks:
          pods: [10.244.0.0/16, fd00:10:244::/48]
          services: [10.96.0.0/12]
          nodes: [192.168.0.0/16, fd00:1::/64]
          fabric: [10.244.128.0/17]
        settings:
          mode: auto
          vxlan: true
          vxlanVni: 4857
          vxlanPort: 4789
          uplink:
            regex: eth[0-9]+
          masquerade:
            ipv4: true
            ipv6: false
          masqueradeRandom: true
          masqueradeExempt:
            - 172.16.0.0/12
          routeTable: 254
          rulePriority: 32000
          routeMetric: 0
          manageSysctls: true
          forwardAccept: true
          permanentNeighbours: true
          mtu: 1450
        nodes:
          - name: "2"
            addresses: ["192.168.0.2"]
            mac:
              ipv4: 02:00:5e:00:53:03
            os: windows
            settings:
              mode: direct
              uplink:
                canReach: "192.0.2.1"
          - name: node1
            addresses: ["192.168.0.1", fd00:1::1]
            podCIDRs: [10.244.1.0/24, fd00:10:244:1::/64]
            mac: 02:00:5e:00:53:01
            vxlanMac: 02:00:5e:00:53:02
            settings:
              uplink:
                name: eth0
              masquerade: false
          - name: node3
    "##]]
    .assert_eq(&written);
    assert_eq!(parse(&written, Path::new("inventory.yaml")).unwrap(), view);
}
