//! What became of an attempt to apply changes. An error is a value that shows in status, metrics and notes.

use std::time::Duration;

/// Kinds of owned objects, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A link.
    Link,
    /// An address.
    Address,
    /// A nexthop object.
    NextHop,
    /// A route.
    Route,
    /// A neighbour entry.
    Neighbour,
    /// An FDB entry.
    Fdb,
    /// A policy rule.
    Rule,
    /// The nftables table or elements of it.
    Nftables,
    /// Accepts in an iptables chain.
    ForwardAccept,
    /// A sysctl.
    Sysctl,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [ObjectKind; 10] = [
        ObjectKind::Link,
        ObjectKind::Address,
        ObjectKind::NextHop,
        ObjectKind::Route,
        ObjectKind::Neighbour,
        ObjectKind::Fdb,
        ObjectKind::Rule,
        ObjectKind::Nftables,
        ObjectKind::ForwardAccept,
        ObjectKind::Sysctl,
    ];

    /// A word for metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Link => "link",
            ObjectKind::Address => "address",
            ObjectKind::NextHop => "nexthop",
            ObjectKind::Route => "route",
            ObjectKind::Neighbour => "neighbour",
            ObjectKind::Fdb => "fdb",
            ObjectKind::Rule => "rule",
            ObjectKind::Nftables => "nftables",
            ObjectKind::ForwardAccept => "forward-accept",
            ObjectKind::Sysctl => "sysctl",
        }
    }
}

/// One change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyError {
    /// What kind of object it was about.
    pub kind: ObjectKind,
    /// The change, as a person would type it.
    pub change: String,
    /// The error number, positive (`errno`); 0 where there is none.
    pub errno: i32,
    /// What the kernel or the tool said (extended acknowledgement where there is one).
    pub message: String,
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.change, self.message)
    }
}

/// What became of a set of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many changes took effect.
    pub applied: usize,
    /// Those that did not.
    pub errors: Vec<ApplyError>,
    /// How long it took.
    pub elapsed: Duration,
}
