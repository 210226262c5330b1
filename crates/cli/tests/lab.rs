//! `hopwise lab` from the outside: what it prints and how it ends. What labs are made of is tested in `crates/lab`.
//!
//! Needs the plugin: `cargo xtask test` builds it and says where it is.

use std::process::Command;

/// Takes the lab down however a test ends.
struct Lab(&'static str);

impl Lab {
    fn hopwise(&self, args: &[&str]) -> (i32, String) {
        let plugin = std::env::var_os("HOPWISE_CNI_BIN");
        assert!(plugin.is_some(), "HOPWISE_CNI_BIN names the hopwise-cni binary; run `cargo xtask test`");
        let (before, after) = args.split_at(2);
        let output = Command::new(env!("CARGO_BIN_EXE_hopwise"))
            .args(before)
            .args(["--name", self.0])
            .args(after)
            // The agents too are the binary under test.
            .env("HOPWISE_BIN", env!("CARGO_BIN_EXE_hopwise"))
            .output()
            .expect("hopwise runs");
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().expect("an exit code"), String::from_utf8_lossy(&printed).into_owned())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hopwise(&["lab", "down"]);
    }
}

#[test]
fn a_lab_from_up_to_down() {
    let lab = Lab("clitest");
    let (code, shown) = lab.hopwise(&["lab", "up", "--nodes", "2", "--pods-per-node", "1"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("next: hopwise lab check --name clitest"), "{shown}");
    let (code, shown) = lab.hopwise(&["lab", "up"]);
    assert_eq!(code, 1, "it is up already: {shown}");
    assert!(shown.contains("hopwise lab down --name clitest"), "{shown}");

    let (code, shown) = lab.hopwise(&["lab", "check"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("paths are as they should be"), "{shown}");
    let (code, shown) = lab.hopwise(&["lab", "status", "-o", "json"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\"hw-clitest-node1-pod1\""), "{shown}");

    let (code, shown) =
        lab.hopwise(&["lab", "exec", "node1", "--", "sh", "-c", "ip route show proto 72; exit 7"]);
    assert_eq!(code, 7, "the command's own exit code: {shown}");
    assert!(shown.contains("10.244.2.0/24"), "{shown}");
    let (code, shown) = lab.hopwise(&["lab", "exec", "node9", "--", "true"]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("node1-pod1"), "says what there is: {shown}");

    // A path that is broken on purpose: the check finds it and ends with 2.
    let (code, shown) = lab.hopwise(&["lab", "exec", "node2-pod1", "--", "ip", "route", "del", "default"]);
    assert_eq!(code, 0, "{shown}");
    let (code, shown) = lab.hopwise(&["lab", "check"]);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("✗ node2-pod1 → node1-pod1"), "{shown}");

    let (code, shown) = lab.hopwise(&["lab", "down"]);
    assert_eq!((code, shown.as_str()), (0, "lab clitest: removed\n"));
    let (code, shown) = lab.hopwise(&["lab", "down"]);
    assert_eq!((code, shown.as_str()), (0, "lab clitest: there was none\n"));
    let (code, shown) = lab.hopwise(&["lab", "check"]);
    assert_eq!(code, 1, "{shown}");
}
