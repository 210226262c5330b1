//! Following the store: its events go into the mailbox, complete views onto the disk, our own data out to peers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hopwise_api::status::ViewSource;
use hopwise_core::cluster::{ClusterView, ViewDelta};
use hopwise_core::note::{Note, Severity};
use hopwise_store::{ClusterStore, StoreEvent, StoreTrouble, saved};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::memory;
use crate::reconciler::{Inbox, Published, SourcedView};

/// While changes go on, the view is saved at least every so many delays.
const LONGEST_DELAY: u32 = 10;

/// Follows a store until `stop`.
pub async fn follow(
    mut store: impl ClusterStore,
    inbox: Arc<Inbox>,
    mut published: watch::Receiver<Published>,
    keeper: Arc<ViewKeeper>,
    stop: CancellationToken,
) {
    enum News {
        Event(StoreEvent),
        Published,
        Stop,
    }
    let mut troubles = Vec::new();
    let mut told = None;
    loop {
        let news = tokio::select! {
            () = stop.cancelled() => News::Stop,
            event = store.next() => News::Event(event),
            changed = published.changed() => if changed.is_ok() { News::Published } else { News::Stop },
        };
        match news {
            News::Event(event) => take_event(event, &inbox, &keeper, &mut troubles),
            News::Published => {
                let data = published.borrow_and_update().node_data.clone();
                if let Some(data) = data.filter(|data| told.as_ref() != Some(data)) {
                    told = Some(data.clone());
                    store.publish(data);
                }
            }
            News::Stop => return,
        }
    }
}

fn take_event(event: StoreEvent, inbox: &Inbox, keeper: &ViewKeeper, troubles: &mut Vec<StoreTrouble>) {
    match event {
        StoreEvent::View(view) => {
            keeper.put_view(&view);
            inbox.put_view(SourcedView { view, source: ViewSource::Live, current_until: None });
        }
        StoreEvent::Delta(delta) => {
            keeper.put_delta(&delta);
            inbox.put_delta(delta);
        }
        StoreEvent::Trouble(trouble) => {
            tracing::warn!("{trouble}");
            inbox.put_note(slot(&trouble), Some(trouble_note(&trouble)));
            if troubles.is_empty() {
                inbox.put_trouble_since(Some(SystemTime::now()));
            }
            troubles.push(trouble);
        }
        StoreEvent::Recovered(trouble) => {
            tracing::info!("recovered: {trouble}");
            inbox.put_note(slot(&trouble), None);
            troubles.retain(|standing| *standing != trouble);
            if troubles.is_empty() {
                inbox.put_trouble_since(None);
            }
        }
    }
}

fn slot(trouble: &StoreTrouble) -> String {
    format!("store {trouble}")
}

fn trouble_note(trouble: &StoreTrouble) -> Note {
    Note {
        id: "store-trouble",
        severity: Severity::Warning,
        subject: trouble.subject.clone(),
        evidence: trouble.message.clone(),
        fix: trouble.fix.clone(),
    }
}

/// Keeps the last complete view on disk.
///
/// Saving waits until changes have settled, and happens on a thread of its own: neither the network nor the following of
/// the store ever waits for a disk.
#[derive(Debug)]
pub struct ViewKeeper {
    dir: PathBuf,
    delay: Duration,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    view: Option<ClusterView>,
    /// Whether the file is older than `view`.
    unsaved: bool,
}

impl ViewKeeper {
    /// Keeps views in `dir`, which holds `saved` now.
    pub fn new(dir: &Path, delay: Duration, saved: Option<&ClusterView>) -> ViewKeeper {
        let kept = Mutex::new(Kept { view: saved.cloned(), unsaved: false });
        ViewKeeper { dir: dir.to_owned(), delay, kept, changed: Notify::new() }
    }

    fn put_view(&self, view: &ClusterView) {
        let mut kept = self.lock();
        kept.unsaved |= kept.view.as_ref() != Some(view);
        // Even if it is equal: its nodes are shared with the plan, those of the one before are not.
        kept.view = Some(view.clone());
        drop(kept);
        self.changed.notify_one();
    }

    fn put_delta(&self, delta: &ViewDelta) {
        let mut kept = self.lock();
        // A delta builds on a complete view; there is nothing to keep without.
        let Some(view) = &mut kept.view else { return };
        for name in &delta.removed {
            view.nodes.remove(name);
        }
        view.nodes.extend(delta.upserted.iter().map(|node| (node.name.clone(), node.clone())));
        kept.unsaved = true;
        drop(kept);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves what changes, when it has settled, until `stop`; then saves what is left.
    pub async fn run(self: Arc<Self>, inbox: Arc<Inbox>, stop: CancellationToken) {
        // There may be a saved view, which took memory to read.
        self.changed.notify_one();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.changed.notified() => self.settled(&stop).await,
                () = stop.cancelled() => {}
            }
            self.save(&inbox).await;
        }
    }

    /// Waits until there were no changes for a while, though not for ever.
    async fn settled(&self, stop: &CancellationToken) {
        let latest = tokio::time::Instant::now() + self.delay * LONGEST_DELAY;
        loop {
            let quiet = (tokio::time::Instant::now() + self.delay).min(latest);
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(quiet) => return,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn save(self: &Arc<Self>, inbox: &Inbox) {
        let keeper = self.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let saved = keeper.save_now();
            // Reading a view takes much memory for a moment.
            memory::trim();
            saved
        })
        .await;
        let error = match saved {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{:#}", anyhow::Error::new(error))),
            Err(panic) => Some(panic.to_string()),
        };
        inbox.put_note(
            "saved view".to_owned(),
            error.map(|evidence| Note {
                id: "view-not-saved",
                severity: Severity::Warning,
                subject: self.dir.display().to_string(),
                evidence,
                fix: "make the state directory writable; without the saved view a node that boots without its store has \
                      no routes"
                    .to_owned(),
            }),
        );
    }

    fn save_now(&self) -> Result<(), saved::SavedError> {
        let view = {
            let mut kept = self.lock();
            if !std::mem::take(&mut kept.unsaved) {
                return Ok(());
            }
            kept.view.clone()
        };
        let Some(view) = view else { return Ok(()) };
        let saved = saved::save(&self.dir, &view);
        if saved.is_err() {
            // Tried again with the next change.
            self.lock().unsaved = true;
        }
        saved
    }
}
