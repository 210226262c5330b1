//! A node whose uplink has this and that, `hopwise l2 persist` on it, and the programs of Debian that read its output.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hopwise_kernel::netns::Namespace;
use serde_json::Value;
use tempfile::TempDir;

pub const MAC: &str = "02:00:5e:00:53:11";

/// A node: `eth1` leads to `far`, in the same namespace.
pub struct Node {
    pub namespace: Namespace,
    pub dir: TempDir,
}

impl Node {
    /// A node after these `ip` commands, one a line.
    pub fn new(commands: &str) -> Node {
        let node = Node { namespace: Namespace::new().unwrap(), dir: TempDir::new().unwrap() };
        node.ip(&format!("link add eth1 address {MAC} type veth peer name far"));
        node.ip("link set far up");
        node.ip("link set eth1 up");
        for line in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            node.ip(line);
        }
        fs::write(node.resolv_conf(), "nameserver 192.0.2.53\nnameserver fd00:53::1\nsearch lan.example\n")
            .unwrap();
        node
    }

    fn resolv_conf(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }

    pub fn ip(&self, words: &str) -> String {
        ip(&self.namespace, words)
    }

    pub fn hopwise(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopwise"));
        command.args(["l2", "persist", "--resolv-conf"]).arg(self.resolv_conf()).args(args);
        self.namespace.run(|| command.output().unwrap()).unwrap()
    }

    /// What it prints for a format.
    #[track_caller]
    pub fn printed(&self, format: &str) -> String {
        let output = self.hopwise(&["--format", format, "--uplink", "eth1"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The folder that it writes a format's files below.
    #[track_caller]
    pub fn written(&self, format: &str) -> PathBuf {
        let dir = self.dir.path().join(format);
        let output = self.hopwise(&["--format", format, "--uplink", "eth1", "--dir", dir.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        dir
    }
}

/// Runs `ip`, which must succeed.
#[track_caller]
pub fn ip(namespace: &Namespace, words: &str) -> String {
    let run = || Command::new("ip").args(words.split_whitespace()).output().unwrap();
    let output = namespace.run(run).unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program of Debian's packages, with their libraries before the system's.
pub fn debian(path: &str) -> Command {
    let root = std::env::var_os("HOPWISE_DEBIAN_PEERS").map(PathBuf::from).expect(
        "HOPWISE_DEBIAN_PEERS names the folder with Debian's packages; run `cargo xtask test`, or `cargo xtask peers` \
         for what to export",
    );
    let program = root.join(path);
    assert!(program.is_file(), "{} is not there", program.display());
    let mut folders = Vec::new();
    for lib in ["usr/lib", "lib"] {
        for entry in fs::read_dir(root.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                folders.extend([entry.path(), entry.path().join("systemd")]);
            }
        }
    }
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap()).env("LC_ALL", "C.UTF-8");
    command
}

/// What it prints; it must end well and complain of nothing.
#[track_caller]
pub fn quietly(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A link's addresses and the routes through it that somebody made, as lines that can be compared: without who made them,
/// and with `LINK` for its name.
pub fn state(namespace: &Namespace, link: &str) -> BTreeSet<String> {
    let list = |words: &str| -> Vec<Value> {
        let text = ip(namespace, words);
        if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
    };
    let mut lines = BTreeSet::new();
    for entry in list(&format!("-j address show dev {link}")) {
        for address in entry["addr_info"].as_array().into_iter().flatten() {
            if address["scope"] == "link" || address["dynamic"] == true {
                continue;
            }
            let label = address["label"].as_str().unwrap_or(link).replacen(link, "LINK", 1);
            let deprecated = address["preferred_life_time"] == 0;
            lines.insert(format!(
                "{}/{} label {label} metric {} deprecated {deprecated}",
                address["local"].as_str().unwrap(),
                address["prefixlen"],
                address["metric"],
            ));
        }
    }
    for family in ["-4", "-6"] {
        for route in list(&format!("-j {family} route show table all dev {link}")) {
            let skipped =
                route["table"] == "local" || route["protocol"] == "kernel" || route["protocol"] == "ra";
            if !skipped {
                let key = |name: &str| route[name].to_string();
                lines.insert(format!(
                    "{family} {} via {} metric {} table {} src {} {} {}",
                    key("dst"),
                    key("gateway"),
                    key("metric"),
                    key("table"),
                    key("prefsrc"),
                    key("metrics"),
                    key("flags"),
                ));
            }
        }
    }
    lines
}

/// systemd-networkd in network and mount namespaces of its own, where `/run` and `/etc/systemd/network` are empty but
/// for the configuration. No udev: it takes `/sys` that can't be written to for a container's, and waits for none.
pub struct Networkd {
    child: Child,
    log: PathBuf,
    pub namespace: Namespace,
}

const NETWORKD: &str = r#"
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t sysfs -o ro sysfs /sys
mkdir -p /run/systemd/network /run/systemd/netif /run/dbus
cp "$CONFIGURATION"/* /run/systemd/network/
chown -R systemd-network: /run/systemd/netif
chmod 644 /run/systemd/network/*
ip link set lo up
ip link add eth1 address 02:00:5e:00:53:11 type veth peer name far
ip link set far up
exec "$NETWORKD"
"#;

impl Networkd {
    /// Starts it with the units of a folder.
    pub fn start(units: &Path, dir: &Path) -> Networkd {
        let networkd = debian("lib/systemd/systemd-networkd");
        let log = dir.join("networkd.log");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-e", "-c", NETWORKD]);
        command.envs(networkd.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("NETWORKD", networkd.get_program()).env("CONFIGURATION", units);
        command.env("SYSTEMD_LOG_TARGET", "console").env("SYSTEMD_LOG_LEVEL", "debug");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let child = command.spawn().unwrap();
        let path = format!("/proc/{}/ns/net", child.id());
        // It has left our namespace before anything can be asked in its own.
        eventually(|| match fs::read_link(&path) {
            Ok(there) if there != own => Ok(()),
            other => Err(format!("no namespace of its own: {other:?}; {}", read(&log))),
        });
        let namespace = Namespace::open(Path::new(&path)).unwrap();
        Networkd { child, log, namespace }
    }

    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until the bridge is as it should be, and its port.
    #[track_caller]
    pub fn until(&self, expected: &BTreeSet<String>) {
        eventually(|| {
            let show = || Command::new("ip").args(["-d", "link", "show"]).output().unwrap();
            let links = String::from_utf8(self.namespace.run(show).unwrap().stdout).unwrap();
            let port = links.contains(" master cni0 ");
            let bridge = links.contains("bridge forward_delay 0 ") && links.contains(" stp_state 0 ");
            if !port || !bridge || links.matches(MAC).count() < 2 {
                return Err(format!("{links}\n{}", self.log()));
            }
            let state = state(&self.namespace, "cni0");
            if state == *expected {
                return Ok(());
            }
            Err(format!("have {state:#?}\nwant {expected:#?}\n{}", self.log()))
        });
    }

    /// No line of its log says that something was not understood.
    #[track_caller]
    pub fn assert_understood(&self) {
        let doubts = ["Unknown", "ignoring", "Failed to parse", "Invalid", "deprecated"];
        let log = self.log();
        let about_units = log.lines().filter(|line| line.contains("/run/systemd/network/"));
        let bad: Vec<&str> =
            about_units.filter(|line| doubts.iter().any(|doubt| line.contains(doubt))).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

impl Drop for Networkd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Waits until something holds; the machine may be busy.
#[track_caller]
pub fn eventually(mut holds: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    loop {
        match holds() {
            Ok(()) => return,
            Err(why) if started.elapsed() > Duration::from_secs(60) => panic!("after a minute: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
