//! Whether a node's agent is ready, told to other processes without a conversation: locks on two bytes of a file.
//!
//! The agent holds the first byte of `ready` in its run directory while it lives, and the second while it is ready. They are
//! open file description locks (`fcntl(2)`, `F_OFD_SETLK`, Linux 3.15): the kernel gives them back when the process ends,
//! however it does, so what a killed agent left behind tells no lies. Who asks only looks (`F_OFD_GETLK`) and takes no lock,
//! so any number may ask at any time without getting into the agent's way.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

/// The byte whose lock says: the agent lives.
const ALIVE: i64 = 0;
/// The byte whose lock says: it is ready.
const READY: i64 = 1;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// No agent runs with this run directory.
    NoAgent,
    /// One runs, and its network isn't in place.
    NotReady,
    /// One runs, and its network is in place.
    Ready,
}

/// Where the file is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("ready")
}

/// Asks. Two or three system calls, no waiting.
///
/// # Errors
///
/// When the file is there and can't be opened or asked.
pub fn read(run_dir: &Path) -> io::Result<Readiness> {
    let file = match File::open(path(run_dir)) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Readiness::NoAgent);
        }
        Err(error) => return Err(error),
    };
    Ok(match (is_locked(&file, ALIVE)?, is_locked(&file, READY)?) {
        (false, _) => Readiness::NoAgent,
        (true, false) => Readiness::NotReady,
        (true, true) => Readiness::Ready,
    })
}

/// The agent's side: the file and its locks, given back when this is dropped.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    held: Option<File>,
}

impl ReadyFile {
    /// For a run directory; nothing is made yet.
    pub fn new(run_dir: &Path) -> ReadyFile {
        ReadyFile { path: path(run_dir), held: None }
    }

    /// Says that the agent lives, and whether it is ready. Makes the file, and its directory, when they are not there: others
    /// may empty a run directory.
    ///
    /// # Errors
    ///
    /// When that fails; `EAGAIN` when another agent has the file.
    pub fn tell(&mut self, ready: bool) -> io::Result<()> {
        let file = match self.held.take().filter(|held| is_at(held, &self.path)) {
            Some(file) => file,
            None => {
                if let Some(dir) = self.path.parent() {
                    std::fs::create_dir_all(dir)?;
                }
                let file =
                    File::options().create(true).truncate(false).read(true).write(true).open(&self.path)?;
                set(&file, ALIVE, true)?;
                file
            }
        };
        let told = set(&file, READY, ready);
        self.held = Some(file);
        told
    }
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), path.metadata()), (Ok(a), Ok(b)) if same(&a, &b))
}

fn byte(offset: i64, lock: i32) -> libc::flock {
    libc::flock {
        l_type: lock as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: offset,
        l_len: 1,
        // Has to be 0 for locks of open file descriptions.
        l_pid: 0,
    }
}

fn set(file: &File, offset: i64, locked: bool) -> io::Result<()> {
    let lock = byte(offset, if locked { libc::F_WRLCK } else { libc::F_UNLCK });
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))?;
    Ok(())
}

fn is_locked(file: &File, offset: i64) -> io::Result<bool> {
    // The lock that we would like; the kernel puts the one that is in the way in its place.
    let mut lock = byte(offset, libc::F_RDLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A folder that goes away with the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("hopwise-ready-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_told_is_read_and_ends_with_who_told_it() {
        let dir = Dir::new("told");
        let run_dir = dir.0.join("run");
        assert_eq!(read(&run_dir).unwrap(), Readiness::NoAgent, "no directory");
        let mut told = ReadyFile::new(&run_dir);
        for ready in [false, true, true, false, true] {
            told.tell(ready).unwrap();
            let expected = if ready { Readiness::Ready } else { Readiness::NotReady };
            assert_eq!(read(&run_dir).unwrap(), expected);
        }
        let mut second = ReadyFile::new(&run_dir);
        assert_eq!(second.tell(false).unwrap_err().raw_os_error(), Some(libc::EAGAIN), "one agent at a time");
        assert_eq!(read(&run_dir).unwrap(), Readiness::Ready, "the other's failure changes nothing");
        drop(told);
        assert!(path(&run_dir).exists());
        assert_eq!(read(&run_dir).unwrap(), Readiness::NoAgent, "a file that nobody holds says nothing");
        second.tell(true).unwrap();
        assert_eq!(read(&run_dir).unwrap(), Readiness::Ready);
    }

    #[test]
    fn a_file_that_others_removed_is_made_again() {
        let dir = Dir::new("removed");
        let run_dir = dir.0.join("run");
        let mut told = ReadyFile::new(&run_dir);
        told.tell(true).unwrap();
        std::fs::remove_dir_all(&run_dir).unwrap();
        assert_eq!(read(&run_dir).unwrap(), Readiness::NoAgent);
        told.tell(true).unwrap();
        assert_eq!(read(&run_dir).unwrap(), Readiness::Ready);
    }

    const CHILD: &str = "HOPWISE_TEST_READY_CHILD";

    /// Not a test by itself: the process that the next one kills.
    #[test]
    fn child_that_is_ready_until_it_is_killed() {
        let Some(run_dir) = std::env::var_os(CHILD) else { return };
        let mut told = ReadyFile::new(Path::new(&run_dir));
        told.tell(true).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn a_killed_agent_is_not_ready() {
        let dir = Dir::new("killed");
        let test = "readiness::tests::child_that_is_ready_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(CHILD, &dir.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while read(&dir.0).unwrap() != Readiness::Ready {
            assert!(std::time::Instant::now() < deadline, "never ready");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read(&dir.0).unwrap(), Readiness::NoAgent);
    }
}
