//! A status for the tests of what people and programs see of it.

use std::collections::BTreeMap;

use hopwise_api::status::{
    Counters, ErrorStatus, FamilyName, NoteStatus, PeerRoute, PeerStatus, ReachMode, ReadyStatus,
    ReportStatus, RouteState, SeverityName, Status, UplinkStatus, VERSION, ViewSource, ViewStatus,
};

/// One node of three, dual stack, with a route that the kernel refuses.
pub fn status() -> Status {
    let peer = |node: &str, family, address: &str, mode, cidr: &str, next_hop: &str, state| PeerStatus {
        node: node.into(),
        family,
        address: Some(address.into()),
        mode,
        routes: vec![PeerRoute { pod_cidr: cidr.into(), next_hop: Some(next_hop.into()), state }],
    };
    let (v4, v6) = (FamilyName::Ipv4, FamilyName::Ipv6);
    let (direct, vxlan, is_in) = (ReachMode::Direct, ReachMode::Vxlan, RouteState::In);
    let via_vxlan = "via 192.168.9.3 dev hopwise-vx4 onlink";
    Status {
        version: VERSION,
        agent_version: "0.1.0".into(),
        node: "node1".into(),
        uplinks: vec![UplinkStatus {
            family: v4,
            link: "eth0".into(),
            address: "192.168.0.1".into(),
            mtu: 1500,
            mac: None,
        }],
        pod_cidrs: vec!["10.244.1.0/24".into(), "fd00:10:244:1::/64".into()],
        pod_mtu: Some(1450),
        view: ViewStatus { source: ViewSource::Saved, age_seconds: 62.4, nodes: 3 },
        ready: ReadyStatus { ready: false, missing_count: 3, missing: vec!["route 10.244.3.0/24".into()] },
        peers: vec![
            peer("node2", v4, "192.168.0.2", direct, "10.244.2.0/24", "via 192.168.0.2 dev eth0", is_in),
            peer("node2", v6, "fd00:1::2", direct, "fd00:10:244:2::/64", "via fd00:1::2 dev eth0", is_in),
            peer("node3", v4, "192.168.9.3", vxlan, "10.244.3.0/24", via_vxlan, RouteState::Missing),
        ],
        notes: vec![NoteStatus {
            id: "foreign-route".into(),
            severity: SeverityName::Error,
            subject: "node3".into(),
            evidence: "10.244.3.0/24 via 192.168.0.254 dev eth0 proto static stands in the main table".into(),
            fix: "ip route del 10.244.3.0/24 proto static".into(),
        }],
        counters: Counters {
            repairs: BTreeMap::from([("route".into(), 2), ("nftables".into(), 1), ("rule".into(), 0)]),
            ..Counters::default()
        },
        last_report: Some(ReportStatus {
            applied: 4,
            errors: vec![ErrorStatus {
                kind: "route".into(),
                change: "ip route add 10.244.3.0/24 via 192.168.9.3 dev hopwise-vx4 onlink proto 72".into(),
                errno: 17,
                message: "File exists".into(),
            }],
            error_count: 1,
            elapsed_micros: 812,
            age_seconds: 2.0,
        }),
    }
}
