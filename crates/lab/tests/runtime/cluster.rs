//! Two nodes on a wire, each with an agent, the plugins put in place by `hopwise cni install`, and containerd.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{BridgeSpec, Rtnl, VethSpec};
use serde_json::Value;
use tempfile::TempDir;

use super::cri::Containerd;
use super::node::{CGROUP_PREFIX, Daemon, Node, clean_leftovers, read};
use super::support::{binary, eventually_within, folder};
use super::{PATIENCE, image};

/// The plugins that a node has from its distribution before ours come.
const REFERENCE: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "bandwidth"];

/// Everything, gone when it is dropped.
pub struct Cluster {
    /// The runtimes come first: they are dropped first.
    pub containerd: Vec<Containerd>,
    agents: Vec<Option<Daemon>>,
    pub nodes: Vec<Node>,
    /// Also a host that is no node: it has 192.168.77.254, and routes to the nodes' pods.
    pub wire: Namespace,
    pub dir: TempDir,
    hopwise: String,
    plugin: String,
}

impl Cluster {
    /// Two nodes with the containerd that an environment variable names; agents and containerd aren't started.
    pub fn new(label: &str, containerd: &str) -> Cluster {
        clean_leftovers();
        let (hopwise, plugin) = (binary("HOPWISE_BIN"), binary("HOPWISE_CNI_BIN"));
        let tools: Vec<(String, PathBuf)> = vec![
            ("containerd".into(), folder(containerd, "containerd")),
            ("crictl".into(), folder("HOPWISE_CRICTL", "crictl")),
            ("reference".into(), folder("HOPWISE_REFERENCE_CNI", "cnitool")),
            ("hopwise".into(), hopwise.0),
            ("plugin".into(), plugin.0),
        ];
        let prefix = format!("{CGROUP_PREFIX}{}-{label}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let wire = Namespace::new().unwrap();
        wire.run(|| {
            let mut rtnl = Rtnl::open().unwrap();
            rtnl.add_bridge(&BridgeSpec::new(LinkName::new_static("wire"))).unwrap();
        })
        .unwrap();
        let node = |number: usize| {
            let name = format!("node{number}");
            Node::start(&format!("{label}-{name}"), &dir.path().join(name), &tools)
        };
        let nodes = vec![node(1), node(2)];
        let cluster = Cluster {
            containerd: Vec::new(),
            agents: vec![None, None],
            nodes,
            wire,
            dir,
            hopwise: hopwise.1,
            plugin: plugin.1,
        };
        cluster.on_wire(
            "ip link set wire up; ip addr add 192.168.77.254/24 dev wire; \
                         ip addr add fd00:77::254/64 dev wire nodad",
        );
        for number in [1, 2] {
            cluster.plug_in(number);
            cluster.on_wire(&format!(
                "ip route add 10.244.{number}.0/24 via 192.168.77.{number}; \
                 ip route add fd00:10:244:{number}::/64 via fd00:77::{number}"
            ));
        }
        let entries = [1, 2].map(|n| {
            format!(
                "- {{name: node{n}, addresses: ['192.168.77.{n}', 'fd00:77::{n}'], podCIDRs: ['10.244.{n}.0/24', \
                 'fd00:10:244:{n}::/64']}}\n"
            )
        });
        let networks = "networks: {pods: [10.244.0.0/16, 'fd00:10:244::/48']}";
        fs::write(cluster.dir.path().join("net.yaml"), format!("{networks}\nnodes:\n{}", entries.concat()))
            .unwrap();
        cluster.put_reference_plugins();
        cluster
    }

    /// Node 1 or 2.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// Its runtime.
    pub fn runtime(&self, number: usize) -> &Containerd {
        &self.containerd[number - 1]
    }

    /// Runs shell commands on the host that is no node.
    pub fn on_wire(&self, commands: &str) {
        let output = self
            .wire
            .run(|| std::process::Command::new("sh").args(["-ec", commands]).output().unwrap())
            .unwrap();
        assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Connects a node to the wire.
    fn plug_in(&self, number: usize) {
        let node = self.node(number);
        let inside = Namespace::open(&node.network()).unwrap();
        let port: LinkName = format!("port{number}").parse().unwrap();
        self.wire
            .run(|| {
                let mut rtnl = Rtnl::open().unwrap();
                let bridge = rtnl.link_by_name(LinkName::new_static("wire")).unwrap().unwrap().index;
                let mut veth = VethSpec::new(port, LinkName::new_static("eth0"), Some(inside.as_fd()));
                veth.master = Some(bridge);
                rtnl.add_veth(&veth).unwrap();
            })
            .unwrap();
        node.ok(&[
            "sh",
            "-ec",
            &format!(
                "ip link set eth0 up; ip addr add 192.168.77.{number}/24 dev eth0; \
                 ip addr add fd00:77::{number}/64 dev eth0 nodad"
            ),
        ]);
    }

    /// What a distribution's package leaves in /opt/cni/bin.
    fn put_reference_plugins(&self) {
        for node in &self.nodes {
            let reference = folder("HOPWISE_REFERENCE_CNI", "cnitool");
            fs::create_dir_all(node.disk("opt/cni/bin")).unwrap();
            for plugin in REFERENCE {
                let to = node.disk("opt/cni/bin").join(plugin);
                fs::copy(reference.join(plugin), to).unwrap();
            }
        }
    }

    /// Runs `hopwise` on a node.
    #[track_caller]
    pub fn hopwise(&self, number: usize, args: &[&str]) -> String {
        let node = self.node(number);
        node.ok(&[&[node.tool("hopwise", &self.hopwise).as_str()], args].concat())
    }

    /// `hopwise cni install` on a node.
    #[track_caller]
    pub fn install(&self, number: usize, args: &[&str]) -> String {
        let plugin = self.node(number).tool("plugin", &self.plugin);
        self.hopwise(number, &[&["cni", "install", "--binary", &plugin], args].concat())
    }

    /// Starts the agent of a node, and waits until it is ready.
    pub fn start_agent(&mut self, number: usize) {
        let node = self.node(number);
        let inventory = self.dir.path().join("net.yaml");
        let (name, program) = (format!("node{number}"), node.tool("hopwise", &self.hopwise));
        let agent = node.spawn(
            "agent",
            &[&program, "agent", "--node", &name, "--inventory", inventory.to_str().unwrap()],
        );
        eventually_within(PATIENCE, &format!("the agent of {name} is ready"), || {
            node.run(&[&program, "status"])
                .map(drop)
                .map_err(|said| format!("{said}\n{}", node.log_tail("agent")))
        });
        self.agents[number - 1] = Some(agent);
    }

    /// Ends the agent of a node by a signal.
    pub fn end_agent(&mut self, number: usize, signal: &str) {
        let mut agent = self.agents[number - 1].take().unwrap();
        self.node(number).signal(&mut agent, signal);
    }

    /// Starts containerd on all nodes, with the image.
    pub fn start_containerd(&mut self) {
        let archive = image::write(self.dir.path());
        for node in &self.nodes {
            let containerd = Containerd::start(node);
            containerd.import(node, &archive);
            self.containerd.push(containerd);
        }
    }

    /// Ends all that runs on a node, its network with it, and starts it again with what is on its disk.
    pub fn restart_node(&mut self, number: usize) {
        self.nodes[number - 1].restart();
        self.agents[number - 1] = None;
        self.plug_in(number);
        self.start_agent(number);
        self.containerd[number - 1] = Containerd::start(self.node(number));
    }

    /// The addresses that are taken on a node, by the files of its network.
    pub fn taken(&self, number: usize, network: &str) -> Vec<IpAddr> {
        let folder = self.node(number).disk("var/lib/cni/networks").join(network);
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut taken: Vec<IpAddr> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        taken.sort();
        taken
    }

    /// The host's ends of pods' links on a node.
    pub fn pod_links(&self, number: usize) -> Vec<String> {
        let text = self.node(number).ok(&["ip", "-o", "link", "show", "type", "veth"]);
        let names = text.lines().filter_map(|line| line.split([':', '@']).nth(1));
        names.map(|name| name.trim().to_owned()).filter(|name| name != "eth0").collect()
    }

    /// `cnitool`, as any runtime would call our conflist on a node.
    pub fn cnitool(&self, number: usize, command: &str, network: &str) -> Result<String, String> {
        let node = self.node(number);
        let environment = [("CNI_PATH", "/opt/cni/bin"), ("NETCONFPATH", "/etc/cni/net.d")];
        node.run_with(&environment, &[&node.tool("reference", "cnitool"), command, network, "/run/none"])
    }

    /// GC as the specification has it, with no attachment valid, for every plugin of a node's configuration.
    pub fn call_gc(&self, number: usize, network: &str) {
        let node = self.node(number);
        let list: Value =
            serde_json::from_str(&read(&node.disk("etc/cni/net.d/10-hopwise.conflist"))).unwrap();
        assert_eq!(list["name"], network);
        for plugin in list["plugins"].as_array().unwrap() {
            let mut config = plugin.clone();
            config["cniVersion"] = "1.1.0".into();
            config["name"] = network.into();
            config["cni.dev/valid-attachments"] = Value::Array(Vec::new());
            fs::write(node.disk("gc.json"), config.to_string()).unwrap();
            let call = format!(
                "/opt/cni/bin/{} < {}",
                plugin["type"].as_str().unwrap(),
                node.disk("gc.json").display()
            );
            let environment = [("CNI_COMMAND", "GC"), ("CNI_PATH", "/opt/cni/bin")];
            node.run_with(&environment, &["sh", "-ec", &call]).unwrap();
        }
    }

    /// Asks a web server from the host that is no node, and counts what comes.
    pub fn fetch(&self, address: &str, path: &str) -> Result<(String, usize, Duration), String> {
        let address: SocketAddr = address.parse().unwrap();
        let fetch = || {
            let start = Instant::now();
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok::<_, std::io::Error>((answer, start.elapsed()))
        };
        let (answer, took) = self.wire.run(fetch).unwrap().map_err(|error| format!("{address}: {error}"))?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no HTTP answer")?;
        let body = &answer[head + 4..];
        Ok((String::from_utf8_lossy(&body[..body.len().min(100)]).into_owned(), body.len(), took))
    }

    /// Waits until the web server there says hello.
    #[track_caller]
    pub fn wait_hello(&self, address: &str) {
        eventually_within(PATIENCE, &format!("hello from {address}"), || match self.fetch(address, "/")? {
            (body, ..) if body == "hello\n" => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// A plugin's content on a node.
    pub fn plugin_bytes(&self, number: usize, name: &str) -> Vec<u8> {
        fs::read(self.node(number).disk("opt/cni/bin").join(name)).unwrap_or_default()
    }

    /// The same of the reference.
    pub fn reference_bytes(&self, name: &str) -> Vec<u8> {
        fs::read(folder("HOPWISE_REFERENCE_CNI", "cnitool").join(name)).unwrap()
    }

    /// What there is to know when something failed.
    pub fn evidence(&self) -> String {
        let part = |node: &Node| {
            format!(
                "{}: {}\n{}\n{}",
                node.name,
                read(&node.disk("node.log")),
                node.log_tail("agent"),
                node.log_tail("containerd")
            )
        };
        self.nodes.iter().map(part).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.evidence());
        }
    }
}
