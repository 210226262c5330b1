//! What a busy node does all day, and the watch keeps to itself.

use hopwise_core::observed::Event;
use hopwise_kernel::watch::{Interest, Watch};

use crate::support::*;

fn interested() -> Watch {
    let mut watch = Watch::open().unwrap();
    watch.set_interest(Interest {
        pod_networks: vec!["10.96.0.0/11".parse().unwrap(), "fd00:244::/32".parse().unwrap()],
        own_pod_cidrs: vec!["10.99.0.0/24".parse().unwrap()],
        lookups: ["172.16.5.5".parse().unwrap(), "192.0.2.7".parse().unwrap()].into(),
        uplinks: [UPLINK].into(),
    });
    watch
}

#[test]
fn pods_that_come_and_go_are_no_events() {
    on_host(|_| {
        ip("link add cni0 type bridge");
        ip("addr add 10.99.0.1/24 dev cni0");
        ip("link set cni0 up");
        let mut watch = interested();
        for command in [
            // A pod on a bridge.
            "link add pod1 type veth peer name in1",
            "link set pod1 master cni0",
            "link set pod1 up",
            "link set in1 up",
            "link set pod1 down",
            "link del pod1",
            // A pod of its own.
            "link add pod2 type veth peer name in2",
            "addr add 10.99.0.1/32 dev pod2",
            "link set pod2 up",
            "link set in2 up",
            "route add 10.99.0.7/32 dev pod2",
            "neigh add 10.99.0.7 lladdr 02:00:00:00:02:07 dev pod2 nud permanent",
            "link del pod2",
        ] {
            ip(command);
            assert_eq!(read(&mut watch), [], "{command}");
        }
    });
}

#[test]
fn other_peoples_neighbours_and_routes_are_no_events() {
    on_host(|_| {
        let mut watch = interested();
        for command in [
            "neigh add 192.0.2.7 lladdr 02:00:00:00:02:07 dev up0 nud reachable",
            "neigh replace 192.0.2.7 lladdr 02:00:00:00:02:07 dev up0 nud stale",
            "neigh del 192.0.2.7 dev up0",
            "neigh add 192.0.2.50 lladdr 02:00:00:00:02:07 dev up0 nud permanent",
            "route add 203.0.113.0/24 via 192.0.2.254",
            "route add 203.0.113.0/24 via 192.0.2.254 table 99",
            "route del 203.0.113.0/24 via 192.0.2.254",
            "route add fd01::/64 via fd00::99",
            // Says the same again.
            "addr replace 192.0.2.1/16 dev up0",
            "link set up0 up",
            "link set up0 txqueuelen 500",
        ] {
            ip(command);
            assert_eq!(read(&mut watch), [], "{command}");
        }
    });
}

#[test]
fn what_matters_is_told_all_the_same() {
    on_host(|_| {
        let mut watch = interested();
        for (command, resync) in [
            ("route add default via 192.0.2.254", false),
            ("route add 10.100.0.0/16 via 192.0.2.254", false),
            ("route add 10.99.0.0/24 via 192.0.2.254", false),
            ("route add 172.16.5.0/24 via 192.0.2.254", false),
            ("route add 172.16.0.0/12 via 192.0.2.254 table 99", false),
            ("route add blackhole 10.100.1.0/24", false),
            ("neigh add 192.0.2.7 lladdr 02:00:00:00:02:07 dev up0 nud permanent", false),
            ("neigh replace 192.0.2.7 lladdr 02:00:00:00:02:07 dev up0 nud stale", false),
            ("addr add 192.0.2.8/16 dev lo", false),
            ("addr add 10.99.0.9/24 dev up0", false),
            ("link set up0 mtu 1400", false),
            ("link set up0 down", true),
        ] {
            ip(command);
            assert_eq!(read(&mut watch), [Event::Host { resync }], "{command}");
        }
    });
}
