//! Dumps and notifications that can't keep up.

use std::sync::atomic::{AtomicBool, Ordering};

use hopwise_core::diff::Changes;
use hopwise_core::family::Family;
use hopwise_core::observed::Event;
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::netlink::{Batch, NetlinkError, Socket};
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rt;
use hopwise_kernel::watch::{Watch, WatchError};

use crate::support::*;

/// Adds and deletes nexthop objects and routes from another thread while `body` runs.
fn while_churning<T>(body: impl FnOnce() -> T) -> T {
    let here = Namespace::current().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            here.enter().unwrap();
            let mut kernel = Kernel::open().unwrap();
            let mut changes = Changes::default();
            for n in 5_000..5_020 {
                direct(&mut changes, Family::V4, n);
            }
            while !stop.load(Ordering::Relaxed) {
                apply(&mut kernel, &changes);
                let delete = Changes {
                    routes_delete: changes.routes_set.iter().map(|change| change.route.key).collect(),
                    nexthops_delete: changes.nexthops_add.iter().map(|(id, _)| *id).collect(),
                    neighbours_delete: changes.neighbours_set.iter().map(|entry| entry.key).collect(),
                    ..Changes::default()
                };
                apply(&mut kernel, &delete);
            }
        });
        // Stops also when the body panics, or the scope would wait for ever.
        let _stop = Stop(&stop);
        body()
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_dump_among_changes_is_whole_or_fails() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        for n in 1..=2_500 {
            direct(&mut changes, Family::V4, n);
        }
        apply(kernel, &changes);
        let (mut whole, mut interrupted) = (0, 0);
        while_churning(|| {
            for _ in 0..8 {
                match kernel.observe_routing(&[]) {
                    Ok(observed) => {
                        whole += 1;
                        for change in &changes.routes_set {
                            assert!(observed.routes.contains_key(&change.route.key), "{}", change.route);
                        }
                        for (id, _) in &changes.nexthops_add {
                            assert!(observed.nexthops.contains_key(id), "nexthop {id}");
                        }
                    }
                    Err(error) => {
                        interrupted += 1;
                        let source = std::error::Error::source(&error).unwrap().to_string();
                        assert!(source.contains("interrupted"), "{error}: {source}");
                    }
                }
            }
        });
        println!("{whole} dumps whole, {interrupted} given up");
        assert_eq!(observe(kernel).routes.len(), 2_500);
    });
}

/// The kernel does mark interrupted dumps, and the socket does run them again.
#[test]
fn interrupted_dumps_are_run_again() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        for n in 1..=2_500 {
            direct(&mut changes, Family::V4, n);
        }
        apply(kernel, &changes);
        let mut socket = Socket::open(libc::NETLINK_ROUTE).unwrap();
        let mut starts = 0;
        while_churning(|| {
            for _ in 0..60 {
                let mut request = Batch::new();
                rt::nexthop::get_all(&mut request);
                let mut seen = (0, std::mem::take(&mut starts));
                let restart = |seen: &mut (usize, usize)| *seen = (0, seen.1 + 1);
                let dumped = socket.dump(&mut request, &mut seen, restart, |seen, _| seen.0 += 1);
                starts = seen.1;
                match dumped {
                    Ok(()) => assert!(seen.0 >= 2_500),
                    Err(NetlinkError::DumpInterrupted) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert!(starts > 60, "no dump was ever interrupted");
    });
}

#[test]
fn lost_notifications_are_told_and_the_watch_goes_on() {
    on_host(|kernel| {
        let mut watch = Watch::with_buffer(4_096).unwrap();
        let mut changes = Changes::default();
        for n in 1..=500 {
            direct(&mut changes, Family::V4, n);
        }
        apply(kernel, &changes);
        let mut events = Vec::new();
        assert!(matches!(watch.read(&mut events), Err(WatchError::Overrun)));
        assert_eq!(events, []);
        watch.read(&mut events).unwrap();
        assert_eq!(events, []);
        let key = pods(Family::V4, 1);
        ip(&format!("route del {}", key.dst));
        assert_eq!(read(&mut watch), [Event::Route { key, now: None }]);
        // It has learnt of the links that came while it was deaf.
        apply(kernel, &everything_else());
        let mut deaf = Watch::with_buffer(4_096).unwrap();
        apply(kernel, &Changes { links_delete: vec![vxlan(Family::V6).name], ..Changes::default() });
        let mut more = Changes::default();
        for n in 501..=1_000 {
            direct(&mut more, Family::V4, n);
        }
        apply(kernel, &more);
        assert!(matches!(deaf.read(&mut events), Err(WatchError::Overrun)));
        ip("addr add 10.99.0.9/32 dev hopwise-vx4");
        assert!(matches!(read(&mut deaf)[..], [Event::Address { present: true, .. }]));
    });
}

fn everything_else() -> Changes {
    Changes { links_add: Family::BOTH.map(vxlan).to_vec(), ..Changes::default() }
}
