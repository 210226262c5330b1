use expect_test::expect;

use super::*;
use crate::commands::example::status;

#[test]
fn trouble_is_shown_with_its_fix() {
    expect![[r#"
        node      node1  NOT READY
                  missing: route 10.244.3.0/24
                  missing: 2 more
        uplink    eth0 192.168.0.1 mtu 1500
        pods      10.244.1.0/24 fd00:10:244:1::/64  mtu 1450
        view      saved, 3 nodes, 62 s old
        peers     2 direct, 1 vxlan; routes: 2 in, 1 missing
        repairs   3 (nftables 1, route 2)
        refused   none
                  ip route add 10.244.3.0/24 via 192.168.9.3 dev hopwise-vx4 onlink proto 72: File exists

        1 to note:
          error foreign-route: node3
            10.244.3.0/24 via 192.168.0.254 dev eth0 proto static stands in the main table
            fix: ip route del 10.244.3.0/24 proto static
    "#]]
    .assert_eq(&summary(&status()));
}

#[test]
fn a_node_without_trouble_takes_few_lines() {
    let mut status = status();
    status.ready = hopwise_api::status::ReadyStatus { ready: true, ..Default::default() };
    status.view.age_seconds = 0.0;
    status.notes.clear();
    status.last_report = None;
    status.counters.repairs.clear();
    status.peers.truncate(2);
    expect![[r#"
        node      node1  ready
        uplink    eth0 192.168.0.1 mtu 1500
        pods      10.244.1.0/24 fd00:10:244:1::/64  mtu 1450
        view      saved, 3 nodes
        peers     2 direct; routes: 2 in
        repairs   none
        refused   none
    "#]]
    .assert_eq(&summary(&status));
}
