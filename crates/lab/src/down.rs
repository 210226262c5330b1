//! `lab down`: removes a lab, whatever is left of it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hopwise_kernel::netns::{NAMED_DIR, Namespace};

use crate::agent::ENVIRONMENT;
use crate::error::LabError;
use crate::name::LabName;
use crate::process::{self, ProcessId};
use crate::rootless;
use crate::state::StateDir;

/// Removes a lab: processes, namespaces, files. Finds them by the lab's directory, by the names of namespaces, and by
/// what runs in those, so that any part may be missing. Returns whether there was anything.
pub fn down(lab: &LabName) -> Result<bool, LabError> {
    let dir = StateDir::of(lab);
    let there = dir.exists()
        || !namespaces(lab).is_empty()
        || (!rootless::is_privileged() && holder(lab, &dir).is_some());
    if there {
        // Whoever holds the lock is making the lab right now, and would go on in the middle of this.
        let lock = if dir.exists() { Some(dir.lock_soon(lab)?) } else { None };
        remove(lab, &dir)?;
        drop(lock);
    }
    Ok(there)
}

fn holder(lab: &LabName, dir: &StateDir) -> Option<ProcessId> {
    rootless::find_holder(lab, &dir.holder())
}

/// Removes a lab without looking at its lock.
pub(crate) fn remove(lab: &LabName, dir: &StateDir) -> Result<(), LabError> {
    let mut problems = Vec::new();
    let holder = if rootless::is_privileged() { None } else { holder(lab, dir) };
    if let Some(holder) = holder
        && rootless::join(lab, &dir.holder()).is_err()
        && holder.alive()
    {
        // A process with threads can't join, but the namespaces end with their processes anyway.
        problems.extend(holder.kill().err().map(|error| error.to_string()));
    }
    let recorded = dir.processes();
    let inodes: Vec<u64> =
        namespaces(lab).into_iter().filter_map(|(_, path)| process::namespace_inode(path)).collect();
    let mark = format!("{ENVIRONMENT}={lab}");
    let belongs =
        |pid: i32| process::in_network_namespace(pid, &inodes) || process::has_environment(pid, &mark);
    problems.extend(kill_all(recorded, belongs));
    for (name, _) in namespaces(lab) {
        problems.extend(Namespace::remove_named(&name).err().map(|error| describe(&error)));
    }
    if let Some(holder) = holder {
        problems.extend(holder.kill().err().map(|error| error.to_string()));
    }
    problems.extend(dir.remove().err().map(|error| format!("{}: {error}", dir.path().display())));
    if problems.is_empty() { Ok(()) } else { Err(LabError::Leftovers { lab: lab.clone(), problems }) }
}

/// Kills until none is found any more: a process may just have started another.
fn kill_all(recorded: Vec<ProcessId>, belongs: impl Fn(i32) -> bool) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut open = recorded;
    loop {
        let problems: Vec<String> =
            open.iter().filter_map(|found| found.kill().err()).map(|error| error.to_string()).collect();
        open = process::find(&belongs);
        if open.is_empty() || Instant::now() > deadline {
            return problems;
        }
    }
}

/// The named namespaces of a lab, with their files.
fn namespaces(lab: &LabName) -> Vec<(String, PathBuf)> {
    let prefix = lab.prefix();
    let entries = std::fs::read_dir(NAMED_DIR).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().to_str()?.to_owned(), entry.path())));
    named.filter(|(name, _)| name.starts_with(&prefix)).collect()
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}
