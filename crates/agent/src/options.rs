//! What the agent is told when it is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hopwise_core::config::Settings;
use hopwise_core::name::NodeName;

/// Where the state directory is unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/hopwise";
/// Where the run directory is unless told otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/hopwise";
/// Where the agent answers HTTP requests unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7471);

/// What the agent is told when it is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The node that we are.
    pub node: NodeName,
    /// Where the cluster view comes from.
    pub store: StoreOptions,
    /// What has to outlive a restart: the saved view, the former values of sysctls, the lock.
    pub state_dir: PathBuf,
    /// What other programs on this node read: `node.json`, `ready`.
    pub run_dir: PathBuf,
    /// Where to answer HTTP requests; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Settings that win over the cluster's and the node's.
    pub settings: Settings,
    /// How often, how soon.
    pub intervals: Intervals,
}

impl AgentOptions {
    /// Options with the default directories, address and intervals.
    pub fn new(node: NodeName, store: StoreOptions) -> AgentOptions {
        AgentOptions {
            node,
            store,
            state_dir: DEFAULT_STATE_DIR.into(),
            run_dir: DEFAULT_RUN_DIR.into(),
            listen: Some(DEFAULT_LISTEN),
            settings: Settings::default(),
            intervals: Intervals::default(),
        }
    }
}

/// Where the cluster view comes from.
#[derive(Clone, Debug)]
pub enum StoreOptions {
    /// An inventory file.
    File {
        /// The inventory.
        inventory: PathBuf,
        /// The directory that nodes publish their data in, where they share one.
        node_data_dir: Option<PathBuf>,
    },
}

/// How often, how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Between full checks, which find what notifications missed.
    pub full_check: Duration,
    /// How long after a change the view is saved. While changes go on it is saved at least every ten times this long.
    pub save_view: Duration,
    /// How long after a change of foreign netfilter rules they are read, so that a reload is read once.
    pub read_netfilter: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Intervals {
            full_check: Duration::from_secs(30),
            save_view: Duration::from_millis(500),
            read_netfilter: Duration::from_millis(200),
        }
    }
}
