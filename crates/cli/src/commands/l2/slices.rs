//! `hopwise l2 slices`: which addresses of a LAN each node may give to its pods.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use hopwise_api::inventory::{self, LanPlan};
use hopwise_api::slices::{Conflist, ConflistOptions, Slices, conflist};
use hopwise_core::cidr::Cidr;
use hopwise_core::family::PerFamily;
use hopwise_core::name::{LinkName, NodeName};
use hopwise_core::slices::{Assignment, Lan, Outcome, Shortage, Span, SpanSet, assign};

use crate::exit::{Exit, Failure, Hint};
use crate::output::{Format, print_text, table};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 slices --subnet 192.168.1.0/24 --exclude 192.168.1.1-99,192.168.1.240/28 --nodes node1,node2
                                             Who gets what; 100 addresses each
  hopwise l2 slices --subnet 192.168.1.0/24 --nodes node1,node2,node3 --state slices.json
                                             Keep what was said before: who stays keeps its slice
  hopwise l2 slices --inventory net.yaml --node node1 -o conflist > /etc/cni/net.d/10-lan.conflist
                                             The CNI configuration of one node

Left alone without being told: network and broadcast addresses, gateways (the first address of a subnet where
none is given), and with an inventory the nodes' own addresses. docs/l2-slices.md tells more.
Exit codes: 0 every node has its slice, 2 there are too few addresses.";

/// Arguments of `hopwise l2 slices`.
#[derive(Args, Debug)]
pub struct SlicesCommand {
    /// The LAN's subnets
    #[arg(long, value_name = "CIDR", value_delimiter = ',', required_unless_present = "inventory")]
    subnet: Vec<Cidr>,
    /// The LAN's gateways, in its subnets or link-local [default: the first address of each subnet]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Addresses to leave alone: one, FIRST-LAST, FIRST..LAST or a CIDR
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    exclude: Vec<Span>,
    /// How many addresses each node gets, of each family [default: 100]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    per_node: Option<u32>,
    /// The nodes
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required_unless_present = "inventory")]
    nodes: Vec<NodeName>,
    /// An inventory with `networks.lan`, instead of --subnet, --gateway and --nodes
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subnet", "gateway", "nodes"])]
    inventory: Option<PathBuf>,
    /// Where slices are kept between calls; made if there is none
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// For conflist: the node
    #[arg(long, env = "HOPWISE_NODE", hide_env_values = true, value_name = "NAME")]
    node: Option<NodeName>,
    /// For conflist: the bridge that has the uplink
    #[arg(long, value_name = "LINK", default_value = "cni0")]
    bridge: LinkName,
    /// For conflist: the network's name
    #[arg(long, value_name = "NAME", default_value = "lan")]
    network: String,
    /// How to print it: table, json or conflist
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Conflist,
}

impl SlicesCommand {
    /// Cuts, keeps and prints.
    pub fn run(&self) -> Result<Exit, Failure> {
        let plan = self.plan()?;
        let mut previous = self.state.as_deref().map(read_state).transpose()?.unwrap_or_default();
        for (node, slice) in plan.assigned.nodes.iter().filter(|(_, slice)| **slice != PerFamily::default()) {
            previous.nodes.insert(node.clone(), slice.clone());
        }
        let outcome = assign(&plan.lan, &plan.nodes, &previous);
        let text = self.render(&plan, &outcome)?;
        if let Some(path) = &self.state {
            write_state(path, &outcome.assignment)?;
        }
        print_text(&text)?;
        if self.output != Output::Json {
            outcome.shortages.iter().for_each(|shortage| eprintln!("{shortage}"));
        }
        Ok(if outcome.shortages.is_empty() { Exit::Good } else { Exit::Attention })
    }

    fn plan(&self) -> Result<LanPlan, Failure> {
        let Some(path) = &self.inventory else {
            let lan = Lan {
                subnets: self.subnet.clone(),
                gateways: self.gateway.clone(),
                exclude: self.exclude.clone(),
                per_node: self.per_node.unwrap_or(inventory::DEFAULT_PER_NODE),
            };
            lan.check().map_err(|error| Failure::new(Exit::Usage, error, "see hopwise l2 slices --help"))?;
            return Ok(LanPlan { nodes: self.nodes.clone(), ..LanPlan::of(lan) });
        };
        let mut plan = read_inventory(path)?;
        plan.lan.exclude.extend(&self.exclude);
        plan.lan.per_node = self.per_node.unwrap_or(plan.lan.per_node);
        Ok(plan)
    }

    fn render(&self, plan: &LanPlan, outcome: &Outcome) -> Result<String, Failure> {
        let answer = Slices::answer(&plan.lan, outcome);
        match self.output {
            Output::Table => Ok(Format::Table.render(&answer, people)?),
            Output::Json => Ok(Format::Json.render(&answer, people)?),
            Output::Conflist => self.conflist(plan, outcome),
        }
    }

    fn conflist(&self, plan: &LanPlan, outcome: &Outcome) -> Result<String, Failure> {
        let only = plan.nodes.first().filter(|_| plan.nodes.len() == 1);
        let node = self
            .node
            .as_ref()
            .or(only)
            .ok_or_else(|| anyhow!("a conflist is for one node, and there are {}", plan.nodes.len()))
            .hint("name the node with --node NAME")?;
        let conflist = node_conflist(plan, outcome, node, self.bridge, &self.network)?;
        Ok(serde_json::to_string_pretty(&conflist)? + "\n")
    }
}

fn read_inventory(path: &Path) -> Result<LanPlan, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("can't read {}", path.display()))
        .hint("name a file that is there with --inventory")?;
    inventory::parse_lan(&text, path)?
        .ok_or_else(|| anyhow!("{}: networks.lan is missing", path.display()))
        .hint("add the LAN's subnets: networks: {lan: {subnets: [192.168.1.0/24]}} (docs/l2-slices.md)")
}

fn node_conflist(
    plan: &LanPlan,
    outcome: &Outcome,
    node: &NodeName,
    bridge: LinkName,
    network: &str,
) -> Result<Conflist, Failure> {
    let slice = outcome
        .assignment
        .nodes
        .get(node)
        .ok_or_else(|| anyhow!("node {node} is none of those that have slices"))
        .hint("name one of --nodes or of the inventory with --node NAME")?;
    if *slice == PerFamily::default() {
        let why: Vec<String> = outcome.shortages.iter().map(ToString::to_string).collect();
        return Err(anyhow!("node {node} has no addresses: {}", why.join("; ")).into());
    }
    let options = ConflistOptions {
        name: network.to_owned(),
        bridge,
        node_addresses: plan.node_addresses.get(node).copied().unwrap_or_default(),
        services: plan.services.clone(),
    };
    Ok(conflist(&plan.lan, slice, &options))
}

/// The configuration of a node whose slice stands in an inventory.
///
/// # Errors
///
/// When it doesn't: what is only worked out may be another's as soon as a node is added. So only what is written counts.
pub fn conflist_for(
    inventory: &Path,
    node: &NodeName,
    bridge: LinkName,
    network: &str,
) -> Result<Conflist, Failure> {
    let plan = read_inventory(inventory)?;
    let file = inventory.display();
    if !plan.nodes.contains(node) {
        let error = anyhow!("{file}: nodes: there is no node {node}");
        return Err(error).hint("name one that is there with --node NAME");
    }
    let written = plan.assigned.nodes.get(node).filter(|slice| **slice != PerFamily::default());
    let written = written.ok_or_else(|| anyhow!("{file}: node {node} has no slices")).hint(format!(
        "see what `hopwise l2 slices --inventory {file}` says, and write it there: nodes: [{{name: {node}, slices: […]}}]"
    ))?;
    let mut outcome = assign(&plan.lan, &plan.nodes, &plan.assigned);
    let ours = |shortage: &&Shortage| shortage.nodes.iter().any(|(name, _)| name == node);
    outcome.shortages.iter().filter(ours).for_each(|shortage| eprintln!("{shortage}"));
    if let Some(slice) = outcome.assignment.nodes.get_mut(node) {
        let both = |now: &SpanSet, written: &SpanSet| now.intersection(written);
        *slice = PerFamily { v4: both(&slice.v4, &written.v4), v6: both(&slice.v6, &written.v6) };
        if *slice == PerFamily::default() {
            let error = anyhow!("{file}: nothing of the slices of node {node} can be used");
            return Err(error).hint("they are excluded, or outside networks.lan.subnets: correct either");
        }
    }
    node_conflist(&plan, &outcome, node, bridge, network)
}

/// The table for people: a line for each node, and one for each that is gone.
fn people(slices: &Slices) -> String {
    let rows: Vec<[String; 3]> = slices
        .nodes
        .iter()
        .map(|entry| (entry, "here"))
        .chain(slices.departed.iter().map(|entry| (entry, "gone")))
        .map(|(entry, state)| [entry.node.clone(), state.to_owned(), entry.slices.join(" ")])
        .collect();
    table(["NODE", "STATE", "ADDRESSES"], &rows)
}

fn read_state(path: &Path) -> Result<Assignment, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Slices::parse(&text)
            .with_context(|| format!("can't use {}", path.display()))
            .hint("name the file that --state has written, or move it away to start anew"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Assignment::default()),
        Err(error) => Err(anyhow::Error::new(error).context(format!("can't read {}", path.display())).into()),
    }
}

/// Writes the file beside its place and renames it: whoever reads it never sees half of it.
fn write_state(path: &Path, assignment: &Assignment) -> anyhow::Result<()> {
    let what = || format!("can't write {}", path.display());
    let name = path.file_name().with_context(what)?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let text = serde_json::to_string_pretty(&Slices::state(assignment))? + "\n";
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(what)
}
