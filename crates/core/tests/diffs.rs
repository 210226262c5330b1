//! What is written when single things differ.

mod common;

use common::{cidr, config, host, ip, kernel, link_name, three_nodes};
use expect_test::{Expect, expect};
use hopwise_core::diff::{Changes, Desired, Touched, diff, diff_touched};
use hopwise_core::mark::NEXTHOP_ID_BASE;
use hopwise_core::name::IfIndex;
use hopwise_core::object::{NextHop, Rule};
use hopwise_core::observed::{Event, Observed, ObservedFdb, ObservedNextHop, ObservedRule};
use hopwise_core::plan::Planner;

/// What is desired of node1, and a kernel in which it stands.
fn settled() -> (Desired, Observed) {
    let planner = Planner::new(three_nodes(), host(), config());
    let mut observed = Observed { sysctls: host().sysctls, ..Observed::default() };
    let changes = diff(&observed, planner.desired());
    apply(&mut observed, &changes);
    assert!(diff(&observed, planner.desired()).is_empty());
    (planner.desired().clone(), observed)
}

fn apply(observed: &mut Observed, changes: &Changes) {
    let refused = kernel::apply(observed, changes, &[(link_name("eth0"), IfIndex(2))]);
    assert!(refused.is_empty(), "{refused:?}");
}

/// Alters what is settled, and compares what is written with what is expected; then there must be nothing left.
fn check(alter: impl FnOnce(&mut Desired, &mut Observed), expected: &Expect) {
    let (mut desired, mut observed) = settled();
    alter(&mut desired, &mut observed);
    let changes = diff(&observed, &desired);
    expected.assert_eq(&(changes.commands().join("\n") + "\n"));
    apply(&mut observed, &changes);
    assert!(diff(&observed, &desired).is_empty());
}

#[test]
fn a_tunnel_that_is_made_anew_gets_back_all_that_stood_on_it() {
    check(
        |_, observed| observed.links.get_mut(&link_name("hopwise-vx4")).expect("vx4").vni = 7,
        &expect![[r#"
            ip link delete hopwise-vx4
            ip link add hopwise-vx4 address 3a:46:d1:8d:58:7b mtu 1450 type vxlan id 4857 local 192.168.0.1 dev eth0 dstport 4789 nolearning
            ip link set hopwise-vx4 alias hopwise:vxlan up
            sysctl -w net/ipv4/conf/hopwise-vx4/rp_filter=2
            ip address add 10.244.1.0/32 dev hopwise-vx4
            ip nexthop add id 1213661188 via 192.168.1.3 dev hopwise-vx4 onlink protocol 72
            ip neigh replace 192.168.1.3 lladdr e6:96:4f:e2:53:6c dev hopwise-vx4 nud permanent protocol 72
            bridge fdb replace e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3 self permanent
            ip route add 10.244.3.0/24 nhid 1213661188 proto 72
        "#]],
    );
}

#[test]
fn a_tunnel_is_made_anew_when_its_uplink_has_another_index() {
    let (mut desired, observed) = settled();
    desired.uplinks.insert(link_name("eth0"), IfIndex(9));
    assert_eq!(diff(&observed, &desired).links_recreate.len(), 2);
}

#[test]
fn mtu_mac_and_state_are_set_in_place() {
    check(
        |_, observed| {
            let link = observed.links.get_mut(&link_name("hopwise-vx4")).expect("vx4");
            (link.mtu, link.up) = (1400, false);
        },
        &expect![[r#"
            ip link set hopwise-vx4 address 3a:46:d1:8d:58:7b mtu 1450 up
        "#]],
    );
}

#[test]
fn an_altered_nexthop_object_is_replaced_by_another() {
    check(
        |_, observed| {
            observed.nexthops.insert(NEXTHOP_ID_BASE, ObservedNextHop::Other);
        },
        &expect![[r#"
            ip nexthop add id 1213661188 via 192.168.0.2 dev eth0 protocol 72
            ip route replace 10.244.2.0/24 nhid 1213661188 proto 72
            ip nexthop del id 1213661184
        "#]],
    );
}

#[test]
fn of_equal_nexthop_objects_the_lowest_stays_and_foreign_ids_are_stepped_over() {
    check(
        |desired, observed| {
            let twin = *observed.nexthops.get(&(NEXTHOP_ID_BASE + 1)).expect("an object");
            observed.nexthops.insert(NEXTHOP_ID_BASE + 7, twin);
            observed.foreign_nexthop_ids.insert(NEXTHOP_ID_BASE + 8);
            let (key, former) = desired.routes.pop_first().expect("a route");
            let next_hop = NextHop { gateway: ip("192.168.0.9"), ..former };
            desired.next_hops.remove(&former);
            desired.next_hops.insert(next_hop, 1);
            desired.routes.insert(key, next_hop);
        },
        &expect![[r#"
            ip nexthop add id 1213661193 via 192.168.0.9 dev eth0 protocol 72
            ip route replace 10.244.2.0/24 nhid 1213661193 proto 72
            ip nexthop del id 1213661184
            ip nexthop del id 1213661191
        "#]],
    );
}

#[test]
fn without_nexthop_objects_gateways_are_written_and_objects_go() {
    check(
        |desired, _| desired.nexthop_objects = false,
        &expect![[r#"
        ip route replace 10.244.2.0/24 via 192.168.0.2 dev eth0 proto 72
        ip route replace 10.244.3.0/24 via 192.168.1.3 dev hopwise-vx4 onlink proto 72
        ip route replace fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0 proto 72
        ip route replace fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6 proto 72
        ip nexthop del id 1213661184
        ip nexthop del id 1213661185
        ip nexthop del id 1213661186
        ip nexthop del id 1213661187
    "#]],
    );
}

#[test]
fn what_nobody_wants_any_more_goes() {
    check(
        |desired, observed| {
            observed.fdb.values_mut().for_each(|entry| *entry = ObservedFdb::Other);
            let rule = Rule { family: hopwise_core::family::Family::V4, priority: 100, table: 100 };
            observed.rules.insert(ObservedRule { rule, altered: true });
            *desired = Desired { nexthop_objects: true, ..Desired::default() };
        },
        &expect![[r#"
            nft delete table inet hopwise
            ip rule del from all lookup 100 priority 100 protocol 72
            ip route del 10.244.2.0/24 proto 72
            ip route del 10.244.3.0/24 proto 72
            ip route del fd00:10:244:2::/64 metric 1024 proto 72
            ip route del fd00:10:244:3::/64 metric 1024 proto 72
            ip nexthop del id 1213661184
            ip nexthop del id 1213661185
            ip nexthop del id 1213661186
            ip nexthop del id 1213661187
            ip link delete hopwise-vx4
            ip link delete hopwise-vx6
        "#]],
    );
}

#[test]
fn one_node_more_or_less_in_the_table_is_one_element() {
    check(
        |desired, _| {
            let table = desired.table.as_mut().expect("a table");
            let nodes = table.sets.values_mut().nth(4).expect("six sets");
            assert!(nodes.remove(&cidr("192.168.1.3/32")));
            nodes.insert(cidr("192.168.0.9/32"));
        },
        &expect![[r#"
            nft -f - <<'EOF'
            delete element inet hopwise nodes_v4 { 192.168.1.3 }
            add element inet hopwise nodes_v4 { 192.168.0.9 }
            EOF
        "#]],
    );
}

#[test]
fn a_deleted_nexthop_object_takes_its_routes_along() {
    let (desired, mut observed) = settled();
    let mut touched = Touched::default();
    observed.record(Event::NextHop { id: NEXTHOP_ID_BASE, now: None }, &mut touched);
    assert_eq!(touched.routes.len(), 1);
    let changes = diff_touched(&observed, &desired, &touched);
    assert_eq!((changes.nexthops_add.len(), changes.routes_set.len(), changes.len()), (1, 1, 2));
    assert!(!changes.routes_set[0].replace);
    apply(&mut observed, &changes);
    assert!(diff(&observed, &desired).is_empty());
    // The echo of our own change touches nothing.
    let (id, next_hop) = changes.nexthops_add[0];
    let mut echo = Touched::default();
    observed.record(Event::NextHop { id, now: Some(ObservedNextHop::Known(next_hop)) }, &mut echo);
    assert!(echo.is_empty());
}
