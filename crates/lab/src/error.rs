//! What can go wrong with a lab.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::name::LabName;
use crate::rootless::RootlessError;
use crate::topology::TopologyError;

/// Why something with a lab could not be done.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology can't be used.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// There is no lab of that name.
    #[error("there is no lab {lab}; make it with `hopwise lab up --name {lab}`{others}")]
    NotFound {
        /// Its name.
        lab: LabName,
        /// A sentence about the labs that there are.
        others: String,
    },
    /// The lab is there already.
    #[error(
        "lab {lab} is up already; take it down with `hopwise lab down --name {lab}`, or use another --name"
    )]
    Exists {
        /// Its name.
        lab: LabName,
    },
    /// The `up` that made it has not come to its end.
    #[error(
        "lab {lab} is not complete: its `up` is still running or was killed; wait for it, or remove what it has made \
         with `hopwise lab down --name {lab}`"
    )]
    Unfinished {
        /// Its name.
        lab: LabName,
    },
    /// Another command is working on the lab.
    #[error("another command is making or removing lab {lab}; wait for it or stop it")]
    Busy {
        /// Its name.
        lab: LabName,
    },
    /// The lab has no such namespace.
    #[error("lab {lab} has no {target:?}; it has {known}")]
    UnknownTarget {
        /// The lab.
        lab: LabName,
        /// What was asked for.
        target: String,
        /// What there is.
        known: String,
    },
    /// This user can't make namespaces.
    #[error(transparent)]
    Rootless(#[from] RootlessError),
    /// A binary is missing.
    #[error("no {what} at {}: build it, or say where it is with {option}", path.display())]
    NoBinary {
        /// Which one.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// The option that says otherwise.
        option: &'static str,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the lab's own is not what it was when it was written.
    #[error("{} is damaged ({problem}); remove the lab with `hopwise lab down`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A step of making or changing the lab failed.
    #[error("{doing}")]
    Step {
        /// What was being done, to which member.
        doing: String,
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An agent did not become ready.
    #[error("the agent of {node} {problem}\n{evidence}")]
    Agent {
        /// Its node.
        node: String,
        /// What happened.
        problem: String,
        /// What its status and the end of its log say.
        evidence: String,
    },
    /// The plugin could not attach or detach a pod.
    #[error("the plugin could not {command} {pod}: {message}")]
    Plugin {
        /// `ADD` or `DEL`.
        command: &'static str,
        /// The pod.
        pod: String,
        /// What the plugin said.
        message: String,
    },
    /// A signal came.
    #[error("interrupted; the lab has been removed again")]
    Interrupted,
    /// Things are left that could not be removed.
    #[error("not all of lab {lab} could be removed:\n{}", problems.join("\n"))]
    Leftovers {
        /// Its name.
        lab: LabName,
        /// One line for each.
        problems: Vec<String>,
    },
}

impl LabError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> LabError {
        let path = path.to_owned();
        move |source| LabError::File { path, source }
    }

    pub(crate) fn step<E: Into<Box<dyn Error + Send + Sync>>>(
        doing: impl Into<String>,
    ) -> impl FnOnce(E) -> LabError {
        let doing = doing.into();
        move |source| LabError::Step { doing, source: source.into() }
    }
}
