//! The allocation folder: host-local's files, byte for byte, and its lock.
//!
//! `DIR/NETWORK/ADDRESS` (mode 0600) holds `CONTAINER\r\nIFNAME`; `last_reserved_ip.N` the address that range set N gave
//! out last; `lock` is locked with `flock(LOCK_EX)`. The reference plugin may work on the same folder at any time:
//! attachments that it made are released here, and the other way round.
//!
//! What is better than the reference: a file appears with its content (`O_TMPFILE`, then `linkat`), so a crash leaves
//! none that can't be released; and there is an [`Index`], so not every file is read every time.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg};
use nix::unistd::linkat;

use super::index::{Entry, Index, Opened};
use super::steps::{Step, Steps};
use crate::config::Attachment;

/// The folder beside the networks' folders where what is ours alone is. No network's name can start with a dot.
pub(super) const INDEX_DIR: &str = ".hopwise";
const LAST_PREFIX: &str = "last_reserved_ip.";

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {path}")]
pub struct StoreError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The container.
    pub container_id: &'a str,
    /// The link's name in it.
    pub ifname: &'a str,
}

impl Owner<'_> {
    fn content(&self) -> String {
        format!("{}\r\n{}", self.container_id.trim(), self.ifname)
    }
}

/// The allocation folder of one network, locked for as long as this lives.
pub struct Store<'a> {
    folder: PathBuf,
    index: Index,
    /// Whether the index has every file.
    complete: bool,
    /// What an index that is not complete knew of namespaces.
    known: Vec<Entry>,
    steps: Steps<'a>,
    _lock: Flock<File>,
}

impl<'a> Store<'a> {
    /// Opens the folder, made if there is none, and waits for its lock. What is left from before the last boot is
    /// released.
    pub fn open(
        data_dir: &Path,
        network: &str,
        boot_id: &str,
        steps: Steps<'a>,
    ) -> Result<Store<'a>, StoreError> {
        let folder = data_dir.join(network);
        let lock = match open_lock(&folder) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => {
                let made = DirBuilder::new().recursive(true).mode(0o755).create(&folder);
                made.map_err(failed("make folder", &folder))?;
                open_lock(&folder)?
            }
            other => other?,
        };
        steps(Step::Locked);
        let Opened { index, complete, stale, known } =
            Index::open(&index_path(data_dir, network), &folder, boot_id);
        let store = Store { folder, index, complete, known, steps, _lock: lock };
        for entry in stale {
            if store.stamp(entry.address) == Some(entry.stamp) {
                store.unlink(entry.address)?;
            }
        }
        Ok(store)
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.folder.join(address.to_string())
    }

    fn stamp(&self, address: IpAddr) -> Option<i128> {
        fs::metadata(self.path(address)).ok().map(|metadata| stamp(&metadata))
    }

    /// The addresses of an attachment, and those whose file names only its container.
    pub fn addresses_of(&mut self, owner: Owner<'_>) -> Result<Vec<Entry>, StoreError> {
        self.complete()?;
        Ok(self.index.of(owner.container_id.trim(), owner.ifname))
    }

    /// Takes an address, unless it is taken.
    pub fn reserve(&mut self, owner: Owner<'_>, netns: &str, address: IpAddr) -> Result<bool, StoreError> {
        let path = self.path(address);
        let Some(stamp) = create_whole(&self.folder, &path, owner.content().as_bytes())
            .map_err(failed("reserve address file", &path))?
        else {
            return Ok(false);
        };
        (self.steps)(Step::Reserved);
        self.index.add(&Entry {
            address,
            container_id: owner.container_id.trim().to_owned(),
            ifname: owner.ifname.to_owned(),
            netns: netns.to_owned(),
            stamp,
        });
        Ok(true)
    }

    /// The address that a range set gave out last.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.folder.join(format!("{LAST_PREFIX}{set}"))).ok()?.parse().ok()
    }

    /// Writes down the address that a range set has just given out.
    pub fn set_last_reserved(&self, set: usize, address: IpAddr) -> Result<(), StoreError> {
        let path = self.folder.join(format!("{LAST_PREFIX}{set}"));
        write_short(&path, address.to_string().as_bytes()).map_err(failed("write", &path))?;
        (self.steps)(Step::LastWritten);
        Ok(())
    }

    /// All addresses that are taken. Reads the folder, not the files.
    pub fn taken(&self) -> Result<BTreeSet<IpAddr>, StoreError> {
        taken(&self.folder)
    }

    /// Releases the addresses of an attachment; where it has none, those whose file names only its container. None at
    /// all is no error.
    pub fn release(&mut self, owner: Owner<'_>) -> Result<Vec<IpAddr>, StoreError> {
        let mut found = self.addresses_of(owner)?;
        if found.is_empty() && self.taken()?.len() != self.index.entries().count() {
            // Somebody changed the folder within one tick of its clock.
            self.complete = false;
            found = self.addresses_of(owner)?;
        }
        if found.iter().any(|entry| entry.ifname == owner.ifname) {
            found.retain(|entry| entry.ifname == owner.ifname);
        }
        found.iter().map(|entry| self.release_address(entry.address)).collect()
    }

    /// Releases one address.
    pub fn release_address(&mut self, address: IpAddr) -> Result<IpAddr, StoreError> {
        self.unlink(address)?;
        self.index.remove(address);
        Ok(address)
    }

    /// Releases whatever belongs to none of the attachments, and returns it.
    pub fn retain(&mut self, valid: &BTreeSet<Attachment>) -> Result<Vec<Entry>, StoreError> {
        // Files are the truth, and a GC is rare enough to read them.
        self.complete = false;
        self.complete()?;
        let keeps = |entry: &Entry| {
            valid.iter().any(|attachment| {
                attachment.container_id == entry.container_id
                    && (entry.ifname.is_empty() || entry.ifname == attachment.ifname)
            })
        };
        let gone: Vec<Entry> = self.index.entries().filter(|entry| !keeps(entry)).collect();
        for entry in &gone {
            self.release_address(entry.address)?;
        }
        Ok(gone)
    }

    /// Releases addresses whose network namespace is known and gone: what a crashed runtime leaves.
    pub fn reclaim(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.complete = false;
        self.complete()?;
        let gone: Vec<Entry> = self.index.entries().filter(is_gone).collect();
        for entry in &gone {
            self.release_address(entry.address)?;
        }
        Ok(gone)
    }

    /// Ends the work: writes the index. Without this call nothing is lost but time.
    pub fn close(mut self) {
        if !self.complete && self.complete().is_err() {
            return;
        }
        // A full or read-only disk: the next one reads all files.
        if self.index.write().is_ok() {
            (self.steps)(Step::IndexWritten);
            let _ = self.index.seal(&self.folder);
            (self.steps)(Step::IndexSealed);
        }
    }

    /// Reads all files into the index, unless it has them.
    fn complete(&mut self) -> Result<(), StoreError> {
        if self.complete {
            return Ok(());
        }
        // What only the index knows (namespaces) is kept for files that are still the same.
        let mut known = std::mem::take(&mut self.known);
        known.extend(self.index.entries());
        self.index.clear();
        for address in self.taken()? {
            let path = self.path(address);
            let Ok(content) = fs::read(&path) else { continue };
            let content = String::from_utf8_lossy(&content);
            let content = content.trim();
            let Some(stamp) = self.stamp(address) else { continue };
            if content.is_empty() {
                // We hold the lock, so nobody is about to write it: a crash of the reference left it, and nobody could
                // ever release it.
                self.unlink(address)?;
                continue;
            }
            let (container_id, ifname) = content.split_once("\r\n").unwrap_or((content, ""));
            let same = known.iter().find(|entry| entry.address == address && entry.stamp == stamp);
            self.index.add(&Entry {
                address,
                container_id: container_id.to_owned(),
                ifname: ifname.to_owned(),
                netns: same.map(|entry| entry.netns.clone()).unwrap_or_default(),
                stamp,
            });
        }
        self.complete = true;
        Ok(())
    }

    fn unlink(&self, address: IpAddr) -> Result<(), StoreError> {
        let path = self.path(address);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("release", &path)(error)),
            _ => {
                (self.steps)(Step::Released);
                Ok(())
            }
        }
    }
}

/// All addresses that are taken in an allocation folder, read without its lock.
pub fn taken(folder: &Path) -> Result<BTreeSet<IpAddr>, StoreError> {
    let entries = fs::read_dir(folder).map_err(failed("read folder", folder))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(name).collect())
}

/// The taken addresses that the next ADD could have all the same: those from before the last boot, and those whose
/// namespace is gone. Read without the lock; a few files may be missing or too many while somebody writes.
pub fn reclaimable(data_dir: &Path, network: &str, boot_id: &str) -> BTreeSet<IpAddr> {
    let folder = data_dir.join(network);
    let opened = Index::open(&index_path(data_dir, network), &folder, boot_id);
    let entries = if opened.complete { opened.index.entries().collect() } else { opened.known };
    let gone = entries.into_iter().filter(is_gone);
    let unchanged = |entry: &Entry| {
        fs::metadata(folder.join(entry.address.to_string())).is_ok_and(|file| stamp(&file) == entry.stamp)
    };
    opened.stale.into_iter().chain(gone).filter(unchanged).map(|entry| entry.address).collect()
}

/// Whether the namespace of an address's holder is gone; not if it is not known.
fn is_gone(entry: &Entry) -> bool {
    !entry.netns.is_empty() && !is_namespace(Path::new(&entry.netns))
}

fn index_path(data_dir: &Path, network: &str) -> PathBuf {
    data_dir.join(INDEX_DIR).join(format!("{network}.index"))
}

/// Whether a path is a network namespace now. After a reboot, or when a runtime only half cleaned up, an empty file may
/// be all that is left of a bind mount.
pub fn is_namespace(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { action, path, source }
}

fn stamp(metadata: &fs::Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}

fn open_lock(folder: &Path) -> Result<Flock<File>, StoreError> {
    let path = folder.join("lock");
    // As the reference opens it: for reading, so that a lock file of any mode will do.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_CREAT).mode(0o750);
    let mut file = options.open(&path).map_err(failed("open lock file", &path))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(failed("lock", &path)(errno.into())),
        }
    }
}

/// Makes a file that has its content from its first moment. `None` when the name is taken; else the file's stamp.
fn create_whole(folder: &Path, path: &Path, content: &[u8]) -> io::Result<Option<i128>> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let unnamed = options.clone().custom_flags(libc::O_TMPFILE).open(folder);
    let linked = match unnamed {
        Ok(mut file) => {
            file.write_all(content)?;
            let stamp = stamp(&file.metadata()?);
            link_open(&file, path).map(|()| stamp)
        }
        // A file system without O_TMPFILE (overlayfs before Linux 6.3, some FUSE): a named one, removed whatever happens.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) =>
        {
            let temporary = folder.join(format!(".hopwise-{}", std::process::id()));
            let mut file = options.create(true).truncate(true).open(&temporary)?;
            let written = file.write_all(content).and_then(|()| file.metadata());
            let linked =
                written.and_then(|metadata| fs::hard_link(&temporary, path).map(|()| stamp(&metadata)));
            fs::remove_file(&temporary)?;
            linked
        }
        Err(error) => return Err(error),
    };
    match linked {
        Ok(stamp) => Ok(Some(stamp)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a name to a file that has none. By its descriptor where that is allowed (CAP_DAC_READ_SEARCH, or Linux 6.10), else
/// by way of /proc, which takes three times as long in a new process; see open(2) on `O_TMPFILE`.
fn link_open(file: &File, path: &Path) -> io::Result<()> {
    let link = |source: &str, flags| linkat(file, source, AT_FDCWD, path, flags);
    match link("", AtFlags::AT_EMPTY_PATH) {
        Err(Errno::ENOENT) => {
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(link(&source, AtFlags::AT_SYMLINK_FOLLOW)?)
        }
        linked => Ok(linked?),
    }
}

/// Writes a short file in place. A crash in between leaves at worst a piece of the old address, and what reads it takes any
/// address for an answer. Not by renaming: ext4 starts a write-back at each rename over a file (`auto_da_alloc`), which is
/// most of what an ADD would cost.
fn write_short(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() > content.len() as u64 {
        file.set_len(content.len() as u64)?;
    }
    file.write_all_at(content, 0)
}
