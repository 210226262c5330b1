//! The exit codes that docs/cli.md promises, and that errors come with a hint.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

use std::process::Command;

fn hopwise(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hopwise")).args(args).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn answers_end_with_0() {
    for args in
        [&["version"][..], &["version", "-o", "json"], &["--help"], &["help"], &["completion", "bash"]]
    {
        assert_eq!(hopwise(args), (0, String::new()), "{args:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_64() {
    for args in [
        &[][..],
        &["fly"],
        &["agent"],
        &["agent", "--inventory", "x", "--mtu", "5"],
        &["agent", "--inventory", "x", "--mode", "ipip"],
        &["routes", "-o", "xml"],
        &["lab", "up", "--name", "A-B"],
        &["lab", "down", "--all", "--name", "x"],
        &["plan", "--node-data", "x"],
    ] {
        let (code, message) = hopwise(args);
        assert_eq!(code, 64, "{args:?}: {message}");
        assert!(!message.is_empty(), "{args:?}");
    }
}

#[test]
fn no_agent_ends_with_3_and_a_hint() {
    // Port 1 of loopback: nobody is there.
    for command in ["status", "routes"] {
        let (code, message) = hopwise(&[command, "--agent", "127.0.0.1:1"]);
        assert_eq!(code, 3, "{message}");
        assert!(message.starts_with("error: no agent answers at 127.0.0.1:1: "), "{message}");
        assert!(message.contains("\n hint: start it with `hopwise agent`"), "{message}");
    }
}

#[test]
fn what_could_not_be_done_ends_with_1_and_says_why() {
    let (code, message) =
        hopwise(&["plan", "--diff", "--node", "node1", "--inventory", "/nonexistent/net.yaml"]);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("/nonexistent/net.yaml") && message.contains("\n hint: "), "{message}");
    let (code, message) = hopwise(&["--log", "a=b=c", "version"]);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("--log"), "{message}");
    let (code, message) = hopwise(&["lab", "status", "--name", "nosuchlab"]);
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("hopwise lab up"), "{message}");
}
