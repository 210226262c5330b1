//! `hopwise l2 slices`: what it prints, keeps and ends with. Touches no network.

#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn slices(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hopwise"));
    command.env_remove("HOPWISE_NODE").env_remove("HOPWISE_INVENTORY");
    command.args(["l2", "slices"]).args(args).output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: i32, part: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(part), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn nodes_come_and_go_and_keep_their_slices() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("slices.json");
    let state = state.to_str().unwrap();
    let lan = ["--subnet", "192.168.1.0/24", "--exclude", "192.168.1.2..20", "--per-node", "50"];
    let with = |nodes: &str, more: &[&str]| {
        let args = [&lan[..], &["--nodes", nodes, "--state", state], more].concat();
        ends_with(&slices(&args), 0, "")
    };
    let table = with("b,a", &[]);
    let expected = "\
NODE  STATE  ADDRESSES
a     here   192.168.1.71-192.168.1.120
b     here   192.168.1.21-192.168.1.70
";
    assert_eq!(table, expected);
    let value: Value = serde_json::from_str(&with("c,a", &["-o", "json"])).unwrap();
    assert_eq!(value["nodes"][0]["slices"][0], "192.168.1.71-192.168.1.120");
    assert_eq!(value["nodes"][1]["ranges"][0][0]["rangeStart"], "192.168.1.121");
    assert_eq!(value["departed"][0]["node"], "b");
    let table = with("a,b,c", &[]);
    assert!(table.contains("b     here   192.168.1.21-192.168.1.70"), "{table}");
    std::fs::write(state, "{").unwrap();
    let args = [&lan[..], &["--nodes", "a", "--state", state]].concat();
    ends_with(&slices(&args), 1, "slices.json: not a state of slices");
    assert_eq!(std::fs::read_to_string(state).unwrap(), "{", "bad input changes nothing");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn too_few_addresses_end_with_2_and_names() {
    let args = ["--subnet", "10.0.0.0/28", "--per-node", "8", "--nodes", "a,b,c"];
    let table = ends_with(&slices(&args), 2, "c got none, b 5; 13 can be had, 24 are needed");
    assert!(table.contains("c     here   -\n"), "{table}");
    let args = [&args[..], &["-o", "conflist", "--node", "c"]].concat();
    ends_with(&slices(&args), 1, "node c has no addresses: too few IPv4 addresses");
}

#[test]
fn an_inventory_gives_a_node_its_conflist() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("net.yaml");
    std::fs::write(
        &file,
        "networks:\n  pods: [192.168.1.0/24]\n  lan: {subnets: [192.168.1.0/24], addressesPerNode: 20}\n\
         nodes:\n  - {name: one, addresses: [192.168.1.5]}\n  - {name: two, slices: [192.168.1.40-59]}\n",
    )
    .unwrap();
    let inventory = ["--inventory", file.to_str().unwrap()];
    let with = |more: &[&str]| slices(&[&inventory[..], more].concat());
    let conflist = ends_with(&with(&["--node", "two", "-o", "conflist", "--bridge", "br1"]), 0, "");
    let value: Value = serde_json::from_str(&conflist).unwrap();
    let plugin = &value["plugins"][0];
    assert_eq!((&plugin["bridge"], &plugin["addressConflictDetection"]), (&"br1".into(), &true.into()));
    assert_eq!(plugin["ipam"]["ranges"][0][0]["rangeEnd"], "192.168.1.59");
    let table = ends_with(&with(&[]), 0, "");
    assert!(table.contains("one   here   192.168.1.6-192.168.1.25"), "{table}");
    ends_with(&with(&["-o", "conflist"]), 1, "name the node with --node NAME");
    ends_with(&with(&["-o", "conflist", "--node", "three"]), 1, "node three is none of those");
    ends_with(&with(&["--subnet", "10.0.0.0/24"]), 64, "cannot be used with");
    std::fs::write(&file, "networks: {pods: [10.0.0.0/8]}\nnodes: []\n").unwrap();
    ends_with(&with(&[]), 1, "networks.lan is missing");
}

#[test]
fn a_wrong_command_line_is_named() {
    let lan = ["--subnet", "10.0.0.0/24", "--nodes", "a"];
    for (args, part) in [
        (&["--subnet", "10.0.0.1/24", "--nodes", "a"][..], "did you mean 10.0.0.0/24?"),
        (&["--subnet", "10.0.0.0/24"], "--nodes"),
        (
            &["--subnet", "::ffff:10.0.0.0/112", "--nodes", "a"],
            "is an IPv4 network written as IPv6; write it as IPv4",
        ),
        (&[&lan[..], &["--exclude", "10.0.0.9-3"]].concat(), "write 10.0.0.3-10.0.0.9"),
        (&[&lan[..], &["--per-node", "0"]].concat(), "--per-node"),
        (
            &[&lan[..], &["--gateway", "10.9.9.9"]].concat(),
            "gateway 10.9.9.9 is in none of the LAN's subnets",
        ),
    ] {
        assert_eq!(ends_with(&slices(args), 64, part), "", "{args:?}");
    }
}
