//! What a kernel can't be made to do when a test wants it.

use hopwise_core::diff::Changes;
use hopwise_core::object::RouteKey;
use hopwise_core::observed::Event;
use nix::libc;

use super::fake::FakeNetwork;
use super::*;
use crate::reconciler::pace::{FIGHT_BURST, FIGHT_NOTED};

fn key(n: u8) -> RouteKey {
    RouteKey { table: 254, dst: format!("10.244.{n}.0/24").parse().unwrap(), metric: 0 }
}

fn started(network: &FakeNetwork) -> Rig<FakeNetwork> {
    let mut rig = Rig::new(network.clone());
    rig.put_view(view([node(1), node(2), node(3)]));
    rig.turn();
    rig
}

#[test]
fn nothing_is_planned_without_a_complete_view() {
    let network = FakeNetwork::new();
    let mut rig = Rig::new(network.clone());
    rig.turn();
    rig.inbox.put_delta(hopwise_core::cluster::ViewDelta { upserted: vec![node(2)], removed: vec![] });
    rig.turn();
    assert_eq!(network.world().applied, (0, 0));
    assert!(!rig.is_ready());
    assert_eq!(rig.published.borrow().ready.missing_count, 1);
    assert_eq!(rig.status().view.source, ViewSource::None);
}

#[test]
fn a_refused_route_is_told_and_tried_again_and_holds_back_nothing_else() {
    let network = FakeNetwork::new();
    network.world().refuse.insert(key(2), libc::ENETUNREACH);
    let mut rig = started(&network);
    assert!(network.world().ours.routes.contains_key(&key(3)));
    assert!(!rig.is_ready());
    assert_eq!(rig.published.borrow().ready.missing, ["route 10.244.2.0/24"]);
    assert_eq!(rig.notes(), ["apply-failed"]);
    assert_eq!(Metrics::counts(&rig.metrics.apply_errors)["route"], 1);

    network.world().refuse.clear();
    std::thread::sleep(Duration::from_millis(120));
    rig.turn();
    assert!(network.world().ours.routes.contains_key(&key(2)));
    assert!(rig.is_ready() && rig.notes().is_empty());
    assert_eq!(rig.repairs("route"), 0, "a late success is no repair of drift");
}

#[test]
fn a_refused_route_is_tried_at_once_when_the_host_changes() {
    let network = FakeNetwork::new();
    network.world().refuse.insert(key(2), libc::ENETUNREACH);
    let mut rig = started(&network);
    {
        let mut world = network.world();
        world.refuse.clear();
        world.host.links.values_mut().for_each(|link| link.mtu = 1400);
        world.events.push(Event::Host { resync: false });
    }
    rig.turn();
    assert!(network.world().ours.routes.contains_key(&key(2)));
    assert!(rig.is_ready());
}

#[test]
fn a_refusal_because_something_stands_there_makes_the_host_be_read_again() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    {
        let mut world = network.world();
        world.refuse.insert(key(4), libc::EEXIST);
        let foreign = hopwise_core::host::ForeignRoute {
            table: 254,
            dst: key(4).dst,
            metric: 0,
            protocol: 4,
            gateway: None,
            link: Some(hopwise_core::name::IfIndex(2)),
        };
        world.host.routes.push(foreign);
    }
    rig.inbox.put_delta(hopwise_core::cluster::ViewDelta { upserted: vec![node(4)], removed: vec![] });
    rig.turn();
    assert!(rig.notes().contains(&"foreign-route".to_owned()), "{:?}", rig.notes());
    std::thread::sleep(Duration::from_millis(120));
    rig.turn();
    assert!(rig.is_ready(), "a foreign route is no reason not to be: {:?}", rig.published.borrow().ready);
}

#[test]
fn a_fight_over_one_route_is_noted_slowed_down_and_leaves_the_others_alone() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    network.world().fight_over = Some(key(2));
    network.world().apply(&Changes::default());
    for _ in 0..300 {
        assert!(rig.reconciler.turn());
    }
    let applied = network.world().applied.0;
    let repairs = rig.repairs("route");
    assert!((u64::from(FIGHT_BURST)..u64::from(FIGHT_BURST) + 5).contains(&repairs), "{repairs}");
    assert!(repairs > u64::from(FIGHT_NOTED));
    let status = rig.status();
    let note = status.notes.iter().find(|note| note.id == "contention").unwrap();
    assert_eq!(note.subject, "route 10.244.2.0/24");
    assert!(!rig.is_ready());
    assert_eq!(network.world().applied.0, applied);

    network.world().apply(&Changes { routes_delete: vec![key(3)], ..Changes::default() });
    assert!(rig.reconciler.turn());
    assert!(network.world().ours.routes.contains_key(&key(3)));

    network.world().fight_over = None;
    std::thread::sleep(Duration::from_millis(300));
    rig.turn();
    assert!(network.world().ours.routes.contains_key(&key(2)) && rig.is_ready());
}

#[test]
fn lost_notifications_make_everything_be_read_again() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    let observed = network.world().observed;
    {
        let mut world = network.world();
        world.apply(&Changes { routes_delete: vec![key(2)], ..Changes::default() });
        world.lose_events = true;
    }
    rig.turn();
    assert!(network.world().ours.routes.contains_key(&key(2)));
    assert_eq!((rig.metrics.overruns.get(), rig.repairs("route")), (1, 1));
    assert_eq!(network.world().observed, observed + 1);
}

#[test]
fn failed_readings_are_told_and_tried_again() {
    let network = FakeNetwork::new();
    network.world().fail_readings = 2;
    let mut rig = Rig::new(network.clone());
    rig.put_view(view([node(1), node(2)]));
    assert!(rig.reconciler.turn());
    assert_eq!(rig.notes(), ["kernel-read-failed"]);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(210));
        rig.turn();
    }
    assert!(rig.is_ready() && rig.notes().is_empty());

    network.world().fail_readings = 1;
    network.world().events.push(Event::Host { resync: true });
    assert!(rig.reconciler.turn());
    assert_eq!(rig.notes(), ["kernel-read-failed"]);
    std::thread::sleep(Duration::from_millis(210));
    rig.turn();
    assert!(rig.notes().is_empty());
}

#[test]
fn the_full_check_finds_what_nobody_told() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    network.world().apply(&Changes { routes_delete: vec![key(2)], ..Changes::default() });
    network.world().events.clear();
    rig.reconciler.full_check_at = Instant::now();
    rig.turn();
    assert!(network.world().ours.routes.contains_key(&key(2)));
    assert_eq!((rig.metrics.full_checks.get(), rig.metrics.full_check_findings.get()), (1, 1));
    rig.reconciler.full_check_at = Instant::now();
    rig.turn();
    assert_eq!((rig.metrics.full_checks.get(), rig.metrics.full_check_findings.get()), (2, 1));
    network.world().apply(&Changes { routes_delete: vec![key(2)], ..Changes::default() });
    rig.turn();
    assert_eq!(rig.metrics.full_check_findings.get(), 1, "drift that was told is no finding");
}

#[test]
fn links_that_come_and_go_all_the_time_are_not_read_all_the_time() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    rig.turn();
    let observed = network.world().observed;
    rig.reconciler.stale.not_before = Instant::now() + Duration::from_millis(300);
    for _ in 0..100 {
        network.world().events.push(Event::Host { resync: true });
        assert!(rig.reconciler.turn());
    }
    assert_eq!(network.world().observed, observed);
    std::thread::sleep(Duration::from_millis(310));
    rig.turn();
    assert_eq!(network.world().observed, observed + 1);
}

#[test]
fn stopping_touches_nothing() {
    let network = FakeNetwork::new();
    let mut rig = started(&network);
    let applied = network.world().applied;
    network.world().apply(&Changes { routes_delete: vec![key(2)], ..Changes::default() });
    rig.inbox.stop();
    assert!(!rig.reconciler.turn());
    assert_eq!(network.world().applied, (applied.0 + 1, applied.1 + 1), "the meddler's only");
}
