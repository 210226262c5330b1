//! Containerd on a node, asked by crictl as a kubelet would ask it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::node::{Daemon, Node, Said};
use super::support::eventually_within;
use super::{PATIENCE, image};

const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// As the CRI plugin of both versions reads it. Without `restrict_oom_score_adj` runc would want to lower a score, which takes
/// CAP_SYS_RESOURCE.
const CONFIG: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#;

/// What a web pod runs: `/` says hello, `/big` has 3 MB.
const SERVER: &str = "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; \
                      dd if=/dev/zero of=/tmp/www/big bs=1000000 count=3 2>/dev/null; exec httpd -f -p 80 -h /tmp/www";

/// Containerd.
pub struct Containerd {
    daemon: Option<Daemon>,
}

/// A pod with one container.
#[derive(Clone, Debug)]
pub struct Pod {
    pub sandbox: String,
    pub container: String,
    /// As the runtime tells them: the first is the pod's.
    pub addresses: Vec<IpAddr>,
}

impl Pod {
    pub fn v4(&self) -> String {
        self.addresses.iter().find(|address| address.is_ipv4()).unwrap().to_string()
    }

    pub fn v6(&self) -> String {
        self.addresses.iter().find(|address| address.is_ipv6()).unwrap().to_string()
    }
}

impl Containerd {
    pub fn start(node: &Node) -> Containerd {
        fs::write(node.disk("containerd.toml"), CONFIG.replace("IMAGE", image::NAME)).unwrap();
        let mut containerd = Containerd { daemon: None };
        containerd.run(node);
        containerd
    }

    fn run(&mut self, node: &Node) {
        let config = node.disk("containerd.toml");
        let program = node.tool("containerd", "containerd");
        self.daemon = Some(node.spawn("containerd", &[&program, "--config", config.to_str().unwrap()]));
        eventually_within(PATIENCE, "containerd answers", || {
            self.crictl(node, &["version"])
                .map(drop)
                .map_err(|said| format!("{said}\n{}", node.log_tail("containerd")))
        });
    }

    /// Ends it by a signal and starts it again.
    pub fn restart(&mut self, node: &Node, signal: &str) {
        self.end(node, signal);
        self.run(node);
    }

    pub fn end(&mut self, node: &Node, signal: &str) {
        node.signal(self.daemon.as_mut().unwrap(), signal);
        self.daemon = None;
    }

    pub fn import(&self, node: &Node, archive: &Path) {
        let program = node.tool("containerd", "ctr");
        node.ok(&[&program, "--namespace", "k8s.io", "image", "import", archive.to_str().unwrap()]);
    }

    pub fn crictl(&self, node: &Node, args: &[&str]) -> Said {
        let program = node.tool("crictl", "crictl");
        let common = [&program, "--config", "/dev/null", "--timeout", "30s", "--runtime-endpoint", SOCKET];
        node.run(&[&common, args].concat())
    }

    #[track_caller]
    pub fn ok(&self, node: &Node, args: &[&str]) -> String {
        match self.crictl(node, args) {
            Ok(said) => said.trim().to_owned(),
            Err(said) => panic!("{}: {said}\n{}", node.name, node.log_tail("containerd")),
        }
    }

    fn json(&self, node: &Node, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(node, args)).unwrap()
    }

    /// The condition `NetworkReady`, and why it is as it is.
    pub fn network_ready(&self, node: &Node) -> (bool, String) {
        let info = self.json(node, &["info"]);
        let conditions = info["status"]["conditions"].as_array().unwrap().clone();
        let condition = conditions.iter().find(|condition| condition["type"] == "NetworkReady").unwrap();
        (condition["status"] == true, condition["message"].to_string())
    }

    /// Waits until `NetworkReady` is as expected, with a part of the reason.
    #[track_caller]
    pub fn wait_network(&self, node: &Node, expected: bool, part: &str) {
        eventually_within(PATIENCE, &format!("{}: NetworkReady is {expected}: {part}", node.name), || {
            let (ready, message) = self.network_ready(node);
            if ready == expected && message.contains(part) { Ok(()) } else { Err(message) }
        });
    }

    /// Runs a pod as the kubelet would: sandbox, container, start.
    #[track_caller]
    pub fn run_pod(&self, node: &Node, name: &str, more: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("{name}-uid"), "attempt": 1},
            "log_directory": "/run/pods",
            "linux": {"cgroup_parent": "/pods"},
        });
        pod.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let container = json!({
            "metadata": {"name": "main"},
            "image": {"image": image::NAME},
            "command": ["/bin/sh", "-c", SERVER],
            "log_path": format!("{name}.log"),
            "linux": {},
        });
        let write = |file: String, value: &Value| {
            let path = node.disk(&file);
            fs::write(&path, value.to_string()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (pod, container) =
            (write(format!("{name}.pod"), &pod), write(format!("{name}.container"), &container));
        let sandbox = self.ok(node, &["runp", &pod]);
        let container = self.ok(node, &["create", "--no-pull", &sandbox, &container, &pod]);
        self.ok(node, &["start", &container]);
        let network =
            self.json(node, &["inspectp", "--output", "json", &sandbox])["status"]["network"].clone();
        let additional = network["additionalIps"].as_array().cloned().unwrap_or_default();
        let texts = [network["ip"].clone()].into_iter().chain(additional.iter().map(|ip| ip["ip"].clone()));
        let addresses = texts.map(|text| text.as_str().unwrap().parse().unwrap()).collect();
        Pod { sandbox, container, addresses }
    }

    /// Runs a command in a pod's container.
    pub fn exec(&self, node: &Node, pod: &Pod, command: &[&str]) -> Said {
        self.crictl(node, &[&["exec", "--sync", &pod.container], command].concat())
    }

    /// Stops and removes a pod.
    #[track_caller]
    pub fn remove_pod(&self, node: &Node, pod: &Pod) {
        self.ok(node, &["stopp", &pod.sandbox]);
        self.ok(node, &["rmp", &pod.sandbox]);
    }

    /// The sandboxes in a state.
    pub fn sandboxes(&self, node: &Node, state: &str) -> Vec<String> {
        let text = self.ok(node, &["pods", "--quiet", "--no-trunc", "--state", state]);
        text.lines().map(str::to_owned).collect()
    }
}
