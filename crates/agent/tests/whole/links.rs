//! Links and addresses change under the agent; it follows, in both families, without a restart.

use super::support::{Cluster, Inventory, wait_until};

fn started() -> (Cluster, Inventory) {
    let mut cluster = Cluster::new(2);
    let inventory = Inventory::of(2);
    cluster.write_inventory(&inventory.text());
    cluster.start();
    cluster.node(1).wait_settled();
    (cluster, inventory)
}

const BOTH: [&str; 2] =
    ["10.244.2.0/24 via 192.168.0.2 dev eth0", "fd00:10:244:2::/64 via fd00:1::2 dev eth0"];

fn wait_routes(cluster: &Cluster, expected: &[&str]) {
    wait_until("routes", || {
        let routes = cluster.node(1).routes();
        if routes == expected { Ok(()) } else { Err(format!("{routes:?}\n{}", cluster.node(1).log())) }
    });
}

#[test]
fn a_link_goes_down_and_up_again() {
    let (cluster, _) = started();
    let node = cluster.node(1);
    node.sh("ip link set eth0 down");
    wait_routes(&cluster, &[]);
    wait_until("a note", || {
        let notes = node.notes();
        if notes.iter().any(|(id, _)| id == "uplink-down") { Ok(()) } else { Err(format!("{notes:?}")) }
    });
    node.sh("ip link set eth0 up");
    // The kernel has thrown away the IPv6 address with the link.
    wait_routes(&cluster, &BOTH[..1]);
    node.sh("ip addr add fd00:1::1/64 dev eth0 nodad");
    wait_routes(&cluster, &BOTH);
    node.wait_settled();
    node.wait_ready();
}

#[test]
fn a_link_is_deleted_and_made_again_with_another_index() {
    let (cluster, _) = started();
    let node = cluster.node(1);
    let index = node.sh("cat /sys/class/net/eth0/ifindex 2>/dev/null || ip -o link show eth0 | cut -d: -f1");
    node.sh("ip link del eth0");
    wait_routes(&cluster, &[]);
    node.sh("ip link add spare type veth peer name spare2");
    cluster.plug_in(1);
    assert_ne!(node.sh("ip -o link show eth0 | cut -d: -f1"), index);
    wait_routes(&cluster, &BOTH);
    node.wait_settled();
    node.wait_ready();
}

#[test]
fn an_address_changes_on_the_link_and_in_the_store() {
    let (cluster, mut inventory) = started();
    let node2 = cluster.node(2);
    // Or the kernel deletes the second address with the first.
    node2.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries");
    node2.sh("ip addr add 192.168.0.22/24 dev eth0; ip addr add fd00:1::22/64 dev eth0 nodad");
    inventory.nodes[1].1 = vec!["192.168.0.22".into(), "fd00:1::22".into()];
    cluster.write_inventory(&inventory.text());
    wait_routes(
        &cluster,
        &["10.244.2.0/24 via 192.168.0.22 dev eth0", "fd00:10:244:2::/64 via fd00:1::22 dev eth0"],
    );
    node2.sh("ip addr del 192.168.0.2/24 dev eth0; ip addr del fd00:1::2/64 dev eth0");
    node2.wait_settled();
    assert_eq!(node2.status().uplinks[0].address, "192.168.0.22");

    // One family only: the other is not touched.
    inventory.nodes[1].1 = vec!["192.168.0.2".into(), "fd00:1::22".into()];
    node2.sh("ip addr add 192.168.0.2/24 dev eth0");
    cluster.write_inventory(&inventory.text());
    wait_routes(
        &cluster,
        &["10.244.2.0/24 via 192.168.0.2 dev eth0", "fd00:10:244:2::/64 via fd00:1::22 dev eth0"],
    );
}

#[test]
fn our_own_address_moves_to_another_link() {
    let (cluster, _) = started();
    let node = cluster.node(1);
    node.sh("ip link set eth0 down; ip link set eth0 name uplink0; ip link set uplink0 up
         ip addr replace fd00:1::1/64 dev uplink0 nodad");
    wait_routes(
        &cluster,
        &["10.244.2.0/24 via 192.168.0.2 dev uplink0", "fd00:10:244:2::/64 via fd00:1::2 dev uplink0"],
    );
    assert_eq!(node.status().uplinks[0].link, "uplink0");
    node.wait_settled();
}

#[test]
fn the_mtu_is_followed() {
    let (cluster, mut inventory) = started();
    let node = cluster.node(1);
    assert_eq!(node.status().pod_mtu, Some(1500));
    node.sh("ip link set eth0 mtu 1400");
    wait_until("the MTU", || {
        let mtu = node.status().pod_mtu;
        if mtu == Some(1400) { Ok(()) } else { Err(format!("{mtu:?}")) }
    });
    inventory.settings = "mode: vxlan".into();
    cluster.write_inventory(&inventory.text());
    wait_until("a VXLAN device of the uplink's MTU less 50", || {
        let link = node.try_sh("ip -o link show hopwise-vx4")?;
        if link.contains("mtu 1350") { Ok(()) } else { Err(link) }
    });
    node.sh("ip link set eth0 mtu 1500");
    wait_until("its new MTU", || {
        let link = node.try_sh("ip -o link show hopwise-vx4; ip -o link show hopwise-vx6")?;
        if link.contains("mtu 1450") && link.contains("mtu 1430") { Ok(()) } else { Err(link) }
    });
    wait_until("node.json", || {
        let text = std::fs::read_to_string(cluster.dir().join("node1/run/node.json")).unwrap();
        if text.contains("\"podMTU\": 1430") { Ok(()) } else { Err(text) }
    });
}

#[test]
fn links_that_plugins_left_for_deletion_are_deleted() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    // Two of the plugins', and one of somebody else in the same group.
    cluster.node(1).sh(
        "for n in 1 2 3; do ip link add left$n type veth peer name right$n; ip link set left$n group 1213678592; done
         ip link set left1 alias hopwise-cni:deleted; ip link set left2 alias hopwise-cni:deleted",
    );
    cluster.start();
    let node = cluster.node(1);
    wait_until("links", || {
        let links = node.sh("ip -o link show | grep -o ': left[0-9]' || true");
        if links.trim() == ": left3" { Ok(()) } else { Err(format!("{links}\n{}", node.log())) }
    });
    node.wait_settled();
}
