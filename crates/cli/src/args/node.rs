//! Which node we are, where the cluster view comes from, and where state is kept.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use hopwise_agent::StoreOptions;
use hopwise_core::name::NodeName;

use crate::exit::{Failure, Hint};

/// Which node we are.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// This node's name in the store [default: the hostname]
    #[arg(long, env = "HOPWISE_NODE", hide_env_values = true, value_name = "NAME")]
    node: Option<NodeName>,
}

impl NodeArgs {
    /// The name given, else the hostname in lower case, as the kubelet does it.
    pub fn name(&self) -> Result<NodeName, Failure> {
        if let Some(name) = &self.node {
            return Ok(name.clone());
        }
        let file = "/proc/sys/kernel/hostname";
        let hostname = std::fs::read_to_string(file).with_context(|| format!("can't read {file}"))?;
        hostname.trim().to_lowercase().parse().context("the hostname").hint("name this node with --node NAME")
    }
}

/// Where the cluster view comes from.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The kind of store; there is one yet: file, an inventory file
    #[arg(
        long,
        env = "HOPWISE_STORE",
        hide_env_values = true,
        value_name = "STORE",
        default_value = "file",
        hide_possible_values = true
    )]
    pub store: StoreKind,
    /// The inventory of networks and nodes, a YAML file (docs/inventory.md)
    #[arg(long, env = "HOPWISE_INVENTORY", hide_env_values = true, value_name = "FILE")]
    pub inventory: PathBuf,
    /// The folder where agents publish their nodes' MAC addresses to each other [default: they don't]
    #[arg(long, env = "HOPWISE_NODE_DATA", hide_env_values = true, value_name = "DIR")]
    pub node_data: Option<PathBuf>,
}

impl StoreArgs {
    /// The same for the agent.
    pub fn to_options(&self) -> StoreOptions {
        match self.store {
            StoreKind::File => StoreOptions::File {
                inventory: self.inventory.clone(),
                node_data_dir: self.node_data.clone(),
            },
        }
    }
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// An inventory file.
    File,
}

/// Where state is kept.
#[derive(Args, Clone, Debug)]
pub struct StateArgs {
    /// Where the last view and former sysctl values are kept across boots
    #[arg(long, env = "HOPWISE_STATE_DIR", hide_env_values = true, value_name = "DIR", default_value = hopwise_agent::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Where files are kept that don't outlive a boot
    #[arg(long, env = "HOPWISE_RUN_DIR", hide_env_values = true, value_name = "DIR", default_value = hopwise_agent::DEFAULT_RUN_DIR)]
    pub run_dir: PathBuf,
}

/// Where the journal of `hopwise l2` is kept: the agent's state directory.
#[derive(Args, Clone, Debug)]
pub struct StateDirArgs {
    /// Where the journal is kept, and the agent looks for it
    #[arg(long, env = "HOPWISE_STATE_DIR", hide_env_values = true, value_name = "DIR", default_value = hopwise_agent::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
}
