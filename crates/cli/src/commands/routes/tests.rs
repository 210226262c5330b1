use expect_test::expect;
use hopwise_api::status::{FamilyName, PeerRoute, PeerStatus, ReachMode, RouteState};

use super::*;
use crate::commands::example::status;

#[test]
fn every_pod_cidr_is_a_row_and_so_is_a_peer_without_one() {
    let mut status = status();
    status.peers.push(PeerStatus {
        node: "node4".into(),
        family: FamilyName::Ipv4,
        address: None,
        mode: ReachMode::Unreachable,
        routes: Vec::new(),
    });
    expect![[r#"
        NODE   NODE IP      POD CIDR            MODE         NEXT HOP                                STATE
        node2  192.168.0.2  10.244.2.0/24       direct       via 192.168.0.2 dev eth0                in
        node2  fd00:1::2    fd00:10:244:2::/64  direct       via fd00:1::2 dev eth0                  in
        node3  192.168.9.3  10.244.3.0/24       vxlan        via 192.168.9.3 dev hopwise-vx4 onlink  missing
        node4  -            -                   unreachable  -                                       blocked
    "#]]
    .assert_eq(&table(&rows(&status)));
}

#[test]
fn json_leaves_out_what_there_is_not() {
    let mut status = status();
    status.peers.truncate(1);
    status.peers[0].routes[0] =
        PeerRoute { pod_cidr: "10.244.2.0/24".into(), next_hop: None, state: RouteState::Blocked };
    expect![[r#"
        [
          {
            "node": "node2",
            "nodeIP": "192.168.0.2",
            "podCIDR": "10.244.2.0/24",
            "mode": "direct",
            "state": "blocked"
          }
        ]
    "#]]
    .assert_eq(&Format::Json.render(&rows(&status), |rows| table(rows)).unwrap());
    expect![[r#"
        - node: node2
          nodeIP: "192.168.0.2"
          podCIDR: 10.244.2.0/24
          mode: direct
          state: blocked
    "#]]
    .assert_eq(&Format::Yaml.render(&rows(&status), |rows| table(rows)).unwrap());
}

#[test]
fn the_exit_code_says_whether_all_routes_are_in() {
    let mut rows = rows(&status());
    assert_eq!(exit(&rows), Exit::Attention);
    rows.retain(|row| row.state == "in");
    assert_eq!(exit(&rows), Exit::Good);
    assert_eq!(exit(&[]), Exit::Good);
}
