//! What a lab keeps on disk, so that later commands find it:
//!
//! ```text
//! BASE/LAB/                 BASE is /run/hopwise-lab for root; see `rootless::base_dir`
//!   lab.json                the layout, the binaries, and whether `up` has finished
//!   inventory.yaml          the inventory of all agents
//!   holder                  the process that keeps the namespaces of a lab without root
//!   node-data/              what agents publish
//!   nodes/NODE/agent.pid    number and start time of the agent
//!   nodes/NODE/agent.log    its standard output and error
//!   nodes/NODE/{state,run,ipam}/
//! ```
//!
//! The directory is locked (`flock`) by whoever makes or removes the lab.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::layout::Layout;
use crate::name::LabName;
use crate::process::ProcessId;
use crate::rootless;

/// A lab's directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    dir: PathBuf,
}

/// What `lab.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) layout: Layout,
    pub(crate) binaries: Binaries,
    /// Whether `up` has come to its end.
    pub(crate) complete: bool,
}

/// The programs that a lab runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binaries {
    /// `hopwise`.
    pub hopwise: PathBuf,
    /// `hopwise-cni`.
    pub cni: PathBuf,
}

/// Held while a lab is made or removed.
pub(crate) struct Lock {
    _lock: Flock<File>,
}

impl StateDir {
    /// The directory of a lab, whether it exists or not.
    pub fn of(lab: &LabName) -> StateDir {
        StateDir { dir: rootless::base_dir().join(lab.as_str()) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The inventory of all agents.
    pub fn inventory(&self) -> PathBuf {
        self.dir.join("inventory.yaml")
    }

    /// What agents publish.
    pub fn node_data(&self) -> PathBuf {
        self.dir.join("node-data")
    }

    /// The directory of one node.
    pub fn node(&self, node: &str) -> PathBuf {
        self.dir.join("nodes").join(node)
    }

    /// The log of one node's agent.
    pub fn agent_log(&self, node: &str) -> PathBuf {
        self.node(node).join("agent.log")
    }

    /// The number and start time of one node's agent.
    pub fn agent_pid(&self, node: &str) -> PathBuf {
        self.node(node).join("agent.pid")
    }

    pub(crate) fn holder(&self) -> PathBuf {
        self.dir.join("holder")
    }

    fn record(&self) -> PathBuf {
        self.dir.join("lab.json")
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    /// Makes the directory and takes its lock.
    pub(crate) fn create(&self, lab: &LabName) -> Result<Lock, LabError> {
        let base = self.dir.parent().unwrap_or(&self.dir);
        create_private(base).map_err(LabError::file(base))?;
        std::fs::create_dir_all(&self.dir).map_err(LabError::file(&self.dir))?;
        self.lock(lab)
    }

    /// Takes the lock, waiting a little for it: a command that was killed can leave a child behind that holds it for
    /// the moment between fork and exec.
    pub(crate) fn lock_soon(&self, lab: &LabName) -> Result<Lock, LabError> {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            match self.lock(lab) {
                Err(LabError::Busy { .. }) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }

    pub(crate) fn lock(&self, lab: &LabName) -> Result<Lock, LabError> {
        let dir = File::open(&self.dir).map_err(LabError::file(&self.dir))?;
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock { _lock: lock }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(LabError::Busy { lab: lab.clone() }),
            Err((_, errno)) => Err(LabError::file(&self.dir)(errno.into())),
        }
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(record).map_err(LabError::step("writing lab.json"))?;
        write_atomically(&self.record(), &text).map_err(LabError::file(&self.record()))
    }

    /// `None`: there is no such file.
    pub(crate) fn read_record(&self) -> Result<Option<Record>, LabError> {
        read_json(&self.record())
    }

    /// The processes that the directory knows of: agents, and the holder.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        let nodes = std::fs::read_dir(self.dir.join("nodes")).into_iter().flatten().flatten();
        let files = nodes.map(|node| node.path().join("agent.pid"));
        files.filter_map(|file| read_json(&file).ok().flatten()).collect()
    }

    pub(crate) fn read_agent(&self, node: &str) -> Result<Option<ProcessId>, LabError> {
        read_json(&self.agent_pid(node))
    }

    pub(crate) fn write_agent(&self, node: &str, agent: ProcessId) -> Result<(), LabError> {
        let path = self.agent_pid(node);
        let text = serde_json::to_vec(&agent).map_err(LabError::step("writing agent.pid"))?;
        write_atomically(&path, &text).map_err(LabError::file(&path))
    }

    /// Removes the directory, and the one above it if this was the last lab.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(base) = self.dir.parent() {
            // Refused, rightly, while another lab is in it.
            let _ = std::fs::remove_dir(base);
        }
        Ok(())
    }
}

/// The names of the labs that there are.
pub(crate) fn labs() -> Vec<LabName> {
    let entries = std::fs::read_dir(rootless::base_dir()).into_iter().flatten().flatten();
    let mut labs: Vec<LabName> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    labs.sort();
    labs
}

/// Makes a directory that is ours alone, or makes sure that one is: `/tmp` is everybody's.
fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match std::fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(dir)?;
    if metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"))
}

/// Writes a file so that a reader sees the old content or the new, never a part, whoever else writes it just now: pods of
/// one node are attached at the same time, and each writes the node's configuration.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}-{}.new", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed)));
    let fresh = path.with_file_name(name);
    File::create(&fresh)?.write_all(content)?;
    std::fs::rename(&fresh, path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LabError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LabError::file(path)(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| LabError::Damaged { path: path.to_owned(), problem: error.to_string() })
}
