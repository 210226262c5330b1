//! `hopwise cni`: the CNI plugins on this machine.

mod install;
mod uninstall;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::{Exit, Failure};
use crate::install::plan::Change;
use crate::install::{Outcome, Places};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise cni install --dry-run    What would be put where
  hopwise cni install              The plugins into /opt/cni/bin, the configuration into /etc/cni/net.d
  hopwise cni uninstall            Out again, and what was there before back in its place";

/// Arguments of `hopwise cni`.
#[derive(Args, Debug)]
pub struct CniCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put the plugins and a network configuration where the container runtime looks for them
    #[command(after_help = install::EXAMPLES)]
    Install(Box<install::InstallCommand>),
    /// Take them out again, and put back what they displaced
    #[command(after_help = uninstall::EXAMPLES)]
    Uninstall(uninstall::UninstallCommand),
}

impl CniCommand {
    /// Runs the subcommand.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Install(command) => command.run(),
            Action::Uninstall(command) => command.run(),
        }
    }
}

/// Where the container runtime looks.
#[derive(Args, Clone, Debug)]
struct PlacesArgs {
    /// The folder of plugins
    #[arg(
        long,
        env = "HOPWISE_CNI_BIN_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "/opt/cni/bin"
    )]
    bin_dir: PathBuf,
    /// The folder of network configurations
    #[arg(
        long,
        env = "HOPWISE_CNI_CONF_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "/etc/cni/net.d"
    )]
    conf_dir: PathBuf,
}

impl PlacesArgs {
    fn places(self) -> Places {
        Places { bin_dir: self.bin_dir, conf_dir: self.conf_dir }
    }
}

/// What was done, for people.
fn shown(outcome: &Outcome) -> String {
    let mut text = String::new();
    for done in &outcome.changes {
        let word = match done.change {
            Change::Displace => "set aside",
            Change::Put => "put",
            Change::Restore => "put back",
            Change::Remove => "removed",
            Change::Forget => "left",
        };
        let _ = writeln!(text, "{word:<9}  {}", done.path.display());
    }
    for path in &outcome.unchanged {
        let _ = writeln!(text, "{:<9}  {}", "unchanged", path.display());
    }
    if text.is_empty() {
        text.push_str("# nothing of hopwise's is here\n");
    }
    for note in &outcome.notes {
        let _ = writeln!(text, "# note: {note}");
    }
    if outcome.dry_run {
        text.push_str("# nothing was changed: --dry-run\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Done;

    #[test]
    fn a_line_for_each_file() {
        let done = |change, path: &str| Done { change, path: path.into() };
        let outcome = Outcome {
            dry_run: true,
            changes: vec![done(Change::Displace, "/b/bridge"), done(Change::Put, "/b/bridge")],
            unchanged: vec!["/b/hopwise".into()],
            notes: vec!["mind this".into()],
        };
        let expected = "set aside  /b/bridge\nput        /b/bridge\nunchanged  /b/hopwise\n# note: mind this\n\
                        # nothing was changed: --dry-run\n";
        assert_eq!(shown(&outcome), expected);
        assert_eq!(shown(&Outcome::default()), "# nothing of hopwise's is here\n");
    }
}
