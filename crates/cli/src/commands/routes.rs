//! `hopwise routes`: how each peer's pods are reached.

mod by_hand;

use anyhow::Context;
use clap::{Args, ValueEnum};
use hopwise_api::status::{RouteState, Status};
use hopwise_kernel::kernel::Kernel;
use serde::Serialize;

use crate::agent_client::AgentArgs;
use crate::args::SnapshotArgs;
use crate::exit::{Exit, Failure, Hint};
use crate::output::{self, Format, print_text};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise routes                             What the agent on this node says
  hopwise routes -o json | jq '.[].nextHop'
  hopwise routes -o ip                       The commands that one would type by hand
  hopwise routes --inventory net.yaml        Without an agent: what one would do here

States: in (as planned), missing (planned, not in the kernel), blocked (a note says why: hopwise status).
Exit codes: 0 all routes are in, 2 some are not, 3 no agent answers.";

/// Arguments of `hopwise routes`.
#[derive(Args, Debug)]
pub struct RoutesCommand {
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    snapshot: SnapshotArgs,
    /// How to print it: table, json, yaml, or ip, the commands that one would type by hand
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: RoutesFormat,
}

/// How routes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoutesFormat {
    Table,
    Json,
    Yaml,
    Ip,
}

impl RoutesCommand {
    /// Asks the agent, or plans where an inventory is given, and prints the routes.
    pub fn run(&self) -> Result<Exit, Failure> {
        let format = match self.output {
            RoutesFormat::Table => Format::Table,
            RoutesFormat::Json => Format::Json,
            RoutesFormat::Yaml => Format::Yaml,
            RoutesFormat::Ip => return self.by_hand(),
        };
        let status = match self.snapshot.inventory {
            Some(_) => self.snapshot.take()?.status(),
            None => self.agent.status()?,
        };
        let rows = rows(&status);
        format.print(&rows, |rows| table(rows))?;
        Ok(exit(&rows))
    }

    /// Commands for what is planned from the inventory, else for what stands in the kernel.
    fn by_hand(&self) -> Result<Exit, Failure> {
        let commands = match self.snapshot.inventory {
            Some(_) => by_hand::of_desired(self.snapshot.take()?.planner.desired()),
            None => in_the_kernel().hint("run it as root, on a node with an agent")?,
        };
        let lines: Vec<String> = commands.iter().map(|command| format!("{command}\n")).collect();
        print_text(&lines.concat())?;
        Ok(Exit::Good)
    }
}

fn in_the_kernel() -> anyhow::Result<Vec<String>> {
    let mut kernel = Kernel::open().context("can't open netlink")?;
    let observed = kernel.observe(&[]).context("can't read what hopwise has in the kernel")?;
    let host = kernel.host_view(&[], &Default::default()).context("can't read links")?;
    Ok(by_hand::of_observed(&observed, &host.links))
}

fn exit(rows: &[RouteRow]) -> Exit {
    let all_in = rows.iter().all(|row| row.state == RouteState::In.as_str());
    if all_in { Exit::Good } else { Exit::Attention }
}

/// One pod CIDR of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// The peer.
    pub node: String,
    /// The peer's address.
    #[serde(rename = "nodeIP", skip_serializing_if = "Option::is_none")]
    pub node_ip: Option<String>,
    /// The pod CIDR; absent for a peer that has none (left).
    #[serde(rename = "podCIDR", skip_serializing_if = "Option::is_none")]
    pub pod_cidr: Option<String>,
    /// How it is reached: `direct`, `vxlan`, `fabric` or `unreachable`.
    pub mode: &'static str,
    /// Where the route leads, as `ip route` writes it; absent where none of ours is needed or possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<String>,
    /// `in`, `missing` or `blocked`.
    pub state: &'static str,
}

/// The rows of a status, in its order.
pub fn rows(status: &Status) -> Vec<RouteRow> {
    let mut rows = Vec::new();
    for peer in &status.peers {
        let row = |pod_cidr, next_hop, state: &'static str| RouteRow {
            node: peer.node.clone(),
            node_ip: peer.address.clone(),
            pod_cidr,
            mode: peer.mode.as_str(),
            next_hop,
            state,
        };
        if peer.routes.is_empty() {
            rows.push(row(None, None, RouteState::Blocked.as_str()));
        }
        for route in &peer.routes {
            rows.push(row(Some(route.pod_cidr.clone()), route.next_hop.clone(), route.state.as_str()));
        }
    }
    rows
}

/// The form for people.
pub fn table(rows: &[RouteRow]) -> String {
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            let RouteRow { node, node_ip, pod_cidr, mode, next_hop, state } = row.clone();
            [
                node,
                node_ip.unwrap_or_default(),
                pod_cidr.unwrap_or_default(),
                mode.to_owned(),
                next_hop.unwrap_or_default(),
                state.to_owned(),
            ]
        })
        .collect();
    output::table(["NODE", "NODE IP", "POD CIDR", "MODE", "NEXT HOP", "STATE"], &cells)
}

#[cfg(test)]
mod tests;
