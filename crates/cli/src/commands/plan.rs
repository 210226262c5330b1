//! `hopwise plan`: what an agent would have here, and with `--diff` what it would change right now.

use std::fmt::Write as _;

use clap::Args;
use hopwise_api::status::NoteStatus;
use serde::Serialize;

use super::{routes, status};
use crate::args::SnapshotArgs;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise plan --diff                        On a node with an agent: from the view that it saved last
  hopwise plan --diff --inventory net.yaml   From an inventory, agent or not
  hopwise plan --inventory net.yaml --mode vxlan
                                             How peers would be reached, with another setting
  hopwise plan --diff || echo $?             2: something would change

Settings that the agent was given as flags have to be given here too.
Exit codes of --diff: 0 nothing would change, 2 something would.";

/// Arguments of `hopwise plan`.
#[derive(Args, Debug)]
pub struct PlanCommand {
    /// Print what would change, one command a line, instead of the plan
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    snapshot: SnapshotArgs,
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

/// What would change.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingChanges {
    /// The node.
    pub node: String,
    /// The changes in the order of making them, as commands.
    pub changes: Vec<String>,
    /// Findings, the worst first.
    pub notes: Vec<NoteStatus>,
}

impl PlanCommand {
    /// Plans and prints.
    pub fn run(&self) -> Result<Exit, Failure> {
        let snapshot = self.snapshot.take()?;
        let described = snapshot.status();
        if !self.diff {
            self.output.print(&described, |described| {
                let mut text = routes::table(&routes::rows(described));
                status::notes(&mut text, &described.notes);
                text
            })?;
            return Ok(Exit::Good);
        }
        let pending = PendingChanges {
            node: described.node,
            changes: snapshot.changes.commands(),
            notes: described.notes,
        };
        self.output.print(&pending, script)?;
        Ok(if snapshot.changes.is_empty() { Exit::Good } else { Exit::Attention })
    }
}

/// The form for people: commands, and everything else as comments.
pub fn script(pending: &PendingChanges) -> String {
    let PendingChanges { node, changes, notes } = pending;
    let mut text = match changes.len() {
        0 => format!("# {node}: nothing would change\n"),
        1 => format!("# {node}: 1 change\n"),
        n => format!("# {node}: {n} changes\n"),
    };
    for change in changes {
        let _ = writeln!(text, "{change}");
    }
    for NoteStatus { id, severity, subject, evidence, fix } in notes {
        let _ = writeln!(text, "# {} {id}: {subject}: {evidence}; fix: {fix}", severity.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_no_command_is_a_comment() {
        let mut pending = PendingChanges {
            node: "node1".into(),
            changes: vec![
                "sysctl -w net.ipv4.ip_forward=1".into(),
                "ip route del 10.244.9.0/24 proto 72".into(),
            ],
            notes: crate::commands::example::status().notes,
        };
        expect![[r#"
            # node1: 2 changes
            sysctl -w net.ipv4.ip_forward=1
            ip route del 10.244.9.0/24 proto 72
            # error foreign-route: node3: 10.244.3.0/24 via 192.168.0.254 dev eth0 proto static stands in the main table; fix: ip route del 10.244.3.0/24 proto static
        "#]].assert_eq(&script(&pending));
        pending.changes.clear();
        pending.notes.clear();
        expect![[r#"
            # node1: nothing would change
        "#]]
        .assert_eq(&script(&pending));
    }
}
