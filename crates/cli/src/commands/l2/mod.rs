//! `hopwise l2`: pods straight on a plain layer 2 network.

mod attach;
mod detach;
mod persist;
pub mod slices;
mod status;

use clap::{Args, Subcommand};

use crate::args::StateDirArgs;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 attach --uplink eth1 --dry-run
  hopwise l2 attach --uplink eth1
  hopwise l2 status
  hopwise l2 detach
  hopwise l2 slices --subnet 192.168.1.0/24 --nodes node1,node2
  hopwise l2 persist --format netplan --uplink eth1

Pods are hosts of the LAN: they have addresses of its subnet, reach every host there, and are reached.";

/// Arguments of `hopwise l2`.
#[derive(Args, Debug)]
pub struct L2Command {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Make the uplink a port of the pods' bridge, and move what the node had on it to the bridge
    #[command(after_help = attach::EXAMPLES)]
    Attach(attach::AttachCommand),
    /// Put everything back on the uplink
    #[command(after_help = detach::EXAMPLES)]
    Detach(detach::DetachCommand),
    /// Show what is attached, by whom, and what differs
    #[command(after_help = status::EXAMPLES)]
    Status(status::StatusCommand),
    /// Cut the LAN's addresses into one slice for each node's pods
    #[command(after_help = slices::EXAMPLES)]
    Slices(slices::SlicesCommand),
    /// Print configuration that puts the uplink on the bridge at every boot
    #[command(after_help = persist::EXAMPLES)]
    Persist(persist::PersistCommand),
}

/// Options of the subcommands that look at what is attached.
#[derive(Args, Debug)]
struct CommonArgs {
    #[command(flatten)]
    state: StateDirArgs,
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

impl L2Command {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<Exit, Failure> {
        match &self.command {
            Sub::Attach(command) => command.run(),
            Sub::Detach(command) => command.run(),
            Sub::Status(command) => command.run(),
            Sub::Slices(command) => command.run(),
            Sub::Persist(command) => command.run(),
        }
    }
}

/// The error with what to do about it.
fn failure(error: hopwise_agent::l2::L2Error) -> Failure {
    use hopwise_agent::l2::L2Error;
    match error {
        L2Error::Refused(refusal) => Failure::new(Exit::Failed, anyhow::anyhow!(refusal.reason), refusal.fix),
        L2Error::NotAttached => Failure::new(Exit::Failed, error, "see `hopwise l2 status`"),
        L2Error::Silent { .. } => Failure::new(
            Exit::Failed,
            error,
            "does the switch accept more than one MAC address on this port? --verify names another host to ask",
        ),
        error => error.into(),
    }
}
