//! A wire, nodes on it, and what tests ask of them.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_agent::snapshot::{self, Snapshot, SnapshotOptions, ViewFrom};
use hopwise_agent::{DEFAULT_LISTEN, StoreOptions};
use hopwise_api::status::Status;
use hopwise_core::config::Settings;
use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{BridgeSpec, Rtnl, VethSpec};

pub const AGENT_DIR: &str = "HOPWISE_TEST_AGENT_DIR";
pub const AGENT_NODE: &str = "HOPWISE_TEST_AGENT_NODE";

/// Longer than anything takes on a busy machine, shorter than the slow full check.
pub const PATIENCE: Duration = Duration::from_secs(20);

const UPLINK: LinkName = LinkName::new_static("eth0");

/// Nodes on one wire, and the inventory that they share. All ends when it is dropped.
pub struct Cluster {
    wire: Namespace,
    dir: tempfile::TempDir,
    pub nodes: Vec<Node>,
}

/// A node: a network namespace, and an agent in it when it was started.
pub struct Node {
    pub n: usize,
    pub namespace: Namespace,
    dir: PathBuf,
    agent: Option<Child>,
}

impl Cluster {
    /// `n_nodes` namespaces: node N has eth0 with 192.168.0.N/24 and fd00:1::N/64, and on `lo` 10.244.N.1 and
    /// fd00:10:244:N::1 in place of a pod.
    pub fn new(n_nodes: usize) -> Cluster {
        let wire = Namespace::new().unwrap();
        wire.run(|| {
            let mut rtnl = Rtnl::open().unwrap();
            rtnl.add_bridge(&BridgeSpec::new(LinkName::new_static("wire"))).unwrap();
        })
        .unwrap();
        let mut cluster = Cluster { wire, dir: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        for n in 1..=n_nodes {
            let node = Node {
                n,
                namespace: Namespace::new().unwrap(),
                dir: cluster.dir.path().to_owned(),
                agent: None,
            };
            node.sh(&format!(
                "ip addr add 10.244.{n}.1/32 dev lo; ip addr add fd00:10:244:{n}::1/128 dev lo"
            ));
            cluster.nodes.push(node);
            cluster.plug_in(n);
        }
        cluster
    }

    /// Connects node N to the wire.
    pub fn plug_in(&self, n: usize) {
        let node = self.node(n);
        let port: LinkName = format!("port{n}").parse().unwrap();
        self.wire
            .run(|| {
                let mut rtnl = Rtnl::open().unwrap();
                let bridge = rtnl.link_by_name(LinkName::new_static("wire")).unwrap().unwrap().index;
                let mut veth = VethSpec::new(port, UPLINK, Some(node.namespace.as_fd()));
                veth.master = Some(bridge);
                rtnl.add_veth(&veth).unwrap();
            })
            .unwrap();
        node.sh(&format!(
            "ip link set eth0 up; ip addr add 192.168.0.{n}/24 dev eth0; ip addr add fd00:1::{n}/64 dev eth0 nodad"
        ));
    }

    pub fn node(&self, n: usize) -> &Node {
        &self.nodes[n - 1]
    }

    pub fn node_mut(&mut self, n: usize) -> &mut Node {
        &mut self.nodes[n - 1]
    }

    /// Starts the agents of all nodes, and waits until they are ready.
    pub fn start(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
        for node in &self.nodes {
            node.wait_ready();
        }
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the inventory, as an editor does it.
    pub fn write_inventory(&self, text: &str) {
        let fresh = self.dir.path().join("inventory.yaml~");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, self.dir.path().join("inventory.yaml")).unwrap();
    }
}

/// An inventory of dual-stack nodes 1 to `n_nodes`, changed as a test wants it.
pub struct Inventory {
    pub settings: String,
    pub networks: String,
    /// Name, addresses, pod CIDRs, anything else.
    pub nodes: Vec<(String, Vec<String>, Vec<String>, String)>,
}

impl Inventory {
    pub fn of(n_nodes: usize) -> Inventory {
        Inventory {
            settings: "mode: auto".into(),
            networks: "pods: [10.244.0.0/16, 'fd00:10:244::/48'], services: [10.96.0.0/12]".into(),
            nodes: (1..=n_nodes).map(entry).collect(),
        }
    }

    /// With a node beyond a router.
    pub fn with_far(mut self, addresses: &[&str], pod_cidrs: &[&str]) -> Inventory {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        self.nodes.push(("far".into(), owned(addresses), owned(pod_cidrs), String::new()));
        self
    }

    pub fn text(&self) -> String {
        let mut text = format!("networks: {{{}}}\nsettings: {{{}}}\nnodes:\n", self.networks, self.settings);
        for (name, addresses, pod_cidrs, more) in &self.nodes {
            let quote =
                |values: &[String]| values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(
                text,
                "- {{name: {name}, addresses: [{}], podCIDRs: [{}]{more}}}",
                quote(addresses),
                quote(pod_cidrs)
            );
        }
        text
    }
}

/// The inventory's entry of node N.
pub fn entry(n: usize) -> (String, Vec<String>, Vec<String>, String) {
    (
        format!("node{n}"),
        vec![format!("192.168.0.{n}"), format!("fd00:1::{n}")],
        vec![format!("10.244.{n}.0/24"), format!("fd00:10:244:{n}::/64")],
        String::new(),
    )
}

impl Node {
    /// Runs shell commands inside; all of them have to succeed.
    pub fn sh(&self, commands: &str) -> String {
        let output = self.try_sh(commands);
        output.unwrap_or_else(|error| panic!("node{}: {commands}: {error}", self.n))
    }

    /// Runs shell commands inside.
    pub fn try_sh(&self, commands: &str) -> Result<String, String> {
        let output = self
            .namespace
            .run(|| Command::new("sh").args(["-ec", commands]).stdin(Stdio::null()).output().unwrap())
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same node without its agent's process.
    pub fn alias(&self) -> Node {
        let namespace = self.namespace.try_clone().unwrap();
        Node { n: self.n, namespace, dir: self.dir.clone(), agent: None }
    }

    /// Starts the agent's process.
    pub fn start(&mut self) {
        assert!(self.agent.is_none());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("node{}.log", self.n)))
            .unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["agent_process", "--exact", "--nocapture"])
            .env(AGENT_DIR, &self.dir)
            .env(AGENT_NODE, format!("node{}", self.n))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.agent = Some(self.namespace.run(|| command.spawn().unwrap()).unwrap());
    }

    /// Ends the agent with SIGTERM and waits for its end, which has to be a good one.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(agent.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = agent.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Ends the agent with SIGKILL.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// CPU time of all threads of the agent so far.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.agent.as_ref().unwrap().id())).unwrap();
        let nanoseconds = tasks.flatten().map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("node{}.log", self.n))).unwrap_or_default()
    }

    /// Asks the agent: status line and headers, body. Empty when nobody answers.
    pub fn get(&self, path: &str) -> (String, String) {
        let answer = self.namespace.run(|| {
            let mut stream = TcpStream::connect_timeout(&DEFAULT_LISTEN, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        });
        let answer = answer.unwrap().unwrap_or_default();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (head.to_owned(), body.to_owned())
    }

    pub fn status(&self) -> Status {
        let (_, body) = self.get("/status");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body:?}\n{}", self.log()))
    }

    /// The identifiers and subjects of all notes.
    pub fn notes(&self) -> Vec<(String, String)> {
        self.status().notes.into_iter().map(|note| (note.id, note.subject)).collect()
    }

    /// How often a kind of object was repaired.
    pub fn repairs(&self, kind: &str) -> u64 {
        self.status().counters.repairs.get(kind).copied().unwrap_or(0)
    }

    pub fn wait_ready(&self) {
        wait_until(&format!("node{} is ready", self.n), || {
            let (head, body) = self.get("/readyz");
            if head.contains(" 200 ") { Ok(()) } else { Err(format!("{head}\n{body}\n{}", self.log())) }
        });
    }

    /// What the inventory wants of this node, beside what stands in its kernel.
    pub fn snapshot(&self) -> Snapshot {
        let store = StoreOptions::File {
            inventory: self.dir.join("inventory.yaml"),
            node_data_dir: Some(self.dir.join("node-data")),
        };
        let options = SnapshotOptions {
            node: format!("node{}", self.n).parse().unwrap(),
            view: ViewFrom::Store(store),
            settings: Settings::default(),
        };
        self.namespace.run(|| snapshot::take(options).unwrap()).unwrap()
    }

    /// Waits until nothing is left to change.
    pub fn wait_settled(&self) {
        wait_until(&format!("node{} is settled", self.n), || {
            let changes = self.snapshot().changes;
            if changes.is_empty() {
                Ok(())
            } else {
                Err(format!("{:#?}\n{}", changes.commands(), self.log()))
            }
        });
    }

    /// Our routes of both families, as `ip` prints them, without their nexthop objects' ids.
    pub fn routes(&self) -> Vec<String> {
        let text = self.sh("ip -4 route show table all proto 72; ip -6 route show table all proto 72");
        let mut routes: Vec<String> = text
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let value = |key: &str| {
                    words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1)).copied()
                };
                let [gateway, link] = ["via", "dev"].map(|key| value(key).unwrap_or("?"));
                format!("{} via {gateway} dev {link}", words[0])
            })
            .collect();
        routes.sort();
        routes
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// Waits until `check` says yes; its last no is what a failure shows.
pub fn wait_until<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(why) => assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
