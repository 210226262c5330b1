//! What a disk, a crash or a neighbour can do to the saved view.

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use expect_test::{Expect, expect};
use hopwise_core::cluster::ClusterView;
use nix::mount::{MsFlags, mount};

use crate::child::{CHILD, again, again_in_namespace};

use super::{SavedError, load, path, save};

fn view(n_nodes: usize) -> ClusterView {
    let nodes: String = (0..n_nodes)
        .map(|i| {
            let (a, b) = (i >> 8, i & 255);
            format!("  - {{name: node{i}, addresses: [172.16.{a}.{b}], podCIDRs: [10.{a}.{b}.0/24]}}\n")
        })
        .collect();
    let text = format!("networks: {{pods: [10.0.0.0/8]}}\nnodes:\n{nodes}");
    hopwise_api::inventory::parse(&text, Path::new("x")).unwrap()
}

fn check(result: Result<impl std::fmt::Debug, SavedError>, dir: &Path, expected: &Expect) {
    let error = result.unwrap_err();
    let text = format!("{error}: {}", error.source().unwrap());
    expected.assert_eq(&text.replace(dir.to_str().unwrap(), "DIR"));
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert_eq!(load(&state).unwrap(), None);
    save(&state, &view(2)).unwrap();
    assert_eq!(load(&state).unwrap(), Some(view(2)));
    let before = path(&state).metadata().unwrap().ino();
    save(&state, &view(2)).unwrap();
    assert_eq!(path(&state).metadata().unwrap().ino(), before, "the same view is not written again");
    save(&state, &view(3)).unwrap();
    assert_eq!(load(&state).unwrap(), Some(view(3)));
}

#[test]
fn what_is_no_saved_view_is_told_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path());
    save(dir.path(), &view(2)).unwrap();
    let whole = std::fs::read(&file).unwrap();
    for (bytes, expected) in [
        (
            &whole[..100],
            expect!["the saved view DIR/view can't be used: it is torn: 100 bytes of 293 are there"],
        ),
        (
            b"",
            expect![
                "the saved view DIR/view can't be used: it is torn: it ends after 0 bytes, within its first line"
            ],
        ),
        (
            b"kind: Node\n",
            expect![[
                r#"the saved view DIR/view can't be used: it is not a saved view of Hopwise's: its first line is not "hopwise-view VERSION LENGTH CRC32""#
            ]],
        ),
        (
            b"hopwise-view 7 x\n",
            expect![
                "the saved view DIR/view can't be used: its format is version 7, newer than 1, the newest that this Hopwise reads"
            ],
        ),
    ] {
        std::fs::write(&file, bytes).unwrap();
        check(load(dir.path()), dir.path(), &expected);
    }
    // The header alone is not believed when deciding whether to write.
    let mut rotten = whole.clone();
    *rotten.last_mut().unwrap() = b' ';
    std::fs::write(&file, rotten).unwrap();
    save(dir.path(), &view(2)).unwrap();
    assert_eq!(load(dir.path()).unwrap(), Some(view(2)));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    check(
        load(dir.path()),
        dir.path(),
        &expect!["can't read the saved view DIR/view: it is not a regular file"],
    );
    check(
        save(dir.path(), &view(2)),
        dir.path(),
        &expect!["can't write the saved view DIR/view: Is a directory (os error 21)"],
    );
}

/// In a mount namespace of its own, with a file system that is small, then full, then read-only.
#[test]
fn a_full_or_read_only_disk_keeps_the_old_view() {
    let test = "saved::tests::a_full_or_read_only_disk_keeps_the_old_view";
    let Some(dir) = std::env::var_os(CHILD) else {
        let dir = tempfile::tempdir().unwrap();
        again_in_namespace("-m", test, dir.path());
        return;
    };
    let dir = Path::new(&dir);
    mount(Some("small"), dir, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    save(dir, &view(10)).unwrap();
    check(
        save(dir, &view(5_000)),
        dir,
        &expect!["can't write the saved view DIR/view: No space left on device (os error 28)"],
    );
    assert_eq!(load(dir).unwrap(), Some(view(10)));
    assert_eq!(dir.read_dir().unwrap().count(), 1, "half a file was left behind");
    save(dir, &view(11)).unwrap();
    mount(Some("small"), dir, Some("tmpfs"), MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>).unwrap();
    check(
        save(dir, &view(12)),
        dir,
        &expect!["can't write the saved view DIR/view: Read-only file system (os error 30)"],
    );
    save(dir, &view(11)).expect("nothing to write");
    assert_eq!(load(dir).unwrap(), Some(view(11)));
}

/// A process that does nothing but save is killed, over and over.
#[test]
fn killed_at_any_moment_it_leaves_a_whole_view() {
    let test = "saved::tests::killed_at_any_moment_it_leaves_a_whole_view";
    let (few, many) = (view(20), view(200));
    if let Some(dir) = std::env::var_os(CHILD) {
        loop {
            save(Path::new(&dir), &few).unwrap();
            save(Path::new(&dir), &many).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &few).unwrap();
    for trial in 0..30 {
        let mut child = again(test, dir.path()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(3_000 + trial * 777));
        child.kill().unwrap();
        child.wait().unwrap();
        let loaded = load(dir.path()).unwrap().unwrap();
        assert!(loaded == few || loaded == many);
    }
    save(dir.path(), &view(1)).unwrap();
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "a half-written file was left behind");
}
