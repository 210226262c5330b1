//! What is planned for the node as a whole.

mod common;

use std::sync::Arc;

use common::{config, foreign, host, ip, link_name, name, node, notes, three_nodes, via, with};
use expect_test::expect;
use hopwise_core::config::{Settings, UplinkSelector};
use hopwise_core::diff::{Desired, diff};
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::host::{
    DropCause, DroppingChain, HostView, IptablesBackend, IptablesChain, SysctlKey, SysctlLink,
};
use hopwise_core::name::Mtu;
use hopwise_core::observed::Observed;
use hopwise_core::plan::plan;

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
