//! Thousands of peers: figures, no promises about time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hopwise_core::diff::{Changes, RouteChange, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::object::{Route, RouteKey};
use hopwise_core::observed::Event;
use hopwise_kernel::watch::Watch;

use crate::support::*;

/// Prints how long it took, and how much of that was this thread's own work, the kernel's for it included.
fn timed<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let (started, worked) = (Instant::now(), thread_time());
    let value = body();
    let [elapsed, worked] =
        [started.elapsed(), thread_time() - worked].map(|time| time.as_secs_f64() * 1000.0);
    println!("{what}: {elapsed:.1} ms, {worked:.1} ms of CPU");
    value
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn five_thousand_peers() {
    on_host(|kernel| {
        let mut watch = Watch::open().unwrap();
        let mut changes = Changes::default();
        for n in 1..=5_000 {
            direct(&mut changes, Family::V4, n);
        }
        let mut events = Vec::new();
        // Read in between: without root the receive buffer can't be made large enough for all at once.
        let report = timed("apply 5,000 nexthop objects, neighbours and routes, echoes read", || {
            kernel.apply_with(&changes, &mut || watch.read(&mut events).unwrap())
        });
        assert_eq!((report.applied, report.errors.len()), (15_000, 0));
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
        drop(watch);
        timed("delete all", || apply(kernel, &nothing(&observed)));
        timed("apply them again, nobody watching", || apply(kernel, &changes));
    });
}

#[test]
fn sixty_thousand_routes_through_nexthop_objects() {
    on_host(|kernel| {
        let mut watch = Watch::open().unwrap();
        let mut changes = Changes::default();
        for n in 1..=60_000 {
            let [high, low] = u16::to_be_bytes(n);
            let dst = format!("30.{high}.{low}.0/24").parse().unwrap();
            let next_hop = via_uplink(Family::V4, n);
            let id = nexthop_id(Family::V4, n);
            let route = Route { key: RouteKey { table: 254, dst, metric: 0 }, next_hop };
            changes.nexthops_add.push((id, next_hop));
            changes.routes_set.push(RouteChange { route, target: RouteTarget::Object(id), replace: false });
        }
        let mut events = Vec::new();
        let report = timed("apply 60,000 nexthop objects and routes, echoes read", || {
            kernel.apply_with(&changes, &mut || watch.read(&mut events).unwrap())
        });
        assert_eq!((report.applied, report.errors.len()), (120_000, 0));
        assert_eq!(events.len(), 120_000);
        let observed = timed("observe them", || observe(kernel));
        assert_eq!(observed.routes.len(), 60_000);
        drop(watch);
        timed("delete all", || apply(kernel, &nothing(&observed)));
        timed("apply them again, nobody watching", || apply(kernel, &changes));
    });
}
