//! Writing whole or not at all; reading what may be anything.

use std::io::ErrorKind;
use std::path::Path;

use nix::sys::stat::Mode;

use super::{read_regular, remove_stale, write_atomically};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_leaves_the_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let deeper = dir.path().join("a/b");
    write_atomically(&deeper, "x", b"one").unwrap();
    std::fs::write(deeper.join(".x.tmp"), "left by a crash").unwrap();
    write_atomically(&deeper, "x", b"two").unwrap();
    assert_eq!(read_regular(&deeper.join("x"), 3).unwrap(), b"two");
    std::fs::write(deeper.join(".x.tmp"), "left by a crash").unwrap();
    remove_stale(&deeper, "x").unwrap();
    assert_eq!(names(&deeper), ["x"]);
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    // A directory under the name: everything works but the rename.
    std::fs::create_dir_all(dir.path().join("x/y")).unwrap();
    write_atomically(dir.path(), "x", b"content").unwrap_err();
    assert_eq!(names(dir.path()), ["x"]);
}

#[test]
fn only_regular_files_of_honest_size_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    assert_eq!(read_regular(&fifo, 10).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(read_regular(dir.path(), 10).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(read_regular(Path::new("/dev/zero"), 10).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(read_regular(&dir.path().join("none"), 10).unwrap_err().kind(), ErrorKind::NotFound);
    let file = dir.path().join("file");
    std::fs::write(&file, [0; 11]).unwrap();
    assert_eq!(read_regular(&file, 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(read_regular(&file, 11).unwrap().len(), 11);
}
