//! From a change of a file to the event, printed.

use std::fs;
use std::time::Instant;

use super::{World, inventory};

/// Prints what it takes with `--nocapture`. The bound is far above what is seen on an idle machine (2 ms), for the sake of
/// busy ones; it tells event-driven from polling.
#[tokio::test]
async fn a_change_is_told_at_once() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let mut took = Vec::new();
    for trial in 0..200_u32 {
        let beside = world.dir.path().join("new");
        fs::write(&beside, inventory(&[("a", if trial % 2 == 0 { 2 } else { 1 })])).unwrap();
        let start = Instant::now();
        fs::rename(&beside, world.inventory()).unwrap();
        world.delta().await;
        took.push(start.elapsed());
    }
    took.sort();
    let [p50, p99] = [took[100], took[198]];
    eprintln!("inventory changed to event: p50 {p50:?}, p99 {p99:?} over {} trials", took.len());
    assert!(p50.as_millis() < 100, "p50 {p50:?}");
}
