//! What agents tell each other through the node data directory.

use std::fs;
use std::time::Duration;

use expect_test::expect;
use hopwise_core::cluster::{Node, NodeData};
use hopwise_core::family::PerFamily;
use hopwise_core::name::MacAddr;
use nix::sys::stat::Mode;

use super::{World, inventory, names, next, store_of};
use crate::{ClusterStore, StoreEvent};

fn data(last: u8) -> NodeData {
    NodeData {
        link_mac: PerFamily { v4: Some(MacAddr([2, 0, 0, 0, 0, last])), v6: None },
        vxlan_mac: Some(MacAddr([2, 0, 0, 0, 1, last])),
    }
}

fn text(node: &str, data: &NodeData) -> String {
    hopwise_api::node_data::encode(&node.parse().unwrap(), data)
}

async fn upserted(world: &mut World) -> Node {
    match world.next().await {
        StoreEvent::Delta(delta) if delta.upserted.len() == 1 && delta.removed.is_empty() => {
            Node::clone(&delta.upserted[0])
        }
        event => panic!("not one node: {event:?}"),
    }
}

#[tokio::test]
async fn what_one_publishes_the_others_see() {
    let (mut world, _) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    let mut peer = store_of(world.dir.path(), "b");
    peer.publish(data(7));
    // It is written while the peer follows its own events.
    let peer = tokio::spawn(async move {
        loop {
            peer.next().await;
        }
    });
    let node = upserted(&mut world).await;
    assert_eq!((node.name.as_str(), &node.data), ("b", &data(7)));
    peer.abort();
    fs::remove_file(world.data("b")).unwrap();
    assert_eq!(upserted(&mut world).await.data, NodeData::default());
    world.silence().await;
}

#[tokio::test]
async fn what_is_there_at_the_start_is_in_the_first_view() {
    let mut world = World::empty();
    fs::create_dir(world.data("b").parent().unwrap()).unwrap();
    fs::write(world.data("b"), text("b", &data(7))).unwrap();
    fs::write(world.inventory(), inventory(&[("a", 1), ("b", 2)])).unwrap();
    let view = world.view().await;
    assert_eq!(view.nodes[&"b".parse().unwrap()].data, data(7));
    world.silence().await;
}

#[tokio::test]
async fn the_operators_word_goes_first() {
    let said = inventory(&[("a", 1)])
        + "  - {name: b, mac: {ipv6: \"02:00:00:00:00:99\"}, vxlanMac: 02:00:00:00:00:98}\n";
    let (mut world, _) = World::with(&said).await;
    fs::create_dir_all(world.data("b").parent().unwrap()).unwrap();
    fs::write(world.data("b"), text("b", &data(7))).unwrap();
    let merged = upserted(&mut world).await.data;
    assert_eq!(merged.link_mac.v4, data(7).link_mac.v4);
    assert_eq!(merged.link_mac.v6.unwrap().0[5], 0x99);
    assert_eq!(merged.vxlan_mac.unwrap().0[5], 0x98);
    // The word taken back, what was published counts.
    fs::write(world.inventory(), inventory(&[("a", 1)]) + "  - name: b\n").unwrap();
    assert_eq!(upserted(&mut world).await.data, data(7));
}

#[tokio::test]
async fn what_is_lost_is_published_again() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    world.store.publish(data(1));
    assert_eq!(upserted(&mut world).await.data, data(1));
    let inode = |world: &World| std::os::unix::fs::MetadataExt::ino(&fs::metadata(world.data("a")).unwrap());
    let first = inode(&world);
    world.store.publish(data(1));
    world.silence().await;
    assert_eq!(inode(&world), first, "what is there already is not written again");
    for destroy in [
        |world: &World| fs::remove_file(world.data("a")).unwrap(),
        |world: &World| fs::write(world.data("a"), text("a", &data(66))).unwrap(),
        |world: &World| fs::remove_dir_all(world.data("a").parent().unwrap()).unwrap(),
    ] {
        destroy(&world);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while fs::read_to_string(world.data("a")).ok() != Some(text("a", &data(1))) {
            assert!(std::time::Instant::now() < deadline, "not published again");
            let _ = tokio::time::timeout(Duration::from_millis(20), world.store.next()).await;
        }
    }
}

#[tokio::test]
async fn two_agents_under_one_name_do_not_fight_at_full_speed() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let mut twin = store_of(world.dir.path(), "a");
    next(&mut twin).await;
    world.store.publish(data(1));
    twin.publish(data(2));
    let mut n_events = 0;
    let fight = async {
        loop {
            tokio::select! {
                _ = world.store.next() => n_events += 1,
                _ = twin.next() => n_events += 1,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(1500), fight).await;
    assert!(n_events < 16, "{n_events} events in 1.5 s");
}

#[tokio::test]
async fn a_bad_file_is_named_and_ignored() {
    let (mut world, _) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    fs::create_dir_all(world.data("b").parent().unwrap()).unwrap();
    fs::write(world.data("b"), text("b", &data(7))).unwrap();
    upserted(&mut world).await;
    fs::write(world.data("b"), text("b", &data(7)).replace("02:00:00:00:01:07", "ff:ff:ff:ff:ff:ff"))
        .unwrap();
    let trouble = world.trouble().await;
    expect!["DIR/data/b.json: vxlanMac: ff:ff:ff:ff:ff:ff is not the address of a single host; give the MAC address of the node's link, as `ip link` shows it"].assert_eq(&world.text(&trouble));
    // What it said when it was right stays in force.
    world.silence().await;
    fs::write(world.data("b"), text("b", &data(8))).unwrap();
    assert_eq!(world.recovered().await, trouble);
    assert_eq!(upserted(&mut world).await.data, data(8));
    fs::write(world.data("b"), "x".repeat(5000)).unwrap();
    let trouble = world.trouble().await;
    expect!["DIR/data/b.json: can't read the node data: it is larger than 4096 bytes; make it a small file that the agent's user can read, or delete it"].assert_eq(&world.text(&trouble));
    fs::remove_file(world.data("b")).unwrap();
    assert_eq!(world.recovered().await, trouble);
    assert_eq!(upserted(&mut world).await.data, NodeData::default());
}

#[tokio::test]
async fn strange_files_hurt_nobody() {
    let mut world = World::empty();
    fs::write(world.inventory(), inventory(&[("a", 1), ("b", 2)])).unwrap();
    let dir = world.data("b").parent().unwrap().to_owned();
    fs::create_dir(&dir).unwrap();
    for ignored in [".b.json.tmp", "b.json~", "README", ".json"] {
        fs::write(dir.join(ignored), "whatever").unwrap();
    }
    nix::unistd::mkfifo(&dir.join("b.json"), Mode::S_IRWXU).unwrap();
    fs::write(dir.join("Not A Node.json"), "{}").unwrap();
    fs::write(dir.join("c.json"), text("c", &data(3))).unwrap();
    assert_eq!(names(&*world.view().await), ["a", "b"], "the view comes first");
    let mut troubles = Vec::new();
    for _ in 0..3 {
        let trouble = world.trouble().await;
        troubles.push(world.text(&trouble));
    }
    troubles.sort();
    expect![[r#"
        DIR/data/Not A Node.json: "Not A Node" is not a node name; rename the file NODE.json, or delete it
        DIR/data/b.json: can't read the node data: it is not a regular file; make it a small file that the agent's user can read, or delete it
        DIR/data/c.json: the inventory has no node c; add it to the inventory, or delete the file"#]].assert_eq(&troubles.join("\n"));
    world.silence().await;
    // A node that publishes before the operator has listed it is welcome once it is listed.
    fs::write(world.inventory(), inventory(&[("a", 1), ("b", 2), ("c", 3)])).unwrap();
    assert_eq!(upserted(&mut world).await.data, data(3));
    assert!(world.recovered().await.message.contains("no node c"));
}

#[tokio::test]
async fn a_directory_that_can_not_be_written_is_trouble_and_tried_again() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let dir = world.data("a").parent().unwrap().to_owned();
    fs::write(&dir, "a file in its place").unwrap();
    world.store.publish(data(1));
    let trouble = loop {
        let trouble = world.trouble().await;
        if trouble.message.contains("publish") {
            break trouble;
        }
    };
    expect!["DIR/data/a.json: can't publish our own data: File exists (os error 17); let the agent's user write there; peers resolve our address by ARP until then"].assert_eq(&world.text(&trouble));
    fs::remove_file(&dir).unwrap();
    loop {
        match world.next().await {
            StoreEvent::Delta(delta) => break assert_eq!(delta.upserted[0].data, data(1)),
            StoreEvent::Recovered(_) => {}
            event => panic!("{event:?}"),
        }
    }
}

/// More changes than the kernel queues (`fs.inotify.max_queued_events`, 16,384 by default) before we look.
#[tokio::test]
async fn lost_events_are_made_good() {
    let (mut world, _) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    let dir = world.data("b").parent().unwrap().to_owned();
    fs::create_dir_all(&dir).unwrap();
    world.silence().await;
    let limit: u32 =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    for i in 0..=limit / 2 {
        let path = dir.join(format!(".{}", i % 2));
        fs::write(&path, "").unwrap();
        fs::remove_file(path).unwrap();
    }
    fs::write(world.data("b"), text("b", &data(7))).unwrap();
    fs::write(world.inventory(), inventory(&[("a", 1), ("b", 3)])).unwrap();
    let mut node = upserted(&mut world).await;
    while node.data != data(7) || node.pod_cidrs[0].value.to_string() != "10.244.3.0/24" {
        node = upserted(&mut world).await;
    }
}
