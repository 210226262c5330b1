//! A folder that files are put into, one atomic step at a time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::InstallError;
use super::plan::{Change, Slot, Standing};

/// Our own folder in each; runtimes look at no folders.
const OWN: &str = ".hopwise";
/// Larger files are none of ours, and not worth reading.
const LARGEST: u64 = 16 << 20;

/// Called before each change of the disk, with what is about to happen. A test stops the work there, or has it fail.
pub type Steps<'a> = &'a dyn Fn(&str) -> io::Result<()>;

/// Lets everything happen.
pub fn no_steps(_: &str) -> io::Result<()> {
    Ok(())
}

/// What to put under a name.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// These bytes.
    Bytes {
        /// The file's content.
        bytes: &'a [u8],
        /// Its permissions.
        mode: u32,
    },
    /// The same file as under another name: a hard link, else a symbolic link, else a copy.
    SameAs(&'a str),
}

/// A folder, and how our files in it are known.
pub struct Folder<'a> {
    path: PathBuf,
    is_ours: fn(&[u8]) -> bool,
    steps: Steps<'a>,
}

/// Held while a folder is worked on.
#[derive(Debug)]
pub struct Lock {
    _folder: Flock<File>,
}

impl<'a> Folder<'a> {
    /// A folder that need not be there yet.
    pub fn new(path: &Path, is_ours: fn(&[u8]) -> bool, steps: Steps<'a>) -> Folder<'a> {
        Folder { path: path.to_owned(), is_ours, steps }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Where a displaced file is kept.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.path.join(OWN).join("displaced").join(name)
    }

    /// Where a file is made before it is renamed.
    fn fresh(&self) -> PathBuf {
        self.path.join(OWN).join("new")
    }

    /// Makes the folder and our own in it, and takes the lock.
    pub fn lock(&self) -> Result<Lock, InstallError> {
        let own = self.path.join(OWN);
        let displaced = own.join("displaced");
        (self.steps)("make folders")
            .and_then(|()| fs::create_dir_all(&displaced))
            .map_err(InstallError::file("create", &displaced))?;
        let folder = File::open(&own).map_err(InstallError::file("open", &own))?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(folder) => Ok(Lock { _folder: folder }),
            Err((_, Errno::EWOULDBLOCK)) => Err(InstallError::Busy(self.path.clone())),
            Err((_, errno)) => Err(InstallError::file("lock", &own)(errno.into())),
        }
    }

    /// Names in the folder that are ours, or that we keep a displaced file of.
    pub fn names(&self) -> Result<BTreeSet<String>, InstallError> {
        let mut names = list(&self.path.join(OWN).join("displaced"))?;
        for name in list(&self.path)? {
            if matches!(self.standing(&name, None)?, Standing::Ours { .. }) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Names of others' files.
    pub fn foreign(&self) -> Result<Vec<String>, InstallError> {
        let mut names = Vec::new();
        for name in list(&self.path)? {
            if self.standing(&name, None)? == Standing::Foreign {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Whether somebody else's file has this name.
    pub fn has_foreign(&self, name: &str) -> bool {
        matches!(self.standing(name, None), Ok(Standing::Foreign))
    }

    /// What there is about a name; `wanted` is what our file should be.
    pub fn slot(&self, name: &str, wanted: Option<&[u8]>) -> Result<Slot, InstallError> {
        let displaced = fs::symlink_metadata(self.aside(name)).is_ok();
        Ok(Slot { standing: self.standing(name, wanted)?, displaced })
    }

    fn standing(&self, name: &str, wanted: Option<&[u8]>) -> Result<Standing, InstallError> {
        let path = self.path.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Absent),
            Err(error) => return Err(InstallError::file("look at", &path)(error)),
            Ok(_) => {}
        }
        let known = match fs::metadata(&path) {
            Ok(file) if file.is_file() && file.len() <= LARGEST => {
                fs::read(&path).map_err(InstallError::file("read", &path))?
            }
            // Too large, a folder, or a symbolic link that leads nowhere.
            _ => return Ok(Standing::Foreign),
        };
        Ok(match (self.is_ours)(&known) {
            true => Standing::Ours { current: wanted.is_some_and(|wanted| wanted == known) },
            false => Standing::Foreign,
        })
    }

    /// Makes one change. `content` is what [`Change::Put`] puts.
    pub fn apply(
        &self,
        change: Change,
        name: &str,
        content: Option<&Content<'_>>,
    ) -> Result<(), InstallError> {
        let path = self.path.join(name);
        let aside = self.aside(name);
        match (change, content) {
            (Change::Displace, _) => {
                // Some file systems have no hard links. What can't be linked is copied, unless it is no file at all.
                self.make_link(&path).or_else(|error| match path.is_file() {
                    true => self.make_copy(&path),
                    false => Err(error),
                })?;
                self.rename(&self.fresh(), &aside)?;
                sync(&self.path.join(OWN).join("displaced"))?;
            }
            (Change::Put, Some(content)) => {
                self.make(content)?;
                self.rename(&self.fresh(), &path)?;
            }
            (Change::Put, None) => {}
            (Change::Restore, _) => self.rename(&aside, &path)?,
            (Change::Remove, _) => self.remove(&path)?,
            (Change::Forget, _) => self.remove(&aside)?,
        }
        sync(&self.path)
    }

    /// Makes the new file, complete and on disk, under a name that nobody looks at.
    fn make(&self, content: &Content<'_>) -> Result<(), InstallError> {
        match content {
            Content::Bytes { bytes, mode } => self.make_file(bytes, *mode),
            Content::SameAs(name) => {
                let other = self.path.join(name);
                // Relative: the folder may be mounted elsewhere where we run.
                let symlink =
                    |_| (self.steps)("symlink").and_then(|()| std::os::unix::fs::symlink(name, self.fresh()));
                self.make_link(&other).or_else(symlink).or_else(|_| self.make_copy(&other))
            }
        }
    }

    fn make_file(&self, bytes: &[u8], mode: u32) -> Result<(), InstallError> {
        let fresh = self.fresh();
        self.clear()?;
        let write = || {
            (self.steps)("create")?;
            let mut file = File::options().write(true).create_new(true).mode(mode).open(&fresh)?;
            // The process's mask may have taken something away.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            let (half, rest) = bytes.split_at(bytes.len() / 2);
            file.write_all(half)?;
            (self.steps)("write")?;
            file.write_all(rest)?;
            file.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&fresh);
            InstallError::file("write", &fresh)(error)
        })
    }

    /// Another name for a file, the file itself untouched.
    fn make_link(&self, file: &Path) -> Result<(), InstallError> {
        self.clear()?;
        (self.steps)("link")
            .and_then(|()| fs::hard_link(file, self.fresh()))
            .map_err(InstallError::file("link", file))
    }

    /// A copy, with the same permissions.
    fn make_copy(&self, file: &Path) -> Result<(), InstallError> {
        let meta = fs::metadata(file).map_err(InstallError::file("look at", file))?;
        let bytes = fs::read(file).map_err(InstallError::file("read", file))?;
        self.make_file(&bytes, meta.permissions().mode() & 0o7777)
    }

    /// Takes away what an interrupted run left.
    fn clear(&self) -> Result<(), InstallError> {
        self.remove(&self.fresh())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), InstallError> {
        (self.steps)("rename")
            .and_then(|()| fs::rename(from, to))
            .map_err(InstallError::file("replace", to))?;
        // Two names of one file: rename(2) leaves both.
        self.remove(from)
    }

    fn remove(&self, path: &Path) -> Result<(), InstallError> {
        match (self.steps)("remove").and_then(|()| fs::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(InstallError::file("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes our own folder away when nothing is kept in it.
    pub fn tidy(&self) {
        let own = self.path.join(OWN);
        let _ = fs::remove_file(self.fresh());
        let _ = fs::remove_dir(own.join("displaced"));
        let _ = fs::remove_dir(own);
    }
}

/// Flushes a folder: the names in it.
fn sync(folder: &Path) -> Result<(), InstallError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(InstallError::file("flush", folder))
}

/// Names of what is in a folder, folders left out; none when there is no folder.
fn list(folder: &Path) -> Result<BTreeSet<String>, InstallError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(InstallError::file("list", folder))?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(InstallError::file("list", folder))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let (false, Ok(name)) = (is_dir, entry.file_name().into_string()) {
            names.insert(name);
        }
    }
    Ok(names)
}
