//! `hopwise cleanup`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use hopwise_agent::cleanup::{self, Cleanup, CleanupOptions};

use crate::args::StateArgs;
use crate::exit::{Exit, Failure, Hint};
use crate::output::print_text;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise cleanup --dry-run   What would be removed
  hopwise cleanup             Remove it: routes, rules, nexthop objects, links, neighbours, nftables table, iptables
                              accepts; former sysctl values come back

What is ours is known by its mark (ARCHITECTURE.md); nothing else is touched. Nothing is asked. An agent that still runs
is found by its lock, and nothing is done. An uplink on its bridge stays, which is said: `hopwise l2 detach` puts it back.
Plugins stay: `hopwise cni uninstall` takes them out.";

/// Said where there is a journal of an attachment. Cleaning up must not cut a node off its LAN.
const ATTACHED: &str = "# left alone: the uplink that `hopwise l2 attach` or the agent's setting l2 has put on a bridge \
                        (hopwise l2 status); `hopwise l2 detach` puts it back\n";

/// Arguments of `hopwise cleanup`.
#[derive(Args, Debug)]
pub struct CleanupCommand {
    /// Only print what would be removed, as commands
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    state: StateArgs,
}

impl CleanupCommand {
    /// Cleans up and prints what was done.
    pub fn run(self) -> Result<Exit, Failure> {
        let StateArgs { state_dir, run_dir } = self.state;
        let options = CleanupOptions { state_dir, run_dir, dry_run: self.dry_run };
        let done = cleanup::run(&options).hint("run it as root, after the agent has been stopped")?;
        print_text(&shown(&done.changes.commands(), &done.files, done.l2_attached, self.dry_run))?;
        verdict(&done)
    }
}

fn shown(commands: &[String], files: &[PathBuf], l2_attached: bool, dry_run: bool) -> String {
    let mut text = String::new();
    for command in commands {
        let _ = writeln!(text, "{command}");
    }
    for file in files {
        let _ = writeln!(text, "rm {}", file.display());
    }
    match (text.is_empty(), dry_run) {
        (true, _) if !l2_attached => text.push_str("# nothing of hopwise's is here\n"),
        (_, true) => text.push_str("# nothing was changed: --dry-run\n"),
        (_, false) => {}
    }
    if l2_attached {
        text.push_str(ATTACHED);
    }
    text
}

fn verdict(done: &Cleanup) -> Result<Exit, Failure> {
    if done.left.is_empty() {
        return Ok(Exit::Good);
    }
    let errors = done.report.iter().flat_map(|report| &report.errors);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    let left = done.left.commands().join("\n  ");
    Err(anyhow!("not everything could be removed: {}\nstill to do:\n  {left}", errors.join("; ")))
        .hint("run it again; what can't be undone now may be undone later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_that_it_was_one() {
        let commands = ["ip route del 10.244.2.0/24 proto 72".to_owned()];
        let files = [PathBuf::from("/var/lib/hopwise/lock")];
        assert_eq!(
            shown(&commands, &files, false, true),
            "ip route del 10.244.2.0/24 proto 72\nrm /var/lib/hopwise/lock\n# nothing was changed: --dry-run\n"
        );
        assert_eq!(shown(&[], &[], false, true), "# nothing of hopwise's is here\n");
        assert_eq!(shown(&[], &files, false, false), "rm /var/lib/hopwise/lock\n");
        assert_eq!(shown(&[], &[], true, false), ATTACHED);
        assert_eq!(shown(&[], &[], true, true), format!("# nothing was changed: --dry-run\n{ATTACHED}"));
        assert_eq!(shown(&[], &files, true, false), format!("rm /var/lib/hopwise/lock\n{ATTACHED}"));
    }
}
