//! Asking a running agent for its status.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use hopwise_api::status::{self, Status};
use hopwise_lab::Response;

use crate::exit::{Exit, Failure, Hint};

/// How long connecting may take.
const TIMEOUT: Duration = Duration::from_secs(2);

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
        let stream = TcpStream::connect_timeout(&self.agent, TIMEOUT)?;
        match hopwise_lab::get(stream, path)? {
            Response { code: 200, body } => Ok(body),
            Response { code, .. } => Err(io::Error::other(format!("it answers with HTTP status {code}"))),
        }
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
    fn a_later_format_is_refused_by_its_number() {
        let error = parse("{\"version\": 99, \"else\": 1}").unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        assert!(parse("{}").is_err());
    }
}
