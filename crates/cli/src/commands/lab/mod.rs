//! `hopwise lab`: whole networks on this machine.

mod check;
mod demo;
mod healing;
mod progress;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hopwise_lab::{Lab, LabName, UpOptions};

use crate::exit::{Exit, Failure};
use crate::output::{Format, print_text};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise lab demo
  hopwise lab up --nodes 5 --pods-per-node 3
  hopwise lab check
  hopwise lab exec node1 -- hopwise routes
  hopwise lab exec node1-pod1 -- ip route
  hopwise lab down

A lab is made of network namespaces with the real agent and the real plugin in them, as root or, where the system allows
it, as any user. It never touches this machine's own network.";

const UP_EXAMPLES: &str = "\
Examples:
  hopwise lab up
  hopwise lab up --topology two-segments --name two
  hopwise lab up --topology my.yaml --nodes 20

Built-in topologies: one-segment, two-segments, two-segments-fabric, dual-stack, jumbo. docs/lab.md describes the file.";

const CHECK_EXAMPLES: &str = "\
Examples:
  hopwise lab check
  hopwise lab check -o json | jq .ok
  hopwise lab check --name two

Exit codes: 0 all is as it should be, 2 something is not.";

const EXEC_EXAMPLES: &str = "\
Examples:
  hopwise lab exec node1 -- ip route
  hopwise lab exec node1-pod1                  A shell in the pod
  hopwise lab exec node2 -- hopwise status

The exit code is the command's own.";

const STATUS_EXAMPLES: &str = "\
Examples:
  hopwise lab status
  hopwise lab status -o json | jq '.nodes[].agent'

Exit codes: 0 every agent is ready, 2 one is not.";

const DOWN_EXAMPLES: &str = "\
Examples:
  hopwise lab down
  hopwise lab down --name two
  hopwise lab down --all";

const DEMO_EXAMPLES: &str = "\
Examples:
  hopwise lab demo
  hopwise lab demo --topology two-segments

Exit codes: 0 all was as it should be, 2 something was not.";

/// Arguments of `hopwise lab`.
#[derive(Args, Debug)]
pub struct LabCommand {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Make a lab
    #[command(after_help = UP_EXAMPLES)]
    Up(UpCommand),
    /// Check every path in a lab: pods to pods, nodes and outside, and back
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ShowCommand),
    /// Run a command in a node, pod, router or outside host of a lab
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecCommand),
    /// Show what a lab consists of and how its agents stand
    #[command(after_help = STATUS_EXAMPLES)]
    Status(ShowCommand),
    /// Remove a lab, whatever is left of it
    #[command(after_help = DOWN_EXAMPLES)]
    Down(DownCommand),
    /// Make a lab, check it, break a route, watch it heal, and remove it all
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(demo::DemoCommand),
}

#[derive(Args, Debug)]
struct NameArgs {
    /// The lab's name
    #[arg(long, value_name = "LAB", default_value_t)]
    name: LabName,
}

/// What to make a lab of.
#[derive(Args, Debug)]
struct MakeArgs {
    /// A built-in topology, or a file
    #[arg(long, value_name = "TOPOLOGY", default_value = hopwise_lab::topology::DEFAULT)]
    topology: String,
    /// How many nodes [default: as the topology says]
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// How many pods on each node [default: as the topology says]
    #[arg(long, value_name = "M")]
    pods_per_node: Option<usize>,
    /// The hopwise binary that the nodes run [default: this one]
    #[arg(long, env = "HOPWISE_BIN", hide_env_values = true, value_name = "FILE")]
    hopwise: Option<PathBuf>,
    /// The plugin that attaches pods [default: hopwise-cni beside the hopwise binary]
    #[arg(long, env = "HOPWISE_CNI_BIN", hide_env_values = true, value_name = "FILE")]
    cni: Option<PathBuf>,
}

impl MakeArgs {
    fn options(&self, name: LabName) -> UpOptions {
        let mut options = UpOptions { name, topology: self.topology.clone(), ..UpOptions::default() };
        options.numbers.nodes = self.nodes;
        options.numbers.pods_per_node = self.pods_per_node;
        options.hopwise.clone_from(&self.hopwise);
        options.cni.clone_from(&self.cni);
        options
    }
}

#[derive(Args, Debug)]
struct UpCommand {
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    make: MakeArgs,
}

#[derive(Args, Debug)]
struct ShowCommand {
    #[command(flatten)]
    name: NameArgs,
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

#[derive(Args, Debug)]
struct ExecCommand {
    #[command(flatten)]
    name: NameArgs,
    /// Where: a name that `hopwise lab status` shows, such as node1 or node1-pod1
    target: String,
    /// The command and its arguments; a shell if there is none
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Args, Debug)]
struct DownCommand {
    #[command(flatten)]
    name: NameArgs,
    /// Remove all labs of this user
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

impl LabCommand {
    /// Runs the subcommand.
    pub fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Sub::Up(command) => command.run(),
            Sub::Check(command) => check::run(&command.name.name, command.output),
            Sub::Exec(command) => {
                Err(Lab::open(&command.name.name)?.exec(&command.target, &command.command).into())
            }
            Sub::Status(command) => command.status(),
            Sub::Down(command) => command.run(),
            Sub::Demo(command) => command.run(),
        }
    }
}

impl UpCommand {
    fn run(self) -> Result<Exit, Failure> {
        let options = self.make.options(self.name.name);
        let name = options.name.clone();
        // What goes wrong here says itself what to do about it.
        let lab = progress::shown(|progress| hopwise_lab::up(&options, progress))?;
        print_text(&lab.status()?.table())?;
        let flag = if name == LabName::default() { String::new() } else { format!(" --name {name}") };
        print_text(&format!(
            "\nnext: hopwise lab check{flag}; hopwise lab exec{flag} node1 -- hopwise routes; hopwise lab down{flag}\n"
        ))?;
        Ok(Exit::Good)
    }
}

impl ShowCommand {
    fn status(&self) -> Result<Exit, Failure> {
        let status = Lab::open(&self.name.name)?.status()?;
        self.output.print(&status, hopwise_lab::LabStatus::table)?;
        Ok(if status.is_ready() { Exit::Good } else { Exit::Attention })
    }
}

impl DownCommand {
    fn run(self) -> Result<Exit, Failure> {
        let labs = if self.all { hopwise_lab::labs() } else { vec![self.name.name] };
        if labs.is_empty() {
            print_text("there is no lab\n")?;
        }
        for lab in labs {
            let text = match hopwise_lab::down(&lab)? {
                true => format!("lab {lab}: removed\n"),
                false => format!("lab {lab}: there was none\n"),
            };
            print_text(&text)?;
        }
        Ok(Exit::Good)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn help_names_the_topologies_that_there_are() {
        for (name, _) in hopwise_lab::topology::list() {
            assert!(super::UP_EXAMPLES.contains(name), "{name}");
        }
    }
}
