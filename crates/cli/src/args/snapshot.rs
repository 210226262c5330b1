//! What a look at this node without an agent is made of.

use std::path::PathBuf;

use clap::Args;
use hopwise_agent::StoreOptions;
use hopwise_agent::snapshot::{self, Snapshot, SnapshotOptions, ViewFrom};

use super::{NodeArgs, SettingsArgs};
use crate::exit::{Failure, Hint};

/// What to plan from.
#[derive(Args, Clone, Debug)]
pub struct SnapshotArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// The inventory to plan from
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// The folder where agents publish their nodes' MAC addresses to each other
    #[arg(
        long,
        env = "HOPWISE_NODE_DATA",
        hide_env_values = true,
        value_name = "DIR",
        requires = "inventory"
    )]
    node_data: Option<PathBuf>,
    /// Where an agent of this node saves its last view, which is used when there is no --inventory
    #[arg(long, env = "HOPWISE_STATE_DIR", hide_env_values = true, value_name = "DIR", default_value = hopwise_agent::DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl SnapshotArgs {
    /// Reads the store and the kernel, and plans; changes nothing.
    pub fn take(&self) -> Result<Snapshot, Failure> {
        let (view, hint) = match &self.inventory {
            Some(inventory) => {
                let store = StoreOptions::File {
                    inventory: inventory.clone(),
                    node_data_dir: self.node_data.clone(),
                };
                (
                    ViewFrom::Store(store),
                    "this reads the kernel's network and netfilter tables: run it as root",
                )
            }
            None => (
                ViewFrom::Saved(self.state_dir.clone()),
                "name an inventory with --inventory FILE, or an agent's --state-dir; and run it as root",
            ),
        };
        let options =
            SnapshotOptions { node: self.node.name()?, view, settings: self.settings.to_settings() };
        snapshot::take(options).hint(hint)
    }
}
