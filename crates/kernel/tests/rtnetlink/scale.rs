//! Thousands of peers: figures, no promises about time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hopwise_core::diff::Changes;
use hopwise_core::family::Family;
use hopwise_core::observed::Event;
use hopwise_kernel::watch::Watch;

use crate::support::*;

fn timed<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let value = body();
    let elapsed: Duration = started.elapsed();
    println!("{what}: {:.1} ms", elapsed.as_secs_f64() * 1000.0);
    value
}

#[test]
fn five_thousand_peers() {
    on_host(|kernel| {
        let mut watch = Watch::open().unwrap();
        let mut changes = Changes::default();
        for n in 1..=5_000 {
            direct(&mut changes, Family::V4, n);
        }
        let report = timed("apply 5,000 nexthop objects, neighbours and routes", || apply(kernel, &changes));
        assert_eq!(report.applied, 15_000);
        let events = timed("read their echoes", || read(&mut watch));
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Route { .. })).count(), 5_000);
        let observed = timed("observe them", || observe(kernel));
        assert_eq!((observed.routes.len(), observed.nexthops.iter().count()), (5_000, 5_000));
        assert_eq!(observed.neighbours.len(), 5_000);
        let pod_networks = ["10.96.0.0/11".parse().unwrap()];
        timed("host view beside them", || kernel.host_view(&pod_networks, &BTreeSet::new()).unwrap());
        let lookups: BTreeSet<_> = (1..=5_000).map(|n| peer(Family::V4, n)).collect();
        let view =
            timed("host view with 5,000 lookups", || kernel.host_view(&pod_networks, &lookups).unwrap());
        assert_eq!(view.lookups.len(), 5_000);
        assert!(view.routes.is_empty() && view.foreign_neighbours.is_empty());
        let mut one = Changes::default();
        direct(&mut one, Family::V4, 5_001);
        timed("apply one more", || apply(kernel, &one));
        let observed = observe(kernel);
        timed("delete all", || apply(kernel, &nothing(&observed)));
    });
}
