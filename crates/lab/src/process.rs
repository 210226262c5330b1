//! Processes that outlive the command which started them: known by number and start time, signalled through a pidfd.
//!
//! A number alone is not enough: it may have been given to another process since. A process is ours if it started when
//! ours did; the pidfd then pins it between the look and the signal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process, told apart from later ones with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks after boot (`proc_pid_stat(5)`, field 22).
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<ProcessId> {
        read_stat(pid).map(|(_, start)| ProcessId { pid, start })
    }

    /// Whether it still runs. A zombie doesn't.
    pub fn alive(self) -> bool {
        matches!(read_stat(self.pid), Some((state, start)) if start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// Sends a signal; a process that has gone is no error.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pidfd) = self.pidfd()? else { return Ok(()) };
        // SAFETY: a plain system call on a descriptor that we hold; no memory is passed.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, 0_usize, 0_u32)
        };
        match io::Error::last_os_error() {
            _ if result == 0 => Ok(()),
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }

    /// Waits until it has gone; false if it hasn't in that time.
    pub fn wait(self, timeout: Duration) -> io::Result<bool> {
        if let Some(pidfd) = self.pidfd()? {
            let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            if poll(&mut fds, timeout)? == 0 {
                return Ok(false);
            }
        }
        // If it was a child of this very process it is a zombie until somebody asks.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        Ok(true)
    }

    /// Kills it and waits until it has gone.
    pub fn kill(self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)?;
        match self.wait(Duration::from_secs(10))? {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {} is still there 10 s after SIGKILL", self.pid),
            )),
        }
    }

    fn pidfd(self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0_u32) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        // SAFETY: the kernel has just given us this descriptor, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(self.alive().then_some(fd))
    }
}

/// State letter and start time.
fn read_stat(pid: i32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may itself hold spaces and parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// All processes that we may look at and of which `belongs` says yes, this one excepted.
pub fn find(belongs: impl Fn(i32) -> bool) -> Vec<ProcessId> {
    let own = std::process::id() as i32;
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && belongs(*pid)).filter_map(ProcessId::of).filter(|p| p.alive()).collect()
}

/// Whether any thread of a process is in one of these network namespaces, given by inode.
pub fn in_network_namespace(pid: i32, inodes: &[u64]) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .map(|task| task.path().join("ns/net"))
        .any(|path| namespace_inode(path).is_some_and(|i| inodes.contains(&i)))
}

/// The inode of a namespace file: links below `/proc` and bind mounts of the same namespace agree in it.
pub fn namespace_inode(path: PathBuf) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata(path).ok()?.ino())
}

/// Whether a process was started with this in its environment.
pub fn has_environment(pid: i32, entry: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|known| known == entry.as_bytes())
}

/// A process's name (`comm`, at most 15 bytes).
pub fn name(pid: i32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_too() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert!(id.alive());
        let earlier = ProcessId { start: id.start - 1, ..id };
        assert!(!earlier.alive());
        earlier.kill().unwrap();
        assert!(id.alive(), "another process with the same number was killed");
        assert!(!id.wait(Duration::from_millis(10)).unwrap());
        id.kill().unwrap();
        assert!(!id.alive());
        id.kill().unwrap();
        assert!(child.wait().is_err(), "it has been waited for");
    }

    #[test]
    fn processes_are_found_by_environment_and_namespace() {
        let mark = format!("HOPWISE_LAB_TEST={}", std::process::id());
        let (key, value) = mark.split_once('=').unwrap();
        let mut child = Command::new("sleep").arg("60").env(key, value).spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        // The new environment is there once exec has happened.
        while !has_environment(id.pid, &mark) {
            std::thread::yield_now();
        }
        assert_eq!(find(|pid| has_environment(pid, &mark)), [id]);
        let here = namespace_inode("/proc/thread-self/ns/net".into()).unwrap();
        assert!(in_network_namespace(id.pid, &[here]) && !in_network_namespace(id.pid, &[1]));
        id.kill().unwrap();
        assert_eq!(find(|pid| has_environment(pid, &mark)), []);
        assert!(child.wait().is_err(), "it has been waited for");
    }
}
