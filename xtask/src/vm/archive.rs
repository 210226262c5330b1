//! The root file system of the guest: files by path, written as a `newc` archive, which is what the kernel unpacks at boot
//! (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    /// A file with its permissions, and where its bytes are: here, or in a file of this machine.
    File {
        mode: u32,
        content: Content,
    },
    Link(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    Of(PathBuf),
}

/// Files by their path in the guest. Everything belongs to root.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

impl Tree {
    /// An empty folder, with those above it.
    pub fn folder(&mut self, path: &Path) {
        for above in path.ancestors().filter(|above| above.file_name().is_some()) {
            self.entries.entry(above.to_owned()).or_insert(Entry::Folder);
        }
    }

    /// A file with this text that can be executed.
    pub fn script(&mut self, path: &Path, text: &str) {
        self.put(path, Entry::File { mode: 0o755, content: Content::Bytes(text.as_bytes().to_vec()) });
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &Path, target: &Path) {
        self.put(path, Entry::Link(target.to_owned()));
    }

    /// A copy of a file of this machine, with its permissions. If it is a link then what it leads to is copied: programs
    /// that look at the name they were called by find it.
    pub fn copy(&mut self, path: &Path, from: &Path) -> Result<()> {
        let metadata = std::fs::metadata(from).with_context(|| format!("can't read {}", from.display()))?;
        let mode = metadata.permissions().mode() & 0o7777;
        self.put(path, Entry::File { mode, content: Content::Of(from.to_owned()) });
        Ok(())
    }

    /// A copy of a folder of this machine and all below it.
    pub fn copy_folder(&mut self, path: &Path, from: &Path) -> Result<()> {
        self.folder(path);
        let entries = std::fs::read_dir(from).with_context(|| format!("can't read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let (below, from) = (path.join(entry.file_name()), entry.path());
            if from.is_dir() {
                self.copy_folder(&below, &from)?;
            } else {
                self.copy(&below, &from)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &Path, entry: Entry) {
        if let Some(above) = path.parent() {
            self.folder(above);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive.
    pub fn write(&self, to: &mut impl Write) -> Result<()> {
        // Folders stand before what is in them: that is the order of paths.
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
            match entry {
                Entry::Folder => record(to, number, TYPE_FOLDER | 0o755, name, &[])?,
                Entry::Link(target) => {
                    record(to, number, TYPE_LINK | 0o777, name, target.as_os_str().as_bytes())?;
                }
                Entry::File { mode, content: Content::Bytes(bytes) } => {
                    record(to, number, TYPE_FILE | mode, name, bytes)?;
                }
                Entry::File { mode, content: Content::Of(from) } => {
                    let bytes =
                        std::fs::read(from).with_context(|| format!("can't read {}", from.display()))?;
                    record(to, number, TYPE_FILE | mode, name, &bytes)?;
                }
            }
        }
        record(to, 0, 0, b"TRAILER!!!", &[])?;
        Ok(())
    }
}

/// One record: a header of hexadecimal numbers, the name with a zero byte, the content; both filled up to 4 bytes.
fn record(to: &mut impl Write, number: u32, mode: u32, name: &[u8], content: &[u8]) -> io::Result<()> {
    let too_large = || io::Error::other("a file of 4 GiB or more does not fit into the archive");
    let size = u32::try_from(content.len()).map_err(|_| too_large())?;
    let name_size = u32::try_from(name.len() + 1).map_err(|_| too_large())?;
    // inode, mode, uid, gid, links, mtime, size, device (2), device of the node (2), size of the name, checksum (unused)
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut header = String::from("070701");
    for field in fields {
        header += &format!("{field:08x}");
    }
    let filled = |length: usize| [0; 3][..length.wrapping_neg() % 4].to_vec();
    to.write_all(header.as_bytes())?;
    to.write_all(name)?;
    to.write_all(&[0])?;
    to.write_all(&filled(header.len() + name.len() + 1))?;
    to.write_all(content)?;
    to.write_all(&filled(content.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names, modes and contents of an archive, read by the format's own rules.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let (mut at, mut records) = (0, Vec::new());
        loop {
            let header = std::str::from_utf8(&archive[at..at + 110]).unwrap();
            assert_eq!(&header[..6], "070701");
            let field = |index: usize| {
                let start = 6 + index * 8;
                u32::from_str_radix(&header[start..start + 8], 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = &archive[at + 110..at + 110 + name_size - 1];
            assert_eq!(archive[at + 110 + name_size - 1], 0);
            let start = (at + 110 + name_size).next_multiple_of(4);
            let content = archive[start..start + size].to_vec();
            at = (start + size).next_multiple_of(4);
            let name = String::from_utf8(name.to_vec()).unwrap();
            if name == "TRAILER!!!" {
                assert_eq!(at, archive.len());
                return records;
            }
            records.push((name, field(1), content));
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_contents_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/data"), b"12345").unwrap();
        std::fs::set_permissions(dir.path().join("below/data"), PermissionsExt::from_mode(0o640)).unwrap();
        let mut tree = Tree::default();
        tree.script(Path::new("/init"), "#!/bin/sh\n");
        tree.link(Path::new("/bin/sh"), Path::new("busybox"));
        tree.copy_folder(Path::new("/srv/files"), dir.path()).unwrap();
        tree.folder(Path::new("/srv"));
        let mut archive = Vec::new();
        tree.write(&mut archive).unwrap();
        let folder = |name: &str| (name.to_owned(), 0o040_755, Vec::new());
        assert_eq!(
            read(&archive),
            [
                folder("bin"),
                ("bin/sh".to_owned(), 0o120_777, b"busybox".to_vec()),
                ("init".to_owned(), 0o100_755, b"#!/bin/sh\n".to_vec()),
                folder("srv"),
                folder("srv/files"),
                folder("srv/files/below"),
                ("srv/files/below/data".to_owned(), 0o100_640, b"12345".to_vec()),
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = Tree::default().copy(Path::new("/x"), Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "can't read /nowhere/at/all");
    }
}
