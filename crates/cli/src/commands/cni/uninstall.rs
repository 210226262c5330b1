//! `hopwise cni uninstall`.

use clap::Args;

use super::{PlacesArgs, shown};
use crate::exit::{Exit, Failure};
use crate::install::folder::no_steps;
use crate::install::uninstall;
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise cni uninstall --dry-run
  hopwise cni uninstall

Ours are known by a mark in the file itself; nothing else is touched. Pods that run keep their network; to take one down
later the runtime needs plugins of the same names: those that come back, or others, delete what ours made.";

/// Arguments of `hopwise cni uninstall`.
#[derive(Args, Debug)]
pub struct UninstallCommand {
    #[command(flatten)]
    places: PlacesArgs,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

impl UninstallCommand {
    /// Uninstalls and prints what was done.
    pub fn run(self) -> Result<Exit, Failure> {
        let outcome = uninstall(&self.places.places(), self.dry_run, &no_steps)?;
        self.output.print(&outcome, shown)?;
        Ok(Exit::Good)
    }
}
