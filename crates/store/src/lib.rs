//! Where the cluster view comes from.
//!
//! A [`ClusterStore`] turns an outside source into complete [`ClusterView`]s. It has none until its first list is
//! complete; whoever plans uses the saved view ([`saved`]) until then.
//!
//! # What a store owes its user
//!
//! The file is one source; the Kubernetes API and etcd are shaped by the same four duties:
//!
//! * *List*: the first event that carries nodes is a [`StoreEvent::View`], and it is complete. A store over several
//!   lists (Nodes and configuration) waits for all of them. That event is the store's readiness; there is no other.
//! * *Watch*: afterwards a [`StoreEvent::Delta`], or a new view where the source can't tell what changed (a relist after
//!   a compaction or an expired resource version). Events are in order and build on each other.
//! * *Publish*: [`ClusterStore::publish`] says what peers should know of this node. It is level-triggered: it only notes
//!   the wish, and [`ClusterStore::next`] makes it true and keeps it true, so that a slow API server can't hold up the
//!   events, and a lost lease, a re-created Node object or a deleted file is made good without anybody asking.
//! * *Trouble* is an event, never an end: the last view stays good, and the store goes on trying with a back-off of its
//!   own. Every [`StoreEvent::Trouble`] is followed by a [`StoreEvent::Recovered`] with the same value once it is over.
#![deny(unsafe_code)]

#[cfg(test)]
mod child;
mod disk;
pub mod file;
pub mod saved;

use std::future::Future;
use std::sync::Arc;

use hopwise_core::cluster::{ClusterView, NodeData, ViewDelta};

/// What a store has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEvent {
    /// A complete view: the first one, or after a change that is not worth telling apart.
    View(Arc<ClusterView>),
    /// What changed since the last event.
    Delta(ViewDelta),
    /// The source can't be read right now, or is broken; the last view stays good. Told once per distinct problem.
    Trouble(StoreTrouble),
    /// This trouble, told earlier, is over. Several can stand at the same time; each ends for itself.
    Recovered(StoreTrouble),
}

/// Why a store can't follow its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{subject}: {message}; {fix}")]
pub struct StoreTrouble {
    /// The file or address, with line and column where there are any.
    pub subject: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// A source of cluster views. Kubernetes and etcd fit in beside the file: list, then watch, with reconnection and
/// back-off inside; publish own node data; never an end unless dropped.
pub trait ClusterStore: Send + 'static {
    /// The next event. Never returns an error: trouble is an event, and the store goes on trying.
    ///
    /// Cancel-safe: dropping the future loses no event, so it can stand in a `select!`.
    fn next(&mut self) -> impl Future<Output = StoreEvent> + Send;

    /// Says what peers should know of our own node. Returns at once; [`ClusterStore::next`] does the writing, again
    /// whenever the source has lost it, and tells failures as [`StoreEvent::Trouble`]. The latest call wins.
    fn publish(&mut self, data: NodeData);
}
