//! The inventory file: read when it may have changed, parsed when it has.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hopwise_api::inventory;
use hopwise_core::cluster::ClusterView;

use crate::StoreTrouble;
use crate::disk;

/// The largest inventory that is read, in bytes; 100,000 nodes take some 15 million.
const MAX_LEN: usize = 256 << 20;

/// The file and what was read from it last.
#[derive(Debug)]
pub struct InventoryFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// Of the text that was parsed last, and was right.
    digest: Option<u64>,
}

/// What a look at the file gave.
#[derive(Debug)]
pub enum Reading {
    /// Another view than last time.
    View(ClusterView),
    /// The text is the one that was read last time.
    Same,
    /// It was written to while we read.
    Unsettled,
    /// It can't be read, or is not an inventory.
    Bad(StoreTrouble),
}

/// What changes with a file's content, as far as the file system tells. No time is compared with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([i64; 7]);

impl Stamp {
    /// The stamp of what a path leads to.
    pub fn of(path: &Path) -> Option<Stamp> {
        let m = fs::metadata(path).ok()?;
        let [dev, ino, size] = [m.dev(), m.ino(), m.size()].map(u64::cast_signed);
        Some(Stamp([dev, ino, size, m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
    }

    /// Which file it is, whatever its content: device and inode.
    pub fn file(self) -> [i64; 2] {
        [self.0[0], self.0[1]]
    }
}

impl InventoryFile {
    /// A file that was not read yet.
    pub fn new(path: PathBuf) -> InventoryFile {
        InventoryFile { path, stamp: None, digest: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it looks different from when it was read last.
    pub fn looks_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }

    /// Reads it, whatever its stamp says: two writes within one tick of the kernel's clock have the same.
    pub fn read(&mut self) -> Reading {
        let stamp = Stamp::of(&self.path);
        let bytes = match disk::read_regular(&self.path, MAX_LEN) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.stamp = stamp;
                return Reading::Bad(self.unreadable(&error));
            }
        };
        if Stamp::of(&self.path) != stamp {
            return Reading::Unsettled;
        }
        self.stamp = stamp;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let digest = hasher.finish();
        if self.digest == Some(digest) {
            return Reading::Same;
        }
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => return Reading::Bad(self.not_text(&bytes, error.valid_up_to())),
        };
        match inventory::parse(text, &self.path) {
            Ok(view) => {
                self.digest = Some(digest);
                Reading::View(view)
            }
            Err(error) => {
                let field = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
                Reading::Bad(StoreTrouble {
                    subject: format!("{}:{}:{}", error.file.display(), error.line, error.column),
                    message: format!("{field}{}", error.message),
                    fix: error.fix,
                })
            }
        }
    }

    fn unreadable(&self, error: &io::Error) -> StoreTrouble {
        let fix = match error.kind() {
            ErrorKind::NotFound => "put the inventory there, or name another with --inventory",
            ErrorKind::PermissionDenied => {
                "let the agent's user read it and pass through the directories above it"
            }
            ErrorKind::InvalidInput => "name a file that holds an inventory with --inventory",
            _ => "make it readable",
        };
        StoreTrouble {
            subject: self.path.display().to_string(),
            message: format!("can't read the inventory: {error}"),
            fix: fix.to_owned(),
        }
    }

    fn not_text(&self, bytes: &[u8], valid: usize) -> StoreTrouble {
        let before = &bytes[..valid];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = 1 + String::from_utf8_lossy(&before[start..]).chars().count();
        StoreTrouble {
            subject: format!("{}:{line}:{column}", self.path.display()),
            message: format!("the byte 0x{:02x} is not UTF-8", bytes[valid]),
            fix: "save the file as UTF-8".to_owned(),
        }
    }
}
