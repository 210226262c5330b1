//! What is out of range, and the way from the core and back.

use expect_test::{Expect, expect};
use hopwise_core::config;

use super::{L2, Settings, Uplink};
use crate::field::PerFamily;

fn check(json: &str, expected: &Expect) {
    let wire: Settings = serde_json::from_str(json).unwrap();
    expected.assert_eq(&config::Settings::try_from(&wire).expect_err(json).to_string());
}

#[test]
fn what_is_out_of_range_names_the_range() {
    check(r#"{"mode":"autto"}"#, &expect![[r#"mode: "autto" is not a mode; did you mean auto?"#]]);
    check(
        r#"{"mode":"ipip"}"#,
        &expect![[r#"mode: "ipip" is not a mode; write one of auto, direct, vxlan, fabric"#]],
    );
    check(r#"{"vxlanVni":0}"#, &expect!["vxlanVni: 0 is out of range; write a number from 1 to 16777215"]);
    check(
        r#"{"vxlanVni":16777216}"#,
        &expect!["vxlanVni: 16777216 is out of range; write a number from 1 to 16777215"],
    );
    check(r#"{"vxlanPort":0}"#, &expect!["vxlanPort: 0 is out of range; write a number from 1 to 65535"]);
    check(
        r#"{"vxlanPort":65536}"#,
        &expect!["vxlanPort: 65536 is out of range; write a number from 1 to 65535"],
    );
    check(
        r#"{"routeTable":0}"#,
        &expect!["routeTable: 0 is out of range; write a number from 1 to 4294967295"],
    );
    check(
        r#"{"routeTable":255}"#,
        &expect![
            "routeTable: 255 is the table `local`, which the kernel keeps for itself; write 254 for `main`, or a number that `ip rule` does not show"
        ],
    );
    check(
        r#"{"routeTable":4294967296}"#,
        &expect!["routeTable: 4294967296 is out of range; write a number from 1 to 4294967295"],
    );
    check(
        r#"{"rulePriority":32766}"#,
        &expect!["rulePriority: 32766 is out of range; write a number from 1 to 32765"],
    );
    check(
        r#"{"routeMetric":4294967296}"#,
        &expect!["routeMetric: 4294967296 is out of range; write a number from 0 to 4294967295"],
    );
    check(
        r#"{"mtu":67}"#,
        &expect![
            "mtu: an MTU of 67 bytes can't be used; write a number from 68 to 65535, or leave it out to use the uplink's own"
        ],
    );
    check(
        r#"{"mtu":65536}"#,
        &expect![
            "mtu: an MTU of 65536 bytes can't be used; write a number from 68 to 65535, or leave it out to use the uplink's own"
        ],
    );
    check(
        r#"{"mtu":18446744073709551615}"#,
        &expect![
            "mtu: an MTU of 18446744073709551615 bytes can't be used; write a number from 68 to 65535, or leave it out to use the uplink's own"
        ],
    );
    check(
        r#"{"masqueradeExempt":["172.16.0.0/12","10.0.0.1/8"]}"#,
        &expect!["masqueradeExempt[1]: 10.0.0.1/8 has host bits set; write 10.0.0.0/8"],
    );
}

#[test]
fn what_chooses_no_link_is_refused() {
    check(
        r#"{"uplink":{"name":"a/b"}}"#,
        &expect![[
            r#"uplink.name: "a/b" is not a link name; write 1 to 15 characters without '/', ':' or white space, as `ip link` shows it"#
        ]],
    );
    check(
        r#"{"uplink":{"regex":"eth["}}"#,
        &expect![[
            r#"uplink.regex: "eth[" is not a regular expression (unclosed character class); write one that matches whole link names, for example "eth[0-9]+""#
        ]],
    );
    check(
        r#"{"uplink":{"regex":"eth(?=0)"}}"#,
        &expect![[
            r#"uplink.regex: "eth(?=0)" is not a regular expression (look-around, including look-ahead and look-behind, is not supported); write one that matches whole link names, for example "eth[0-9]+""#
        ]],
    );
    check(
        r#"{"uplink":{"address":"eth0"}}"#,
        &expect![[r#"uplink.address: "eth0" is not an IP address; write it as 192.0.2.1 or 2001:db8::1"#]],
    );
    check(
        r#"{"uplink":{"canReach":"10.0.0.0/8"}}"#,
        &expect![[
            r#"uplink.canReach: "10.0.0.0/8" is not an IP address; leave off the prefix length: write 10.0.0.0"#
        ]],
    );
}

#[test]
fn an_empty_form_says_nothing() {
    let wire: Settings = serde_json::from_str(r#"{}"#).unwrap();
    assert!(wire.is_empty());
    assert_eq!(config::Settings::try_from(&wire).unwrap(), config::Settings::default());
    assert_eq!(serde_json::to_string(&Settings::from(&config::Settings::default())).unwrap(), r#"{}"#);
}

/// The file form with every field said. Has no `..`, so that a new field has to be named here.
pub fn every_setting() -> Settings {
    Settings {
        mode: Some("direct".to_owned()),
        vxlan: Some(true),
        vxlan_vni: Some(1),
        vxlan_port: Some(1),
        uplink: Some(Uplink::CanReach("192.0.2.1".to_owned())),
        masquerade: PerFamily::from_pair(Some(true), None),
        masquerade_random: Some(true),
        masquerade_exempt: Some(vec!["192.0.2.0/24".to_owned()]),
        route_table: Some(1),
        rule_priority: Some(1),
        route_metric: Some(1),
        manage_sysctls: Some(true),
        forward_accept: Some(true),
        permanent_neighbours: Some(true),
        mtu: Some(1400),
        l2: Some(L2 { uplink: "eth1".to_owned(), bridge: Some("br0".to_owned()) }),
    }
}

#[test]
fn every_setting_goes_to_the_core_and_back() {
    let wire = every_setting();
    assert_eq!(Settings::from(&config::Settings::try_from(&wire).unwrap()), wire);
}
