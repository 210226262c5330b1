//! The state directory: what has to outlive a restart.
//!
//! - the saved view, which `hopwise-store` writes;
//! - `sysctls.json`: the values that sysctls had before we changed them, for `hopwise cleanup`;
//! - `lock`: held for as long as an agent runs, so that no two agents work against each other and no cleanup against an
//!   agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hopwise_core::host::SysctlKey;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const UNDO_FILE: &str = "sysctls.json";
const LOCK_FILE: &str = "lock";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why something with the state directory could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file could not be read or written.
    #[error("can't {action} {path}; check that the directory exists, is writable and has room")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent works with the directory.
    #[error(
        "an agent is running with the state directory {0}; stop it first, or give this one another --state-dir"
    )]
    Locked(PathBuf),
}

/// The lock on a state directory; given back when dropped, and by the kernel when the process ends, however it does.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

/// Makes the directory and takes its lock.
pub fn lock(dir: &Path) -> Result<StateLock, StateError> {
    let path = dir.join(LOCK_FILE);
    let failed = |action| {
        let path = path.clone();
        move |source| StateError::File { action, path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed("create"))?;
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("open"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => Ok(StateLock { _file: file }),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateError::Locked(dir.to_owned())),
        Err((_, errno)) => Err(failed("lock")(errno.into())),
    }
}

/// The values that sysctls had before we changed them.
///
/// A sysctl is written down before it is changed for the first time, so that a crash in between loses nothing. The file
/// belongs to one boot: the next one starts with the system's own values, and with an empty log. That is why the file is
/// replaced atomically but not flushed: a crash of the machine makes it void anyhow.
#[derive(Debug)]
pub struct UndoLog {
    path: PathBuf,
    record: UndoRecord,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UndoRecord {
    version: u32,
    boot_id: String,
    /// Path below `/proc/sys/net/` to value.
    sysctls: BTreeMap<String, String>,
}

impl UndoLog {
    /// Reads the log; one of another boot, or one that can't be read, is as good as none.
    pub fn load(dir: &Path) -> UndoLog {
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        UndoLog::load_for_boot(dir, boot_id)
    }

    fn load_for_boot(dir: &Path, boot_id: String) -> UndoLog {
        let path = dir.join(UNDO_FILE);
        let record = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<UndoRecord>(&bytes).ok())
            .filter(|record| record.version == 1 && record.boot_id == boot_id)
            .unwrap_or_else(|| UndoRecord { version: 1, boot_id, sysctls: BTreeMap::new() });
        UndoLog { path, record }
    }

    /// Writes down the present values of sysctls that are about to be changed, unless an earlier value is known.
    pub fn remember(
        &mut self,
        changes: &[(SysctlKey, String)],
        present: &BTreeMap<SysctlKey, String>,
    ) -> Result<(), StateError> {
        let before = self.record.sysctls.len();
        for (key, _) in changes {
            if let Some(value) = present.get(key) {
                self.record.sysctls.entry(key.path()).or_insert_with(|| value.clone());
            }
        }
        if self.record.sysctls.len() == before { Ok(()) } else { self.write() }
    }

    /// The paths below `/proc/sys/net/` and the values to put back.
    pub fn former_values(&self) -> &BTreeMap<String, String> {
        &self.record.sysctls
    }

    fn write(&self) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(&self.record).map_err(|error| StateError::File {
            action: "write",
            path: self.path.clone(),
            source: error.into(),
        })?;
        replace_file(&self.path, &text)
    }
}

/// Replaces a file atomically: a reader sees the old content or the new, never half of it.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StateError::File { action, path, source }
    };
    let mut file = File::create(&fresh).map_err(failed("create", &fresh))?;
    file.write_all(content).map_err(failed("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(failed("replace", path))
}

/// Removes a file; one that isn't there is no error.
pub fn remove_file(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StateError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The log's own file.
pub fn undo_file(dir: &Path) -> PathBuf {
    dir.join(UNDO_FILE)
}

/// The lock's own file.
pub fn lock_file(dir: &Path) -> PathBuf {
    dir.join(LOCK_FILE)
}

#[cfg(test)]
mod tests {
    use hopwise_core::family::Family;
    use hopwise_core::host::SysctlLink;

    use super::*;

    const FORWARD: SysctlKey = SysctlKey::Forwarding(Family::V4);
    const REDIRECTS: SysctlKey = SysctlKey::SendRedirects(SysctlLink::All);

    fn log_of(dir: &Path, boot: &str) -> UndoLog {
        UndoLog::load_for_boot(dir, boot.to_owned())
    }

    #[test]
    fn the_first_value_is_kept_across_restarts_and_dropped_at_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let present =
            |value: &str| BTreeMap::from([(FORWARD, value.to_owned()), (REDIRECTS, "1".to_owned())]);
        let change = [(FORWARD, "1".to_owned())];
        log_of(dir.path(), "boot1").remember(&change, &present("0")).unwrap();

        let mut restarted = log_of(dir.path(), "boot1");
        restarted.remember(&change, &present("1")).unwrap();
        restarted.remember(&[(REDIRECTS, "0".to_owned())], &present("1")).unwrap();
        let expected: BTreeMap<String, String> =
            [("ipv4/ip_forward", "0"), ("ipv4/conf/all/send_redirects", "1")]
                .map(|(path, value)| (path.to_owned(), value.to_owned()))
                .into();
        assert_eq!(log_of(dir.path(), "boot1").former_values(), &expected);
        assert!(log_of(dir.path(), "boot2").former_values().is_empty());
    }

    #[test]
    fn a_damaged_log_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "{", "null", r#"{"version":2,"bootId":"b","sysctls":{}}"#] {
            std::fs::write(undo_file(dir.path()), content).unwrap();
            assert!(log_of(dir.path(), "b").former_values().is_empty(), "{content}");
        }
    }

    #[test]
    fn a_state_directory_has_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("stop it first"), "{error}");
        drop(held);
        lock(dir.path()).unwrap();
    }
}
