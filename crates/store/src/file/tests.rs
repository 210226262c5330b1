//! The store over real files and real inotify.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hopwise_core::cluster::ClusterView;
use hopwise_core::name::NodeName;
use tempfile::TempDir;
use tokio::time::timeout;

use super::{FileStore, FileStoreOptions};
use crate::{ClusterStore, StoreEvent, StoreTrouble};

mod data;
mod inotify;
mod latency;
mod seniority;

/// A directory with an inventory and a store over it.
struct World {
    dir: TempDir,
    store: FileStore,
}

impl World {
    /// Nothing is there yet.
    fn empty() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = store_of(dir.path(), "a");
        World { dir, store }
    }

    /// The inventory is there and its view was told.
    async fn with(text: &str) -> (World, std::sync::Arc<ClusterView>) {
        let mut world = World::empty();
        fs::write(world.inventory(), text).unwrap();
        let view = world.view().await;
        (world, view)
    }

    fn inventory(&self) -> PathBuf {
        self.dir.path().join("inventory.yaml")
    }

    fn data(&self, node: &str) -> PathBuf {
        self.dir.path().join("data").join(format!("{node}.json"))
    }

    async fn next(&mut self) -> StoreEvent {
        next(&mut self.store).await
    }

    async fn view(&mut self) -> std::sync::Arc<ClusterView> {
        match self.next().await {
            StoreEvent::View(view) => view,
            event => panic!("not a view: {event:?}"),
        }
    }

    /// The names that a delta adds or changes, and those that it removes.
    async fn delta(&mut self) -> (Vec<String>, Vec<String>) {
        match self.next().await {
            StoreEvent::Delta(delta) => (
                delta.upserted.iter().map(|node| node.name.to_string()).collect(),
                delta.removed.iter().map(NodeName::to_string).collect(),
            ),
            event => panic!("not a delta: {event:?}"),
        }
    }

    async fn trouble(&mut self) -> StoreTrouble {
        match self.next().await {
            StoreEvent::Trouble(trouble) => trouble,
            event => panic!("not trouble: {event:?}"),
        }
    }

    /// The trouble as text, without the directory's changing name.
    fn text(&self, trouble: &StoreTrouble) -> String {
        trouble.to_string().replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    async fn recovered(&mut self) -> StoreTrouble {
        match self.next().await {
            StoreEvent::Recovered(trouble) => trouble,
            event => panic!("not recovered: {event:?}"),
        }
    }

    /// Nothing is told for a while, much longer than any change takes.
    async fn silence(&mut self) {
        let event = timeout(Duration::from_millis(150), self.store.next()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

fn store_of(dir: &Path, node: &str) -> FileStore {
    FileStore::open(FileStoreOptions {
        inventory: dir.join("inventory.yaml"),
        node_data_dir: Some(dir.join("data")),
        node: node.parse().unwrap(),
    })
    .unwrap()
}

async fn next(store: &mut FileStore) -> StoreEvent {
    timeout(Duration::from_secs(60), store.next()).await.expect("no event within 60 s")
}

/// An inventory of nodes `(name, third byte of the pod CIDR)`.
fn inventory(nodes: &[(&str, u8)]) -> String {
    let mut text = "networks: {pods: [10.244.0.0/16]}\nnodes:\n".to_owned();
    for (name, block) in nodes {
        text +=
            &format!("  - {{name: {name}, addresses: [192.0.2.{block}], podCIDRs: [10.244.{block}.0/24]}}\n");
    }
    text
}

fn names(view: &ClusterView) -> Vec<&str> {
    view.nodes.keys().map(NodeName::as_str).collect()
}
