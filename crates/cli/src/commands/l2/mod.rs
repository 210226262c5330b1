//! `hopwise l2`: pods straight on a plain layer 2 network.

mod slices;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 slices --subnet 192.168.1.0/24 --nodes node1,node2

Pods are hosts of the LAN: they have addresses of its subnet, reach every host there, and are reached.";

/// Arguments of `hopwise l2`.
#[derive(Args, Debug)]
pub struct L2Command {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Cut the LAN's addresses into one slice for each node's pods
    #[command(after_help = slices::EXAMPLES)]
    Slices(slices::SlicesCommand),
}

impl L2Command {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<Exit, Failure> {
        match &self.command {
            Sub::Slices(command) => command.run(),
        }
    }
}
