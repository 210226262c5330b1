//! What others say and do is not believed, and not touched.

use super::support::{Cluster, Inventory, wait_until};

#[test]
fn liars_are_noted_and_hurt_nobody() {
    let mut cluster = Cluster::new(2);
    let mut inventory = Inventory::of(2);
    inventory.networks += ", nodes: [192.168.0.0/16, 'fd00:1::/64']";
    let mut lie = |name: &str, address: &str, cidr: &str| {
        inventory.nodes.push((name.into(), vec![address.into()], vec![cidr.into()], String::new()));
    };
    lie("z-overlaps-peer", "192.168.0.11", "10.244.2.0/25");
    lie("z-overlaps-us", "192.168.0.12", "10.244.1.128/25");
    lie("z-service", "192.168.0.13", "10.96.1.0/24");
    lie("z-outside", "192.168.0.14", "8.8.8.0/24");
    lie("z-our-address", "192.168.0.1", "10.244.15.0/24");
    lie("z-foreign-address", "8.8.8.8", "10.244.16.0/24");
    lie("z-multicast", "224.0.0.5", "10.244.17.0/24");
    lie("z-loopback", "127.0.0.1", "10.244.18.0/24");
    lie("z-honest", "192.168.0.19", "10.244.19.0/24");
    cluster.write_inventory(&inventory.text());
    cluster.start();
    let node = cluster.node(1);
    node.wait_settled();
    assert_eq!(
        node.routes(),
        [
            "10.244.19.0/24 via 192.168.0.19 dev eth0",
            "10.244.2.0/24 via 192.168.0.2 dev eth0",
            "fd00:10:244:2::/64 via fd00:1::2 dev eth0",
        ]
    );
    let notes = node.notes();
    for liar in [
        "overlaps-peer",
        "overlaps-us",
        "service",
        "outside",
        "our-address",
        "foreign-address",
        "multicast",
        "loopback",
    ] {
        assert!(notes.iter().any(|(_, subject)| subject.contains(liar)), "{liar} is not noted: {notes:#?}");
    }
    node.wait_ready();
}

#[test]
fn a_foreign_route_is_noted_and_survives() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.node(1).sh("ip route add 10.244.2.0/24 via 192.168.0.200 proto static");
    cluster.start();
    let node = cluster.node(1);
    assert_eq!(node.routes(), ["fd00:10:244:2::/64 via fd00:1::2 dev eth0"]);
    let note = node.status().notes.into_iter().find(|note| note.id == "foreign-route").unwrap();
    assert!(note.evidence.contains("192.168.0.200"), "{note:?}");
    assert_eq!(node.sh("ip -4 route show proto static").trim(), "10.244.2.0/24 via 192.168.0.200 dev eth0");

    node.sh("ip route del 10.244.2.0/24 via 192.168.0.200");
    wait_until("our route takes the place that is free now", || {
        let routes = node.routes();
        if routes.len() == 2 { Ok(()) } else { Err(format!("{routes:?}")) }
    });
    wait_until("the note is gone", || {
        let notes = node.notes();
        if notes.is_empty() { Ok(()) } else { Err(format!("{notes:?}")) }
    });
}

#[test]
fn a_foreign_table_that_drops_is_noted_by_name() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.start();
    let node = cluster.node(1);
    node.sh(
        "nft add table inet strict; nft add chain inet strict forwarding '{ type filter hook forward priority 0; policy drop; }'",
    );
    wait_until("a note that names the chain", || {
        let notes = node.status().notes;
        let named = notes.iter().any(|note| format!("{note:?}").contains("strict"));
        if named { Ok(()) } else { Err(format!("{notes:?}")) }
    });
    node.sh("nft delete table inet strict");
    wait_until("the note is gone", || {
        let notes = node.notes();
        if notes.is_empty() { Ok(()) } else { Err(format!("{notes:?}")) }
    });
}
