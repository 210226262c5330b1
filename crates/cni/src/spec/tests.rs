use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;
use crate::json::{self, Object};

fn request(variables: &[(&str, &str)]) -> Result<Option<Request>, CniError> {
    let table: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request::from_environment(&|name| table.get(name).cloned())
}

fn check_environment(variables: &[(&str, &str)], expected: &str) {
    let error = request(variables).unwrap_err();
    assert_eq!(error.code, Code::InvalidEnvironment);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn environments_are_checked_as_the_reference_does() {
    assert_eq!(request(&[]).unwrap(), None);
    check_environment(
        &[("CNI_COMMAND", "ADD")],
        "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
    );
    check_environment(
        &[("CNI_COMMAND", "DEL"), ("CNI_PATH", "/")],
        "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing",
    );
    check_environment(&[("CNI_COMMAND", "GC")], "required env variables [CNI_PATH] missing");
    check_environment(&[("CNI_COMMAND", "EAT")], "unknown CNI_COMMAND: EAT");
    let with = |id, ifname| {
        let all = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", "/n"),
            ("CNI_IFNAME", ifname),
            ("CNI_PATH", "/p"),
            ("CNI_NETNS_OVERRIDE", "TRUE"),
        ];
        request(&all).map(|request| request.unwrap())
    };
    let good = with("a.b_c-1", "eth0").unwrap();
    assert!(good.netns_override && good.command == Command::Add && good.args.is_empty());
    assert_eq!(with("/x", "eth0").unwrap_err().to_string(), "invalid characters in containerID; /x");
    for (ifname, expected) in [
        ("sixteen-letters-", "interface name is too long; interface name should be less than 16 characters"),
        ("..", "interface name is . or .."),
        ("a/b", "interface name contains / or : or whitespace characters"),
        ("a b", "interface name contains / or : or whitespace characters"),
        ("eth%d", "interface name contains %, which the kernel replaces by a number"),
    ] {
        assert_eq!(with("x", ifname).unwrap_err().to_string(), expected);
    }
    assert!(request(&[("CNI_COMMAND", "VERSION")]).is_ok());
}

#[test]
fn versions_match_exactly() {
    for version in SpecVersion::ALL {
        assert_eq!(SpecVersion::negotiate(version.as_str()).unwrap(), version);
    }
    assert_eq!(SpecVersion::negotiate("").unwrap(), SpecVersion::V0_1_0);
    for other in ["1.2.0", "1.1", "v1.1.0", "0.5.0", "x"] {
        assert_eq!(SpecVersion::negotiate(other).unwrap_err().code, Code::IncompatibleVersion);
    }
    expect![[
        r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
    ]]
    .assert_eq(&SpecVersion::report(SpecVersion::V0_1_0).to_string());
}

#[test]
fn args_match_exactly_and_unknown_ones_need_leave() {
    let args = EnvArgs::load("IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.0.0.1;IP=10.0.0.2", &["IP"]).unwrap();
    assert_eq!((args.get("IP"), args.get("K8S_POD_NAME")), (Some("10.0.0.2"), None));
    assert_eq!(EnvArgs::load("", &["IP"]).unwrap(), EnvArgs::default());
    assert_eq!(EnvArgs::load("IP=", &["IP"]).unwrap().get("IP"), None);
    for (text, expected) in [
        ("ip=10.0.0.1", "ARGS: unknown args [\"ip=10.0.0.1\"]"),
        ("IgnoreUnknown=0;A=b", "ARGS: unknown args [\"A=b\"]"),
        ("IP", "ARGS: invalid pair \"IP\""),
        ("IP=1=2", "ARGS: invalid pair \"IP=1=2\""),
        ("IP=1;", "ARGS: invalid pair \"\""),
        (
            "IgnoreUnknown=maybe",
            "ARGS: error parsing value of pair \"IgnoreUnknown=maybe\": boolean unmarshal error: invalid input maybe",
        ),
    ] {
        assert_eq!(EnvArgs::load(text, &["IP"]).unwrap_err().to_string(), expected);
    }
}

const FULL: &str = r#"{
    "interfaces": [{"name": "cni0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/n", "mtu": 1400}],
    "ips": [
        {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 1},
        {"address": "10.1.3.3/24", "interface": 1},
        {"address": "fd00::3/64", "gateway": "fd00::1", "interface": 1}
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}, {"dst": "fd01::/16", "priority": 7, "table": 100, "mtu": 1300}],
    "dns": {"nameservers": ["10.0.0.53"], "search": ["a", "b"]}
}"#;

fn read(text: &str) -> AddResult {
    let value = json::parse(text.as_bytes()).unwrap();
    AddResult::from_json(&Object::root(&value).unwrap()).unwrap()
}

fn check_shape(result: &AddResult, version: SpecVersion, expected: &Expect) {
    expected.assert_eq(&result.to_json(version).unwrap().to_string());
}

#[test]
fn results_have_the_shape_of_their_version() {
    let result = read(FULL);
    check_shape(
        &result,
        SpecVersion::V0_2_0,
        &expect![[
            r#"{"cniVersion":"0.2.0","dns":{"nameservers":["10.0.0.53"],"search":["a","b"]},"ip4":{"gateway":"10.1.2.1","ip":"10.1.2.3/24","routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"}]},"ip6":{"gateway":"fd00::1","ip":"fd00::3/64","routes":[{"dst":"fd01::/16"}]}}"#
        ]],
    );
    check_shape(
        &result,
        SpecVersion::V0_4_0,
        &expect![[
            r#"{"cniVersion":"0.4.0","dns":{"nameservers":["10.0.0.53"],"search":["a","b"]},"interfaces":[{"mac":"02:00:00:00:00:01","name":"cni0"},{"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1,"version":"4"},{"address":"10.1.3.3/24","interface":1,"version":"4"},{"address":"fd00::3/64","gateway":"fd00::1","interface":1,"version":"6"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"fd01::/16","mtu":1300,"priority":7,"table":100}]}"#
        ]],
    );
    check_shape(
        &result,
        SpecVersion::V1_1_0,
        &expect![[
            r#"{"cniVersion":"1.1.0","dns":{"nameservers":["10.0.0.53"],"search":["a","b"]},"interfaces":[{"mac":"02:00:00:00:00:01","name":"cni0"},{"mtu":1400,"name":"eth0","sandbox":"/n"}],"ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1},{"address":"10.1.3.3/24","interface":1},{"address":"fd00::3/64","gateway":"fd00::1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"fd01::/16","mtu":1300,"priority":7,"table":100}]}"#
        ]],
    );
}

#[test]
fn empty_parts_are_left_out_except_dns_of_old_versions() {
    let empty = AddResult::default();
    check_shape(&empty, SpecVersion::V1_0_0, &expect![[r#"{"cniVersion":"1.0.0"}"#]]);
    check_shape(&empty, SpecVersion::V0_3_0, &expect![[r#"{"cniVersion":"0.3.0","dns":{}}"#]]);
    let error = empty.to_json(SpecVersion::V0_1_0).unwrap_err();
    assert_eq!(error.to_string(), "cannot convert: no valid IP addresses");
}

#[test]
fn results_of_every_version_can_be_read_back() {
    let result = read(FULL);
    for version in SpecVersion::ALL {
        let printed = result.to_json(version).unwrap();
        let again = read(&printed.to_string());
        assert_eq!(again.to_json(version).unwrap(), printed, "{version}");
    }
    assert_eq!(read(&result.to_json(SpecVersion::V1_1_0).unwrap().to_string()), result);
}

#[test]
fn errors_have_the_number_of_the_specification() {
    let error = CniError::new(Code::UnsupportedField, "vlan").details("x").context("bridge");
    expect![[r#"{"cniVersion":"0.4.0","code":2,"details":"x","msg":"bridge: vlan"}"#]]
        .assert_eq(&error.to_json(SpecVersion::V0_4_0).to_string());
    let both = CniError::collect(vec![CniError::new(Code::Io, "one"), CniError::failed("two")]).unwrap_err();
    assert_eq!((both.code, both.msg.as_str()), (Code::Io, "one; two"));
    assert_eq!(CniError::collect(Vec::new()), Ok(()));
}
