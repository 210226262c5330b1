//! The journal: `l2.json` in the state directory, written and flushed before the first change.
//!
//! It says what was meant and what has to be put back, never how far one got: that is seen in the kernel. It belongs to one
//! boot and one network namespace, and is void in any other.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hopwise_api::l2::RecordData;
use hopwise_core::l2::value::Record;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::L2Error;
use crate::state_dir::StateError;

const FILE: &str = "l2.json";
const LOCK: &str = "l2.lock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const VERSION: u32 = 1;
/// How long another command may take: to verify an attachment, for example.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Attaching was begun and not finished: it is undone.
    Attaching,
    /// Attached.
    Attached,
    /// Detaching was begun and not finished: it is finished.
    Detaching,
}

/// Who attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// `hopwise l2 attach`.
    Command,
    /// The agent, for the setting `l2`.
    Agent,
}

/// What the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was begun.
    pub phase: Phase,
    /// By whom.
    pub by: By,
    /// What has to be known to undo it.
    pub record: Record,
    /// When the record was true, in seconds since boot.
    pub at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EntryData {
    version: u32,
    boot_id: String,
    namespace: u64,
    phase: Phase,
    by: By,
    at: u64,
    record: RecordData,
}

/// The journal of a state directory, with its lock held: commands and the agent take turns.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Journal {
    /// Whether there is one.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Takes the lock, waiting for whoever has it; makes the directory where there is none.
    pub fn lock(dir: &Path) -> Result<Journal, L2Error> {
        let path = dir.join(LOCK);
        let failed = |action| {
            let path = path.clone();
            move |source| L2Error::State(StateError::File { action, path, source })
        };
        std::fs::create_dir_all(dir).map_err(failed("create"))?;
        let mut file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("open"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Journal { path: dir.join(FILE), _lock: lock }),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() >= deadline => {
                    return Err(L2Error::Busy(path));
                }
                Err((same, nix::errno::Errno::EWOULDBLOCK)) => file = same,
                Err((_, errno)) => return Err(failed("lock")(errno.into())),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is written down; one of another boot or namespace is as good as none, as all that it speaks of is gone.
    pub fn read(&self) -> Result<Option<Entry>, L2Error> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read")(error)),
        };
        let damaged = |what: String| L2Error::Damaged { path: self.path.clone(), what };
        let data: EntryData = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if data.version != VERSION {
            return Err(damaged(format!(
                "it has version {}, and this hopwise reads {VERSION}",
                data.version
            )));
        }
        if data.boot_id != boot_id() || data.namespace != namespace() {
            return Ok(None);
        }
        let record = Record::try_from(&data.record).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Entry { phase: data.phase, by: data.by, record, at: data.at }))
    }

    /// Writes an entry down, and comes back when it would survive a power cut.
    pub fn write(&self, phase: Phase, by: By, record: &Record) -> Result<(), L2Error> {
        let data = EntryData {
            version: VERSION,
            boot_id: boot_id(),
            namespace: namespace(),
            phase,
            by,
            at: now(),
            record: RecordData::from(record),
        };
        let text = serde_json::to_vec_pretty(&data).map_err(|error| self.failed("write")(error.into()))?;
        let fresh = self.path.with_extension("json.new");
        let mut file = File::create(&fresh).map_err(self.failed("create"))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(self.failed("write"))?;
        std::fs::rename(&fresh, &self.path).map_err(self.failed("replace"))?;
        self.sync_folder()
    }

    /// Takes the entry away: all is as it was.
    pub fn clear(&self) -> Result<(), L2Error> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove")(error)),
            _ => self.sync_folder(),
        }
    }

    fn sync_folder(&self) -> Result<(), L2Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.failed("flush"))
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> L2Error + use<> {
        let path = self.path.clone();
        move |source| L2Error::State(StateError::File { action, path: path.clone(), source })
    }
}

impl Entry {
    /// How long ago the record was true, in seconds.
    pub fn elapsed(&self) -> u32 {
        u32::try_from(now().saturating_sub(self.at)).unwrap_or(u32::MAX)
    }
}

/// Seconds since boot, time in suspend included, as the kernel counts lifetimes; no clock that is set changes it.
fn now() -> u64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    since_boot.unwrap_or_default().as_secs()
}

fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

/// What tells the network namespace of the calling thread from others.
fn namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino())
}
