//! Whole agents: real processes in network namespaces, an inventory file between them, and a world that meddles.
//!
//! Nothing here waits for the slow full check (30 s): whatever heals, heals because the kernel or the store told.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod boot;
mod cleanup;
mod drift;
mod http;
mod links;
mod nodes;
mod restart;
mod support;
mod trust;

use hopwise_agent::{AgentOptions, StoreOptions};

/// Not a test of its own: the agent's process, when this binary is started by [`support::Node::start`].
#[test]
fn agent_process() {
    let Ok(dir) = std::env::var(support::AGENT_DIR) else { return };
    let node = std::env::var(support::AGENT_NODE).unwrap();
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let dir = std::path::PathBuf::from(dir);
    let store = StoreOptions::File {
        inventory: dir.join("inventory.yaml"),
        node_data_dir: Some(dir.join("node-data")),
    };
    let mut options = AgentOptions::new(node.parse().unwrap(), store);
    options.state_dir = dir.join(&node).join("state");
    options.run_dir = dir.join(&node).join("run");
    hopwise_agent::run(options).unwrap();
}
