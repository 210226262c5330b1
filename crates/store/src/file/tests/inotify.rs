//! However the file comes to change, the change is told, and nothing else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use expect_test::expect;
use tokio::time::sleep;

use super::{World, inventory, names, store_of};
use crate::StoreEvent;
use crate::child::{CHILD, again_in_namespace};

#[tokio::test]
async fn writing_in_place() {
    let (mut world, view) = World::with(&inventory(&[("a", 1)])).await;
    assert_eq!(names(&view), ["a"]);
    fs::write(world.inventory(), inventory(&[("a", 1), ("b", 2)])).unwrap();
    assert_eq!(world.delta().await, (vec!["b".to_owned()], vec![]));
    fs::write(world.inventory(), inventory(&[("b", 3)])).unwrap();
    assert_eq!(world.delta().await, (vec!["b".to_owned()], vec!["a".to_owned()]));
    world.silence().await;
}

#[tokio::test]
async fn appending_with_another_program() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let mut file = fs::OpenOptions::new().append(true).open(world.inventory()).unwrap();
    writeln!(file, "  - name: b").unwrap();
    drop(file);
    assert_eq!(world.delta().await, (vec!["b".to_owned()], vec![]));
}

#[tokio::test]
async fn renaming_a_new_file_over_it() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    for block in 2..10 {
        let beside = world.dir.path().join("sedA1b2C3");
        fs::write(&beside, inventory(&[("a", block)])).unwrap();
        fs::rename(&beside, world.inventory()).unwrap();
        assert_eq!(world.delta().await, (vec!["a".to_owned()], vec![]));
    }
    world.silence().await;
}

/// vim with `backupcopy=no`: the file is moved away, a new one is written, the old one deleted.
#[tokio::test]
async fn moving_it_away_and_writing_a_new_one() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let backup = world.dir.path().join("inventory.yaml~");
    fs::rename(world.inventory(), &backup).unwrap();
    let store = &mut world.store;
    let early = tokio::time::timeout(Duration::from_millis(20), crate::ClusterStore::next(store)).await;
    assert!(early.is_err(), "{early:?}");
    fs::write(world.inventory(), inventory(&[("a", 2)])).unwrap();
    fs::remove_file(backup).unwrap();
    assert_eq!(world.delta().await, (vec!["a".to_owned()], vec![]));
    world.silence().await;
}

#[tokio::test]
async fn deleting_it_keeps_the_view_until_it_is_back() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    fs::remove_file(world.inventory()).unwrap();
    let trouble = world.trouble().await;
    expect!["DIR/inventory.yaml: can't read the inventory: No such file or directory (os error 2); put the inventory there, or name another with --inventory"].assert_eq(&world.text(&trouble));
    world.silence().await;
    fs::write(world.inventory(), inventory(&[("a", 1)])).unwrap();
    assert_eq!(world.recovered().await, trouble);
    world.silence().await;
}

#[tokio::test]
async fn missing_at_the_start_is_trouble_and_no_end() {
    let mut world = World::empty();
    let deep = world.dir.path().join("not/yet");
    world.store = store_of(&deep, "a");
    let trouble = world.trouble().await;
    expect!["DIR/not/yet/inventory.yaml: can't read the inventory: No such file or directory (os error 2); put the inventory there, or name another with --inventory"].assert_eq(&world.text(&trouble));
    fs::create_dir(world.dir.path().join("not")).unwrap();
    sleep(Duration::from_millis(20)).await;
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("inventory.yaml"), inventory(&[("a", 1)])).unwrap();
    assert_eq!(world.recovered().await, trouble);
    assert_eq!(names(&*world.view().await), ["a"]);
    fs::remove_dir_all(&deep).unwrap();
    let trouble = world.trouble().await;
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("inventory.yaml"), inventory(&[("b", 1)])).unwrap();
    assert_eq!(world.recovered().await, trouble);
    assert_eq!(world.delta().await, (vec!["b".to_owned()], vec!["a".to_owned()]));
}

/// A Kubernetes ConfigMap volume: `inventory.yaml -> ..data/inventory.yaml`, `..data -> ..TIMESTAMP`, and the middle
/// link exchanged by a rename.
#[tokio::test]
async fn swapping_a_config_map() {
    let mut world = World::empty();
    let dir = world.dir.path().to_owned();
    let mount = |stamp: &str, text: &str| {
        fs::create_dir(dir.join(stamp)).unwrap();
        fs::write(dir.join(stamp).join("inventory.yaml"), text).unwrap();
        symlink(stamp, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    mount("..1", &inventory(&[("a", 1)]));
    symlink("..data/inventory.yaml", world.inventory()).unwrap();
    assert_eq!(names(&*world.view().await), ["a"]);
    for block in 2..6 {
        mount(&format!("..{block}"), &inventory(&[("a", block)]));
        fs::remove_dir_all(dir.join(format!("..{}", block - 1))).unwrap();
        assert_eq!(world.delta().await, (vec!["a".to_owned()], vec![]));
    }
    world.silence().await;
}

/// `inventory.yaml -> ../elsewhere/file`, written there in place.
#[tokio::test]
async fn a_link_to_a_file_elsewhere() {
    let mut world = World::empty();
    let dir = world.dir.path();
    fs::create_dir_all(dir.join("etc")).unwrap();
    fs::create_dir_all(dir.join("srv/git")).unwrap();
    fs::write(dir.join("srv/git/x.yaml"), inventory(&[("a", 1)])).unwrap();
    symlink("../srv/git/x.yaml", dir.join("etc/inventory.yaml")).unwrap();
    let target = dir.join("srv/git/x.yaml");
    world.store = store_of(&dir.join("etc"), "a");
    assert_eq!(names(&*world.view().await), ["a"]);
    fs::write(target, inventory(&[("a", 2)])).unwrap();
    assert_eq!(world.delta().await, (vec!["a".to_owned()], vec![]));
}

#[tokio::test]
async fn links_in_a_circle_are_trouble() {
    let mut world = World::empty();
    symlink("other", world.inventory()).unwrap();
    symlink("inventory.yaml", world.dir.path().join("other")).unwrap();
    let trouble = world.trouble().await;
    assert!(trouble.message.contains("symbolic links"), "{trouble}");
}

/// A new file that is written slowly is not read before it is whole, even where its first half would do as an inventory.
#[tokio::test]
async fn half_a_new_file_is_never_believed() {
    let (mut world, _) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    fs::remove_file(world.inventory()).unwrap();
    let mut file = fs::File::create(world.inventory()).unwrap();
    write!(file, "{}", inventory(&[("a", 1)])).unwrap();
    // Longer than changes take to settle, shorter than the grace for a file that is missing.
    let early =
        tokio::time::timeout(Duration::from_millis(30), crate::ClusterStore::next(&mut world.store)).await;
    assert!(early.is_err(), "{early:?}");
    writeln!(file, "  - {{name: b, addresses: [192.0.2.2], podCIDRs: [10.244.2.0/24]}}").unwrap();
    writeln!(file, "  - name: c").unwrap();
    drop(file);
    assert_eq!(world.delta().await, (vec!["c".to_owned()], vec![]));
}

#[tokio::test]
async fn a_broken_file_keeps_the_last_good_view() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    fs::write(world.inventory(), "networks: {pods: [10.244.0.0/16]}\nnodes:\n  - nam: a\n").unwrap();
    let first = world.trouble().await;
    expect!["DIR/inventory.yaml:3:5: nodes[0].nam: this key is not known; did you mean name?"]
        .assert_eq(&world.text(&first));
    // The same problem is not told again, another one is.
    fs::write(world.inventory(), "networks: {pods: [10.244.0.0/16]}\nnodes:\n  - nam: a\n# tried\n").unwrap();
    world.silence().await;
    fs::write(world.inventory(), b"networks:\n  pods: [10.244.0.0/16] # \xff\n").unwrap();
    assert_eq!(world.recovered().await, first);
    let second = world.trouble().await;
    expect!["DIR/inventory.yaml:2:27: the byte 0xff is not UTF-8; save the file as UTF-8"]
        .assert_eq(&world.text(&second));
    // Back to what it was: the trouble is over, and there is nothing else to tell.
    fs::write(world.inventory(), inventory(&[("a", 1)])).unwrap();
    assert_eq!(world.recovered().await, second);
    world.silence().await;
}

#[tokio::test]
async fn broken_at_the_start_is_trouble_and_no_view() {
    let mut world = World::empty();
    fs::write(world.inventory(), "networks: [\n").unwrap();
    let trouble = world.trouble().await;
    fs::write(world.inventory(), inventory(&[("a", 1)])).unwrap();
    assert_eq!(world.recovered().await, trouble);
    assert_eq!(names(&*world.view().await), ["a"]);
}

/// Root reads everything, so that permissions can't be tested as root; a directory in the file's place always can.
#[tokio::test]
async fn what_can_not_be_read_is_trouble() {
    let mut world = World::empty();
    fs::create_dir(world.inventory()).unwrap();
    let trouble = world.trouble().await;
    expect!["DIR/inventory.yaml: can't read the inventory: it is not a regular file; name a file that holds an inventory with --inventory"].assert_eq(&world.text(&trouble));
    fs::remove_dir(world.inventory()).unwrap();
    fs::write(world.inventory(), inventory(&[("a", 1)])).unwrap();
    // Between the two the file may have been seen missing.
    loop {
        match world.next().await {
            StoreEvent::View(view) => break assert_eq!(names(&view), ["a"]),
            StoreEvent::Delta(delta) => panic!("{delta:?}"),
            StoreEvent::Trouble(_) | StoreEvent::Recovered(_) => {}
        }
    }
}

#[tokio::test]
async fn what_says_the_same_is_not_told() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let text = inventory(&[("a", 1)]);
    fs::write(world.inventory(), &text).unwrap();
    fs::write(world.inventory(), format!("# a comment\n{text}")).unwrap();
    fs::set_permissions(world.inventory(), fs::Permissions::from_mode(0o600)).unwrap();
    world.silence().await;
}

#[tokio::test]
async fn networks_and_settings_make_a_view() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let text = format!("settings: {{mtu: 1400}}\n{}", inventory(&[("a", 1)]));
    fs::write(world.inventory(), &text).unwrap();
    assert_eq!(world.view().await.settings.mtu.unwrap().bytes(), 1400);
    let text = text.replace("10.244.0.0/16", "10.0.0.0/8");
    fs::write(world.inventory(), text).unwrap();
    assert_eq!(world.view().await.networks.pods[0].prefix_len(), 8);
}

/// A file that somebody writes in place, bit by bit, is read when it is closed; if it never is, when nothing comes any more.
#[tokio::test]
async fn a_slow_writer_is_waited_for() {
    let (mut world, _) = World::with(&inventory(&[("a", 1), ("b", 2)])).await;
    let mut file = fs::File::create(world.inventory()).unwrap();
    for line in inventory(&[("a", 1), ("b", 2), ("c", 3)]).lines() {
        writeln!(file, "{line}").unwrap();
        // Something else happens to the file meanwhile.
        fs::set_permissions(world.inventory(), fs::Permissions::from_mode(0o640)).unwrap();
        let early =
            tokio::time::timeout(Duration::from_millis(30), crate::ClusterStore::next(&mut world.store))
                .await;
        assert!(early.is_err(), "{early:?}");
    }
    drop(file);
    assert_eq!(world.delta().await, (vec!["c".to_owned()], vec![]));
    let mut file = fs::OpenOptions::new().append(true).open(world.inventory()).unwrap();
    writeln!(file, "  - name: d").unwrap();
    world.silence().await;
    assert_eq!(world.delta().await, (vec!["d".to_owned()], vec![]));
}

/// A write through a hard link in another directory is no event here; the slow check sees the file's stamp.
#[tokio::test]
async fn what_inotify_does_not_tell_the_slow_check_finds() {
    let (mut world, _) = World::with(&inventory(&[("a", 1)])).await;
    let elsewhere = tempfile::tempdir_in(world.dir.path()).unwrap();
    let link = elsewhere.path().join("link");
    fs::hard_link(world.inventory(), &link).unwrap();
    world.silence().await;
    fs::write(&link, inventory(&[("a", 1), ("b", 2)])).unwrap();
    world.silence().await;
    // From here on time passes as fast as the runtime has nothing to do.
    tokio::time::pause();
    let patience = super::super::SLOW_CHECK * 2;
    let event = tokio::time::timeout(patience, crate::ClusterStore::next(&mut world.store)).await;
    assert!(matches!(event, Ok(StoreEvent::Delta(_))), "{event:?}");
}

/// In a user namespace that may have no inotify instance at all.
#[test]
fn without_inotify_it_looks_every_second() {
    let test = "file::tests::inotify::without_inotify_it_looks_every_second";
    let Some(dir) = std::env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        return again_in_namespace("-Ur", test, dir.path());
    };
    fs::write("/proc/sys/user/max_inotify_instances", "0").unwrap();
    let inventory_file = std::path::Path::new(&dir).join("inventory.yaml");
    fs::write(&inventory_file, inventory(&[("a", 1)])).unwrap();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World { store: store_of(std::path::Path::new(&dir), "a"), ..World::empty() };
        assert_eq!(names(&*world.view().await), ["a"]);
        let trouble = world.trouble().await;
        assert!(trouble.message.contains("looked for every second"), "{trouble}");
        fs::write(&inventory_file, inventory(&[("a", 1), ("b", 2)])).unwrap();
        assert_eq!(world.delta().await, (vec!["b".to_owned()], vec![]));
        fs::write("/proc/sys/user/max_inotify_instances", "9").unwrap();
        assert_eq!(world.recovered().await, trouble);
    });
}

/// Whoever drops the future of `next` loses nothing.
#[tokio::test]
async fn a_dropped_future_loses_nothing() {
    let (mut world, view) = World::with(&inventory(&[("a", 1)])).await;
    let mut nodes: Vec<String> = names(&view).into_iter().map(str::to_owned).collect();
    for round in 0..200_u32 {
        let text = inventory(&[("a", 1), (&format!("n{}", round % 7), 2)]);
        fs::write(world.inventory(), text).unwrap();
        for micros in [0, 50, 300, 700] {
            let wait = Duration::from_micros(micros);
            if let Ok(event) = tokio::time::timeout(wait, crate::ClusterStore::next(&mut world.store)).await {
                take(&mut nodes, event);
            }
        }
    }
    fs::write(world.inventory(), inventory(&[("a", 1), ("last", 2)])).unwrap();
    while !nodes.contains(&"last".to_owned()) {
        let event = world.next().await;
        take(&mut nodes, event);
    }
    nodes.sort();
    assert_eq!(nodes, ["a", "last"]);
    world.silence().await;
}

fn take(nodes: &mut Vec<String>, event: StoreEvent) {
    let StoreEvent::Delta(delta) = event else { panic!("{event:?}") };
    nodes.retain(|name| !delta.removed.iter().any(|removed| removed.as_str() == name));
    nodes.extend(delta.upserted.iter().map(|node| node.name.to_string()));
}
