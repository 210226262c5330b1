//! What a peer may write in its file.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{MAX_LEN, decode, encode};
use crate::arbitrary;

fn check(json: &str, expected: &Expect) {
    expected.assert_eq(&decode(json.as_bytes(), &"node1".parse().unwrap()).expect_err(json).to_string());
}

#[test]
fn what_can_not_be_believed_is_refused() {
    check(
        "",
        &expect![
            "it is not node data: EOF while parsing a value at line 1 column 0; delete the file; that node's agent writes it again"
        ],
    );
    check(
        "[]",
        &expect![
            "it is not node data: invalid length 0, expected struct File with 4 elements at line 1 column 2; delete the file; that node's agent writes it again"
        ],
    );
    check(
        r#"{"node":"node1"}"#,
        &expect![
            "it is not node data: missing field `version` at line 1 column 16; delete the file; that node's agent writes it again"
        ],
    );
    check(
        r#"{"version":2,"node":"node1"}"#,
        &expect!["version: version 2 is not known here, 1 is the newest; update this node's agent"],
    );
    check(
        r#"{"version":1,"node":"node2"}"#,
        &expect![[
            r#"node: "node2" is not node1, whose file this is; delete the file; that node's agent writes it again"#
        ]],
    );
    check(
        r#"{"version":1,"node":"node1","mac":"ff:ff:ff:ff:ff:ff"}"#,
        &expect![
            "mac: ff:ff:ff:ff:ff:ff is not the address of a single host; give the MAC address of the node's link, as `ip link` shows it"
        ],
    );
    check(
        r#"{"version":1,"node":"node1","mac":{"ipv6":"01:00:5e:00:00:01"}}"#,
        &expect![
            "mac.ipv6: 01:00:5e:00:00:01 is not the address of a single host; give the MAC address of the node's link, as `ip link` shows it"
        ],
    );
    check(
        r#"{"version":1,"node":"node1","vxlanMac":"eth0"}"#,
        &expect![[
            r#"vxlanMac: "eth0" is not a MAC address; write six pairs of hexadecimal digits, as in "02:00:5e:00:53:01""#
        ]],
    );
    check(
        &" ".repeat(MAX_LEN + 1),
        &expect!["it is larger than 4096 bytes; delete the file; that node's agent writes it again"],
    );
}

#[test]
fn what_a_newer_agent_adds_is_passed_over() {
    let json = r#"{"version":1,"node":"node1","vxlanMac":"02:00:5e:00:53:01","region":"north"}"#;
    let data = decode(json.as_bytes(), &"node1".parse().unwrap()).unwrap();
    assert_eq!(data.vxlan_mac.unwrap().to_string(), "02:00:5e:00:53:01");
}

proptest! {
    #[test]
    fn what_is_published_is_read(node in arbitrary::node_name(), data in arbitrary::node_data()) {
        let json = encode(&node, &data);
        prop_assert!(json.len() <= MAX_LEN);
        prop_assert_eq!(decode(json.as_bytes(), &node).unwrap(), data);
    }
}
