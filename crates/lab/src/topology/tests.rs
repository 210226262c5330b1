use expect_test::expect;

use super::*;
use crate::layout::{Layout, Numbers};

#[test]
fn every_built_in_topology_works_out() {
    for (name, description) in list() {
        assert!(!description.is_empty(), "{name} has no description");
        let topology = load(name).unwrap();
        assert!(!topology.outside.is_empty(), "{name} shows no masquerade without an outside host");
        Layout::resolve(Default::default(), topology.clone(), Numbers::default()).unwrap();
        Layout::resolve(Default::default(), topology, Numbers { nodes: Some(20), pods_per_node: Some(5) })
            .unwrap();
    }
}

#[test]
fn a_topology_survives_being_written_and_read() {
    for (name, _) in BUILTIN {
        let topology = load(name).unwrap();
        let json = serde_json::to_string(&topology).unwrap();
        assert_eq!(parse(&json, "json").unwrap(), topology, "JSON is YAML");
    }
}

#[test]
fn errors_say_where_and_what() {
    let unknown = load("no-such").unwrap_err().to_string();
    expect![[r#"no topology "no-such": give a file, or one of one-segment, two-segments, two-segments-fabric, dual-stack, jumbo"#]].assert_eq(&unknown);
    let field = parse("segments: []\nnodes: []\nnodez: 1\n", "my.yaml").unwrap_err().to_string();
    assert!(field.contains("my.yaml") && field.contains("nodez") && field.contains('3'), "{field}");
    let cidr =
        parse("segments: [{name: a, cidrs: [10.0.0.1/24]}]\nnodes: []", "my.yaml").unwrap_err().to_string();
    assert!(cidr.contains("did you mean 10.0.0.0/24"), "{cidr}");
}
