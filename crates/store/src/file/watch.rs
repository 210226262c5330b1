//! Which directories to watch for a file, through symbolic links, and inotify on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

/// More symbolic links than this are a loop (`MAXSYMLINKS` of the kernel).
const MAX_LINKS: usize = 40;

/// What happens to entries of a directory.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// And where files stand that others may write in place, `IN_MODIFY`: not to read them then, but to know that there is a
/// writer, and to wait until it closes the file.
const MASK_OF_TRAIL: AddWatchFlags = MASK.union(AddWatchFlags::IN_MODIFY);

/// Adds to a directory's mask instead of replacing it.
const MASK_ADD: AddWatchFlags = AddWatchFlags::from_bits_retain(nix::libc::IN_MASK_ADD);

/// What lies at the end of a path may be reached through symbolic links, each of which may be exchanged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The names to watch for, by the directory that they stand in.
    pub names: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

impl Trail {
    /// Follows an absolute path: its last name, every name that is a symbolic link, and where the path ends early, the
    /// first name that is missing. Plain directories on the way are left out: they hardly ever move, some of them (`/tmp`)
    /// are busy, and the slow check finds what changes there.
    pub fn follow(path: &Path) -> Trail {
        let mut trail = Trail::default();
        let mut ahead: Vec<Step> = steps(path);
        let mut here = PathBuf::from("/");
        let mut n_links = 0;
        while let Some(step) = ahead.pop() {
            let name = match step {
                Step::Root => {
                    here = PathBuf::from("/");
                    continue;
                }
                Step::Up => {
                    here.pop();
                    continue;
                }
                Step::Into(name) => name,
            };
            let entry = here.join(&name);
            let link = entry.read_link();
            if link.is_ok() || ahead.is_empty() || entry.symlink_metadata().is_err() {
                trail.names.entry(here.clone()).or_default().insert(name);
            }
            match link {
                Ok(target) => {
                    n_links += 1;
                    if n_links > MAX_LINKS {
                        break;
                    }
                    ahead.extend(steps(&target));
                }
                Err(_) if entry.is_dir() => here = entry,
                Err(_) => break,
            }
        }
        trail
    }
}

enum Step {
    Root,
    Up,
    Into(OsString),
}

/// The components of a path, last one first.
fn steps(path: &Path) -> Vec<Step> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::RootDir => Some(Step::Root),
            Component::ParentDir => Some(Step::Up),
            Component::Normal(name) => Some(Step::Into(name.to_owned())),
            Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// inotify on the directories of the inventory's trail and on the node data directory.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<Descriptor>,
    dirs: HashMap<WatchDescriptor, Interest>,
}

/// What we want to know of one directory.
#[derive(Debug, Default)]
struct Interest {
    /// Names on a trail.
    trail: BTreeSet<OsString>,
    /// The path, where it is the node data directory, of which every name counts.
    data: Option<PathBuf>,
    /// The path under which the directory was found, to look at entries.
    path: PathBuf,
}

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Something on a trail.
    pub trail: bool,
    /// Whether a file on a trail is being written (the last that is known); `None`: no news.
    pub writer: Option<bool>,
    /// Files of the node data directory.
    pub data: BTreeSet<OsString>,
    /// Events were lost, or a watched directory is gone: anything may have changed.
    pub everything: bool,
}

impl Watch {
    /// Opens inotify. Needs to be called on a tokio runtime.
    pub fn open() -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(unsafe_code, reason = "tokio's only constructor that is not deprecated")]
        // SAFETY: `Descriptor` owns the descriptor, gives the same one every time, and closes it only when dropped.
        let inotify = unsafe { AsyncFd::register(Descriptor(inotify)) }?;
        Ok(Watch { inotify, dirs: HashMap::new() })
    }

    /// Watches these directories and no others.
    ///
    /// What changes before this returns may go unseen: read only afterwards.
    pub fn set(&mut self, trails: &[&Trail], data_dir: Option<&Path>) -> io::Result<()> {
        let mut wanted: HashMap<WatchDescriptor, Interest> = HashMap::new();
        let mut result = Ok(());
        let names = trails.iter().flat_map(|trail| &trail.names);
        let dirs =
            names.map(|(dir, names)| (dir.as_path(), Some(names))).chain(data_dir.map(|dir| (dir, None)));
        for (dir, names) in dirs {
            // The union, where it is watched already: one directory can be both.
            let mask = if names.is_some() { MASK_OF_TRAIL } else { MASK } | MASK_ADD;
            let descriptor = match self.inotify.get_ref().0.add_watch(dir, mask) {
                Ok(descriptor) => descriptor,
                // Gone since we looked: the directory above tells when it comes back.
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(error) => {
                    result = Err(io::Error::new(
                        io::Error::from(error).kind(),
                        format!("{}: {error}", dir.display()),
                    ));
                    continue;
                }
            };
            let interest = wanted.entry(descriptor).or_default();
            interest.path = dir.to_owned();
            match names {
                Some(names) => interest.trail.extend(names.iter().cloned()),
                None => interest.data = Some(dir.to_owned()),
            }
        }
        for descriptor in self.dirs.keys().filter(|descriptor| !wanted.contains_key(descriptor)) {
            // Fails where the directory is gone and the kernel has dropped the watch by itself.
            let _ = self.inotify.get_ref().0.rm_watch(*descriptor);
        }
        self.dirs = wanted;
        result
    }

    /// Waits for events. Cancel-safe.
    pub async fn changed(&mut self) -> Changed {
        let mut changed = Changed::default();
        while changed == Changed::default() {
            let Ok(mut ready) = self.inotify.readable().await else {
                // The runtime is shutting down; whoever awaits this is about to be dropped.
                return std::future::pending().await;
            };
            while let Ok(Ok(events)) = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                for event in &events {
                    note(&self.dirs, event, &mut changed);
                }
            }
        }
        changed
    }
}

fn note(dirs: &HashMap<WatchDescriptor, Interest>, event: &InotifyEvent, changed: &mut Changed) {
    let gone = AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_Q_OVERFLOW;
    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        changed.everything = true;
    }
    let Some(interest) = dirs.get(&event.wd) else { return };
    if event.mask.intersects(gone) {
        changed.everything = true;
    }
    let Some(name) = &event.name else { return };
    let is_written = event.mask.contains(AddWatchFlags::IN_MODIFY)
        || event.mask.contains(AddWatchFlags::IN_CREATE) && has_writer(&interest.path, name);
    if interest.trail.contains(name) {
        // Another mode or owner says nothing about a writer.
        if !event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            changed.writer = Some(is_written);
        }
        changed.trail |= !is_written;
    }
    if interest.data.is_some() && !is_written {
        changed.data.insert(name.clone());
    }
}

/// A regular file that was just created has a writer, whose close is an event of its own; half of it read as the whole
/// would be a cluster with half its nodes. A hard link, like a symbolic one, has none.
fn has_writer(dir: &Path, name: &OsStr) -> bool {
    use std::os::unix::fs::MetadataExt;
    dir.join(name).symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

/// `Inotify` with the trait that tokio asks for.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
