//! Each kind of owned object is put back when somebody deletes or alters it, because the kernel tells.

use std::time::{Duration, Instant};

use hopwise_core::diff::Changes;
use hopwise_core::host::SysctlKey;
use hopwise_core::object::RouteKey;
use hopwise_core::observed::Observed;
use hopwise_kernel::kernel::Kernel;

use super::support::{Cluster, Inventory, Node, wait_until};

/// A node with a direct peer (node2), a peer behind a router reached by VXLAN (far), and routes in a table of their own.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(2);
    let mut inventory =
        Inventory::of(2).with_far(&["172.16.0.9", "fd00:99::9"], &["10.244.9.0/24", "fd00:10:244:9::/64"]);
    inventory.settings = "mode: auto, routeTable: 100, masquerade: true".into();
    cluster.write_inventory(&inventory.text());
    cluster
        .node(1)
        .sh("ip route add 172.16.0.0/16 via 192.168.0.254; ip route add fd00:99::/64 via fd00:1::254");
    cluster.start();
    // Peers publish their MAC addresses, after which there are neighbours too.
    wait_until("neighbours of node2", || {
        let found = cluster.node(1).sh("ip neigh show nud permanent proto 72 dev eth0");
        if found.lines().count() == 2 { Ok(()) } else { Err(found) }
    });
    cluster.node(1).wait_settled();
    cluster
}

fn observe(node: &Node) -> Observed {
    let mut observed = node.snapshot().observed;
    // A link that was deleted and made again has another index.
    for link in observed.links.values_mut() {
        link.index = hopwise_core::name::IfIndex(0);
    }
    // Ids of nexthop objects are chosen anew; what routes lead to is compared by `Node::routes`.
    observed.nexthops = Default::default();
    observed.routes = Default::default();
    // Raised before IPv6 forwarding is switched on, whenever it is.
    observed.sysctls.retain(|key, _| !matches!(key, SysctlKey::AcceptRa(_)));
    observed
}

/// Does something to node1 and waits until everything is as before.
fn heals(node: &Node, kind: &str, damage: &str) {
    let (before, routes, repairs) = (observe(node), node.routes(), node.repairs(kind));
    node.sh(damage);
    wait_until(&format!("{damage:?} is undone"), || {
        let repairs_now = node.repairs(kind);
        if repairs_now <= repairs {
            return Err(format!("{repairs_now} repairs of kind {kind}\n{}", node.log()));
        }
        Ok(())
    });
    node.wait_settled();
    assert_eq!(observe(node), before, "{damage}");
    assert_eq!(node.routes(), routes, "{damage}");
}

#[test]
fn routes_and_what_they_rest_on() {
    let cluster = cluster();
    let node = cluster.node(1);
    let routes = node.routes();
    assert_eq!(routes.len(), 4, "{routes:?}");
    assert_eq!(
        routes[..3],
        [
            "10.244.2.0/24 via 192.168.0.2 dev eth0",
            "10.244.9.0/24 via 172.16.0.9 dev hopwise-vx4",
            "fd00:10:244:2::/64 via fd00:1::2 dev eth0",
        ]
    );
    // IPv6 takes no on-link gateway that is reached through another link too, so this one is link-local.
    assert!(routes[3].starts_with("fd00:10:244:9::/64 via fe80::") && routes[3].ends_with("dev hopwise-vx6"));
    heals(node, "route", "ip route del 10.244.2.0/24 table 100");
    heals(node, "route", "ip -6 route del fd00:10:244:9::/64 table 100");
    heals(
        node,
        "route",
        "for r in $(ip route show table 100 | cut -d' ' -f1); do ip route del $r table 100; done",
    );
    heals(node, "route", "ip route replace 10.244.2.0/24 via 192.168.0.77 table 100 proto 72");
    heals(node, "route", "ip route replace blackhole 10.244.2.0/24 table 100 proto 72");
    heals(node, "nexthop", "ip nexthop flush proto 72");
    heals(
        node,
        "nexthop",
        "ip nexthop replace id $(ip -4 nexthop show proto 72 dev eth0 | cut -d' ' -f2) via 192.168.0.77 dev eth0 proto 72",
    );
    heals(node, "rule", "ip rule del proto 72");
    heals(node, "rule", "ip -6 rule del proto 72");
}

#[test]
fn neighbours_and_tunnels() {
    let cluster = cluster();
    let node = cluster.node(1);
    heals(node, "neighbour", "ip neigh del 192.168.0.2 dev eth0");
    heals(
        node,
        "neighbour",
        "ip neigh replace 192.168.0.2 lladdr 02:bd:bd:bd:bd:bd nud permanent proto 72 dev eth0",
    );
    heals(node, "neighbour", "ip neigh del fd00:1::2 dev eth0");
    heals(node, "neighbour", "ip neigh flush nud permanent dev hopwise-vx4");
    heals(
        node,
        "fdb",
        "bridge fdb del $(bridge fdb show dev hopwise-vx4 | grep dst | cut -d' ' -f1) dev hopwise-vx4",
    );
    heals(
        node,
        "fdb",
        "bridge fdb replace $(bridge fdb show dev hopwise-vx4 | grep dst | cut -d' ' -f1) dev hopwise-vx4 dst 172.16.0.66 self permanent",
    );
    heals(node, "address", "ip addr flush dev hopwise-vx4");
    heals(node, "address", "ip -6 addr del fd00:10:244:1::/128 dev hopwise-vx6");
    heals(node, "link", "ip link del hopwise-vx4");
    heals(node, "link", "ip link del hopwise-vx6");
    heals(node, "link", "ip link set hopwise-vx4 down");
    heals(node, "link", "ip link set hopwise-vx4 mtu 1300");
    heals(node, "link", "ip link set hopwise-vx4 address 02:bd:bd:bd:bd:bd");
}

#[test]
fn netfilter_and_sysctls() {
    let cluster = cluster();
    let node = cluster.node(1);
    heals(node, "nftables", "nft delete table inet hopwise");
    heals(node, "nftables", "nft flush table inet hopwise");
    heals(node, "nftables", "nft flush ruleset");
    let set = node.sh("nft list sets inet | sed -n 's/.*set \\([^ ]*nodes[^ ]*\\) .*/\\1/p' | head -1");
    let set = set.trim();
    heals(node, "nftables", &format!("nft flush set inet hopwise {set}"));
    heals(node, "nftables", &format!("nft add element inet hopwise {set} '{{ 192.0.2.1 }}'"));
    heals(node, "sysctl", "echo 0 > /proc/sys/net/ipv4/ip_forward");
    heals(node, "sysctl", "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
    heals(node, "sysctl", "echo 1 > /proc/sys/net/ipv4/conf/hopwise-vx4/rp_filter");
}

#[test]
fn accepts_in_a_forward_chain_that_drops() {
    let cluster = cluster();
    let node = cluster.node(1);
    for iptables in ["iptables-nft", "ip6tables-nft"] {
        node.sh(&format!("{iptables} -A FORWARD -j RETURN; {iptables} -P FORWARD DROP"));
        let accepts = || node.sh(&format!("{iptables} -S FORWARD"));
        let first_are_ours =
            |rules: &str| rules.lines().skip(1).take(2).all(|rule| rule.contains("hopwise pod forwarding"));
        wait_until("accepts in first place", || {
            let rules = accepts();
            if first_are_ours(&rules) && rules.ends_with("-A FORWARD -j RETURN\n") {
                Ok(())
            } else {
                Err(rules)
            }
        });
        let before = accepts();
        for damage in [
            "-F FORWARD; IPT -A FORWARD -j RETURN",
            "-I FORWARD -i nowhere -j DROP; IPT -D FORWARD -i nowhere -j DROP",
            "-D FORWARD 1",
        ] {
            node.sh(&format!("{iptables} {}", damage.replace("IPT", iptables)));
            wait_until(&format!("{iptables} {damage} is undone"), || {
                let rules = accepts();
                if rules == before { Ok(()) } else { Err(rules) }
            });
        }
        node.sh(&format!("{iptables} -P FORWARD ACCEPT"));
        wait_until("accepts are taken out when they are not needed", || {
            let rules = accepts();
            if rules.contains("hopwise") { Err(rules) } else { Ok(()) }
        });
    }
}

#[test]
fn a_fight_is_noted_and_does_not_spin() {
    let cluster = cluster();
    let node = cluster.node(1);
    let before = node.repairs("route");
    let spent = node.cpu();
    let until = Instant::now() + Duration::from_secs(3);
    node.namespace
        .run(|| {
            let mut kernel = Kernel::open().unwrap();
            let dst = "10.244.2.0/24".parse().unwrap();
            let route = RouteKey { table: 100, dst, metric: 0 };
            let changes = Changes { routes_delete: vec![route], ..Changes::default() };
            while Instant::now() < until {
                // A refusal says that it isn't there at the moment.
                let _ = kernel.apply(&changes);
                std::thread::sleep(Duration::from_micros(100));
            }
        })
        .unwrap();
    let spent = node.cpu() - spent;
    let repairs = node.repairs("route") - before;
    println!("{repairs} repairs and {spent:?} of CPU time in 3 s of fighting");
    assert!((10..=270).contains(&repairs), "{repairs}");
    assert!(spent < Duration::from_millis(600), "{spent:?}");
    assert!(
        node.notes().contains(&("contention".into(), "route 10.244.2.0/24 table 100".into())),
        "{:?}",
        node.notes()
    );
    node.wait_ready();
    node.wait_settled();
}
