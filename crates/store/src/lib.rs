//! Where the cluster view comes from.
//!
//! A [`ClusterStore`] turns an outside source into complete [`ClusterView`]s. It has none until its first list is
//! complete; whoever plans uses the saved view ([`saved`]) until then.

use std::future::Future;
use std::sync::Arc;

use hopwise_core::cluster::{ClusterView, NodeData, ViewDelta};

/// What a store has to say.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// A complete view: the first one, or after a change that is not worth telling apart.
    View(Arc<ClusterView>),
    /// What changed since the last event.
    Delta(ViewDelta),
    /// The source can't be read right now, or is broken; the last view stays good.
    Trouble(StoreTrouble),
}

/// Why a store can't follow its source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The next event. Cancel-safe. Never returns an error: trouble is an event, and the store goes on trying.
    fn next(&mut self) -> impl Future<Output = StoreEvent> + Send;

    /// Makes our own node's data known to peers, now and again whenever the source has lost it.
    fn publish(&mut self, data: NodeData) -> impl Future<Output = Result<(), StoreTrouble>> + Send;
}
