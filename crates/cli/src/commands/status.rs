//! `hopwise status`: one node at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use hopwise_api::status::{NoteStatus, ReachMode, RouteState, Status};

use crate::agent_client::AgentArgs;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise status
  hopwise status -o json | jq .notes
  hopwise status && echo ready

Exit codes: 0 ready, 2 not ready, 3 no agent answers.";

/// Arguments of `hopwise status`.
#[derive(Args, Debug)]
pub struct StatusCommand {
    #[command(flatten)]
    agent: AgentArgs,
    /// How to print it: table, json or yaml; the latter two are what the agent serves at /status (docs/status.md)
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

impl StatusCommand {
    /// Asks the agent and prints what it says.
    pub fn run(&self) -> Result<Exit, Failure> {
        let status = self.agent.status()?;
        self.output.print(&status, summary)?;
        Ok(if status.ready.ready { Exit::Good } else { Exit::Attention })
    }
}

/// The form for people.
pub fn summary(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:<9} {value}");
    };
    let ready = if status.ready.ready { "ready" } else { "NOT READY" };
    line("node", &format!("{}  {ready}", status.node));
    for missing in &status.ready.missing {
        line("", &format!("missing: {missing}"));
    }
    let unlisted = status.ready.missing_count.saturating_sub(status.ready.missing.len());
    if unlisted > 0 {
        line("", &format!("missing: {unlisted} more"));
    }
    for uplink in &status.uplinks {
        line("uplink", &format!("{} {} mtu {}", uplink.link, uplink.address, uplink.mtu));
    }
    let pods = if status.pod_cidrs.is_empty() { "none".to_owned() } else { status.pod_cidrs.join(" ") };
    let mtu = status.pod_mtu.map(|mtu| format!("  mtu {mtu}")).unwrap_or_default();
    line("pods", &format!("{pods}{mtu}"));
    line("view", &view(status));
    line("peers", &peers(status));
    let count = |counts: &BTreeMap<String, u64>| match counts.values().sum::<u64>() {
        0 => "none".to_owned(),
        sum => {
            let kinds: Vec<_> =
                counts.iter().filter(|(_, n)| **n > 0).map(|(kind, n)| format!("{kind} {n}")).collect();
            format!("{sum} ({})", kinds.join(", "))
        }
    };
    line("repairs", &count(&status.counters.repairs));
    line("refused", &count(&status.counters.apply_errors));
    for error in status.last_report.iter().flat_map(|report| &report.errors) {
        line("", &format!("{}: {}", error.change, error.message));
    }
    notes(&mut text, &status.notes);
    text
}

fn view(status: &Status) -> String {
    let nodes = match status.view.nodes {
        1 => "1 node".to_owned(),
        n => format!("{n} nodes"),
    };
    match status.view.age_seconds {
        age if age < 1.0 => format!("{}, {nodes}", status.view.source.as_str()),
        age => format!("{}, {nodes}, {age:.0} s old", status.view.source.as_str()),
    }
}

fn peers(status: &Status) -> String {
    let mut modes: BTreeMap<ReachMode, usize> = BTreeMap::new();
    for peer in &status.peers {
        *modes.entry(peer.mode).or_default() += 1;
    }
    let modes: Vec<_> = modes.iter().map(|(mode, n)| format!("{n} {}", mode.as_str())).collect();
    let states =
        |state| status.peers.iter().flat_map(|peer| &peer.routes).filter(|r| r.state == state).count();
    let routes =
        [RouteState::In, RouteState::Missing, RouteState::Blocked].map(|state| (states(state), state));
    let routes: Vec<_> =
        routes.iter().filter(|(n, _)| *n > 0).map(|(n, state)| format!("{n} {}", state.as_str())).collect();
    if modes.is_empty() {
        "none".to_owned()
    } else {
        format!("{}; routes: {}", modes.join(", "), routes.join(", "))
    }
}

/// Notes, each with its evidence and fix on lines of their own.
pub fn notes(text: &mut String, notes: &[NoteStatus]) {
    if notes.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{} to note:", notes.len());
    for NoteStatus { id, severity, subject, evidence, fix } in notes {
        let _ = writeln!(text, "  {} {id}: {subject}\n    {evidence}\n    fix: {fix}", severity.as_str());
    }
}

#[cfg(test)]
mod tests;
