//! What must happen on any network.

use hopwise_core::cluster::ViewDelta;
use hopwise_core::diff::{Changes, TableChange};
use hopwise_core::name::LinkName;
use hopwise_core::object::RouteKey;
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::rtnl::{AddressSpec, Rtnl, VethSpec};

use super::fake::{self, FakeNetwork};
use super::*;

/// A network with an uplink `eth0` that holds 192.168.0.1/16, and somebody who meddles with it.
trait Stage {
    type Network: Network;
    /// The loop's own access.
    fn network(&self) -> Self::Network;
    /// Somebody else changes what is ours.
    fn meddle(&self, changes: &Changes);
    /// What stands there now.
    fn observe(&self) -> Observed;
}

impl Stage for FakeNetwork {
    type Network = FakeNetwork;

    fn network(&self) -> FakeNetwork {
        self.clone()
    }

    fn meddle(&self, changes: &Changes) {
        let report = self.world().apply(changes);
        assert_eq!(report.errors, []);
    }

    fn observe(&self) -> Observed {
        self.world().ours.clone()
    }
}

/// The kernel, in the namespace of the calling thread.
struct KernelStage;

impl KernelStage {
    fn new() -> KernelStage {
        let mut rtnl = Rtnl::open().unwrap();
        let wire = LinkName::new_static("wire");
        let mut veth = VethSpec::new(fake::UPLINK, wire, None);
        veth.mac = Some("02:00:00:00:01:01".parse().unwrap());
        rtnl.add_veth(&veth).unwrap();
        rtnl.set_up(wire).unwrap();
        let index = rtnl.link_by_name(fake::UPLINK).unwrap().unwrap().index;
        rtnl.add_address(index, &AddressSpec::new("192.168.0.1".parse().unwrap(), 16)).unwrap();
        KernelStage
    }
}

impl Stage for KernelStage {
    type Network = LinuxNetwork;

    fn network(&self) -> LinuxNetwork {
        LinuxNetwork::open().unwrap()
    }

    fn meddle(&self, changes: &Changes) {
        let report = Kernel::open().unwrap().apply(changes);
        assert_eq!(report.errors, []);
    }

    fn observe(&self) -> Observed {
        Kernel::open().unwrap().observe(&[]).unwrap()
    }
}

/// Makes a test of each scenario in memory, and one in a namespace.
macro_rules! scenarios {
    ($($name:ident)*) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name(&super::FakeNetwork::new()); })*
        }
        mod in_kernel {
            $(#[test] fn $name() { super::in_new_namespace(|| super::$name(&super::KernelStage::new())); })*
        }
    };
}

scenarios! {
    a_view_becomes_routes_and_then_there_is_peace
    a_deleted_route_is_repaired_and_nothing_else_is_touched
    a_deleted_nexthop_object_comes_back_with_its_routes
    a_deleted_neighbour_comes_back
    a_deleted_table_comes_back
    surplus_objects_of_an_earlier_run_are_removed_and_right_ones_kept
    nodes_come_and_go
    a_moved_pod_cidr_is_replaced
    a_second_loop_finds_nothing_to_do
}

fn key(n: u8) -> RouteKey {
    RouteKey { table: 254, dst: format!("10.244.{n}.0/24").parse().unwrap(), metric: 0 }
}

fn routes(stage: &impl Stage) -> Vec<RouteKey> {
    stage.observe().routes.keys().copied().collect()
}

fn started<S: Stage>(stage: &S) -> Rig<S::Network> {
    let mut rig = Rig::new(stage.network());
    rig.put_view(view([node(1), node(2), node(3)]));
    rig.turn();
    assert_eq!(routes(stage), [key(2), key(3)], "{:#?}", rig.status());
    assert!(rig.is_ready());
    rig
}

fn a_view_becomes_routes_and_then_there_is_peace(stage: &impl Stage) {
    let mut rig = started(stage);
    let status = rig.status();
    assert_eq!(status.peers.len(), 2);
    assert_eq!(status.peers[0].routes[0].next_hop.as_deref(), Some("via 192.168.0.2 dev eth0"));
    let applied = rig.metrics.applied.get();
    assert!(applied > 0);
    rig.turn();
    assert_eq!(rig.metrics.applied.get(), applied);
    assert_eq!(status.counters.repairs, Default::default(), "nothing of the start counts as drift");
    assert_eq!(status.notes, []);
}

fn a_deleted_route_is_repaired_and_nothing_else_is_touched(stage: &impl Stage) {
    let mut rig = started(stage);
    let applied = rig.metrics.applied.get();
    stage.meddle(&Changes { routes_delete: vec![key(2)], ..Changes::default() });
    assert_eq!(routes(stage), [key(3)]);
    rig.turn();
    assert_eq!(routes(stage), [key(2), key(3)]);
    assert_eq!((rig.repairs("route"), rig.metrics.applied.get() - applied), (1, 1));
}

fn a_deleted_nexthop_object_comes_back_with_its_routes(stage: &impl Stage) {
    let mut rig = started(stage);
    let id = stage.observe().nexthops.iter().next().map(|(id, _)| *id).unwrap();
    stage.meddle(&Changes { nexthops_delete: vec![id], ..Changes::default() });
    assert_eq!(routes(stage).len(), 1);
    rig.turn();
    assert_eq!(routes(stage), [key(2), key(3)]);
    assert_eq!((rig.repairs("nexthop"), rig.repairs("route")), (1, 1));
    assert!(rig.is_ready());
}

fn a_deleted_neighbour_comes_back(stage: &impl Stage) {
    let mut rig = started(stage);
    let before = stage.observe().neighbours;
    assert_eq!(before.len(), 2);
    let neighbour = *before.keys().next().unwrap();
    stage.meddle(&Changes { neighbours_delete: vec![neighbour], ..Changes::default() });
    rig.turn();
    assert_eq!(stage.observe().neighbours, before);
    assert_eq!(rig.repairs("neighbour"), 1);
}

fn a_deleted_table_comes_back(stage: &impl Stage) {
    let mut rig = started(stage);
    let before = stage.observe().table;
    assert!(before.is_some());
    stage.meddle(&Changes { table: Some(TableChange::Delete), ..Changes::default() });
    assert_eq!(stage.observe().table, None);
    rig.turn();
    assert_eq!(stage.observe().table, before);
    assert_eq!(rig.repairs("nftables"), 1);
}

fn surplus_objects_of_an_earlier_run_are_removed_and_right_ones_kept(stage: &impl Stage) {
    let mut rig = started(stage);
    rig.turn();
    let before = stage.observe();
    drop(rig);
    let mut rig = Rig::new(stage.network());
    rig.put_view(view([node(1), node(3), node(4)]));
    rig.turn();
    assert_eq!(routes(stage), [key(3), key(4)]);
    let after = stage.observe();
    assert_eq!(before.routes.get(&key(3)), after.routes.get(&key(3)), "not even its nexthop object changed");
    assert_eq!((after.nexthops.len(), after.neighbours.len()), (2, 2));
}

fn nodes_come_and_go(stage: &impl Stage) {
    let mut rig = started(stage);
    rig.inbox.put_delta(ViewDelta { upserted: vec![node(4)], removed: vec!["node2".parse().unwrap()] });
    rig.turn();
    assert_eq!(routes(stage), [key(3), key(4)]);
    rig.inbox.put_delta(ViewDelta { upserted: vec![], removed: vec!["node3".parse().unwrap()] });
    rig.inbox.put_delta(ViewDelta { upserted: vec![], removed: vec!["node4".parse().unwrap()] });
    rig.turn();
    let left = stage.observe();
    assert!(left.routes.is_empty() && left.nexthops.is_empty() && left.neighbours.is_empty(), "{left:#?}");
    assert_eq!(rig.status().counters.repairs, Default::default());
}

fn a_moved_pod_cidr_is_replaced(stage: &impl Stage) {
    let mut rig = started(stage);
    let moved = node_with(2, "192.168.0.2", "10.244.20.0/24");
    rig.inbox.put_delta(ViewDelta { upserted: vec![moved], removed: vec![] });
    rig.turn();
    assert_eq!(routes(stage), [key(3), key(20)]);
    let moved = node_with(2, "192.168.0.22", "10.244.20.0/24");
    rig.inbox.put_delta(ViewDelta { upserted: vec![moved], removed: vec![] });
    rig.turn();
    assert_eq!(routes(stage), [key(3), key(20)]);
    let next_hop = rig.status().peers[0].routes[0].next_hop.clone();
    assert_eq!(next_hop.as_deref(), Some("via 192.168.0.22 dev eth0"));
    assert!(rig.is_ready());
}

fn a_second_loop_finds_nothing_to_do(stage: &impl Stage) {
    let before = {
        let mut rig = started(stage);
        rig.turn();
        stage.observe()
    };
    let mut rig = Rig::new(stage.network());
    rig.put_view(view([node(1), node(2), node(3)]));
    rig.turn();
    assert_eq!(rig.metrics.applied.get(), 0, "{:#?}", rig.status().last_report);
    assert_eq!(stage.observe(), before);
    assert!(rig.is_ready());
}
