//! Plans for the peers of small clusters, as a person would read them.

mod common;

use std::sync::Arc;

use common::{cidr, config, foreign, host, ip, name, node, notes, on_link, since, text, three_nodes, with};
use expect_test::{Expect, expect};
use hopwise_core::cluster::{ClusterView, Os};
use hopwise_core::config::{NodeConfig, PeerMode, Settings};
use hopwise_core::host::HostView;
use hopwise_core::name::IfIndex;
use hopwise_core::plan::plan;

fn check(view: &ClusterView, host: &HostView, config: &NodeConfig, expected: &Expect) {
    expected.assert_eq(&text(&plan(view, host, config)));
}

fn mode(mode: PeerMode) -> NodeConfig {
    with(&Settings { mode: Some(mode), ..Settings::default() })
}

#[test]
fn auto_is_direct_on_the_link_and_vxlan_across_a_router() {
    let mut view = three_nodes();
    let mut node2 = node("node2", &["192.168.0.2", "fd00:1::2"], &["10.244.2.0/24", "fd00:10:244:2::/64"]);
    node2.data.link_mac.v4 = Some("02:00:00:00:00:02".parse().expect("a MAC address"));
    view.nodes.insert(node2.name.clone(), Arc::new(node2));
    check(
        &view,
        &host(),
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
          neighbour 192.168.0.2 dev eth0 02:00:00:00:00:02
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Vxlan [10.244.3.0/24]
          route 10.244.3.0/24 via 192.168.1.3 dev hopwise-vx4 onlink
          neighbour 192.168.1.3 dev hopwise-vx4 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3
        node3 IPv6 fd00:1:1::3: Vxlan [fd00:10:244:3::/64]
          route fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6
          neighbour fe80::e496:4fff:fee2:536c dev hopwise-vx6 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3
    "#]],
    );
}

#[test]
fn what_the_fabric_knows_takes_nothing_where_the_default_route_leads_there() {
    let mut view = three_nodes();
    view.networks.fabric = view.networks.pods.clone();
    check(
        &view,
        &host(),
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Fabric [10.244.3.0/24]
        node3 IPv6 fd00:1:1::3: Fabric [fd00:10:244:3::/64]
    "#]],
    );
    // Another default gateway than the one that leads to the peer.
    let mut host = host();
    host.routes[0].gateway = Some(ip("192.168.0.253"));
    check(
        &view,
        &host,
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Fabric [10.244.3.0/24]
          route 10.244.3.0/24 via 192.168.0.254 dev eth0
        node3 IPv6 fd00:1:1::3: Fabric [fd00:10:244:3::/64]
    "#]],
    );
}

#[test]
fn explicit_modes() {
    check(
        &three_nodes(),
        &host(),
        &mode(PeerMode::Direct),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Unreachable [10.244.3.0/24]
          error peer-off-link: node node3: its address 192.168.1.3 is behind the gateway 192.168.0.254, and mode is direct; allow VXLAN (mode auto, vxlan true), or teach the router the pod CIDRs and list them in networks.fabric
        node3 IPv6 fd00:1:1::3: Unreachable [fd00:10:244:3::/64]
          error peer-off-link: node node3: its address fd00:1:1::3 is behind the gateway fd00:1::fe, and mode is direct; allow VXLAN (mode auto, vxlan true), or teach the router the pod CIDRs and list them in networks.fabric
    "#]],
    );
    check(
        &three_nodes(),
        &host(),
        &mode(PeerMode::Vxlan),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Vxlan [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev hopwise-vx4 onlink
          neighbour 192.168.0.2 dev hopwise-vx4 42:d1:19:0c:d0:6a
          fdb 42:d1:19:0c:d0:6a dev hopwise-vx4 dst 192.168.0.2
        node2 IPv6 fd00:1::2: Vxlan [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fe80::40d1:19ff:fe0c:d06a dev hopwise-vx6
          neighbour fe80::40d1:19ff:fe0c:d06a dev hopwise-vx6 42:d1:19:0c:d0:6a
          fdb 42:d1:19:0c:d0:6a dev hopwise-vx6 dst fd00:1::2
        node3 IPv4 192.168.1.3: Vxlan [10.244.3.0/24]
          route 10.244.3.0/24 via 192.168.1.3 dev hopwise-vx4 onlink
          neighbour 192.168.1.3 dev hopwise-vx4 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3
        node3 IPv6 fd00:1:1::3: Vxlan [fd00:10:244:3::/64]
          route fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6
          neighbour fe80::e496:4fff:fee2:536c dev hopwise-vx6 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3
    "#]],
    );
    check(
        &three_nodes(),
        &host(),
        &mode(PeerMode::Fabric),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Fabric [10.244.2.0/24]
        node2 IPv6 fd00:1::2: Fabric [fd00:10:244:2::/64]
        node3 IPv4 192.168.1.3: Fabric [10.244.3.0/24]
        node3 IPv6 fd00:1:1::3: Fabric [fd00:10:244:3::/64]
    "#]],
    );
}

#[test]
fn a_peers_own_mode_is_honoured_and_windows_takes_plain_routes_only() {
    let mut view = three_nodes();
    let mut node2 = node("node2", &["192.168.0.2"], &["10.244.2.0/24"]);
    node2.settings.mode = Some(PeerMode::Vxlan);
    let mut node3 = node("node3", &["192.168.1.3"], &["10.244.3.0/24"]);
    node3.os = Os::Windows;
    let mut node4 = node("node4", &["192.168.0.4"], &["10.244.4.0/24"]);
    (node4.os, node4.settings.mode) = (Os::Windows, Some(PeerMode::Vxlan));
    for node in [node2, node3, node4] {
        view.nodes.insert(node.name.clone(), Arc::new(node));
    }
    let mut host = host();
    host.lookups.insert(ip("192.168.0.4"), on_link(2));
    check(
        &view,
        &host,
        &config(),
        &expect![[r#"
            node2 IPv4 192.168.0.2: Vxlan [10.244.2.0/24]
              route 10.244.2.0/24 via 192.168.0.2 dev hopwise-vx4 onlink
              neighbour 192.168.0.2 dev hopwise-vx4 42:d1:19:0c:d0:6a
              fdb 42:d1:19:0c:d0:6a dev hopwise-vx4 dst 192.168.0.2
            node3 IPv4 192.168.1.3: Unreachable [10.244.3.0/24]
              error peer-off-link: node node3: its address 192.168.1.3 is behind the gateway 192.168.0.254, and Windows nodes have no VXLAN here; teach the router the pod CIDRs and list them in networks.fabric
            node4 IPv4 192.168.0.4: Direct [10.244.4.0/24]
              route 10.244.4.0/24 via 192.168.0.4 dev eth0
        "#]],
    );
}

#[test]
fn lies_are_refused_and_the_rest_of_the_liar_is_not() {
    let liar = since(
        9,
        node(
            "liar",
            &[
                "192.168.0.1",
                "192.168.0.2",
                "192.168.0.255",
                "10.96.0.1",
                "224.0.0.1",
                "127.0.0.1",
                "8.8.8.8",
                "192.168.0.9",
            ],
            &[
                "10.244.1.0/24",
                "10.244.2.128/25",
                "10.244.0.0/16",
                "10.96.0.0/24",
                "192.168.0.0/24",
                "172.16.0.0/16",
                "224.0.0.0/24",
                "10.244.9.0/24",
                "fd00:10:244:9::/64",
            ],
        ),
    );
    let mut view = three_nodes();
    view.nodes.insert(liar.name.clone(), Arc::new(liar));
    let mut host = host();
    host.lookups.insert(ip("192.168.0.9"), on_link(2));
    check(
        &view,
        &host,
        &config(),
        &expect![[r#"
        liar IPv4 192.168.0.9: Direct [10.244.9.0/24]
          route 10.244.9.0/24 via 192.168.0.9 dev eth0
          error pod-cidr-ours: node liar: its pod CIDR 10.244.1.0/24 overlaps 10.244.1.0/24, which is this node's; give node liar another pod CIDR
          error pod-cidr-overlap: node liar: its pod CIDR 10.244.2.128/25 overlaps 10.244.2.0/24, which node node2 claimed before; give node liar another pod CIDR
          error pod-cidr-ours: node liar: its pod CIDR 10.244.0.0/16 overlaps 10.244.1.0/24, which is this node's; give node liar another pod CIDR
          error pod-cidr-services: node liar: its pod CIDR 10.96.0.0/24 overlaps the service range 10.96.0.0/12; give node liar another pod CIDR
          error pod-cidr-outside: node liar: its pod CIDR 192.168.0.0/24 is outside the pod networks 10.244.0.0/16, fd00:10:244::/48; give node liar another pod CIDR, or declare its network in networks.pods
          error pod-cidr-outside: node liar: its pod CIDR 172.16.0.0/16 is outside the pod networks 10.244.0.0/16, fd00:10:244::/48; give node liar another pod CIDR, or declare its network in networks.pods
          error pod-cidr-senseless: node liar: its pod CIDR 224.0.0.0/24 overlaps multicast (224.0.0.0/4); give node liar another pod CIDR
          error node-address-ours: node liar: its address 192.168.0.1 is one of this node's own; correct the address of node liar
          error node-address-taken: node liar: its address 192.168.0.2 is that of node node2, which claimed it before; correct the address of node liar
          error node-address-senseless: node liar: its address 192.168.0.255 is the broadcast address of a subnet; correct the address of node liar
          error node-address-services: node liar: its address 10.96.0.1 is in the service range 10.96.0.0/12; correct the address of node liar
          error node-address-senseless: node liar: its address 224.0.0.1 is multicast (224.0.0.0/4); correct the address of node liar
          error node-address-senseless: node liar: its address 127.0.0.1 is loopback (127.0.0.0/8); correct the address of node liar
          error node-address-outside: node liar: its address 8.8.8.8 is outside the node networks 192.168.0.0/16, fd00:1::/32; correct the address of node liar, or declare its network in networks.nodes
        liar IPv6 -: Unreachable [fd00:10:244:9::/64]
          error peer-without-address: node liar: it has IPv6 pod CIDRs and no IPv6 address; give the node an IPv6 address
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Vxlan [10.244.3.0/24]
          route 10.244.3.0/24 via 192.168.1.3 dev hopwise-vx4 onlink
          neighbour 192.168.1.3 dev hopwise-vx4 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3
        node3 IPv6 fd00:1:1::3: Vxlan [fd00:10:244:3::/64]
          route fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6
          neighbour fe80::e496:4fff:fee2:536c dev hopwise-vx6 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3
    "#]],
    );
}

#[test]
fn when_a_peer_was_first_to_claim_our_pod_cidr_we_keep_serving_and_say_so() {
    let mut view = three_nodes();
    let ours = since(5, node("node1", &["192.168.0.1"], &["10.244.1.0/24"]));
    let wide = since(1, node("node4", &["192.168.0.4"], &["10.244.1.0/24"]));
    for node in [ours, wide] {
        view.nodes.insert(node.name.clone(), Arc::new(node));
    }
    let mut host = host();
    host.lookups.insert(ip("192.168.0.4"), on_link(2));
    let plan = plan(&view, &host, &config());
    assert_eq!(plan.node.pod_cidrs, [cidr("10.244.1.0/24")]);
    expect![[r#"
        error own-pod-cidr-refused: this node (node1): its pod CIDR 10.244.1.0/24 overlaps 10.244.1.0/24, which node node4 claimed before; give node node1 another pod CIDR
        warning no-pod-cidr: this node (node1): IPv6 pod networks are declared, and it has no IPv6 pod CIDR; give the node an IPv6 pod CIDR; until then pods here have no IPv6 address
        error pod-cidr-ours: node node4: its pod CIDR 10.244.1.0/24 is the one that this node serves; it was the first to claim it; give this node another pod CIDR, and restart its pods
    "#]].assert_eq(&notes(&plan));
}

#[test]
fn a_claim_as_old_as_ours_takes_nothing_from_us() {
    let mut view = three_nodes();
    // First by name, and an address besides.
    let twin = node("aaa", &["192.168.0.1", "10.244.1.7", "fd00:1::1"], &["10.244.1.0/24", "10.244.0.0/23"]);
    view.networks.nodes.clear();
    view.nodes.insert(twin.name.clone(), Arc::new(twin));
    let (before, after) = (plan(&three_nodes(), &host(), &config()), plan(&view, &host(), &config()));
    assert_eq!(before.node.pod_cidrs, after.node.pod_cidrs);
    assert_eq!(before.node.publish, after.node.publish);
    assert!(after.node.notes.is_empty(), "{:?}", after.node.notes);
    let routes = after.peers[&name("aaa")].v4.as_ref().map(|peer| peer.routes.len());
    assert_eq!(routes, Some(0));
}

#[test]
fn foreign_routes_and_neighbours_are_named_and_left_alone() {
    let mut host = host();
    host.routes.push(foreign("10.244.2.0/24", Some("192.168.0.77"), 2));
    host.routes.push(foreign("10.244.3.64/26", None, 3));
    host.routes.push(foreign("fd00:10:244:2::/64", Some("fd00:1::2"), 2));
    host.foreign_neighbours
        .insert((IfIndex(2), ip("192.168.0.4")), "02:00:00:00:00:99".parse().expect("a MAC address"));
    host.lookups.insert(ip("192.168.0.4"), on_link(2));
    let mut view = three_nodes();
    let mut node4 = node("node4", &["192.168.0.4"], &["10.244.4.0/24"]);
    node4.data.link_mac.v4 = Some("02:00:00:00:00:04".parse().expect("a MAC address"));
    view.nodes.insert(node4.name.clone(), Arc::new(node4));
    check(
        &view,
        &host,
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          error foreign-route: node node2: the route 10.244.2.0/24 via 192.168.0.77 dev eth0 is not ours: packets to these pods go where it leads; ip route del 10.244.2.0/24 via 192.168.0.77 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          info foreign-route: node node2: the route fd00:10:244:2::/64 via fd00:1::2 dev eth0 metric 1024 is not ours: it leads the same way, so packets arrive; it is not kept up to date; ip route del fd00:10:244:2::/64 via fd00:1::2 dev eth0 metric 1024
        node3 IPv4 192.168.1.3: Vxlan [10.244.3.0/24]
          route 10.244.3.0/24 via 192.168.1.3 dev hopwise-vx4 onlink
          neighbour 192.168.1.3 dev hopwise-vx4 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3
          warning foreign-route-shadows: node node3: routes that are not ours come before ours to 10.244.3.0/24: 10.244.3.64/26 dev eth1; ip route del 10.244.3.64/26 dev eth1
        node3 IPv6 fd00:1:1::3: Vxlan [fd00:10:244:3::/64]
          route fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6
          neighbour fe80::e496:4fff:fee2:536c dev hopwise-vx6 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3
        node4 IPv4 192.168.0.4: Direct [10.244.4.0/24]
          route 10.244.4.0/24 via 192.168.0.4 dev eth0
          warning foreign-neighbour: node node4: a permanent neighbour entry that is not ours says 192.168.0.4 is at 02:00:00:00:00:99; it publishes 02:00:00:00:00:04; ip neigh del 192.168.0.4 dev eth0
    "#]],
    );
}

#[test]
fn without_nexthop_objects_metrics_are_distinct_and_stable() {
    let mut host = host();
    host.capabilities.nexthop_objects = false;
    check(
        &three_nodes(),
        &host,
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 metric 10971 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Vxlan [10.244.3.0/24]
          route 10.244.3.0/24 metric 25173 via 192.168.1.3 dev hopwise-vx4 onlink
          neighbour 192.168.1.3 dev hopwise-vx4 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3
        node3 IPv6 fd00:1:1::3: Vxlan [fd00:10:244:3::/64]
          route fd00:10:244:3::/64 metric 1024 via fe80::e496:4fff:fee2:536c dev hopwise-vx6
          neighbour fe80::e496:4fff:fee2:536c dev hopwise-vx6 e6:96:4f:e2:53:6c
          fdb e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3
    "#]],
    );
}

#[test]
fn what_stops_a_tunnel_is_said() {
    let mut host = host();
    host.capabilities.vxlan = false;
    check(
        &three_nodes(),
        &host,
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Unreachable [10.244.3.0/24]
          error vxlan-impossible: node node3: it is behind the gateway 192.168.0.254, and this kernel has no VXLAN devices; modprobe vxlan
        node3 IPv6 fd00:1:1::3: Unreachable [fd00:10:244:3::/64]
          error vxlan-impossible: node node3: it is behind the gateway fd00:1::fe, and this kernel has no VXLAN devices; modprobe vxlan
    "#]],
    );
    host.capabilities.vxlan = true;
    host.links.get_mut(&IfIndex(2)).expect("eth0").mtu = 1300;
    let mut view = three_nodes();
    let mut node3 = node("node3", &["192.168.1.3", "fd00:1:1::3"], &["10.244.3.0/24", "fd00:10:244:3::/64"]);
    node3.data.vxlan_mac = Some(hopwise_core::mark::vxlan_mac("node2", hopwise_core::config::DEFAULT_VNI));
    view.nodes.insert(node3.name.clone(), Arc::new(node3));
    check(
        &view,
        &host,
        &config(),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Unreachable [10.244.3.0/24]
          error vxlan-impossible: node node3: it is behind the gateway 192.168.0.254, and it publishes the VXLAN MAC address 42:d1:19:0c:d0:6a, which is that of node node2; take vxlanMac out of its node data
        node3 IPv6 fd00:1:1::3: Unreachable [fd00:10:244:3::/64]
          error vxlan-impossible: node node3: it is behind the gateway fd00:1::fe, and the path MTU of 1300 leaves 1230 bytes, and IPv6 needs 1280; raise the MTU of the uplink to 1350 at least
    "#]],
    );
    let off = Settings { vxlan: Some(false), ..Settings::default() };
    check(
        &three_nodes(),
        &host,
        &with(&off),
        &expect![[r#"
        node2 IPv4 192.168.0.2: Direct [10.244.2.0/24]
          route 10.244.2.0/24 via 192.168.0.2 dev eth0
        node2 IPv6 fd00:1::2: Direct [fd00:10:244:2::/64]
          route fd00:10:244:2::/64 metric 1024 via fd00:1::2 dev eth0
        node3 IPv4 192.168.1.3: Unreachable [10.244.3.0/24]
          error peer-off-link: node node3: its address 192.168.1.3 is behind the gateway 192.168.0.254, and VXLAN is off; allow VXLAN (mode auto, vxlan true), or teach the router the pod CIDRs and list them in networks.fabric
        node3 IPv6 fd00:1:1::3: Unreachable [fd00:10:244:3::/64]
          error peer-off-link: node node3: its address fd00:1:1::3 is behind the gateway fd00:1::fe, and VXLAN is off; allow VXLAN (mode auto, vxlan true), or teach the router the pod CIDRs and list them in networks.fabric
    "#]],
    );
}
