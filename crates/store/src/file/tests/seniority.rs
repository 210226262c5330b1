//! Who claimed first.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hopwise_core::cluster::ClusterView;

use super::{World, inventory, store_of};
use crate::StoreEvent;

fn since(view: &ClusterView) -> Vec<(String, u64, u64)> {
    let node = |node: &Arc<hopwise_core::cluster::Node>| {
        (node.name.to_string(), node.addresses[0].since, node.pod_cidrs[0].since)
    };
    view.nodes.values().map(node).collect()
}

async fn after(world: &mut World, view: &mut ClusterView, text: &str) {
    fs::write(world.inventory(), text).unwrap();
    match world.next().await {
        StoreEvent::Delta(delta) => {
            delta.removed.iter().for_each(|name| drop(view.nodes.remove(name)));
            view.nodes.extend(delta.upserted.into_iter().map(|node| (node.name.clone(), node)));
        }
        event => panic!("{event:?}"),
    }
}

fn rows(expected: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    expected.iter().map(|(name, address, cidr)| ((*name).to_owned(), *address, *cidr)).collect()
}

#[tokio::test]
async fn newcomers_are_junior_and_the_rest_keep_their_rank() {
    let (mut world, view) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    let mut view = ClusterView::clone(&view);
    assert_eq!(since(&view), rows(&[("a", 0, 0), ("b", 0, 0)]));
    after(&mut world, &mut view, &inventory(&[("a", 1), ("b", 2), ("c", 3)])).await;
    assert_eq!(since(&view), rows(&[("a", 0, 0), ("b", 0, 0), ("c", 1, 1)]));
    // Who changes the story starts again, with the claim that has changed.
    let moved = inventory(&[("a", 1), ("b", 2), ("c", 3)]).replace("10.244.2.0", "10.244.3.0");
    after(&mut world, &mut view, &moved).await;
    assert_eq!(since(&view), rows(&[("a", 0, 0), ("b", 0, 2), ("c", 1, 1)]));
    // And so does who goes and comes back.
    after(&mut world, &mut view, &inventory(&[("b", 2), ("c", 3)])).await;
    after(&mut world, &mut view, &inventory(&[("a", 1), ("b", 2), ("c", 3)])).await;
    assert_eq!(since(&view), rows(&[("a", 4, 4), ("b", 0, 3), ("c", 1, 1)]));
}

#[tokio::test]
async fn rank_is_carried_over_a_restart() {
    let (mut world, view) = World::with(&inventory(&[("a", 1)])).await;
    let mut view = ClusterView::clone(&view);
    after(&mut world, &mut view, &inventory(&[("a", 1), ("b", 2)])).await;
    crate::saved::save(world.dir.path(), &view).unwrap();
    let saved = crate::saved::load(world.dir.path()).unwrap().unwrap();
    // While we were away a node came that sorts first.
    fs::write(world.inventory(), inventory(&[("0", 3), ("a", 1), ("b", 2)])).unwrap();
    world.store = store_of(world.dir.path(), "a").remembering(Arc::new(saved));
    let view = world.view().await;
    assert_eq!(since(&view), rows(&[("0", 2, 2), ("a", 0, 0), ("b", 1, 1)]));
}

#[tokio::test]
async fn the_first_event_is_a_view_even_if_the_saved_one_is_the_same() {
    let mut world = World::empty();
    let text = inventory(&[("a", 1)]);
    fs::write(world.inventory(), &text).unwrap();
    let saved = hopwise_api::inventory::parse(&text, Path::new("x")).unwrap();
    world.store = store_of(world.dir.path(), "a").remembering(Arc::new(saved.clone()));
    assert_eq!(*world.view().await, saved);
}
