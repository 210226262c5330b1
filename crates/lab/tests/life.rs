//! A lab comes and goes: what is removed is removed for good, and the host's own network is never touched.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy takes only #[test] functions for tests"
)]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hopwise_lab::layout::Numbers;
use hopwise_lab::{Lab, LabError, LabName, ProcessId};
use support::{Cleanup, TestLab, binary, fresh_name, host_network, options, traces};

const SMALL: Numbers = Numbers { nodes: Some(2), pods_per_node: Some(1) };

#[test]
fn up_check_down_leaves_nothing_and_touches_nothing() {
    let before = host_network();
    let lab = TestLab::up("dual-stack", Numbers::default());
    let name = lab.name().clone();
    assert!(traces(&name).len() > 10);
    lab.assert_all_green();
    assert!(lab.status().unwrap().is_ready());
    assert_eq!(host_network(), before, "while the lab is up");
    assert!(hopwise_lab::down(&name).unwrap());
    assert_eq!(traces(&name), [] as [String; 0]);
    assert_eq!(host_network(), before, "after the lab");
    assert!(!hopwise_lab::down(&name).unwrap(), "there is nothing left to take down");
    assert!(matches!(Lab::open(&name), Err(LabError::NotFound { .. })));
}

#[test]
fn a_name_is_used_once_and_two_labs_live_side_by_side() {
    let first = TestLab::up("one-segment", SMALL);
    let mut again = options("one-segment", SMALL);
    again.name = first.name().clone();
    let refused = hopwise_lab::up(&again, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, LabError::Exists { .. }), "{refused}");
    let second = TestLab::up("one-segment", SMALL);
    first.assert_all_green();
    second.assert_all_green();
    drop(second);
    first.assert_all_green();
}

#[test]
fn down_needs_no_files_and_kills_what_runs_inside() {
    let lab = TestLab::up("one-segment", SMALL);
    let name = lab.name().clone();
    let mut child = lab.inside("node1-pod1", || Command::new("sleep").arg("1000").spawn()).unwrap().unwrap();
    let shell = ProcessId::of(child.id() as i32).unwrap();
    std::fs::remove_dir_all(lab.dir().path()).unwrap();
    assert!(hopwise_lab::down(&name).unwrap());
    assert_eq!(traces(&name), [] as [String; 0]);
    assert!(!shell.alive());
    assert!(child.wait().is_err(), "it has been waited for");
}

#[test]
fn down_goes_on_when_namespaces_are_gone_already() {
    let lab = TestLab::up("one-segment", SMALL);
    let name = lab.name().clone();
    for target in ["node1", "node2-pod1", "switch"] {
        hopwise_kernel::netns::Namespace::remove_named(&name.namespace(target)).unwrap();
    }
    assert!(hopwise_lab::down(&name).unwrap());
    assert_eq!(traces(&name), [] as [String; 0]);
}

/// What a person or a script runs.
fn up_command(name: &LabName) -> Child {
    Command::new(binary("HOPWISE_BIN"))
        .args(["lab", "up", "--nodes", "3", "--name", name.as_str()])
        .arg("--cni")
        .arg(binary("HOPWISE_CNI_BIN"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn an_up_that_is_killed_can_be_taken_down() {
    // From before anything is made to after all is up.
    for delay in [0, 5, 10, 20, 30, 45, 60, 90, 130, 200, 300, 600] {
        let name = fresh_name();
        let _cleanup = Cleanup(name.clone());
        let mut up = up_command(&name);
        std::thread::sleep(Duration::from_millis(delay));
        up.kill().unwrap();
        up.wait().unwrap();
        // A plugin or a started agent may outlive the command by a moment: that is what `down` is for.
        hopwise_lab::down(&name).unwrap();
        assert_eq!(traces(&name), [] as [String; 0], "killed after {delay} ms");
    }
}

#[test]
fn an_up_after_a_killed_up_starts_afresh() {
    let name = fresh_name();
    let mut up = up_command(&name);
    let lab_json = hopwise_lab::StateDir::of(&name).path().join("lab.json");
    support::eventually("the first up has begun", || lab_json.exists());
    up.kill().unwrap();
    up.wait().unwrap();
    let mut options = options("one-segment", SMALL);
    options.name = name;
    let lab = TestLab { lab: hopwise_lab::up(&options, &mut |_| {}).unwrap() };
    lab.assert_all_green();
}

#[test]
fn an_up_that_is_interrupted_cleans_up_itself() {
    for (delay, signal) in [(5, libc::SIGINT), (40, libc::SIGTERM), (80, libc::SIGINT)] {
        let name = fresh_name();
        let _cleanup = Cleanup(name.clone());
        let mut up = up_command(&name);
        std::thread::sleep(Duration::from_millis(delay));
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(up.id() as i32, signal) };
        let status = up.wait().unwrap();
        if status.success() {
            // Faster than the signal.
            hopwise_lab::down(&name).unwrap();
        } else {
            assert!(status.code().is_some() || status.signal() == Some(signal), "{status}");
        }
        assert_eq!(traces(&name), [] as [String; 0], "signal {signal} after {delay} ms");
    }
}

#[test]
fn an_agent_that_fails_is_shown_and_all_is_removed() {
    let mut options = options("one-segment", SMALL);
    options.hopwise = Some("/bin/false".into());
    let error = hopwise_lab::up(&options, &mut |_| {}).unwrap_err();
    let LabError::Agent { problem, evidence, .. } = &error else { panic!("{error}") };
    assert_eq!(problem, "ended");
    assert!(evidence.contains("agent.log"), "{evidence}");
    assert_eq!(traces(&options.name), [] as [String; 0]);
}

#[test]
fn a_setting_that_is_wrong_is_named_before_anything_is_made() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        "segments: [{name: lan, cidrs: [10.0.0.0/24]}]\nnodes: [{segment: lan, settings: {mode: teleport}}]";
    std::fs::write(file.path(), text).unwrap();
    let options = options(file.path().to_str().unwrap(), Numbers::default());
    let error = hopwise_lab::up(&options, &mut |_| {}).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("teleport"), "{error}: {source}");
    assert_eq!(traces(&options.name), [] as [String; 0]);
}

#[test]
fn exec_is_the_command_itself() {
    let lab = TestLab::up("one-segment", SMALL);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary("HOPWISE_BIN"));
        command.args(["lab", "exec", "--name", lab.name().as_str()]).args(arguments).output().unwrap()
    };
    let address = run(&["node1-pod1", "--", "ip", "-4", "-o", "address", "show", "eth0"]);
    assert!(String::from_utf8_lossy(&address.stdout).contains("10.244.1.2/24"), "{address:?}");
    assert_eq!(run(&["node1", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let unknown = run(&["node9", "--", "true"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("node1"), "{unknown:?}");
}
