//! Asking a running agent for its status: one HTTP/1.0 request to an address on this host, which takes no HTTP library.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use hopwise_api::status::{self, Status};

use crate::exit::{Exit, Failure, Hint};

/// How long connecting and each read may take. The agent answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read: a status of 100,000 peers is some 30 MB.
const MAX_ANSWER: u64 = 256 << 20;

/// Which agent to ask.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// The address of the agent's HTTP server (its --listen)
    #[arg(long, env = "HOPWISE_AGENT", hide_env_values = true, value_name = "ADDRESS", default_value_t = hopwise_agent::DEFAULT_LISTEN)]
    pub agent: SocketAddr,
}

impl AgentArgs {
    /// The agent's status.
    pub fn status(&self) -> Result<Status, Failure> {
        let body = self.get("/status").map_err(|error| {
            Failure::new(
                Exit::NoAgent,
                anyhow::Error::new(error).context(format!("no agent answers at {}", self.agent)),
                "start it with `hopwise agent`, or name its address with --agent",
            )
        })?;
        parse(&body).with_context(|| format!("the answer of {}", self.agent)).hint(
            "is that really a hopwise agent? --agent names its address; agent and this command should be of one version",
        )
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.agent, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the answer ends where the connection ends, never in chunks.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n", self.agent)?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        body(&answer).map(str::to_owned).map_err(io::Error::other)
    }
}

/// The body of an answer whose status is 200.
fn body(answer: &str) -> Result<&str, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body),
        _ => Err(format!("it answers {line:?}")),
    }
}

fn parse(body: &str) -> anyhow::Result<Status> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_str(body)?;
    if version > status::VERSION {
        return Err(anyhow!(
            "it has version {version} of the status format, this command knows up to {}",
            status::VERSION
        ));
    }
    Ok(serde_json::from_str(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_good_answer_has_a_body() {
        assert_eq!(body("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Ok("{}"));
        assert_eq!(
            body("HTTP/1.1 404 Not Found\r\n\r\nx").unwrap_err(),
            "it answers \"HTTP/1.1 404 Not Found\""
        );
        assert!(body("SSH-2.0-x").is_err());
    }

    #[test]
    fn a_later_format_is_refused_by_its_number() {
        let error = parse("{\"version\": 99, \"else\": 1}").unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        assert!(parse("{}").is_err());
    }
}
