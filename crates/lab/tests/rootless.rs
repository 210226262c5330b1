//! A lab without root. The user is `nobody` when the tests run as root, else whoever runs them.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy takes only #[test] functions for tests"
)]

mod support;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hopwise_lab::LabName;
use support::{binary, traces};

/// The binaries where anybody may read them (a checkout may be closed to others), and the labs made with them.
struct Programs {
    dir: tempfile::TempDir,
    labs: RefCell<Vec<LabName>>,
}

impl Drop for Programs {
    fn drop(&mut self) {
        for name in self.labs.take() {
            self.lab(&name, &["down"]);
        }
    }
}

impl Programs {
    fn copy() -> Programs {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for (variable, name) in [("HOPWISE_BIN", "hopwise"), ("HOPWISE_CNI_BIN", "hopwise-cni")] {
            let to = dir.path().join(name);
            std::fs::copy(binary(variable), &to).unwrap();
            std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Programs { dir, labs: RefCell::default() }
    }

    /// A name for a lab that goes when this goes.
    fn fresh_name(&self) -> LabName {
        let name = support::fresh_name();
        self.labs.borrow_mut().push(name.clone());
        name
    }

    fn hopwise(&self) -> PathBuf {
        self.dir.path().join("hopwise")
    }

    /// `hopwise lab …` as a user who isn't root.
    fn lab(&self, name: &LabName, arguments: &[&str]) -> Output {
        let mut command = as_somebody(&self.hopwise());
        let (subcommand, rest) = arguments.split_first().unwrap();
        command.args(["lab", subcommand, "--name", name.as_str()]).args(rest);
        command.current_dir("/").env_remove("XDG_RUNTIME_DIR").output().unwrap()
    }
}

fn as_somebody(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--"])
        .arg(program);
    command
}

fn assert_good(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
}

#[test]
fn a_lab_without_root_comes_checks_and_goes() {
    let programs = Programs::copy();
    let name = programs.fresh_name();
    assert_good(&programs.lab(&name, &["up", "--nodes", "2", "--pods-per-node", "1"]));
    let while_up = traces(&name);
    let checked = programs.lab(&name, &["check"]);
    let status = programs.lab(&name, &["status"]);
    let inside = programs.lab(&name, &["exec", "node1", "--", "ip", "-4", "route"]);
    assert_good(&programs.lab(&name, &["down"]));
    assert!(
        !while_up.iter().any(|trace| trace.starts_with("namespace")),
        "root's /run/netns has {while_up:?}"
    );
    assert_good(&checked);
    assert_good(&status);
    assert_good(&inside);
    assert!(String::from_utf8_lossy(&inside.stdout).contains("10.244.2.0/24"), "{inside:?}");
    assert_eq!(traces(&name), [] as [String; 0]);
}

#[test]
fn a_lab_whose_holder_was_killed_can_be_taken_down() {
    let programs = Programs::copy();
    let name = programs.fresh_name();
    assert_good(&programs.lab(&name, &["up", "--nodes", "2", "--pods-per-node", "1"]));
    let holder = format!("hw-{name}");
    assert_good(&Command::new("sh").args(["-c", &format!("kill -9 $(pgrep -x {holder})")]).output().unwrap());
    let holder_lives = || traces(&name).iter().any(|trace| trace.contains("holder"));
    support::eventually("the holder is gone", || !holder_lives());
    let lost = programs.lab(&name, &["check"]);
    assert!(!lost.status.success());
    assert!(String::from_utf8_lossy(&lost.stderr).contains("down"), "it says what to do: {lost:?}");
    assert_good(&programs.lab(&name, &["down"]));
    assert_eq!(traces(&name), [] as [String; 0]);
}

#[test]
fn a_lab_whose_files_were_lost_can_be_taken_down() {
    let programs = Programs::copy();
    let name = programs.fresh_name();
    assert_good(&programs.lab(&name, &["up", "--nodes", "2", "--pods-per-node", "1"]));
    let files = traces(&name).into_iter().find_map(|trace| Some(trace.strip_prefix("files in ")?.to_owned()));
    if let Some(dir) = files {
        std::fs::remove_dir_all(dir).unwrap();
    }
    assert_good(&programs.lab(&name, &["down"]));
    assert_eq!(traces(&name), [] as [String; 0]);
}

#[test]
fn an_interrupted_up_without_root_leaves_nothing() {
    let programs = Programs::copy();
    for delay in ["0.01", "0.05", "0.15"] {
        let name = programs.fresh_name();
        let script = format!(
            "{} lab up --name {name} >/dev/null 2>&1 & sleep {delay}; kill -9 $!; wait",
            programs.hopwise().display()
        );
        let mut command = as_somebody(Path::new("/bin/sh"));
        command.args(["-c", &script]).current_dir("/").env_remove("XDG_RUNTIME_DIR").output().unwrap();
        assert_good(&programs.lab(&name, &["down"]));
        assert_eq!(traces(&name), [] as [String; 0], "killed after {delay} s");
    }
}

#[test]
fn a_system_that_forbids_it_is_explained() {
    let programs = Programs::copy();
    let name = programs.fresh_name();
    // A user namespace of its own has a limit of its own: here none may be made below it.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} lab up --name {name}",
        programs.hopwise().display()
    );
    let mut command = as_somebody(Path::new("unshare"));
    command.args(["--user", "--map-root-user", "sh", "-c", &script]);
    let output = command.current_dir("/").env_remove("XDG_RUNTIME_DIR").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("max_user_namespaces"), "{said}");
    assert_eq!(traces(&name), [] as [String; 0]);
}

/// Where nobody has made `/run/netns` yet only root could: the lab then has a `/run` of its own, with all that was there,
/// its own files among it. A private mount namespace stands for such a system.
#[test]
fn a_system_without_run_netns_will_do() {
    let programs = Programs::copy();
    let name = programs.fresh_name();
    let script = format!(
        "set -e
        mount -t tmpfs tmpfs /run
        mkdir -p /run/user/65534 && chmod 777 /run/user/65534
        touch /run/a-file && ln -s a-file /run/a-link
        export XDG_RUNTIME_DIR=/run/user/65534
        nobody() {{ setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- {hopwise} lab \"$@\"; }}
        nobody up --name {name} --nodes 2 --pods-per-node 1
        test -d /run/user/65534/hopwise-lab/{name}
        nobody check --name {name}
        nobody exec --name {name} node1 -- test -e /run/a-link
        nobody down --name {name}
        test ! -e /run/user/65534/hopwise-lab",
        hopwise = programs.hopwise().display()
    );
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-auto", "--map-root-user"]);
    }
    assert_good(&command.args(["--mount", "sh", "-c", &script]).current_dir("/").output().unwrap());
    assert_eq!(traces(&name), [] as [String; 0]);
}
