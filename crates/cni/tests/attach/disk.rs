//! What the allocation folder's disk may do: be full, be read-only, have a clock that jumps.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Call, Host, Pod};
use crate::mount::MountNamespace;
use crate::{V4, V6};

/// A small disk, mounted in a mount namespace of its own.
struct Disk {
    mounts: MountNamespace,
    host: Host,
}

impl Disk {
    fn new(options: &str) -> Disk {
        let host = Host::new();
        let mount = format!("mount -t tmpfs -o {options} none {}", host.dir.path().display());
        Disk { mounts: MountNamespace::new(&mount), host }
    }

    /// The disk as every process sees it.
    fn path(&self) -> PathBuf {
        let inside = self.host.dir.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.mounts.pid())).join(inside)
    }

    fn config(&self, plugin: &str) -> Value {
        let mut config =
            self.host.config("1.1.0", &[V4, V6], json!({"type": plugin, "isGateway": true, "ipMasq": true}));
        config["ipam"]["dataDir"] = self.path().join("data").to_str().unwrap().into();
        config
    }

    /// Files of the network but for what is always there.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join("data/net")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock" && !name.starts_with("last_reserved_ip.")).collect()
    }

    /// Writes until there is no room for anything.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filling");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
        path
    }

    fn remount(&self, how: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.mounts.pid().to_string(), "mount", "-o", how]);
        assert!(command.arg(self.host.dir.path()).status().expect("util-linux's nsenter").success());
    }
}

#[test]
fn a_full_disk_fails_the_add_and_nothing_else() {
    for plugin in ["bridge", "ptp"] {
        let disk = Disk::new("size=64k");
        let config = disk.config(plugin);
        let (one, two) = (Pod::new(), Pod::new());
        // Full before there is anything.
        let filling = disk.fill();
        disk.host.add("one", &one, &config).err(999, "No space left on device");
        assert_eq!((disk.files().len(), disk.host.n_veths()), (0, 0));
        fs::remove_file(&filling).unwrap();
        disk.host.add("one", &one, &config).ok();
        // Full with a pod on it, which can be deleted.
        let filling = disk.fill();
        disk.host.add("two", &two, &config).err(999, "No space left on device");
        assert_eq!((disk.files().len(), disk.host.n_veths()), (2, 1));
        disk.host.del("one", &one.path(), &config).ok();
        assert_eq!((disk.files().len(), disk.host.n_veths()), (0, 0));
        fs::remove_file(&filling).unwrap();
        disk.host.add("two", &two, &config).ok();
        disk.host.del("two", &two.path(), &config).ok();
        assert_eq!((disk.files().len(), disk.host.n_veths()), (0, 0));
    }
}

#[test]
fn a_disk_without_inodes_is_a_full_one() {
    let disk = Disk::new("nr_inodes=8");
    let config = disk.config("bridge");
    let pods: Vec<Pod> = (0..4).map(|_| Pod::new()).collect();
    let mut added = Vec::new();
    for (number, pod) in pods.iter().enumerate() {
        let said = disk.host.add(&format!("pod{number}"), pod, &config);
        if said.success {
            added.push(number);
        } else {
            said.err(999, "No space left on device");
        }
    }
    assert!(added.len() < pods.len(), "{added:?}");
    assert_eq!((disk.files().len(), disk.host.n_veths()), (2 * added.len(), added.len()));
    for number in added {
        disk.host.del(&format!("pod{number}"), &pods[number].path(), &config).ok();
    }
    assert_eq!((disk.files().len(), disk.host.n_veths()), (0, 0));
}

#[test]
fn a_read_only_folder_is_told() {
    let disk = Disk::new("size=1m");
    let config = disk.config("bridge");
    let (one, two) = (Pod::new(), Pod::new());
    let status =
        || disk.host.call(&Call { command: "STATUS", id: "", netns: "", ifname: "", args: "" }, &config);
    let result = disk.host.add("one", &one, &config).ok();
    status().ok();
    disk.remount("remount,ro");
    disk.host.add("two", &two, &config).err(999, "Read-only file system");
    status().err(50, "can't write to");
    // A network that has no folder yet could get none.
    let mut fresh = config.clone();
    fresh["name"] = json!("fresh");
    let call = Call { command: "STATUS", id: "", netns: "", ifname: "", args: "" };
    disk.host.call(&call, &fresh).err(50, "can't write to");
    assert_eq!((disk.files().len(), disk.host.n_veths()), (2, 1));
    // The link goes, the address can't.
    let mut checked = config.clone();
    checked["prevResult"] = result;
    disk.host.call(&Call::new("CHECK", "one", &one.path()), &checked).ok();
    disk.host.del("one", &one.path(), &config).err(999, "Read-only file system");
    assert_eq!((disk.files().len(), disk.host.n_veths()), (2, 0));
    disk.remount("remount,rw");
    disk.host.del("one", &one.path(), &config).ok();
    status().ok();
    assert_eq!(disk.files().len(), 0);
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let host = Host::new();
    let config = host.config("1.1.0", &["10.77.0.0/29"], json!({"isGateway": true}));
    let folder = host.data_dir().join("net");
    let times = [
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800),
        SystemTime::now() + Duration::from_secs(3_153_600_000),
    ];
    for time in times {
        let (one, two) = (Pod::new(), Pod::new());
        host.add("one", &one, &config).ok();
        // The clock was elsewhere when all this was written.
        for entry in fs::read_dir(&folder).unwrap() {
            let file = OpenOptions::new().read(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(time).unwrap();
        }
        File::open(&folder).unwrap().set_modified(time).unwrap();
        let addresses = host.add("two", &two, &config).addresses();
        assert_eq!(host.reserved().len(), 2, "{addresses:?}");
        host.add("one", &one, &config).err(999, "duplicate allocation is not allowed");
        host.del("one", &one.path(), &config).ok();
        // Somebody's change, at what the index takes for its own time.
        let modified = fs::metadata(&folder).unwrap().modified().unwrap();
        fs::write(folder.join("10.77.0.5"), "three\r\neth0").unwrap();
        File::open(&folder).unwrap().set_modified(modified).unwrap();
        host.del("three", "", &config).ok();
        host.del("two", &two.path(), &config).ok();
        host.assert_empty();
    }
}
