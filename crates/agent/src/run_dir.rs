//! The run directory: what other programs on this node (the pod-attaching plugin, scripts) may want to know without asking
//! over HTTP. `node.json` says what this node is, locks on `ready` say that it is so right now
//! ([`hopwise_kernel::readiness`]). `docs/status.md` describes both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hopwise_core::name::NodeName;
use hopwise_core::note::{Note, Severity};
use hopwise_core::plan::NodeWide;
use hopwise_kernel::readiness::{self, ReadyFile};
use serde::Serialize;
use tokio::sync::watch;

use crate::reconciler::{Inbox, Published};
use crate::state_dir::{StateError, replace_file};

/// The version of the format.
const VERSION: u32 = 1;

/// The content of `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFile {
    version: u32,
    node: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    #[serde(rename = "podMTU", skip_serializing_if = "Option::is_none")]
    pod_mtu: Option<u32>,
    ready: bool,
}

impl NodeFile {
    /// What a plan says.
    pub fn new(node: &NodeName, plan: &NodeWide, ready: bool) -> NodeFile {
        NodeFile {
            version: VERSION,
            node: node.to_string(),
            pod_cidrs: plan.pod_cidrs.iter().map(ToString::to_string).collect(),
            pod_mtu: plan.pod_mtu.map(|mtu| mtu.bytes()),
            ready,
        }
    }

    /// Writes the file, atomically.
    pub fn write(&self, run_dir: &Path) -> Result<(), StateError> {
        let path = path(run_dir);
        let failed = |source| StateError::File { action: "write", path: path.clone(), source };
        std::fs::create_dir_all(run_dir).map_err(failed)?;
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        replace_file(&path, &text)
    }
}

/// Keeps both files up to date for ever. The run directory may be emptied by others, so a failure is noted, not fatal.
pub async fn keep(run_dir: PathBuf, mut published: watch::Receiver<Published>, inbox: Arc<Inbox>) {
    let mut ready_file = ReadyFile::new(&run_dir);
    let (mut written, mut noted) = (None, None);
    loop {
        let (file, ready) = {
            let published = published.borrow_and_update();
            (published.node_file.clone(), published.ready.ready)
        };
        let mut error = None;
        if file != written {
            error = file.as_ref().and_then(|file| file.write(&run_dir).err());
            written = if error.is_some() { None } else { file };
        }
        // After node.json: who waits for readiness finds there what is ready.
        let told = ready_file.tell(ready).map_err(|source| {
            let path = readiness::path(&run_dir);
            StateError::File { action: "lock", path, source }
        });
        let note = error.or(told.err()).map(|error| Note {
            id: "run-dir-not-written",
            severity: Severity::Warning,
            subject: run_dir.display().to_string(),
            evidence: format!("{:#}", anyhow::Error::new(error)),
            fix: "make the run directory writable, or choose another with --run-dir".to_owned(),
        });
        // Only news: a note makes the reconciler publish, which brings us back here.
        if note != noted {
            inbox.put_note("run directory".to_owned(), note.clone());
            noted = note;
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}

/// Where `node.json` is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("node.json")
}

#[cfg(test)]
mod tests {
    use hopwise_core::name::Mtu;

    use super::*;

    #[test]
    fn the_file_is_what_the_documentation_shows() {
        let plan = NodeWide {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:10:244:1::/64".parse().unwrap()],
            pod_mtu: Some(Mtu::ETHERNET),
            ..NodeWide::default()
        };
        let dir = tempfile::tempdir().unwrap();
        NodeFile::new(&"node1".parse().unwrap(), &plan, true).write(dir.path()).unwrap();
        let text = std::fs::read_to_string(path(dir.path())).unwrap();
        let documentation = include_str!("../../../docs/status.md");
        assert!(documentation.contains(&text), "docs/status.md should show:\n{text}");
    }
}
