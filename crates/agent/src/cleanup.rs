//! Removing everything that is ours, and nothing else: `hopwise cleanup`.
//!
//! Owned objects are found by their marks (`hopwise_core::mark`), so it works without a store, without a saved view, and
//! whatever a former version left. Sysctls get back the values that they had before an agent changed them in this boot.

use std::path::PathBuf;

use anyhow::Context;
use hopwise_core::diff::{Changes, Desired, diff};
use hopwise_core::family::Family;
use hopwise_core::host::{SysctlKey, SysctlLink};
use hopwise_core::report::Report;
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::readiness;
use hopwise_store::saved;

use crate::l2::Uplink;
use crate::run_dir;
use crate::state_dir::{self, UndoLog};

/// What to clean up.
#[derive(Clone, Debug)]
pub struct CleanupOptions {
    /// The agent's state directory.
    pub state_dir: PathBuf,
    /// The agent's run directory.
    pub run_dir: PathBuf,
    /// Only find out what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug)]
pub struct Cleanup {
    /// The changes.
    pub changes: Changes,
    /// What became of them; `None` after a dry run.
    pub report: Option<Report>,
    /// What of ours stands after all; the report says why.
    pub left: Changes,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Whether there is a journal of an uplink on a bridge. That stays: pods, and perhaps this node, would be cut off the LAN.
    pub l2_attached: bool,
}

/// Cleans up the network namespace of the calling thread. Refuses while an agent runs with the same state directory, since
/// it would put everything back.
pub fn run(options: &CleanupOptions) -> anyhow::Result<Cleanup> {
    let lock = if options.state_dir.exists() { Some(state_dir::lock(&options.state_dir)?) } else { None };
    let mut kernel = Kernel::open().context("can't open netlink; run as root, or with CAP_NET_ADMIN")?;
    let undo = UndoLog::load(&options.state_dir);
    let sysctls = former_sysctls(&undo);
    let keys: Vec<SysctlKey> = sysctls.iter().map(|(key, _)| *key).collect();
    let changes = changes(&mut kernel, &keys, &sysctls)?;
    let mut files = vec![
        saved::path(&options.state_dir),
        state_dir::undo_file(&options.state_dir),
        run_dir::path(&options.run_dir),
        readiness::path(&options.run_dir),
        state_dir::lock_file(&options.state_dir),
    ];
    files.retain(|file| file.exists());
    let l2_attached = Uplink::has_journal(&options.state_dir);
    if options.dry_run {
        return Ok(Cleanup { changes, report: None, left: Changes::default(), files, l2_attached });
    }
    let report = kernel.apply(&changes);
    let left = self::changes(&mut kernel, &keys, &sysctls)?;
    if left.is_empty() {
        // Kept otherwise: what could not be undone now may be undone the next time.
        for file in &files {
            state_dir::remove_file(file)?;
        }
    }
    drop(lock);
    Ok(Cleanup { changes, report: Some(report), left, files, l2_attached })
}

fn changes(
    kernel: &mut Kernel,
    keys: &[SysctlKey],
    former: &[(SysctlKey, String)],
) -> anyhow::Result<Changes> {
    let observed = kernel.observe(keys).context("can't read what hopwise has in the kernel")?;
    let mut changes = diff(&observed, &Desired::default());
    // A link may be gone, and its sysctls with it.
    let differs =
        |(key, value): &&(SysctlKey, String)| observed.sysctls.get(key).is_some_and(|now| now != value);
    changes.sysctls = former.iter().filter(differs).cloned().collect();
    Ok(changes)
}

/// The sysctls to put back. Forwarding first, as when it was set: changing it resets related values.
fn former_sysctls(undo: &UndoLog) -> Vec<(SysctlKey, String)> {
    let mut sysctls: Vec<(SysctlKey, String)> = undo
        .former_values()
        .iter()
        .filter_map(|(path, value)| Some((parse_key(path)?, value.clone())))
        .collect();
    sysctls.sort();
    sysctls
}

/// The key whose [`SysctlKey::path`] this is.
fn parse_key(path: &str) -> Option<SysctlKey> {
    let forwarding = Family::BOTH.map(SysctlKey::Forwarding).into_iter().find(|key| key.path() == path);
    if forwarding.is_some() {
        return forwarding;
    }
    let mut parts = path.split('/');
    let link = match parts.nth(2)? {
        "all" => SysctlLink::All,
        "default" => SysctlLink::Default,
        name => SysctlLink::Link(name.parse().ok()?),
    };
    [SysctlKey::AcceptRa(link), SysctlKey::RpFilter(link), SysctlKey::SendRedirects(link)]
        .into_iter()
        .find(|key| key.path() == path)
}

#[cfg(test)]
mod tests {
    use hopwise_core::name::LinkName;

    use super::*;

    #[test]
    fn every_key_is_known_by_its_path() {
        let links = [SysctlLink::All, SysctlLink::Default, SysctlLink::Link(LinkName::new_static("eth0.7"))];
        let mut keys = Family::BOTH.map(SysctlKey::Forwarding).to_vec();
        for link in links {
            keys.extend([
                SysctlKey::AcceptRa(link),
                SysctlKey::RpFilter(link),
                SysctlKey::SendRedirects(link),
            ]);
        }
        for key in keys {
            assert_eq!(parse_key(&key.path()), Some(key), "{}", key.path());
        }
        for foreign in ["", "ipv4/tcp_syncookies", "ipv4/conf/all/forwarding", "ipv4/conf/all"] {
            assert_eq!(parse_key(foreign), None, "{foreign}");
        }
    }
}
