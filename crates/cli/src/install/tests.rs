//! Installing and uninstalling in folders of their own: what stands there, in every state in which it can be interrupted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hopwise_core::mark::PLUGIN_BINARY;
use tempfile::TempDir;

use super::folder::no_steps;
use super::*;

/// Everything in two folders: path to content, our own folders left out.
type Files = BTreeMap<String, String>;

struct Node {
    dir: TempDir,
    places: Places,
}

fn version(number: u32) -> PluginBinary {
    let text = format!("\x7fELF {PLUGIN_BINARY}bridge, ptp version {number} {}", "x".repeat(5000));
    PluginBinary {
        path: "hopwise-cni".into(),
        bytes: text.into_bytes(),
        names: vec!["bridge".into(), "ptp".into()],
    }
}

fn wanted(number: u32) -> Wanted {
    let text = format!(
        "{{\"name\": \"net{number}\", \"plugins\": [{{\"type\": \"hopwise\"}}, {{\"type\": \"portmap\"}}]}}"
    );
    Wanted {
        binary: version(number),
        plugins: ["bridge".to_owned(), "ptp".to_owned()].into(),
        conflist: Some((
            "10-hopwise.conflist".into(),
            Conflist::parse(text.as_bytes(), Path::new("x")).unwrap(),
        )),
    }
}

impl Node {
    /// With the reference's bridge, a portmap, and somebody's configuration under our name.
    fn new() -> Node {
        let dir = TempDir::new().unwrap();
        let places = Places { bin_dir: dir.path().join("bin"), conf_dir: dir.path().join("conf") };
        fs::create_dir_all(&places.bin_dir).unwrap();
        fs::create_dir_all(&places.conf_dir).unwrap();
        fs::write(places.bin_dir.join("bridge"), "the reference's bridge").unwrap();
        fs::write(places.bin_dir.join("portmap"), "the reference's portmap").unwrap();
        fs::write(places.conf_dir.join("10-hopwise.conflist"), "{\"name\": \"theirs\"}").unwrap();
        Node { dir, places }
    }

    fn install(&self, number: u32, steps: Steps<'_>) -> Result<Outcome, InstallError> {
        install(&self.places, &wanted(number), false, steps)
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        for folder in ["bin", "conf"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let entry = entry.unwrap();
                if !entry.file_type().unwrap().is_dir() {
                    let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                    files.insert(name, fs::read_to_string(entry.path()).unwrap());
                }
            }
        }
        files
    }

    /// Whether anything of ours is left besides the files.
    fn is_tidy(&self) -> bool {
        !self.places.bin_dir.join(".hopwise").exists() && !self.places.conf_dir.join(".hopwise").exists()
    }
}

/// What the folders are with a version installed over them.
fn installed(original: &Files, number: u32) -> Files {
    let mut files = original.clone();
    let wanted = wanted(number);
    for name in ["hopwise", "bridge", "ptp"] {
        files.insert(format!("bin/{name}"), String::from_utf8(wanted.binary.bytes.clone()).unwrap());
    }
    files.insert("conf/10-hopwise.conflist".into(), wanted.conflist.unwrap().1.text);
    files
}

/// Every file is one of those that stood there or one that was to stand there, and no other name has appeared.
fn assert_old_or_new(now: &Files, states: &[&Files], when: &str) {
    for state in states {
        for name in state.keys().filter(|name| states.iter().all(|state| state.contains_key(*name))) {
            assert!(now.contains_key(name), "{name} has vanished, {when}");
        }
    }
    for (name, content) in now {
        let known = states.iter().any(|state| state.get(name) == Some(content));
        assert!(known, "{name} is neither old nor new, {when}: {content:?}");
    }
}

#[test]
fn what_was_there_comes_back() {
    let node = Node::new();
    let original = node.files();
    let dry = install(&node.places, &wanted(1), true, &no_steps).unwrap();
    assert_eq!(node.files(), original);
    assert!(node.is_tidy(), "a dry run makes no folders");
    let done = node.install(1, &no_steps).unwrap();
    assert_eq!(done.changes, dry.changes);
    assert_eq!(node.files(), installed(&original, 1));
    let again = node.install(1, &no_steps).unwrap();
    assert_eq!(again.changes, []);
    assert_eq!(again.unchanged.len(), 4);
    node.install(2, &no_steps).unwrap();
    assert_eq!(node.files(), installed(&original, 2));
    uninstall(&node.places, true, &no_steps).unwrap();
    assert_eq!(node.files(), installed(&original, 2), "a dry run");
    uninstall(&node.places, false, &no_steps).unwrap();
    assert_eq!(node.files(), original);
    assert!(node.is_tidy());
    assert_eq!(uninstall(&node.places, false, &no_steps).unwrap(), Outcome::default());
}

#[test]
fn names_are_hard_links_with_the_permissions_of_a_program() {
    use std::os::unix::fs::MetadataExt;
    let node = Node::new();
    node.install(1, &no_steps).unwrap();
    let meta = |name: &str| fs::metadata(node.places.bin_dir.join(name)).unwrap();
    assert_eq!((meta("hopwise").ino(), meta("hopwise").nlink()), (meta("ptp").ino(), 3));
    assert_eq!(meta("hopwise").mode() & 0o7777, 0o755);
}

#[test]
fn a_name_that_is_no_longer_chosen_is_given_back() {
    let node = Node::new();
    let original = node.files();
    node.install(1, &no_steps).unwrap();
    let mut fewer = wanted(1);
    fewer.plugins.clear();
    install(&node.places, &fewer, false, &no_steps).unwrap();
    let files = node.files();
    assert_eq!(files["bin/bridge"], original["bin/bridge"]);
    assert!(!files.contains_key("bin/ptp") && files.contains_key("bin/hopwise"));
}

#[test]
fn a_plugin_that_its_owner_has_updated_since_is_left() {
    let node = Node::new();
    node.install(1, &no_steps).unwrap();
    // As a package manager does it.
    fs::write(node.dir.path().join("fresh"), "a newer reference").unwrap();
    fs::rename(node.dir.path().join("fresh"), node.places.bin_dir.join("bridge")).unwrap();
    let outcome = uninstall(&node.places, false, &no_steps).unwrap();
    assert_eq!(node.files()["bin/bridge"], "a newer reference");
    assert_eq!(outcome.notes.len(), 1, "{outcome:?}");
    assert!(node.is_tidy());
}

#[test]
fn configurations_that_sort_before_ours_are_noted() {
    let node = Node::new();
    for name in ["05-other.conf", "05-ignored.txt", "20-later.conflist"] {
        fs::write(node.places.conf_dir.join(name), "{}").unwrap();
    }
    let outcome = node.install(1, &no_steps).unwrap();
    assert_eq!(outcome.notes.len(), 1, "{outcome:?}");
    assert!(outcome.notes[0].contains("05-other.conf sorts before 10-hopwise.conflist"), "{outcome:?}");
}

#[test]
fn a_configuration_that_names_a_plugin_that_is_not_there_changes_nothing() {
    let node = Node::new();
    fs::remove_file(node.places.bin_dir.join("portmap")).unwrap();
    let before = node.files();
    let error = node.install(1, &no_steps).unwrap_err().to_string();
    assert!(error.contains("plugins[1].type: \"portmap\""), "{error}");
    assert_eq!(node.files(), before);
}

/// Does something, interrupted at each of its steps in turn; `check` sees what is left. Returns the number of steps.
fn interrupted_everywhere(
    then: &dyn Fn() -> io::Result<()>,
    prepare: &dyn Fn(&Node),
    act: &dyn Fn(&Node, Steps<'_>) -> Result<Outcome, InstallError>,
    check: &dyn Fn(&Node, &str),
) -> usize {
    for interrupted in 0..1000 {
        let node = Node::new();
        prepare(&node);
        let step = Cell::new(0);
        let steps = |_: &str| {
            step.set(step.get() + 1);
            if step.get() == interrupted + 1 { then() } else { Ok(()) }
        };
        let ended = catch_unwind(AssertUnwindSafe(|| act(&node, &steps)));
        check(&node, &format!("step {interrupted}"));
        if step.get() <= interrupted {
            assert!(matches!(ended, Ok(Ok(_))), "nothing was in its way");
            return interrupted;
        }
    }
    panic!("it never ends");
}

fn crash() -> io::Result<()> {
    std::panic::resume_unwind(Box::new("a crash"));
}

fn full() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(28))
}

#[test]
fn an_installation_that_is_cut_short_anywhere_can_be_finished_or_undone() {
    let original = Node::new().files();
    let (first, second) = (installed(&original, 1), installed(&original, 2));
    for then in [&crash as &dyn Fn() -> io::Result<()>, &full] {
        let from_nothing = |node: &Node, when: &str| {
            assert_old_or_new(&node.files(), &[&original, &first], when);
            node.install(1, &no_steps).unwrap();
            assert_eq!(node.files(), first, "finished after {when}");
            uninstall(&node.places, false, &no_steps).unwrap();
            assert_eq!(node.files(), original, "undone after {when}");
            assert!(node.is_tidy(), "{when}");
        };
        let steps =
            interrupted_everywhere(then, &|_| (), &|node, steps| node.install(1, steps), &from_nothing);
        assert!(steps > 15, "{steps}");
        let undone = |node: &Node, when: &str| {
            uninstall(&node.places, false, &no_steps).unwrap();
            assert_eq!(node.files(), original, "undone after {when}");
            assert!(node.is_tidy(), "{when}");
        };
        interrupted_everywhere(then, &|_| (), &|node, steps| node.install(1, steps), &undone);
        let upgraded = |node: &Node, when: &str| {
            assert_old_or_new(&node.files(), &[&first, &second], when);
            node.install(2, &no_steps).unwrap();
            assert_eq!(node.files(), second, "finished after {when}");
            undone(node, when);
        };
        let first_version = |node: &Node| drop(node.install(1, &no_steps).unwrap());
        interrupted_everywhere(then, &first_version, &|node, steps| node.install(2, steps), &upgraded);
        let taken_out = |node: &Node, when: &str| {
            assert_old_or_new(&node.files(), &[&original, &first], when);
            undone(node, when);
        };
        let take_out = |node: &Node, steps: Steps<'_>| uninstall(&node.places, false, steps);
        interrupted_everywhere(then, &first_version, &take_out, &taken_out);
    }
}

#[test]
fn without_hard_links_names_are_symbolic_links_and_others_files_are_copied() {
    let node = Node::new();
    let original = node.files();
    let no_links = |step: &str| if step == "link" { Err(io::Error::from_raw_os_error(1)) } else { Ok(()) };
    node.install(1, &no_links).unwrap();
    assert_eq!(node.files(), installed(&original, 1));
    assert_eq!(fs::read_link(node.places.bin_dir.join("ptp")).unwrap(), Path::new(MAIN));
    node.install(2, &no_links).unwrap();
    assert_eq!(node.files(), installed(&original, 2));
    uninstall(&node.places, false, &no_links).unwrap();
    assert_eq!(node.files(), original);

    let no_links_at_all = |step: &str| match step {
        "link" | "symlink" => Err(io::Error::from_raw_os_error(1)),
        _ => Ok(()),
    };
    node.install(1, &no_links_at_all).unwrap();
    assert_eq!(node.files(), installed(&original, 1));
    assert!(node.places.bin_dir.join("ptp").symlink_metadata().unwrap().is_file());
    uninstall(&node.places, false, &no_links_at_all).unwrap();
    assert_eq!(node.files(), original);
}

#[test]
fn two_at_once_are_refused() {
    let node = Node::new();
    let held = Folder::new(&node.places.bin_dir, binary::is_ours, &no_steps).lock().unwrap();
    let error = node.install(1, &no_steps).unwrap_err();
    assert!(matches!(error, InstallError::Busy(_)), "{error}");
    drop(held);
    node.install(1, &no_steps).unwrap();
}

#[test]
fn plugins_and_configurations_have_a_folder_each() {
    let dir = TempDir::new().unwrap();
    let other = dir.path().join("other");
    std::os::unix::fs::symlink(dir.path(), &other).unwrap();
    for conf_dir in [dir.path().to_owned(), other] {
        let places = Places { bin_dir: dir.path().to_owned(), conf_dir };
        for refused in [install(&places, &wanted(1), false, &no_steps), uninstall(&places, false, &no_steps)]
        {
            assert!(matches!(refused, Err(InstallError::OneFolder(_))), "{refused:?}");
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put there");
}
