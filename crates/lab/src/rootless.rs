//! Labs without root: a user namespace, kept by a small process.
//!
//! Root makes named network namespaces below `/run/netns`, where `ip netns` shows them. Anybody else gets a user and a mount
//! namespace first, in which he is root and `/run/netns` is a private tmpfs. They last as long as a process is in them,
//! so a *holder* process does nothing but be there; later commands join it with `setns(2)`. When the holder ends, so
//! do the mounts, and with them the network namespaces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe, setsid};

use hopwise_kernel::netns::NAMED_DIR;

use crate::name::LabName;
use crate::process::{self, ProcessId};

/// Why this user gets no namespaces.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// The system does not let this user make a user namespace.
    #[error(
        "this user may not make namespaces: {doing} failed: {source}\n{reason}\nOr run the command as root: `sudo \
         hopwise lab …`"
    )]
    Forbidden {
        /// The step.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
        /// Why, as far as it can be found out, and what to do.
        reason: String,
    },
    /// Joining needs a process with one thread only.
    #[error(
        "can't join the user namespace of lab {lab}: {source}; a process with several threads can't (this one has \
         {n_threads})"
    )]
    Join {
        /// The lab.
        lab: LabName,
        /// What the system said.
        source: io::Error,
        /// Of this process.
        n_threads: usize,
    },
    /// The process is already in another lab's user namespace.
    #[error("this process has already joined lab {joined} and can't join lab {lab} too")]
    Elsewhere {
        /// The lab that it is in.
        joined: LabName,
        /// The lab that was asked for.
        lab: LabName,
    },
    /// The holder process has gone.
    #[error(
        "the process that kept the namespaces of lab {lab} has gone; remove the rest with `hopwise lab down`"
    )]
    NoHolder {
        /// The lab.
        lab: LabName,
    },
}

/// The lab whose user namespace this process has joined.
static JOINED: OnceLock<LabName> = OnceLock::new();
/// Found out once, before any user namespace is joined: after that everybody is root.
static PRIVILEGED: OnceLock<bool> = OnceLock::new();

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Whether this process can make named network namespaces itself.
pub fn is_privileged() -> bool {
    *PRIVILEGED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        let has = |capability: u32| capabilities & (1 << capability) != 0;
        // Root of a user namespace has the same capabilities, but not over the host's /run.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let initial = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        has(CAP_NET_ADMIN) && has(CAP_SYS_ADMIN) && initial
    })
}

/// The directory that holds a directory of state per lab.
pub fn base_dir() -> PathBuf {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        if is_privileged() {
            return PathBuf::from("/run/hopwise-lab");
        }
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
            Some(dir) if dir.is_absolute() && dir.is_dir() => dir.join("hopwise-lab"),
            _ => PathBuf::from(format!("/tmp/hopwise-lab-{}", geteuid())),
        }
    })
    .clone()
}

/// Starts a holder for a lab and joins it. `holder_file` is where its number is kept.
pub(crate) fn create(lab: &LabName, holder_file: &Path) -> Result<(), RootlessError> {
    let forbidden = |doing, source| RootlessError::Forbidden { doing, source, reason: reason() };
    if process_threads() > 1 {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        return Err(RootlessError::Join { lab: lab.clone(), source, n_threads: process_threads() });
    }
    let (from_holder, to_parent) = pipe().map_err(|errno| forbidden("pipe", errno.into()))?;
    // SAFETY: this process has one thread (checked above), so the child may use all of the standard library.
    let holder = match unsafe { fork() }.map_err(|errno| forbidden("fork", errno.into()))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(from_holder);
            hold(lab, holder_file, to_parent)
        }
    };
    drop(to_parent);
    let mut said = String::new();
    let _ = File::from(from_holder).read_to_string(&mut said);
    match parse_holder_report(&said) {
        Ok(()) => join_process(lab, holder),
        Err((doing, errno)) => {
            let _ = nix::sys::wait::waitpid(holder, None);
            Err(forbidden(doing, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Joins the holder of a lab.
pub(crate) fn join(lab: &LabName, holder_file: &Path) -> Result<(), RootlessError> {
    if let Some(joined) = JOINED.get() {
        return match joined == lab {
            true => Ok(()),
            false => Err(RootlessError::Elsewhere { joined: joined.clone(), lab: lab.clone() }),
        };
    }
    match find_holder(lab, holder_file) {
        Some(holder) => join_process(lab, Pid::from_raw(holder.pid)),
        None => Err(RootlessError::NoHolder { lab: lab.clone() }),
    }
}

/// The holder of a lab: by its file, else by its name among this user's processes.
pub(crate) fn find_holder(lab: &LabName, holder_file: &Path) -> Option<ProcessId> {
    let recorded = std::fs::read(holder_file).ok();
    let recorded = recorded.and_then(|bytes| serde_json::from_slice::<ProcessId>(&bytes).ok());
    let name = holder_name(lab);
    recorded.filter(|holder| holder.alive()).or_else(|| {
        let joinable = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/user")).is_ok();
        process::find(|pid| process::name(pid).as_deref() == Some(&name) && joinable(pid)).first().copied()
    })
}

fn holder_name(lab: &LabName) -> String {
    format!("hw-{lab}")
}

fn join_process(lab: &LabName, holder: Pid) -> Result<(), RootlessError> {
    let failed =
        |source: io::Error| RootlessError::Join { lab: lab.clone(), source, n_threads: process_threads() };
    let open = |kind: &str| File::open(format!("/proc/{holder}/ns/{kind}"));
    let (user, mounts) = (open("user").map_err(failed)?, open("mnt").map_err(failed)?);
    // The current directory is one of the old mounts; entering a mount namespace moves us to its root.
    let here = std::env::current_dir();
    setns(&user, CloneFlags::CLONE_NEWUSER).map_err(|errno| failed(errno.into()))?;
    setns(&mounts, CloneFlags::CLONE_NEWNS).map_err(|errno| failed(errno.into()))?;
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    let _ = JOINED.set(lab.clone());
    Ok(())
}

fn process_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// What the system says about user namespaces, as a reason and a remedy.
fn reason() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "AppArmor keeps unprivileged users from them here \
                (kernel.apparmor_restrict_unprivileged_userns = 1). An administrator can allow it with `sysctl -w \
                kernel.apparmor_restrict_unprivileged_userns=0`, or with an AppArmor profile for hopwise that has \
                `userns,`."
            .to_owned();
    }
    if read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "They are switched off for unprivileged users here (kernel.unprivileged_userns_clone = 0). An \
                administrator can allow them with `sysctl -w kernel.unprivileged_userns_clone=1`."
            .to_owned();
    }
    if read("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        return "User namespaces are switched off here (user.max_user_namespaces = 0). An administrator can allow \
                them with `sysctl -w user.max_user_namespaces=10000`."
            .to_owned();
    }
    "No sysctl says why: in a container it is most likely a seccomp profile (`--security-opt seccomp=unconfined`), \
     else an SELinux or AppArmor policy."
        .to_owned()
}

/// The holder's life: makes the namespaces, tells the parent, and stays.
fn hold(lab: &LabName, holder_file: &Path, to_parent: OwnedFd) -> ! {
    let report = match become_holder(lab, holder_file, &to_parent) {
        Ok(()) => "ok".to_owned(),
        Err((doing, source)) => format!("{doing} {}", source.raw_os_error().unwrap_or(libc::EIO)),
    };
    let told = File::from(to_parent).write_all(report.as_bytes());
    if report != "ok" || told.is_err() {
        std::process::exit(1);
    }
    loop {
        nix::unistd::pause();
    }
}

const STEPS: [&str; 6] = ["detaching", "unshare", "id-map", "mount", "record", "holder"];

fn parse_holder_report(said: &str) -> Result<(), (&'static str, i32)> {
    match said.split_once(' ') {
        None if said == "ok" => Ok(()),
        Some((doing, errno)) => {
            let step = STEPS.into_iter().find(|step| *step == doing).unwrap_or("holder");
            Err((step, errno.parse().unwrap_or(libc::EIO)))
        }
        // It was killed before it could say anything.
        None => Err(("holder", libc::ECHILD)),
    }
}

fn become_holder(
    lab: &LabName,
    holder_file: &Path,
    to_parent: &OwnedFd,
) -> Result<(), (&'static str, io::Error)> {
    let at = |doing: &'static str| move |source: io::Error| (doing, source);
    let errno_at = |doing: &'static str| move |errno: nix::Error| (doing, io::Error::from(errno));
    let (uid, gid) = (geteuid(), getegid());
    setsid().map_err(errno_at("detaching"))?;
    detach(to_parent).map_err(at("detaching"))?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(errno_at("unshare"))?;
    std::fs::write("/proc/self/setgroups", "deny").map_err(at("id-map"))?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(at("id-map"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(at("id-map"))?;
    private_run().map_err(at("mount"))?;
    std::fs::write("/proc/self/comm", holder_name(lab)).map_err(at("record"))?;
    // Written by the holder itself, so that no moment is without a record, whenever the parent may be killed.
    let id = ProcessId::of(std::process::id() as i32);
    let record = serde_json::to_vec(&id).map_err(|error| ("record", error.into()))?;
    std::fs::write(holder_file, record).map_err(at("record"))
}

/// Lets go of everything inherited: a pipe held open would keep `hopwise lab up | cat` from ending.
fn detach(keep: &OwnedFd) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    drop(null);
    let keep = keep.as_raw_fd() as u32;
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: this process was just forked and has one thread; nothing in it uses these descriptors again.
            unsafe { libc::close_range(first, last, 0) };
        }
    }
    std::env::set_current_dir("/")
}

/// Gives this mount namespace a `/run/netns` of its own that is writable.
fn private_run() -> io::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let named = Path::new(NAMED_DIR);
    if !named.is_dir() {
        own_run()?;
        std::fs::create_dir_all(named)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), named, Some("tmpfs"), flags, Some("mode=0755"))?)
}

/// Mounts a tmpfs over `/run` and binds into it all that was there: where nobody has made `/run/netns` yet, only root could.
fn own_run() -> io::Result<()> {
    const NONE: Option<&str> = None;
    let old = File::open("/run")?;
    let old_path = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
    let entries: Vec<_> = std::fs::read_dir("/run")?.flatten().map(|entry| entry.file_name()).collect();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    for entry in entries {
        let (from, to) = (old_path.join(&entry), Path::new("/run").join(&entry));
        let Ok(kind) = std::fs::symlink_metadata(&from).map(|metadata| metadata.file_type()) else {
            continue;
        };
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&from)?, &to)?;
            continue;
        }
        if kind.is_dir() {
            std::fs::create_dir(&to)?;
        } else {
            File::create(&to)?;
        }
        // What can't be bound (a mount that went away) is not needed by a lab.
        let _ = mount(Some(&from), &to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE);
    }
    Ok(())
}
