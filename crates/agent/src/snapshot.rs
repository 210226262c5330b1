//! One look at the node without an agent: the view, the plan, what stands in the kernel, and what would change.
//!
//! Changes nothing; the command line's `plan --diff` and `routes` are made of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hopwise_api::status::{
    Counters, NoteStatus, ReadyStatus, RouteState, Status, VERSION, ViewSource, ViewStatus,
};
use hopwise_core::cluster::ClusterView;
use hopwise_core::config::{NodeConfig, Settings};
use hopwise_core::diff::{Changes, diff};
use hopwise_core::name::NodeName;
use hopwise_core::observed::Observed;
use hopwise_core::plan::{self, Planner};
use hopwise_kernel::kernel::Kernel;
use hopwise_store::file::{FileStore, FileStoreOptions};
use hopwise_store::{ClusterStore, StoreEvent, saved};

use crate::options::StoreOptions;
use crate::status;

/// How long a store may take to come up with a complete view.
const VIEW_WITHIN: Duration = Duration::from_secs(10);

/// Where the view of a snapshot is from.
#[derive(Clone, Debug)]
pub enum ViewFrom {
    /// A store, asked once.
    Store(StoreOptions),
    /// The view that an agent saved in this state directory.
    Saved(PathBuf),
}

/// What a snapshot is to be taken of.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The node that we are.
    pub node: NodeName,
    /// Where the view is from.
    pub view: ViewFrom,
    /// Settings that win over the cluster's and the node's: those that the agent is started with.
    pub settings: Settings,
}

/// One look at the node.
#[derive(Debug)]
pub struct Snapshot {
    /// The node that we are.
    pub node: NodeName,
    /// Where the view is from.
    pub source: ViewSource,
    /// The plan, with the view, the host and the configuration that it was made from.
    pub planner: Planner,
    /// What stands in the kernel and is ours.
    pub observed: Observed,
    /// What an agent would change now.
    pub changes: Changes,
}

/// Takes a snapshot in the network namespace of the calling thread.
pub fn take(options: SnapshotOptions) -> anyhow::Result<Snapshot> {
    let (view, source) = match &options.view {
        ViewFrom::Store(store) => (view_of_store(store, &options.node)?, ViewSource::Live),
        ViewFrom::Saved(state_dir) => {
            let view = saved::load(state_dir)?.ok_or_else(|| {
                anyhow!("no agent has saved a view in {}; name an inventory instead", state_dir.display())
            })?;
            (Arc::new(view), ViewSource::Saved)
        }
    };
    let own = view.nodes.get(&options.node).map(|node| node.settings.clone()).unwrap_or_default();
    let config = NodeConfig::resolve(options.node.clone(), &[&view.settings, &own, &options.settings]);
    let mut kernel = Kernel::open().context("can't open netlink")?;
    let mut host = kernel
        .host_view(&view.networks.pods, &plan::lookup_targets(&view, &config))
        .context("can't read links, addresses and routes")?;
    host.netfilter = kernel.netfilter_view().context("can't read netfilter rules")?;
    let observed =
        kernel.observe(&plan::sysctl_keys(&host)).context("can't read what hopwise has in the kernel")?;
    let planner = Planner::new(view, host, config);
    let changes = diff(&observed, planner.desired());
    Ok(Snapshot { node: options.node, source, planner, observed, changes })
}

fn view_of_store(store: &StoreOptions, node: &NodeName) -> anyhow::Result<Arc<ClusterView>> {
    let StoreOptions::File { inventory, node_data_dir } = store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut store = FileStore::open(FileStoreOptions {
            inventory: inventory.clone(),
            node_data_dir: node_data_dir.clone(),
            node: node.clone(),
        })?;
        let first = async {
            loop {
                match store.next().await {
                    StoreEvent::View(view) => return Ok(view),
                    StoreEvent::Trouble(trouble) => bail!(trouble),
                    StoreEvent::Delta(_) | StoreEvent::Recovered(_) => {}
                }
            }
        };
        tokio::time::timeout(VIEW_WITHIN, first).await.context("the store has no complete view")?
    })
}

impl Snapshot {
    /// The snapshot in the form in which an agent gives its status, counters empty.
    pub fn status(&self) -> Status {
        let mut described = Status {
            version: VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.to_string(),
            uplinks: Vec::new(),
            pod_cidrs: Vec::new(),
            pod_mtu: None,
            view: ViewStatus {
                source: self.source,
                age_seconds: 0.0,
                nodes: self.planner.view().nodes.len(),
            },
            ready: ReadyStatus::default(),
            peers: Vec::new(),
            notes: Vec::<NoteStatus>::new(),
            counters: Counters::default(),
            last_report: None,
        };
        status::describe_plan(&mut described, self.planner.plan(), &self.observed);
        let missing: Vec<String> = described
            .peers
            .iter()
            .flat_map(|peer| &peer.routes)
            .filter(|route| route.state == RouteState::Missing)
            .map(|route| format!("route {}", route.pod_cidr))
            .collect();
        described.ready = ReadyStatus { ready: missing.is_empty(), missing_count: missing.len(), missing };
        described.notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
        described
    }
}
