//! Plans of small clusters, as a person would read them.

mod common;

use std::fmt::Write;
use std::sync::Arc;

use common::{cidr, config, foreign, host, ip, link_name, name, node, on_link, since, three_nodes, via};
use expect_test::{Expect, expect};
use hopwise_core::cluster::{ClusterView, Os};
use hopwise_core::config::{NodeConfig, PeerMode, Settings, UplinkSelector};
use hopwise_core::diff::{Desired, diff};
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::host::{
    DropCause, DroppingChain, HostView, IptablesBackend, IptablesChain, SysctlKey, SysctlLink,
};
use hopwise_core::name::{IfIndex, Mtu};
use hopwise_core::observed::Observed;
use hopwise_core::plan::{NodePlan, plan};

/// Every peer with its routes, neighbours and notes, then the node.
fn text(plan: &NodePlan) -> String {
    let mut text = String::new();
    for (name, families) in &plan.peers {
        for (family, peer) in families.iter().filter_map(|(family, peer)| Some((family, peer.as_ref()?))) {
            let address = peer.address.map_or("-".to_owned(), |address| address.to_string());
            let _ = writeln!(text, "{name} {family} {address}: {:?} {:?}", peer.reach, peer.pod_cidrs);
            for route in &peer.routes {
                let _ = writeln!(text, "  route {route}");
            }
            for neighbour in &peer.neighbours {
                let _ = writeln!(
                    text,
                    "  neighbour {} dev {} {}",
                    neighbour.key.address, neighbour.key.link, neighbour.mac
                );
            }
            for entry in &peer.fdb {
                let _ = writeln!(text, "  fdb {} dev {} dst {}", entry.key.mac, entry.key.link, entry.dst);
            }
            for note in &peer.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
    }
    text
}

fn notes(plan: &NodePlan) -> String {
    plan.notes().map(|note| format!("{note}\n")).collect()
}

fn check(view: &ClusterView, host: &HostView, config: &NodeConfig, expected: &Expect) {
    expected.assert_eq(&text(&plan(view, host, config)));
}

fn with(settings: &Settings) -> NodeConfig {
    NodeConfig::resolve(name("node1"), &[settings])
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
fn the_node_gets_a_tunnel_its_address_sysctls_and_a_table() {
    let plan = plan(&three_nodes(), &host(), &config());
    let desired = Desired::of(&plan, &host().capabilities);
    let observed = Observed { sysctls: host().sysctls, ..Observed::default() };
    let commands = diff(&observed, &desired).commands().join("\n");
    expect![[r#"
        sysctl -w net/ipv4/ip_forward=1
        sysctl -w net/ipv6/conf/eth0/accept_ra=2
        sysctl -w net/ipv6/conf/all/forwarding=1
        sysctl -w net/ipv4/conf/eth0/rp_filter=2
        sysctl -w net/ipv4/conf/all/send_redirects=0
        sysctl -w net/ipv4/conf/default/send_redirects=0
        sysctl -w net/ipv4/conf/eth0/send_redirects=0
        ip link add hopwise-vx4 address 3a:46:d1:8d:58:7b mtu 1450 type vxlan id 4857 local 192.168.0.1 dev eth0 dstport 4789 nolearning
        ip link set hopwise-vx4 alias hopwise:vxlan up
        ip link add hopwise-vx6 address 3a:46:d1:8d:58:7b mtu 1430 type vxlan id 4857 local fd00:1::1 dev eth0 dstport 4789 nolearning
        ip link set hopwise-vx6 alias hopwise:vxlan up
        sysctl -w net/ipv4/conf/hopwise-vx4/rp_filter=2
        ip address add 10.244.1.0/32 dev hopwise-vx4
        ip address add fd00:10:244:1::/128 dev hopwise-vx6 nodad
        ip nexthop add id 1213661184 via 192.168.0.2 dev eth0 protocol 72
        ip nexthop add id 1213661185 via 192.168.1.3 dev hopwise-vx4 onlink protocol 72
        ip nexthop add id 1213661186 via fd00:1::2 dev eth0 protocol 72
        ip nexthop add id 1213661187 via fe80::e496:4fff:fee2:536c dev hopwise-vx6 protocol 72
        ip neigh replace 192.168.1.3 lladdr e6:96:4f:e2:53:6c dev hopwise-vx4 nud permanent protocol 72
        ip neigh replace fe80::e496:4fff:fee2:536c lladdr e6:96:4f:e2:53:6c dev hopwise-vx6 nud permanent protocol 72
        bridge fdb replace e6:96:4f:e2:53:6c dev hopwise-vx4 dst 192.168.1.3 self permanent
        bridge fdb replace e6:96:4f:e2:53:6c dev hopwise-vx6 dst fd00:1:1::3 self permanent
        ip route add 10.244.2.0/24 nhid 1213661184 proto 72
        ip route add 10.244.3.0/24 nhid 1213661185 proto 72
        ip route add fd00:10:244:2::/64 metric 1024 nhid 1213661186 proto 72
        ip route add fd00:10:244:3::/64 metric 1024 nhid 1213661187 proto 72
        nft -f - <<'EOF'
        add table inet hopwise
        delete table inet hopwise
        table inet hopwise {
        	set local_pods_v4 {
        		type ipv4_addr
        		flags interval
        		elements = { 10.244.1.0/24 }
        	}

        	set exempt_v4 {
        		type ipv4_addr
        		flags interval
        		elements = { 10.96.0.0/12, 10.244.0.0/16 }
        	}

        	set nodes_v4 {
        		type ipv4_addr
        		elements = { 192.168.0.1, 192.168.0.2,
        			     192.168.1.3 }
        	}

        	set local_pods_v6 {
        		type ipv6_addr
        		flags interval
        		elements = { fd00:10:244:1::/64 }
        	}

        	set exempt_v6 {
        		type ipv6_addr
        		flags interval
        		elements = { fd00:10:96::/112,
        			     fd00:10:244::/48 }
        	}

        	set nodes_v6 {
        		type ipv6_addr
        		elements = { fd00:1::1,
        			     fd00:1::2,
        			     fd00:1:1::3 }
        	}

        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		ip saddr @local_pods_v4 ip daddr != 224.0.0.0/4 ip daddr != @exempt_v4 ip daddr != @nodes_v4 masquerade fully-random
        		ip6 saddr @local_pods_v6 ip6 daddr != ff00::/8 ip6 daddr != @exempt_v6 ip6 daddr != @nodes_v6 masquerade fully-random
        	}
        }
        EOF"#]].assert_eq(&commands);
    assert_eq!(plan.node.pod_mtu, Mtu::new(1430).ok());
    assert_eq!(plan.node.publish.link_mac.v4, Some("02:00:00:00:00:01".parse().expect("a MAC address")));
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

#[test]
fn uplinks_are_chosen_as_told() {
    let mut host = host();
    host.addresses.push(common::held(3, "192.168.5.1", 24));
    let chosen = |selector: UplinkSelector, host: &HostView| {
        let config = with(&Settings { uplink: Some(selector), ..Settings::default() });
        let node = plan(&three_nodes(), host, &config).node;
        let uplink = |uplink: Option<hopwise_core::plan::Uplink>| {
            uplink.map_or("none".to_owned(), |uplink| format!("{} {}", uplink.link, uplink.address))
        };
        let notes: Vec<&str> = node.notes.iter().map(|note| note.id).collect();
        format!("{}, {} {notes:?}", uplink(node.uplink.v4), uplink(node.uplink.v6))
    };
    let both = "eth0 192.168.0.1, eth0 fd00:1::1 []";
    assert_eq!(chosen(UplinkSelector::Auto, &host), both);
    assert_eq!(chosen(UplinkSelector::NameRegex("e.*0".to_owned()), &host), both);
    assert_eq!(chosen(UplinkSelector::Address(ip("192.168.0.1")), &host), both);
    assert_eq!(chosen(UplinkSelector::CanReach(ip("192.168.1.3")), &host), both);
    let other = "eth1 192.168.5.1, none [\"uplink-without-address\"]";
    assert_eq!(chosen(UplinkSelector::Name(link_name("eth1")), &host), other);
    assert_eq!(
        chosen(UplinkSelector::NameRegex("eth".to_owned()), &host),
        "none, none [\"uplink-not-found\"]"
    );
    assert_eq!(chosen(UplinkSelector::NameRegex("(".to_owned()), &host), "none, none [\"uplink-not-found\"]");
    // The store's address is nowhere, or on the loopback.
    host.addresses.retain(|held| held.address != ip("192.168.0.1"));
    host.addresses.push(common::held(2, "192.168.0.7", 24));
    assert_eq!(
        chosen(UplinkSelector::Auto, &host),
        "eth0 192.168.0.7, eth0 fd00:1::1 [\"node-address-not-local\"]"
    );
    host.addresses.push(common::held(1, "192.168.0.1", 32));
    assert_eq!(chosen(UplinkSelector::Auto, &host), both);
}

#[test]
fn families_do_not_hold_each_other_back() {
    let both = plan(&three_nodes(), &host(), &config());
    let mut view = three_nodes();
    let mut host = host();
    // IPv4 breaks in every way there is.
    host.addresses.retain(|held| held.address.is_ipv6());
    host.routes.retain(|route| route.dst.family() == Family::V6);
    host.lookups.retain(|address, _| address.is_ipv6());
    for node in view.nodes.values_mut() {
        Arc::make_mut(node).addresses.retain(|claim| claim.value.is_ipv6());
    }
    let one = plan(&view, &host, &config());
    for (name, peer) in &both.peers {
        assert_eq!(peer.v6, one.peers[name].v6);
    }
    // And the other family is left alone where no pods of it are declared.
    let mut view = three_nodes();
    view.networks.pods.retain(|cidr| cidr.family() == Family::V4);
    for node in view.nodes.values_mut() {
        Arc::make_mut(node).pod_cidrs.retain(|claim| claim.value.family() == Family::V4);
    }
    let four = plan(&view, &common::host(), &config());
    assert!(four.peers.values().all(|peer| peer.v6.is_none()));
    assert!(four.node.uplink.v6.is_none());
    assert!(
        !four.node.sysctls.iter().any(|(key, _)| key.path().starts_with("ipv6")),
        "{:?}",
        four.node.sysctls
    );
    assert_eq!(notes(&four), "");
}

#[test]
fn sysctls_are_raised_only_as_far_as_routing_needs() {
    let sysctls = |change: &dyn Fn(&mut HostView)| {
        let mut host = host();
        change(&mut host);
        let plan = plan(&three_nodes(), &host, &config());
        let lines = plan.node.sysctls.iter().map(|(key, value)| format!("{}={value}\n", key.path()));
        lines.collect::<String>()
    };
    expect![[r#"
        ipv4/ip_forward=1
        ipv6/conf/eth0/accept_ra=2
        ipv6/conf/all/forwarding=1
        ipv4/conf/eth0/rp_filter=2
        ipv4/conf/hopwise-vx4/rp_filter=2
        ipv4/conf/all/send_redirects=0
        ipv4/conf/default/send_redirects=0
        ipv4/conf/eth0/send_redirects=0
    "#]]
    .assert_eq(&sysctls(&|_| {}));
    // Strict everywhere: `all` is loosened, which loosens the links; forwarding is on, so that accept_ra stays.
    expect![[r#"
        ipv4/ip_forward=1
        ipv6/conf/all/forwarding=1
        ipv4/conf/all/rp_filter=2
        ipv4/conf/hopwise-vx4/rp_filter=2
        ipv4/conf/all/send_redirects=0
        ipv4/conf/default/send_redirects=0
        ipv4/conf/eth0/send_redirects=0
    "#]]
    .assert_eq(&sysctls(&|host| {
        host.sysctls.insert(SysctlKey::RpFilter(SysctlLink::All), "1".to_owned());
        host.sysctls.insert(SysctlKey::Forwarding(Family::V6), "1".to_owned());
    }));
    let off = with(&Settings { manage_sysctls: Some(false), ..Settings::default() });
    let plan = plan(&three_nodes(), &host(), &off);
    assert_eq!(plan.node.sysctls, []);
    expect![[r#"
        error forwarding-off: sysctl net/ipv4/ip_forward: it is 0: this host forwards no IPv4 packets to or from pods; sysctl -w net/ipv4/ip_forward=1, or set manageSysctls to true
        error forwarding-off: sysctl net/ipv6/conf/all/forwarding: it is 0: this host forwards no IPv6 packets to or from pods; sysctl -w net/ipv6/conf/all/forwarding=1, or set manageSysctls to true
    "#]].assert_eq(&notes(&plan));
}

#[test]
fn what_foreign_netfilter_rules_drop_is_named() {
    let mut host = host();
    let chain = |backend, family| IptablesChain { backend, family };
    host.netfilter.forward_policy_drop =
        vec![chain(IptablesBackend::Nft, Family::V4), chain(IptablesBackend::Legacy, Family::V6)];
    let dropping =
        |cause| DroppingChain { family: "inet", table: "fw".into(), chain: "forward".into(), cause };
    host.netfilter.dropping_chains =
        vec![dropping(DropCause::Policy), dropping(DropCause::Rule { handle: 7, unconditional: false })];
    let accepted = plan(&three_nodes(), &host, &config());
    assert_eq!(accepted.node.forward_chains, host.netfilter.forward_policy_drop);
    expect![[r#"
        warning foreign-drop: nftables chain inet fw forward: its policy is drop: forwarded packets that it does not accept are lost; nft -a list chain inet fw forward, then for each pod network: nft insert rule inet fw forward ip saddr 10.244.0.0/16 accept, and daddr
        info foreign-drop: nftables chain inet fw forward: its rule with handle 7 drops some forwarded packets; they may be pods'; nft -a list chain inet fw forward, then for each pod network: nft insert rule inet fw forward ip saddr 10.244.0.0/16 accept, and daddr
    "#]].assert_eq(&notes(&accepted));
    let off = with(&Settings { forward_accept: Some(false), ..Settings::default() });
    let left = plan(&three_nodes(), &host, &off);
    assert!(left.node.forward_chains.is_empty());
    expect![[r#"
        warning foreign-drop: nftables chain inet fw forward: its policy is drop: forwarded packets that it does not accept are lost; nft -a list chain inet fw forward, then for each pod network: nft insert rule inet fw forward ip saddr 10.244.0.0/16 accept, and daddr
        info foreign-drop: nftables chain inet fw forward: its rule with handle 7 drops some forwarded packets; they may be pods'; nft -a list chain inet fw forward, then for each pod network: nft insert rule inet fw forward ip saddr 10.244.0.0/16 accept, and daddr
        warning forward-drop: iptables-nft filter FORWARD: its policy is DROP, and forwardAccept is off; set forwardAccept to true, or: iptables-nft -I FORWARD -s POD_NETWORK -j ACCEPT, and -d
        warning forward-drop: ip6tables-legacy filter FORWARD: its policy is DROP, and forwardAccept is off; set forwardAccept to true, or: ip6tables-legacy -I FORWARD -s POD_NETWORK -j ACCEPT, and -d
    "#]].assert_eq(&notes(&left));
}

#[test]
fn a_table_of_our_own_gets_a_rule_per_family() {
    let own = |priority| {
        with(&Settings { route_table: Some(100), rule_priority: Some(priority), ..Settings::default() })
    };
    let plan_100 = plan(&three_nodes(), &host(), &own(32_000));
    assert_eq!(plan_100.node.rules.len(), 2);
    // What stands in main is no matter: ours is asked first.
    let mut host = host();
    host.routes.push(foreign("10.244.2.0/24", Some("192.168.0.77"), 2));
    let notes_of = |priority| notes(&plan(&three_nodes(), &host, &own(priority)));
    assert_eq!(notes_of(32_000), "");
    expect![[r#"
        error rule-after-main: setting rulePriority: with priority 40000 the main table's routes come before table 100's; set rulePriority below 32766
    "#]].assert_eq(&notes_of(40_000));
}

#[test]
fn a_node_that_the_store_does_not_know_or_that_has_no_pods() {
    let mut view = three_nodes();
    view.nodes.remove(&name("node1"));
    expect![[r#"
        error node-not-in-view: this node (node1): the store does not know it, so peers have no route to its pods; add the node to the store, or start the agent with the name that the store has (--node)
    "#]].assert_eq(&notes(&plan(&view, &host(), &config())));
    let bare = node("node1", &["192.168.0.1", "fd00:1::1"], &[]);
    view.nodes.insert(bare.name.clone(), Arc::new(bare));
    expect![[r#"
        warning no-pod-cidr: this node (node1): IPv4 pod networks are declared, and it has no IPv4 pod CIDR; give the node an IPv4 pod CIDR; until then pods here have no IPv4 address
        warning no-pod-cidr: this node (node1): IPv6 pod networks are declared, and it has no IPv6 pod CIDR; give the node an IPv6 pod CIDR; until then pods here have no IPv6 address
    "#]].assert_eq(&notes(&plan(&view, &host(), &config())));
    // Peers without an address, without a route, and behind a switched-off family.
    let mut host = host();
    host.lookups.remove(&ip("192.168.0.2"));
    host.lookups.insert(ip("192.168.1.3"), via(9, "192.168.0.254"));
    host.capabilities.families = PerFamily { v4: true, v6: false };
    let lost = node("node4", &[], &["10.244.4.0/24"]);
    view.nodes.insert(lost.name.clone(), Arc::new(lost));
    expect![[r#"
        warning no-pod-cidr: this node (node1): IPv4 pod networks are declared, and it has no IPv4 pod CIDR; give the node an IPv4 pod CIDR; until then pods here have no IPv4 address
        error family-disabled: IPv6: IPv6 pod networks are declared, and the kernel has IPv6 switched off; take ipv6.disable=1 off the kernel's command line, and: sysctl -w net/ipv6/conf/all/disable_ipv6=0
        error peer-no-route: node node2: the kernel has no route to its address 192.168.0.2; ip route get 192.168.0.2; add a route to the node's network, or correct its address
        error peer-without-address: node node4: it has IPv4 pod CIDRs and no IPv4 address; give the node an IPv4 address
    "#]].assert_eq(&notes(&plan(&view, &host, &config())));
}
