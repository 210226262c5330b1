//! The node agent: the loop that makes this node's network what the cluster view says, and keeps it so.
//!
//! Two threads. One runs the reconciler (module `reconciler`), synchronous, which owns everything about the network. The
//! other runs a current-thread tokio runtime with the store, the HTTP server and the signals. They meet in a mailbox that
//! merges what waits in it, and in a watched value that the reconciler publishes after each turn.
//!
//! The agent ends without touching the network: routes, tables and links stay, so that a restart or an upgrade loses no
//! packet. [`cleanup`] is what removes them.

pub mod cleanup;
mod follow;
mod http;
pub mod l2;
mod memory;
mod metrics;
mod options;
mod pulse;
mod reap;
mod reconciler;
mod run_dir;
pub mod snapshot;
mod state_dir;
mod status;

use std::sync::Arc;

use anyhow::{Context, bail};
use hopwise_api::status::ViewSource;
use hopwise_core::cluster::ClusterView;
use hopwise_core::note::{Note, Severity};
use hopwise_store::file::FileStore;
use hopwise_store::saved;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use options::{
    AgentOptions, DEFAULT_LISTEN, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, Intervals, StoreOptions,
};

use follow::ViewKeeper;
use metrics::Metrics;
use pulse::Pulse;
use reconciler::{Inbox, LinuxNetwork, Parts, Published, Reconciler, SourcedView};
use state_dir::UndoLog;

/// Runs the agent in the network namespace of the calling thread until SIGTERM or SIGINT. The network stays as it is.
pub fn run(options: AgentOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: ending, the network stays as it is"),
                _ = interrupt.recv() => tracing::info!("SIGINT: ending, the network stays as it is"),
            }
            token.cancel();
        });
        run_until(options, stop).await
    })
}

/// Runs the agent until `stop` is cancelled: for programs that have a runtime and signals of their own.
pub async fn run_until(options: AgentOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let _lock = state_dir::lock(&options.state_dir)?;
    let inbox = Arc::new(Inbox::new().context("can't make an eventfd")?);
    let (published, published_here) = watch::channel(Published::default());
    let pulse = Arc::new(Pulse::new(options.intervals.full_check));
    let metrics = Metrics::default();
    let saved = load_saved_view(&options, &inbox);
    let keeper = Arc::new(ViewKeeper::new(
        &options.state_dir,
        options.intervals.save_view,
        saved.as_ref().map(|saved| &*saved.view),
    ));
    let remembered = saved.as_ref().map(|saved| saved.view.clone());
    if let Some(saved) = saved {
        inbox.put_view(saved);
    }

    let network = LinuxNetwork::open().context("can't open netlink; run as root, or with CAP_NET_ADMIN")?;
    let parts = Parts {
        node: options.node.clone(),
        settings: options.settings.clone(),
        intervals: options.intervals,
        inbox: inbox.clone(),
        published,
        pulse: pulse.clone(),
        metrics: metrics.clone(),
        undo: UndoLog::load(&options.state_dir),
        l2: Arc::new(l2::Mailbox::new().context("can't make an eventfd")?),
    };
    let uplink = start_guard(&options, &parts.l2, &inbox)?;
    let (ended, end) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("reconciler".to_owned())
        .spawn(move || {
            // Dropped when the thread ends, by return or panic.
            let _ended = ended;
            Reconciler::new(network, parts).run();
        })
        .context("can't start the reconciler's thread")?;

    if let Some(address) = options.listen {
        let server = http::Server { inbox: inbox.clone(), published: published_here.clone(), pulse, metrics };
        tokio::spawn(http::serve(server, address));
    }
    tokio::spawn(run_dir::keep(options.run_dir.clone(), published_here.clone(), inbox.clone()));
    tokio::spawn(reap::keep_reaping(options.intervals.full_check, stop.clone()));
    let keeping = tokio::spawn(keeper.clone().run(inbox.clone(), stop.clone()));
    let store = open_store(&options, remembered)?;
    tokio::spawn(follow::follow(store, inbox.clone(), published_here, keeper, stop.clone()));

    tokio::select! {
        () = stop.cancelled() => {}
        _ = end => {}
    }
    inbox.stop();
    uplink.mailbox.stop();
    let panicked = thread.join().is_err() | uplink.thread.join().is_err();
    if !stop.is_cancelled() || panicked {
        bail!("a thread ended by itself; this is a bug, please report it with the log");
    }
    keeping.await.context("saving the view")?;
    Ok(())
}

/// The thread that looks after the uplink on the bridge.
struct UplinkGuard {
    mailbox: Arc<l2::Mailbox>,
    thread: std::thread::JoinHandle<()>,
}

fn start_guard(
    options: &AgentOptions,
    mailbox: &Arc<l2::Mailbox>,
    inbox: &Arc<Inbox>,
) -> anyhow::Result<UplinkGuard> {
    let inbox = inbox.clone();
    let tell = Box::new(move |slot: &'static str, note| inbox.put_note(slot.to_owned(), note));
    let guard = l2::Guard::new(options.state_dir.clone(), mailbox.clone(), tell)
        .context("can't listen for changes of links")?;
    let thread = std::thread::Builder::new()
        .name("uplink".to_owned())
        .spawn(move || guard.run())
        .context("can't start the uplink's thread")?;
    Ok(UplinkGuard { mailbox: mailbox.clone(), thread })
}

/// Opens the store. The seniority of claims is carried over from the saved view, or a restart would make a newcomer's claim
/// as old as the one that it collides with.
fn open_store(options: &AgentOptions, remembered: Option<Arc<ClusterView>>) -> anyhow::Result<FileStore> {
    let StoreOptions::File { inventory, node_data_dir } = &options.store;
    let store = FileStore::open(hopwise_store::file::FileStoreOptions {
        inventory: inventory.clone(),
        node_data_dir: node_data_dir.clone(),
        node: options.node.clone(),
    });
    let store = store.context("can't watch the inventory")?;
    Ok(match remembered {
        Some(view) => store.remembering(view),
        None => store,
    })
}

/// Loads the view that an earlier run saved. One that can't be used is noted, never fatal.
fn load_saved_view(options: &AgentOptions, inbox: &Inbox) -> Option<SourcedView> {
    match saved::load(&options.state_dir) {
        Ok(view) => view.map(|view| SourcedView {
            view: Arc::new(view),
            source: ViewSource::Saved,
            current_until: saved::path(&options.state_dir).metadata().and_then(|file| file.modified()).ok(),
        }),
        Err(error) => {
            let evidence = format!("{:#}", anyhow::Error::new(error));
            tracing::warn!("the saved view is ignored: {evidence}");
            let note = Note {
                id: "saved-view-ignored",
                severity: Severity::Warning,
                subject: options.state_dir.display().to_string(),
                evidence,
                fix: "nothing to do: it is replaced as soon as the store has answered".to_owned(),
            };
            inbox.put_note("saved view".to_owned(), Some(note));
            None
        }
    }
}
