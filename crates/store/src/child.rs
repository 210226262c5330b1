//! Tests that run themselves again in a process of its own: to be killed, or to be in other namespaces.

use std::path::Path;
use std::process::Command;

/// Set in such a process, to the directory to work in.
pub const CHILD: &str = "HOPWISE_TEST_CHILD";

/// This test program again, for one test.
pub fn again(test: &str, dir: &Path) -> Command {
    child(Command::new(std::env::current_exe().unwrap()), test, dir)
}

/// Runs one test again in new namespaces, as `unshare` names them, and fails with it. Needs root, or else unprivileged
/// user namespaces.
pub fn again_in_namespace(namespaces: &str, test: &str, dir: &Path) {
    let mut unshare = Command::new("unshare");
    unshare.arg(namespaces);
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("-r");
    }
    unshare.arg(std::env::current_exe().unwrap());
    let output = child(unshare, test, dir).output().unwrap();
    assert!(output.status.success(), "failed inside, or no namespaces to be had: {output:?}");
}

fn child(mut command: Command, test: &str, dir: &Path) -> Command {
    command.args(["--exact", test]).env(CHILD, dir);
    command
}
