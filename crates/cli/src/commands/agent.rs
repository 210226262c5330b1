//! `hopwise agent`.

use std::net::SocketAddr;

use clap::Args;
use hopwise_agent::AgentOptions;

use crate::args::{NodeArgs, SettingsArgs, StateArgs, StoreArgs};
use crate::exit::{Exit, Failure};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise agent --inventory /etc/hopwise/net.yaml
  hopwise agent --inventory net.yaml --node node1 --mode direct --log debug
  HOPWISE_INVENTORY=net.yaml HOPWISE_MASQUERADE=false hopwise agent

Settings given here win over the node's in the inventory, and those over the cluster's.
SIGTERM and SIGINT end the agent and leave the network as it is; hopwise cleanup removes it.";

/// Arguments of `hopwise agent`.
#[derive(Args, Debug)]
pub struct AgentCommand {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Where to serve /status, /healthz, /readyz and /metrics
    #[arg(long, env = "HOPWISE_LISTEN", hide_env_values = true, value_name = "ADDRESS", default_value_t = hopwise_agent::DEFAULT_LISTEN)]
    listen: SocketAddr,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl AgentCommand {
    /// Runs the agent until a signal ends it.
    pub fn run(self) -> Result<Exit, Failure> {
        let mut options = AgentOptions::new(self.node.name()?, self.store.to_options());
        options.state_dir = self.state.state_dir;
        options.run_dir = self.state.run_dir;
        options.listen = Some(self.listen);
        options.settings = self.settings.to_settings();
        hopwise_agent::run(options)?;
        Ok(Exit::Good)
    }
}
