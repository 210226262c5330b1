//! A node in a network namespace: a link to a segment with one peer, an inventory, and the real binary.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hopwise_kernel::netns::in_new_namespace;

const INVENTORY: &str = "\
networks:
  pods: [10.244.0.0/16]
nodes:
  - {name: node1, addresses: [192.168.0.1], podCIDRs: [10.244.1.0/24]}
  - {name: node2, addresses: [192.168.0.2], podCIDRs: [10.244.2.0/24]}
";

/// The node.
pub struct Node {
    dir: tempfile::TempDir,
}

/// A running agent; killed when dropped.
pub struct Agent(Child);

impl Node {
    /// Runs a test in a namespace with a node.
    pub fn run(test: impl FnOnce(&Node) + Send) {
        in_new_namespace(|| {
            let node = Node { dir: tempfile::tempdir().unwrap() };
            std::fs::write(node.path("net.yaml"), INVENTORY).unwrap();
            node.ip("link add eth0 type veth peer name wire");
            for link in ["eth0", "wire"] {
                // Duplicate address detection would go on, and change what is compared, while a test runs.
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/accept_dad"), "0").unwrap();
            }
            node.ip("link set wire up");
            node.ip("link set eth0 up");
            node.ip("address add 192.168.0.1/24 dev eth0");
            node.wait_settled();
            test(&node);
        });
    }

    /// Waits until the kernel has noticed that both links have a carrier, which it does apart from what raised them.
    fn wait_settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while text("ip", &["link"]).matches("state UP").count() < 2 {
            assert!(Instant::now() < deadline, "the links do not come up:\n{}", text("ip", &["link"]));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A path in the node's own folder.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The inventory file.
    pub fn inventory(&self) -> String {
        self.path("net.yaml")
    }

    /// Runs `ip`.
    pub fn ip(&self, args: &str) {
        text("ip", &args.split(' ').collect::<Vec<_>>());
    }

    /// Runs `hopwise` as node1; the exit code, and all that it printed.
    pub fn hopwise<S: AsRef<str>>(&self, args: &[S]) -> (i32, String) {
        let output = self.command().args(args.iter().map(AsRef::as_ref)).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    /// The arguments of `hopwise cleanup` for this node.
    pub fn cleanup(&self, more: &[&str]) -> Vec<String> {
        let (state, run) = (self.path("state"), self.path("run"));
        let args = ["cleanup", "--state-dir", &state, "--run-dir", &run];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// Starts the agent.
    pub fn start_agent(&self) -> Agent {
        let mut command = self.command();
        command.args(["agent", "--inventory", &self.inventory()]);
        command.args(["--state-dir", &self.path("state"), "--run-dir", &self.path("run")]);
        let log = std::fs::File::create(self.path("agent.log")).unwrap();
        Agent(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Waits until `hopwise status` says that the node is ready.
    pub fn wait_ready(&self) {
        let start = Instant::now();
        while self.hopwise(&["status"]).0 != 0 {
            let log = std::fs::read_to_string(self.path("agent.log")).unwrap_or_default();
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "not ready: {:?}\n{log}",
                self.hopwise(&["status"])
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything in the kernel that an agent could touch.
    pub fn kernel_state(&self) -> String {
        let mut state = String::new();
        for args in [
            "link",
            "address",
            "rule",
            "-6 rule",
            "route show table all",
            "-6 route show table all",
            "nexthop",
        ] {
            state += &text("ip", &args.split(' ').collect::<Vec<_>>());
        }
        state += &text("nft", &["list", "ruleset"]);
        // /proc/sys/net shows the namespace of the thread that reads.
        for path in [
            "ipv4/ip_forward",
            "ipv6/conf/all/forwarding",
            "ipv4/conf/all/rp_filter",
            "ipv4/conf/eth0/rp_filter",
            "ipv4/conf/all/send_redirects",
            "ipv4/conf/eth0/send_redirects",
        ] {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
            state += &format!("{path} = {value}");
        }
        state
    }

    /// `hopwise` as node1.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hopwise"));
        command.env("HOPWISE_NODE", "node1").stdin(Stdio::null());
        command
    }
}

impl Agent {
    /// Ends the agent as an operator would.
    pub fn stop(&mut self) {
        text("kill", &["-TERM", &self.0.id().to_string()]);
        let status = self.0.wait().unwrap();
        assert!(status.success(), "an agent that is asked to end ends well: {status}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program prints; it must end well.
pub fn text(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script.
pub fn shell(script: &str) -> Output {
    Command::new("sh").args(["-e", "-c", script]).output().unwrap()
}
