//! A LAN: nodes with their uplink on the bridge, and a host that knows nothing of pods. Needs root.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_core::name::{IfIndex, LinkName};
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, BridgeSpec, Rtnl, VethSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

const BRIDGE: LinkName = LinkName::new_static("cni0");

/// A node: its bridge has an uplink to the LAN.
pub struct Node {
    pub namespace: Namespace,
    pub dir: TempDir,
}

/// The LAN: a switch, and a host with one link.
pub struct Lan {
    switch: Namespace,
    pub host: Namespace,
    pub host_link: IfIndex,
}

/// A pod's namespace.
pub struct Pod(pub Namespace);

/// What a plugin said.
pub struct Said {
    pub success: bool,
    pub value: Value,
    pub stderr: String,
}

fn link(namespace: &Namespace, name: LinkName) -> IfIndex {
    let mut rtnl = Rtnl::open_in(namespace.as_fd()).unwrap();
    rtnl.link_by_name(name).unwrap().unwrap().index
}

/// A link between a namespace and the switch.
fn plug(switch: &Namespace, port: LinkName, namespace: &Namespace, name: LinkName) -> IfIndex {
    let mut rtnl = Rtnl::open_in(switch.as_fd()).unwrap();
    let mut veth = VethSpec::new(port, name, Some(namespace.as_fd()));
    veth.master = Some(link(switch, LinkName::new_static("switch")));
    rtnl.add_veth(&veth).unwrap();
    let index = link(namespace, name);
    Rtnl::open_in(namespace.as_fd()).unwrap().set_up(index).unwrap();
    index
}

impl Lan {
    /// A LAN whose host has these addresses.
    pub fn new(addresses: &[&str]) -> Lan {
        let (switch, host) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        Rtnl::open_in(switch.as_fd())
            .unwrap()
            .ensure_bridge(&BridgeSpec::new(LinkName::new_static("switch")))
            .unwrap();
        let host_link = plug(&switch, LinkName::new_static("p0"), &host, LinkName::new_static("lan0"));
        let lan = Lan { switch, host, host_link };
        addresses.iter().for_each(|address| lan.set_address(address, true));
        lan
    }

    /// Gives the host an address `ADDRESS/LENGTH`, or takes it away.
    pub fn set_address(&self, text: &str, present: bool) {
        let (address, len) = text.split_once('/').unwrap();
        let mut spec = AddressSpec::new(address.parse().unwrap(), len.parse().unwrap());
        spec.no_dad = true;
        let mut rtnl = Rtnl::open_in(self.host.as_fd()).unwrap();
        let changed = if present {
            rtnl.add_address(self.host_link, &spec)
        } else {
            rtnl.delete_address(self.host_link, &spec)
        };
        changed.unwrap();
    }

    /// Runs `ip` in the host.
    pub fn ip(&self, words: &str) -> String {
        let run = || Command::new("ip").args(words.split_whitespace()).output().unwrap();
        let output = self.host.run(run).unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A node on this LAN, its port of the switch under this name.
    pub fn node(&self, port: &str) -> Node {
        let node = Node { namespace: Namespace::new().unwrap(), dir: TempDir::new().unwrap() };
        let eth1 = LinkName::new_static("eth1");
        plug(&self.switch, port.parse().unwrap(), &node.namespace, eth1);
        let mut rtnl = Rtnl::open_in(node.namespace.as_fd()).unwrap();
        let mut bridge = BridgeSpec::new(BRIDGE);
        bridge.mac = rtnl.link_by_name(eth1).unwrap().unwrap().mac;
        let bridge = rtnl.ensure_bridge(&bridge).unwrap().index;
        rtnl.set_up(bridge).unwrap();
        rtnl.set_master(eth1, Some(bridge)).unwrap();
        // The kernel notices carriers by itself, a little later; till then a port passes nothing on.
        eventually("the uplink carries traffic", || {
            rtnl.link_by_name(BRIDGE).unwrap().is_some_and(|link| link.operstate == 6)
        });
        fs::hard_link(env!("CARGO_BIN_EXE_hopwise-cni"), node.dir.path().join("hopwise"))
            .or_else(|_| {
                fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), node.dir.path().join("hopwise")).map(drop)
            })
            .unwrap();
        node
    }
}

impl Pod {
    pub fn new() -> Pod {
        Pod(Namespace::new().unwrap())
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_fd().as_raw_fd())
    }
}

impl Node {
    pub fn bridge(&self) -> IfIndex {
        link(&self.namespace, BRIDGE)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A configuration with these ranges, `FIRST-LAST/LENGTH`, and this value of `addressConflictDetection`.
    pub fn config(&self, ranges: &[&str], detection: &Value) -> Value {
        let range = |text: &&str| {
            let (range, len) = text.split_once('/').unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let net = if first.contains(':') { "fd00:9::" } else { "10.9.0.0" };
            json!([{"subnet": format!("{net}/{len}"), "rangeStart": first, "rangeEnd": last}])
        };
        let ranges: Vec<Value> = ranges.iter().map(range).collect();
        json!({
            "cniVersion": "1.1.0", "name": "lan", "type": "hopwise", "bridge": "cni0",
            "addressConflictDetection": detection,
            "ipam": {"type": "host-local", "dataDir": self.data_dir(), "ranges": ranges},
        })
    }

    pub fn spawn(&self, command: &str, id: &str, netns: &str, args: &str, config: &Value) -> Child {
        let spawn = || {
            let mut child = Command::new(self.dir.path().join("hopwise"))
                .env_clear()
                .env("CNI_COMMAND", command)
                .env("CNI_CONTAINERID", id)
                .env("CNI_NETNS", netns)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_ARGS", args)
                .env("CNI_PATH", self.dir.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
            child
        };
        self.namespace.run(spawn).unwrap()
    }

    pub fn call(&self, command: &str, id: &str, netns: &str, args: &str, config: &Value) -> Said {
        Said::of(self.spawn(command, id, netns, args, config))
    }

    pub fn add(&self, id: &str, pod: &Pod, config: &Value) -> Said {
        self.call("ADD", id, &pod.path(), "", config)
    }

    /// Reserved addresses of the network.
    pub fn reserved(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.data_dir().join("lan")) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter(|name| name != "lock" && !name.starts_with("last_reserved_ip")).collect();
        names.sort();
        names
    }

    /// The file of notes.
    pub fn notes(&self) -> PathBuf {
        self.data_dir().join(".hopwise/lan.conflicts")
    }

    /// The addresses in it.
    pub fn noted(&self) -> Vec<String> {
        let text = fs::read_to_string(self.notes()).unwrap_or_default();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

impl Said {
    pub fn of(child: Child) -> Said {
        let output = child.wait_with_output().unwrap();
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let stderr = String::from_utf8(output.stderr).unwrap();
        Said { success: output.status.success(), value, stderr }
    }

    /// The addresses, without their prefix lengths.
    #[track_caller]
    pub fn addresses(&self) -> Vec<String> {
        assert!(self.success, "{:#} {}", self.value, self.stderr);
        let ips = self.value["ips"].as_array().unwrap();
        ips.iter().map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub fn err(&self, code: u64, parts: &[&str]) {
        assert!(!self.success, "{:#}", self.value);
        assert_eq!(self.value["code"], code, "{:#}", self.value);
        for part in parts {
            assert!(self.value.to_string().contains(part), "{part:?}: {:#}", self.value);
        }
    }
}

/// Waits until something holds; the machine may be busy.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "after a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
