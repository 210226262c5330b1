//! The agents of a lab: real processes, started inside their nodes' namespaces, known afterwards by pid file.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_api::status::{SeverityName, Status};
use nix::sys::signal::Signal;

use crate::error::LabError;
use crate::http::{self, Response};
use crate::lab::Lab;
use crate::process::ProcessId;

/// Where every agent answers, inside its own namespace.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7471);
/// In the environment of every agent, so that `down` finds them even without files and namespaces.
pub(crate) const ENVIRONMENT: &str = "HOPWISE_LAB";
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 15;

impl Lab {
    /// Starts the agent of a node. Its log is appended to.
    pub fn start_agent(&self, node: &str) -> Result<(), LabError> {
        let (member, role) = self.layout.node(node).ok_or_else(|| self.unknown_node(node))?;
        let dir = self.dir.node(node);
        for part in ["state", "run", "ipam"] {
            let path = dir.join(part);
            std::fs::create_dir_all(&path).map_err(LabError::file(&path))?;
        }
        let log_path = self.dir.agent_log(node);
        let open =
            || File::options().create(true).append(true).open(&log_path).map_err(LabError::file(&log_path));
        let (out, err) = (open()?, open()?);
        let mut command = Command::new(&self.binaries.hopwise);
        command
            .args(["agent", "--node", &member.name, "--store", "file"])
            .arg("--inventory")
            .arg(self.dir.inventory())
            .arg("--node-data")
            .arg(self.dir.node_data())
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg("--run-dir")
            .arg(dir.join("run"))
            .args(["--listen", &LISTEN.to_string()])
            .args(&role.agent_args);
        // The agent takes settings from its environment too; the lab's are those of its topology only.
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("HOPWISE_") {
                command.env_remove(key);
            }
        }
        command.env(ENVIRONMENT, self.name().as_str());
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).current_dir("/");
        let spawned = self.inside(node, || command.spawn())?;
        let child =
            spawned.map_err(LabError::step(format!("starting {}", self.binaries.hopwise.display())))?;
        let pid = child.id() as i32;
        // An agent that has ended already is a zombie of ours and has a start time still.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, start: 0 });
        self.dir.write_agent(node, id)
    }

    /// The agent of a node, if it runs.
    pub fn agent(&self, node: &str) -> Result<Option<ProcessId>, LabError> {
        self.node(node)?;
        Ok(self.dir.read_agent(node)?.filter(|agent| agent.alive()))
    }

    /// Asks the agent of a node to end, as an operator would, and waits until it has.
    pub fn stop_agent(&self, node: &str) -> Result<(), LabError> {
        let Some(agent) = self.agent(node)? else { return Ok(()) };
        let failed = || LabError::step(format!("stopping the agent of {node}"));
        agent.signal(Signal::SIGTERM).map_err(failed())?;
        match agent.wait(STOP_TIMEOUT).map_err(failed())? {
            true => Ok(()),
            false => Err(self.agent_error(node, "did not end within 10 s of SIGTERM")),
        }
    }

    /// Kills the agent of a node (`kill -9`) and waits until it has gone.
    pub fn kill_agent(&self, node: &str) -> Result<(), LabError> {
        let Some(agent) = self.agent(node)? else { return Ok(()) };
        agent.kill().map_err(LabError::step(format!("killing the agent of {node}")))
    }

    /// Stops the agent of a node and starts it again.
    pub fn restart_agent(&self, node: &str) -> Result<(), LabError> {
        self.stop_agent(node)?;
        self.start_agent(node)
    }

    /// Sends `GET path` to the agent of a node.
    pub fn ask(&self, node: &str, path: &str) -> Result<Response, LabError> {
        let doing = || LabError::step(format!("asking the agent of {node} for {path}"));
        let connect = || TcpStream::connect_timeout(&LISTEN, Duration::from_millis(500));
        let stream = self.inside(node, connect)?.map_err(doing())?;
        http::get(stream, path).map_err(doing())
    }

    /// What the agent of a node says about itself.
    pub fn agent_status(&self, node: &str) -> Result<Status, LabError> {
        let body = self.ask(node, "/status")?.body;
        serde_json::from_str(&body).map_err(LabError::step(format!("reading the status of {node}")))
    }

    /// Whether the agent of a node answers that it is ready.
    pub fn is_ready(&self, node: &str) -> bool {
        self.ask(node, "/readyz").is_ok_and(|answer| answer.code == 200)
    }

    /// Waits until the agent of a node is ready.
    pub fn wait_ready(&self, node: &str, timeout: Duration) -> Result<(), LabError> {
        self.wait_all_ready(&[node], timeout, |_| Ok(()))
    }

    /// Waits until several agents are ready. `progress` is told how many are, and may stop the waiting.
    pub(crate) fn wait_all_ready(
        &self,
        nodes: &[&str],
        timeout: Duration,
        mut progress: impl FnMut(usize) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        let start = Instant::now();
        let mut waiting: Vec<&str> = nodes.to_vec();
        let mut pause = Duration::from_millis(2);
        loop {
            waiting.retain(|node| !self.is_ready(node));
            progress(nodes.len() - waiting.len())?;
            let Some(first) = waiting.first() else { return Ok(()) };
            for node in &waiting {
                if self.agent(node)?.is_none() {
                    return Err(self.agent_error(node, "ended"));
                }
            }
            if start.elapsed() >= timeout {
                return Err(self.agent_error(first, &format!("was not ready within {} s", timeout.as_secs())));
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(50));
        }
    }

    /// An error with all that can be found out about an agent: what it says is missing, its notes, the end of its log.
    pub(crate) fn agent_error(&self, node: &str, problem: &str) -> LabError {
        let mut evidence = Vec::new();
        if let Ok(status) = self.agent_status(node) {
            evidence.extend(status.ready.missing.iter().map(|missing| format!("  missing: {missing}")));
            let notes = status.notes.iter().filter(|note| note.severity != SeverityName::Info);
            evidence.extend(notes.map(|note| {
                format!(
                    "  {} {}: {}: {}; {}",
                    note.severity.as_str(),
                    note.id,
                    note.subject,
                    note.evidence,
                    note.fix
                )
            }));
        }
        let path = self.dir.agent_log(node);
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        evidence.push(format!("  the end of {}:", path.display()));
        evidence.extend(
            lines.iter().skip(lines.len().saturating_sub(LOG_TAIL_LINES)).map(|line| format!("    {line}")),
        );
        LabError::Agent { node: node.to_owned(), problem: problem.to_owned(), evidence: evidence.join("\n") }
    }

    fn unknown_node(&self, node: &str) -> LabError {
        match self.node(node) {
            Err(error) => error,
            Ok(_) => LabError::step("looking for a node")("there is none"),
        }
    }
}
