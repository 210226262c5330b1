//! `hopwise l2 detach`.

use clap::Args;
use hopwise_agent::l2::{Uplink, no_points};
use serde::Serialize;

use super::{CommonArgs, failure};
use crate::exit::{Exit, Failure};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 detach --dry-run   What would be done, as commands
  hopwise l2 detach             Put everything back on the uplink; the bridge goes if hopwise made it
  hopwise l2 detach --force     Even with pods on the bridge, which lose the LAN

An agent with the setting `l2` attaches again: take the setting out first.";

/// Arguments of `hopwise l2 detach`.
#[derive(Args, Debug)]
pub struct DetachCommand {
    /// Detach even though there are pods on the bridge
    #[arg(long)]
    force: bool,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    dry_run: bool,
    commands: Vec<String>,
}

impl DetachCommand {
    /// Detaches, and prints what was done.
    pub fn run(&self) -> Result<Exit, Failure> {
        let mut uplink = Uplink::open(&self.common.state.state_dir).map_err(failure)?;
        let commands = if self.dry_run {
            uplink.plan_detach(self.force).map_err(failure)?
        } else {
            uplink.detach(self.force, &mut no_points).map_err(failure)?
        };
        self.common.output.print(&Done { dry_run: self.dry_run, commands }, |done| {
            let mut text: String = done.commands.iter().map(|command| format!("{command}\n")).collect();
            if done.dry_run {
                text += "# nothing was changed: --dry-run\n";
            }
            text
        })?;
        Ok(Exit::Good)
    }
}
