//! Running the real agent in the calling thread's namespace.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `hopwise agent`, killed when dropped.
pub struct Agent {
    child: Child,
    /// Its files: inventory, state and run directories, log.
    pub dir: tempfile::TempDir,
}

/// The address that the agent answers on, inside its namespace.
pub const LISTEN: &str = "127.0.0.1:7471";

/// The binary under test, from `HOPWISE_BIN` (set by `cargo xtask`).
pub fn hopwise_bin() -> PathBuf {
    std::env::var_os("HOPWISE_BIN")
        .expect("HOPWISE_BIN names the hopwise binary; run `cargo xtask bench`")
        .into()
}

impl Agent {
    /// Starts an agent for `node0` with the given inventory text, in a new directory.
    pub fn start(inventory: &str, flags: &[&str]) -> Agent {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("inventory.yaml"), inventory).expect("an inventory file");
        let child = Agent::spawn(&dir, flags);
        Agent { child, dir }
    }

    fn spawn(dir: &tempfile::TempDir, flags: &[&str]) -> Child {
        let at = |name: &str| dir.path().join(name);
        let log = std::fs::File::create(at("agent.log")).expect("a log file");
        Command::new(hopwise_bin())
            .args(["agent", "--node", "node0", "--store", "file", "--listen", LISTEN])
            .arg("--inventory")
            .arg(at("inventory.yaml"))
            .arg("--state-dir")
            .arg(at("state"))
            .arg("--run-dir")
            .arg(at("run"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file"))
            .stderr(log)
            .spawn()
            .expect("the agent starts")
    }

    /// Kills the agent (SIGKILL) and starts it again with the same files.
    pub fn restart(&mut self, flags: &[&str]) {
        self.kill();
        self.child = Agent::spawn(&self.dir, flags);
    }

    /// Kills the agent (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&self, at_most: Duration) {
        let start = Instant::now();
        while !get("/readyz").starts_with("HTTP/1.1 200") {
            let log = || std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default();
            assert!(start.elapsed() < at_most, "the agent is not ready: {}\n{}", get("/readyz"), log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A field of `/proc/PID/status` in KiB, such as `VmRSS`.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the agent runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).expect("a number")
    }

    /// CPU time of all its threads so far, ended ones included.
    pub fn cpu(&self) -> Duration {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        let clock = nix::time::clock_getcpuclockid(pid).expect("the agent runs");
        let now = nix::time::clock_gettime(clock).expect("every process has a clock");
        Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One HTTP request to the agent: status line, headers and body; empty when it does not answer.
pub fn get(path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(LISTEN) {
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}
