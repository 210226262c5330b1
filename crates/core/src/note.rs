//! Notes: findings that an operator can act on.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is broken.
    Info,
    /// Something may not work.
    Warning,
    /// Something does not work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// A finding: what is wrong, how we know, what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// A stable identifier in kebab case, such as `pod-cidr-overlap`; documented in `docs/notes.md`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a node, a link, a table, a file.
    pub subject: String,
    /// The very values seen.
    pub evidence: String,
    /// What to do, as a command where there is one.
    pub fix: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}; {}", self.severity, self.id, self.subject, self.evidence, self.fix)
    }
}
