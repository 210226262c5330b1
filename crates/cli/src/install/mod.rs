//! Putting the plugin binary and a network configuration list where a container runtime looks for them, and taking them out
//! again: what an init container does.
//!
//! - [`plan`]: what to do about a name in a folder. Pure.
//! - [`folder`]: a folder, looked at and changed one atomic step at a time.
//! - [`conflist`]: the configuration, generated or read. Pure.
//! - [`binary`]: the plugin binary, and what it says of itself.
//!
//! A file appears with its content or not at all, and under a name there is always the old file or the new one: a file is
//! written beside, flushed, and renamed over the name. So a binary that runs is never written to (ETXTBSY), and whatever
//! ends the work in the middle, doing it again completes it. A file of somebody else's that is in the way is first linked
//! to `.hopwise/displaced/NAME` in the same folder, from where uninstalling renames it back.

pub mod binary;
pub mod conflist;
pub mod folder;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use binary::PluginBinary;
use conflist::{Conflist, ConflistError};
use folder::{Content, Folder, Steps};
use plan::{Change, plan_absence, plan_presence};

/// The name under which the binary is called by `type: hopwise`; it is always put in place, and the other names are hard
/// links to it.
pub const MAIN: &str = "hopwise";

/// Permissions of a plugin.
const EXECUTABLE: u32 = 0o755;
/// Permissions of a network configuration list: others may read it, as other plugins' installers leave theirs.
const READABLE: u32 = 0o644;

/// Why something could not be put in place or taken out.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The system refused.
    #[error("can't {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else is at it.
    #[error("another `hopwise cni` works on {0}; try again when it has ended")]
    Busy(PathBuf),
    /// One folder for both.
    #[error("--bin-dir and --conf-dir are both {0}; give plugins and configurations a folder each")]
    OneFolder(PathBuf),
    /// The binary is none of ours.
    #[error("{path} is not a hopwise-cni binary that runs here ({problem}); name one with --binary")]
    Binary {
        /// The binary.
        path: PathBuf,
        /// What it did instead.
        problem: String,
    },
    /// A plugin that the binary is not.
    #[error("--plugins: {name:?} is no plugin of {binary}; choose from {known}")]
    UnknownPlugin {
        /// The name.
        name: String,
        /// The binary.
        binary: PathBuf,
        /// What it is.
        known: String,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Conflist(#[from] ConflistError),
}

impl InstallError {
    /// For `map_err`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
        let path = path.to_owned();
        move |source| InstallError::File { action, path, source }
    }
}

/// Where things go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder of plugins.
    pub bin_dir: PathBuf,
    /// The folder of network configurations.
    pub conf_dir: PathBuf,
}

impl Places {
    /// Two folders are looked at, locked and changed as two.
    fn check(&self) -> Result<(), InstallError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real(&self.bin_dir) == real(&self.conf_dir) {
            return Err(InstallError::OneFolder(self.bin_dir.clone()));
        }
        Ok(())
    }
}

/// What to put in place.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The binary.
    pub binary: PluginBinary,
    /// The names that it is to be called by besides [`MAIN`]; a name of ours that is not among them is given back.
    pub plugins: BTreeSet<String>,
    /// The configuration and its name in the folder; `None` leaves what is there alone.
    pub conflist: Option<(String, Conflist)>,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether nothing was changed because nothing was to be.
    pub dry_run: bool,
    /// In this order.
    pub changes: Vec<Done>,
    /// What is as it should be already.
    pub unchanged: Vec<PathBuf>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// What was done.
    pub change: Change,
    /// With which file.
    pub path: PathBuf,
}

/// A change that is planned.
struct Planned<'a> {
    folder: &'a Folder<'a>,
    name: String,
    changes: Vec<Change>,
    content: Option<Content<'a>>,
}

/// Puts all of it in place: binary, names, then the configuration that needs them.
///
/// # Errors
///
/// When something could not be done; every name has its old file or its new one then.
pub fn install(
    places: &Places,
    wanted: &Wanted,
    dry_run: bool,
    steps: Steps<'_>,
) -> Result<Outcome, InstallError> {
    places.check()?;
    let bin = Folder::new(&places.bin_dir, binary::is_ours, steps);
    let conf = Folder::new(&places.conf_dir, conflist::is_ours, steps);
    let folders = if dry_run { vec![] } else { vec![&bin, &conf] };
    let _locks = folders.into_iter().map(Folder::lock).collect::<Result<Vec<_>, _>>()?;
    let mut planned = vec![Planned {
        changes: plan_presence(&bin.slot(MAIN, Some(&wanted.binary.bytes))?),
        content: Some(Content::Bytes { bytes: &wanted.binary.bytes, mode: EXECUTABLE }),
        name: MAIN.to_owned(),
        folder: &bin,
    }];
    for name in &wanted.plugins {
        let changes = plan_presence(&bin.slot(name, Some(&wanted.binary.bytes))?);
        let content = Some(Content::SameAs(MAIN));
        planned.push(Planned { folder: &bin, name: name.clone(), changes, content });
    }
    let chosen = |name: &String| name == MAIN || wanted.plugins.contains(name);
    for name in bin.names()?.into_iter().filter(|name| !chosen(name)) {
        let changes = plan_absence(&bin.slot(&name, None)?);
        planned.push(Planned { folder: &bin, name, changes, content: None });
    }
    let mut notes = Vec::new();
    if let Some((name, conflist)) = &wanted.conflist {
        let present = |name: &str| name == MAIN || wanted.plugins.contains(name) || bin.has_foreign(name);
        conflist.check_plugins(&present, &places.bin_dir)?;
        let bytes = conflist.text.as_bytes();
        planned.push(Planned {
            changes: plan_presence(&conf.slot(name, Some(bytes))?),
            content: Some(Content::Bytes { bytes, mode: READABLE }),
            name: name.clone(),
            folder: &conf,
        });
        notes.extend(rivals(&conf, name)?);
    }
    carry_out(&planned, dry_run, notes)
}

/// Takes out what is ours and puts back what it displaced: the configuration, then the binaries.
///
/// # Errors
///
/// When something could not be done; doing it again goes on where this ended.
pub fn uninstall(places: &Places, dry_run: bool, steps: Steps<'_>) -> Result<Outcome, InstallError> {
    places.check()?;
    let bin = Folder::new(&places.bin_dir, binary::is_ours, steps);
    let conf = Folder::new(&places.conf_dir, conflist::is_ours, steps);
    let folders = [&bin, &conf].into_iter().filter(|folder| !dry_run && folder.exists());
    let _locks = folders.map(Folder::lock).collect::<Result<Vec<_>, _>>()?;
    let mut planned = Vec::new();
    for folder in [&conf, &bin] {
        let mut names = folder.names()?;
        // Last: the other names may be symbolic links to it, and are known to be ours by what they lead to.
        let main = names.take(MAIN);
        for name in names.into_iter().chain(main) {
            let changes = plan_absence(&folder.slot(&name, None)?);
            planned.push(Planned { folder, name, changes, content: None });
        }
    }
    let outcome = carry_out(&planned, dry_run, Vec::new())?;
    if !dry_run {
        bin.tidy();
        conf.tidy();
    }
    Ok(outcome)
}

/// Configurations of others that a runtime, which takes the first file by name, would prefer.
fn rivals(conf: &Folder<'_>, ours: &str) -> Result<Vec<String>, InstallError> {
    let first =
        conf.foreign()?.into_iter().filter(|name| conflist::is_configuration(name) && name.as_str() < ours);
    let note = |name: String| {
        format!(
            "{} sorts before {ours}, and runtimes use the first file: take it away, or choose a --conf-name that sorts \
             before it",
            conf.path().join(name).display()
        )
    };
    Ok(first.map(note).collect())
}

fn carry_out(planned: &[Planned<'_>], dry_run: bool, notes: Vec<String>) -> Result<Outcome, InstallError> {
    let mut outcome = Outcome { dry_run, notes, ..Outcome::default() };
    for Planned { folder, name, changes, content } in planned {
        let path = folder.path().join(name);
        if changes.is_empty() && content.is_some() {
            outcome.unchanged.push(path.clone());
        }
        for change in changes {
            if !dry_run {
                folder.apply(*change, name, content.as_ref())?;
            }
            if *change == Change::Forget {
                let kept = folder.aside(name);
                outcome.notes.push(format!(
                    "{} is newer than what was displaced; {} is dropped",
                    path.display(),
                    kept.display()
                ));
            }
            outcome.changes.push(Done { change: *change, path: path.clone() });
        }
    }
    Ok(outcome)
}
