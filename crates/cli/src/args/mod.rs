//! The command line: one variant for each subcommand, whose arguments stand with its code.

mod node;
mod settings;
mod snapshot;

use clap::{Parser, Subcommand};

use crate::commands::{agent, cleanup, cni, completion, l2, lab, plan, routes, status, version};
use crate::exit::{Exit, Failure};
use crate::logging::LogArgs;

pub use node::{NodeArgs, StateArgs, StateDirArgs, StoreArgs};
pub use settings::SettingsArgs;
pub use snapshot::SnapshotArgs;

const ABOUT: &str = "Plain, routable pod IP addresses over the network that is already there";

const AFTER: &str = "\
Examples:
  hopwise lab demo                   Three nodes, six pods, on this machine, in seconds
  hopwise agent --inventory net.yaml
                                     Give this node routes to all others' pods, and keep them
  hopwise routes                     How each peer is reached
  hopwise plan --diff                What would change now, changing nothing

Exit codes: 0 good, 1 failed, 2 attention (changes pending, not ready, a check failed), 3 no agent, 64 usage.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "hopwise", about = ABOUT, after_help = AFTER, version, disable_version_flag = true)]
#[command(max_term_width = 110, propagate_version = false)]
pub struct Cli {
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node agent
    #[command(after_help = agent::EXAMPLES)]
    Agent(agent::AgentCommand),
    /// Show how each peer's pods are reached
    #[command(after_help = routes::EXAMPLES)]
    Routes(routes::RoutesCommand),
    /// Show what an agent would change right now, without changing it
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::PlanCommand),
    /// Show how this node stands, with everything that needs attention
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusCommand),
    /// Remove everything of Hopwise's from this node's network, and nothing else
    #[command(after_help = cleanup::EXAMPLES)]
    Cleanup(cleanup::CleanupCommand),
    /// Put the CNI plugins in place on this node, or take them out
    #[command(after_help = cni::EXAMPLES)]
    Cni(cni::CniCommand),
    /// Put pods straight onto a plain layer 2 network, as hosts of the LAN
    #[command(after_help = l2::EXAMPLES)]
    L2(l2::L2Command),
    /// Build whole networks of nodes and pods on this machine, and check them
    #[command(after_help = lab::EXAMPLES)]
    Lab(lab::LabCommand),
    /// Show the version
    #[command(after_help = version::EXAMPLES)]
    Version(version::VersionCommand),
    /// Print a completion script for a shell
    #[command(after_help = completion::EXAMPLES)]
    Completion(completion::CompletionCommand),
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self) -> Result<Exit, Failure> {
        match self {
            Command::Agent(command) => command.run(),
            Command::Routes(command) => command.run(),
            Command::Plan(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Cleanup(command) => command.run(),
            Command::Cni(command) => command.run(),
            Command::L2(command) => command.run(),
            Command::Lab(command) => command.run(),
            Command::Version(command) => command.run(),
            Command::Completion(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_subcommand_has_examples() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        let subcommands = cli.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
        for subcommand in subcommands {
            let examples = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("Examples:"), "{} has no examples", subcommand.get_name());
        }
    }
}
