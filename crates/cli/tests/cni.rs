//! `hopwise cni install` and `uninstall` with the real plugin binary: over one that runs, on a disk that is full, and told
//! something wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

const RANGE: &str = "10.244.1.0/24";

/// The static binary, as it is shipped.
fn plugin() -> PathBuf {
    let path = std::env::var_os("HOPWISE_CNI_BIN").expect(
        "HOPWISE_CNI_BIN is not set: these tests install the real binary; use `cargo xtask test`, or build it and set it",
    );
    path.into()
}

/// Two folders, and versions of the plugin.
struct Node {
    dir: PathBuf,
}

impl Node {
    fn new(dir: &Path) -> Node {
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::write(dir.join("bin/bridge"), "the reference's").unwrap();
        Node { dir: dir.to_owned() }
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// Runs `hopwise cni ACTION`; the exit code, and all that it printed.
    fn cni(&self, action: &str, args: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_hopwise"))
            .args(["cni", action, "--bin-dir"])
            .arg(self.dir.join("bin"))
            .arg("--conf-dir")
            .arg(self.dir.join("conf"))
            .args(args)
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    /// Installs a binary, with a range.
    fn install(&self, binary: &Path) -> (i32, String) {
        self.cni("install", &["--binary", binary.to_str().unwrap(), "--range", RANGE])
    }
}

/// Another version: what stands behind the end of a program doesn't change it.
fn newer(dir: &Path) -> PathBuf {
    let path = dir.join("newer");
    fs::write(&path, [fs::read(plugin()).unwrap(), b"newer".to_vec()].concat()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_plugin_that_runs_is_replaced_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(dir.path());
    let (code, said) = node.install(&plugin());
    assert_eq!(code, 0, "{said}");
    let mut running = Command::new(node.bin("bridge"))
        .env_clear()
        .envs([("CNI_COMMAND", "STATUS"), ("CNI_PATH", "/nowhere")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let newer = newer(dir.path());
    let (code, said) = node.install(&newer);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read(node.bin("bridge")).unwrap(), fs::read(&newer).unwrap());
    let config = br#"{"cniVersion": "1.1.0", "name": "net", "type": "bridge"}"#;
    running.stdin.take().unwrap().write_all(config).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let (code, said) = node.cni("uninstall", &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_to_string(node.bin("bridge")).unwrap(), "the reference's");
    assert_eq!(fs::read_dir(dir.path().join("bin")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("conf")).unwrap().count(), 0);
}

#[test]
fn every_name_of_the_binary_is_installed_unless_some_are_chosen() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(dir.path());
    let binary = plugin();
    let said = Command::new(&binary).output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    let names = said.lines().find_map(|line| line.strip_prefix("Hopwise plugins in this binary: ")).unwrap();
    node.install(&binary);
    for name in names.split(", ").chain(["hopwise"]) {
        assert_eq!(fs::read(node.bin(name)).unwrap(), fs::read(&binary).unwrap(), "{name}");
    }
    let list = fs::read_to_string(dir.path().join("conf/10-hopwise.conflist")).unwrap();
    assert!(list.contains(RANGE) && list.contains("agentStatus"), "{list}");
    let few = ["--binary", binary.to_str().unwrap(), "--plugins", "ptp", "--no-conflist", "-o", "json"];
    let (code, said) = node.cni("install", &few);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\"change\": \"restore\""), "{said}");
    assert!(!node.bin("host-local").exists() && node.bin("ptp").exists());
    assert_eq!(fs::read_to_string(node.bin("bridge")).unwrap(), "the reference's");
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    // A thread of its own has a mount namespace of its own, and so has what it starts.
    let thread = std::thread::spawn(|| {
        let dir = TempDir::new().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let newer = newer(dir.path());
        let (old, new) = (fs::read(plugin()).unwrap(), fs::read(&newer).unwrap());
        let disk = dir.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let size = format!("size={}", old.len() * 4);
        mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        for free in [0, 8 << 10, new.len() / 2, new.len() - 8192] {
            let node = Node::new(&disk.join(free.to_string()));
            assert_eq!(node.install(&plugin()).0, 0);
            fill(&disk, free);
            let (code, said) = node.install(&newer);
            assert_eq!(code, 1, "{free} bytes are free: {said}");
            assert!(said.contains("No space left"), "{said}");
            for name in ["hopwise", "bridge", "ptp"] {
                assert_eq!(fs::read(node.bin(name)).unwrap(), old, "{free} bytes are free: {name}");
            }
            fs::remove_file(disk.join("filler")).unwrap();
            let (code, said) = node.install(&newer);
            assert_eq!(code, 0, "{said}");
            assert_eq!(fs::read(node.bin("bridge")).unwrap(), new);
            assert_eq!(node.cni("uninstall", &[]).0, 0);
            assert_eq!(fs::read_to_string(node.bin("bridge")).unwrap(), "the reference's");
            fs::remove_dir_all(disk.join(free.to_string())).unwrap();
        }
        nix::mount::umount(&disk).unwrap();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Fills a disk but for some bytes.
fn fill(disk: &Path, free: usize) {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(free as u64)).unwrap();
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(dir.path());
    let binary = plugin();
    let binary = binary.to_str().unwrap();
    fs::write(dir.path().join("bad.conflist"), r#"{"name": "net", "plugins": [{"type": "nosuch"}]}"#)
        .unwrap();
    let bad = dir.path().join("bad.conflist");
    let bad = bad.to_str().unwrap();
    let run_dir = dir.path().to_str().unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--binary", binary, "--range", "10.244.1.0/31"], 1, "network 10.244.1.0/31 is too small"),
        (&["--binary", binary, "--range", RANGE, "--bridge", "cni%d"], 64, "\"cni%d\" is not a link name"),
        (&["--binary", "/bin/true", "--range", RANGE], 1, "/bin/true is not a hopwise-cni binary"),
        (&["--binary", "/nonexistent", "--range", RANGE], 1, "can't read /nonexistent"),
        (&["--binary", binary, "--plugins", "vlan", "--range", RANGE], 1, "\"vlan\" is no plugin of"),
        (
            &["--binary", binary, "--conflist", bad],
            1,
            "bad.conflist: plugins[0].type: \"nosuch\" is no plugin in",
        ),
        (&["--binary", binary, "--run-dir", run_dir], 1, "hint: give this node's pod CIDRs with --range"),
        (&["--binary", binary, "--conf-name", "x.conf"], 64, "ends in .conflist"),
        (&["--binary", binary, "--conflist", bad, "--range", RANGE], 64, "cannot be used with"),
    ];
    for (args, expected, part) in cases {
        let (code, said) = node.cni("install", args);
        assert_eq!(code, expected, "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
        let names =
            fs::read_dir(dir.path().join("bin")).unwrap().flatten().filter(|entry| entry.path().is_file());
        assert_eq!(names.count(), 1, "{args:?}");
    }
}

#[test]
fn an_inventory_makes_pods_hosts_of_the_lan() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(dir.path());
    let binary = plugin();
    let inventory = dir.path().join("net.yaml");
    let write = |node: &str| {
        let lan = "lan: {subnets: [192.168.1.0/24], exclude: [192.168.1.60], addressesPerNode: 50}";
        let text = format!(
            "networks: {{pods: [192.168.1.0/24], services: [10.96.0.0/12], {lan}}}\nnodes:\n  \
             - {{name: other, slices: [192.168.1.100-149]}}\n  - {{name: this, addresses: [192.168.1.5]{node}}}\n"
        );
        fs::write(&inventory, text).unwrap();
    };
    let install = |name: &str| {
        let args = ["--binary", binary.to_str().unwrap(), "--inventory", inventory.to_str().unwrap()];
        node.cni("install", &[&args[..], &["--node", name, "--bridge", "br7", "--mtu", "1400"]].concat())
    };
    write("");
    let refused = [
        ("this", "net.yaml: node this has no slices\n hint: see what `hopwise l2 slices --inventory"),
        ("nobody", "net.yaml: nodes: there is no node nobody"),
    ];
    for (name, part) in refused {
        let (code, said) = install(name);
        assert!(code == 1 && said.contains(part), "{said}");
    }
    write(", slices: [192.168.1.60]");
    let (code, said) = install("this");
    assert!(code == 1 && said.contains("nothing of the slices of node this can be used"), "{said}");
    // Too few addresses are said. What is added to a slice that the file doesn't have could be another's one day.
    write(", slices: [192.168.1.50-69]");
    let (code, said) = install("this");
    assert_eq!(code, 0, "{said}");
    let list = fs::read_to_string(dir.path().join("conf/10-hopwise.conflist")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let pods = &list["plugins"][0];
    let range = |first: &str, last: &str| serde_json::json!({"subnet": "192.168.1.0/24", "rangeStart": first, "rangeEnd": last, "gateway": "192.168.1.1"});
    let expected = [range("192.168.1.50", "192.168.1.59"), range("192.168.1.61", "192.168.1.69")];
    assert_eq!(pods["ipam"]["ranges"], serde_json::json!([expected]));
    assert_eq!(pods["ipam"]["routes"][1], serde_json::json!({"dst": "10.96.0.0/12", "gw": "192.168.1.5"}));
    assert_eq!(
        (&pods["type"], &pods["bridge"], &pods["mtu"]),
        (&"hopwise".into(), &"br7".into(), &1400.into())
    );
    assert_eq!((&pods["addressConflictDetection"], &list["cniVersion"]), (&true.into(), &"1.0.0".into()));
    assert_eq!(
        (&list["plugins"][1]["type"], &list["plugins"][1]["masqAll"]),
        (&"portmap".into(), &true.into())
    );
}
