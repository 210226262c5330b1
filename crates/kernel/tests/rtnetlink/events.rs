//! What the watch says about each change, ours or somebody else's.

use std::time::{Duration, Instant};

use hopwise_core::diff::{Changes, Touched};
use hopwise_core::family::Family;
use hopwise_core::mark::vxlan_link;
use hopwise_core::object::{Address, FdbKey, NeighbourKey, Rule};
use hopwise_core::observed::{Event, Observed, ObservedFdb, ObservedRoute, ObservedRule, ObservedTarget};
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::watch::Watch;

use crate::support::*;

const HOST: Event = Event::Host { resync: false };
const RESYNC: Event = Event::Host { resync: true };

/// A host with everything on it, and a watch that has nothing left to say.
fn watched<T: Send>(body: impl FnOnce(&mut Kernel, &mut Watch) -> T + Send) -> T {
    on_host(|kernel| {
        apply(kernel, &everything());
        let mut watch = Watch::open().unwrap();
        body(kernel, &mut watch)
    })
}

#[track_caller]
fn says(watch: &mut Watch, command: &str, wanted: &[Event]) {
    ip(command);
    let events = read(watch);
    for event in wanted {
        assert!(events.contains(event), "{command}: {event:?} is not among {events:?}");
    }
}

#[test]
fn routes_that_are_deleted_altered_or_taken_over() {
    watched(|_, watch| {
        for family in Family::BOTH {
            let key = pods(family, 1);
            let (dst, metric, gateway) = (key.dst, key.metric, peer(family, 7));
            let altered = ObservedTarget::Gateway(via_uplink(family, 7));
            let now = Some(ObservedRoute { target: altered, mtu: None });
            let change = format!("route replace {dst} via {gateway} dev up0 metric {metric} proto 72");
            says(watch, &change, &[Event::Route { key, now }]);
            let change = format!("route replace {dst} via {gateway} dev up0 metric {metric} proto 99");
            says(watch, &change, &[Event::Route { key, now: None }, HOST]);
            says(watch, &format!("route del {dst} metric {metric}"), &[HOST]);
            let key = pods(family, 2);
            says(watch, &format!("route del {}", key.dst), &[Event::Route { key, now: None }]);
        }
    });
}

#[test]
fn nexthop_objects_that_are_deleted_or_taken_over() {
    watched(|_, watch| {
        for family in Family::BOTH {
            let id = nexthop_id(family, 1);
            let foreign = format!("nexthop replace id {id} via {} dev up0 proto 99", peer(family, 7));
            let wanted = [Event::NextHop { id, now: None }, Event::ForeignNextHop { id, present: true }];
            says(watch, &foreign, &wanted);
            says(watch, &format!("nexthop del id {id}"), &[Event::ForeignNextHop { id, present: false }]);
            let id = nexthop_id(family, 2);
            says(watch, &format!("nexthop del id {id}"), &[Event::NextHop { id, now: None }]);
        }
    });
}

#[test]
fn neighbours_and_fdb_entries_that_are_altered_or_deleted() {
    watched(|_, watch| {
        for family in Family::BOTH {
            let address = peer(family, 1);
            let key = NeighbourKey { link: UPLINK, address };
            let altered = format!("neigh replace {address} lladdr 02:00:00:00:01:63 dev up0");
            says(watch, &altered, &[Event::Neighbour { key, now: Some(mac(0x63)) }]);
            says(watch, &format!("neigh del {address} dev up0"), &[Event::Neighbour { key, now: None }]);
            let link = vxlan_link(family);
            let key = FdbKey { link, mac: mac(2) };
            let dst = peer(family, 9);
            bridge(&format!("fdb replace {} dev {link} dst {dst} self permanent", key.mac));
            let wanted = Event::Fdb { key, now: Some(ObservedFdb::Known(dst)) };
            assert!(read(watch).contains(&wanted));
            bridge(&format!("fdb del {} dev {link} self", key.mac));
            assert!(read(watch).contains(&Event::Fdb { key, now: None }));
        }
        // On a link of ours an entry is ours without a protocol number too.
        let link = vxlan_link(Family::V4);
        let key = NeighbourKey { link, address: peer(Family::V4, 3) };
        let add = format!("neigh add {} lladdr 02:00:00:00:01:03 dev {link}", key.address);
        says(watch, &add, &[Event::Neighbour { key, now: Some(mac(3)) }]);
    });
}

#[test]
fn addresses_and_rules_of_ours() {
    watched(|_, watch| {
        let address = "10.99.0.0".parse().unwrap();
        let address = Address { link: vxlan_link(Family::V4), address, prefix_len: 32 };
        says(watch, "addr del 10.99.0.0/32 dev hopwise-vx4", &[Event::Address { address, present: false }]);
        says(watch, "addr add 10.99.0.0/32 dev hopwise-vx4", &[Event::Address { address, present: true }]);
        for family in Family::BOTH {
            let flag = if family == Family::V4 { "-4" } else { "-6" };
            let rule = Rule { family, priority: 32_000, table: 72 };
            let ours = |altered| ObservedRule { rule, altered };
            let gone = Event::Rule { rule: ours(false), present: false };
            says(watch, &format!("{flag} rule del priority 32000"), &[gone]);
            let altered = Event::Rule { rule: ours(true), present: true };
            let add = format!("{flag} rule add iif lo lookup 72 priority 32000 protocol 72");
            says(watch, &add, &[altered]);
            says(watch, &format!("{flag} rule add lookup 99 priority 99"), &[HOST]);
        }
    });
}

#[test]
fn links_that_take_our_objects_with_them() {
    for command in [
        "link set up0 down",
        "link set up0 name up1",
        "link del up0",
        // Nexthop objects, and the routes through them, go with the carrier, and the kernel says nothing.
        "link set far0 down",
        "link set hopwise-vx4 down",
        "link set hopwise-vx6 alias other",
        "link set hopwise-vx4 mtu 1300",
        "link del hopwise-vx6",
        "addr del 192.0.2.1/16 dev up0",
    ] {
        watched(|_, watch| {
            if command.contains("name") {
                // The kernel renames links that are up since 6.0 only if the driver allows it.
                ip("link set up0 down");
                read(watch);
            }
            says(watch, command, &[RESYNC]);
        });
    }
}

#[test]
fn the_hosts_own_affairs() {
    watched(|_, watch| {
        says(watch, "addr add 203.0.113.1/24 dev up0", &[HOST]);
        says(watch, "route add default via 192.0.2.254", &[HOST]);
        says(watch, "route add 172.16.0.0/12 via 192.0.2.254", &[HOST]);
        says(watch, "link set up0 mtu 1400", &[HOST]);
        says(watch, "neigh add 192.0.2.99 lladdr 02:00:00:00:01:63 dev up0 nud permanent", &[HOST]);
        says(watch, "neigh del 192.0.2.99 dev up0", &[HOST]);
        std::fs::write("/proc/sys/net/ipv4/conf/up0/rp_filter", "1").unwrap();
        assert_eq!(read(watch), [Event::Sysctls]);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        assert_eq!(read(watch), [Event::Sysctls]);
    });
}

/// What was observed, with the events on top, is what is observed afterwards: our own changes included.
#[test]
fn events_keep_what_was_observed_up_to_date() {
    on_host(|kernel| {
        let mut watch = Watch::open().unwrap();
        let mut known = observe(kernel);
        assert_follows(kernel, &mut watch, &mut known, "nothing");
        let mut changes = everything();
        // Links of ours mean a resync, and are observed again.
        let links = Changes { links_add: std::mem::take(&mut changes.links_add), ..Changes::default() };
        apply(kernel, &links);
        assert!(read(&mut watch).contains(&RESYNC));
        known = observe(kernel);
        apply(kernel, &changes);
        assert_follows(kernel, &mut watch, &mut known, "everything");
        for family in Family::BOTH {
            let (one, two) = (pods(family, 1), pods(family, 2));
            let gateway = peer(family, 7);
            let id = nexthop_id(family, 2);
            let metric = one.metric;
            let third = pods(family, 3).dst;
            for command in [
                format!("route replace {} via {gateway} dev up0 metric {metric} proto 72 mtu 1300", one.dst),
                format!("route replace {} via {gateway} dev up0 metric {metric} proto 99", one.dst),
                format!("route replace {} nhid {id} metric {metric} proto 72", one.dst),
                format!("route add {third} nhid {id} metric {metric} proto 72"),
                format!("nexthop del id {id}"),
                format!("nexthop add id {id} via {gateway} dev up0 proto 99"),
                format!("route add {} nhid {id} proto 72", two.dst),
                format!("neigh replace {} lladdr 02:00:00:00:01:63 dev up0", peer(family, 1)),
                format!("neigh replace {} lladdr 02:00:00:00:01:63 nud stale dev up0", peer(family, 1)),
                format!("neigh del {} dev up0", peer(family, 1)),
                format!("neigh flush dev {} nud permanent", vxlan_link(family)),
                format!("addr flush dev {}", vxlan_link(family)),
                "rule add iif lo lookup 72 priority 32000 protocol 72".to_owned(),
                "rule del iif lo lookup 72 priority 32000 protocol 72".to_owned(),
            ] {
                ip(&command);
                assert_follows(kernel, &mut watch, &mut known, &command);
            }
        }
        let rest = nothing(&known);
        apply(kernel, &Changes { links_delete: Vec::new(), ..rest });
        assert_follows(kernel, &mut watch, &mut known, "deletion");
    });
}

/// The kernel tells of an IPv6 address from a work queue, a moment after it is there.
#[track_caller]
fn assert_follows(kernel: &mut Kernel, watch: &mut Watch, known: &mut Observed, after: &str) {
    let started = Instant::now();
    let mut told = Vec::new();
    loop {
        for event in read(watch) {
            known.record(event.clone(), &mut Touched::default());
            told.push(event);
        }
        let observed = observe(kernel);
        if *known == observed {
            return;
        }
        if started.elapsed().as_secs() > 2 {
            assert_eq!(*known, observed, "after {after}: {told:#?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
