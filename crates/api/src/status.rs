//! What an agent says about itself: the body of `GET /status`, and what `hopwise status` and `hopwise routes` read.
//!
//! JSON, camelCase, versioned by [`Status::version`]. Fields are added, never given another meaning: readers ignore fields
//! that they don't know. Every field is described in `docs/status.md`.

use std::collections::BTreeMap;

use hopwise_core::family::Family;
use hopwise_core::note::{Note, Severity};
use serde::{Deserialize, Serialize};

/// The version of the format that this code writes.
pub const VERSION: u32 = 1;

/// The whole status of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of the format; a reader refuses one that is higher than its own [`VERSION`].
    pub version: u32,
    /// The version of the agent.
    pub agent_version: String,
    /// The node's name.
    pub node: String,
    /// The links and addresses that carry the node's traffic, one per family that has one.
    pub uplinks: Vec<UplinkStatus>,
    /// The node's own pod CIDRs.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// The MTU for pods' interfaces, in bytes; absent while there is no uplink.
    #[serde(rename = "podMTU", skip_serializing_if = "Option::is_none", default)]
    pub pod_mtu: Option<u32>,
    /// Which view of the cluster is in use.
    pub view: ViewStatus,
    /// Whether the node is ready, and if not, what is missing.
    pub ready: ReadyStatus,
    /// Every peer, one entry per address family, in order of names.
    pub peers: Vec<PeerStatus>,
    /// Findings, the worst first.
    pub notes: Vec<NoteStatus>,
    /// Events counted since the agent started.
    pub counters: Counters,
    /// What became of the latest changes; absent while there were none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_report: Option<ReportStatus>,
}

/// The link and address that carry the node's traffic in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UplinkStatus {
    /// The family.
    pub family: FamilyName,
    /// The link's name.
    pub link: String,
    /// The node's address on it.
    pub address: String,
    /// The MTU of the path between nodes, in bytes.
    pub mtu: u32,
    /// The link's MAC address, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
}

/// Which view of the cluster is in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewStatus {
    /// Where it came from.
    pub source: ViewSource,
    /// Seconds since it was last known to be current: 0 while a store is followed without trouble.
    pub age_seconds: f64,
    /// How many nodes it has, this one included.
    pub nodes: usize,
}

/// Where a view came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ViewSource {
    /// There is none yet, so nothing is planned.
    #[default]
    None,
    /// The last complete view, saved on disk by an earlier run.
    Saved,
    /// The store.
    Live,
}

impl ViewSource {
    /// A word for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ViewSource::None => "none",
            ViewSource::Saved => "saved",
            ViewSource::Live => "live",
        }
    }
}

/// Readiness: a complete view is in use, and every reachable peer's routes are in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyStatus {
    /// Whether the node is ready.
    pub ready: bool,
    /// How many things are missing.
    pub missing_count: usize,
    /// The first of what is missing.
    pub missing: Vec<String>,
}

/// What is known about one peer in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// The peer's name.
    pub node: String,
    /// The family.
    pub family: FamilyName,
    /// The peer's address; absent where it has none of this family.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// How it is reached.
    pub mode: ReachMode,
    /// Its pod CIDRs, those refused left out (a note names them).
    pub routes: Vec<PeerRoute>,
}

/// One pod CIDR of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRoute {
    /// The pod CIDR.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// The route's next hop as `ip route` writes it (`via ADDRESS dev LINK`); absent where no route of ours is planned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<String>,
    /// Whether it stands in the kernel.
    pub state: RouteState,
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReachMode {
    /// A route through the peer's on-link address.
    Direct,
    /// Encapsulated in VXLAN.
    Vxlan,
    /// The network between the nodes knows the pod CIDRs.
    Fabric,
    /// Not at all; a note says why.
    Unreachable,
}

impl ReachMode {
    /// All modes.
    pub const ALL: [ReachMode; 4] =
        [ReachMode::Direct, ReachMode::Vxlan, ReachMode::Fabric, ReachMode::Unreachable];

    /// A word for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ReachMode::Direct => "direct",
            ReachMode::Vxlan => "vxlan",
            ReachMode::Fabric => "fabric",
            ReachMode::Unreachable => "unreachable",
        }
    }
}

impl From<hopwise_core::plan::Reach> for ReachMode {
    fn from(reach: hopwise_core::plan::Reach) -> Self {
        use hopwise_core::plan::Reach;
        match reach {
            Reach::Direct => ReachMode::Direct,
            Reach::Vxlan => ReachMode::Vxlan,
            Reach::Fabric => ReachMode::Fabric,
            Reach::Unreachable => ReachMode::Unreachable,
        }
    }
}

/// Whether a pod CIDR can be reached as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteState {
    /// What is planned stands in the kernel, or nothing is needed there.
    In,
    /// A route is planned but isn't in the kernel (yet): `lastReport` and the notes say why.
    Missing,
    /// No route is planned: the peer is unreachable, or something foreign stands in the way; a note says which.
    Blocked,
}

impl RouteState {
    /// A word for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteState::In => "in",
            RouteState::Missing => "missing",
            RouteState::Blocked => "blocked",
        }
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FamilyName {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl FamilyName {
    /// A word for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            FamilyName::Ipv4 => "ipv4",
            FamilyName::Ipv6 => "ipv6",
        }
    }
}

impl From<Family> for FamilyName {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => FamilyName::Ipv4,
            Family::V6 => FamilyName::Ipv6,
        }
    }
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoteStatus {
    /// A stable identifier in kebab case; `docs/notes.md` describes each.
    pub id: String,
    /// How bad it is.
    pub severity: SeverityName,
    /// What it is about.
    pub subject: String,
    /// The very values seen.
    pub evidence: String,
    /// What to do.
    pub fix: String,
}

impl From<&Note> for NoteStatus {
    fn from(note: &Note) -> Self {
        NoteStatus {
            id: note.id.to_owned(),
            severity: note.severity.into(),
            subject: note.subject.clone(),
            evidence: note.evidence.clone(),
            fix: note.fix.clone(),
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SeverityName {
    /// Worth knowing; nothing is broken.
    Info,
    /// Something may not work.
    Warning,
    /// Something does not work.
    Error,
}

impl SeverityName {
    /// A word for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            SeverityName::Info => "info",
            SeverityName::Warning => "warning",
            SeverityName::Error => "error",
        }
    }
}

impl From<Severity> for SeverityName {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => SeverityName::Info,
            Severity::Warning => SeverityName::Warning,
            Severity::Error => SeverityName::Error,
        }
    }
}

/// Events counted since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Objects put back after something else changed them, by kind.
    pub repairs: BTreeMap<String, u64>,
    /// Changes that the kernel refused, by kind.
    pub apply_errors: BTreeMap<String, u64>,
    /// Changes that took effect.
    pub applied: u64,
    /// How often everything was read again because notifications were lost.
    pub overruns: u64,
    /// Slow full checks.
    pub full_checks: u64,
    /// Objects that only a full check found to differ: each is drift that the kernel did not tell us about.
    pub full_check_findings: u64,
}

/// What became of a set of changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportStatus {
    /// How many took effect.
    pub applied: usize,
    /// Those that did not, at most 20.
    pub errors: Vec<ErrorStatus>,
    /// How many did not.
    pub error_count: usize,
    /// How long it took, in microseconds.
    pub elapsed_micros: u64,
    /// How many seconds ago.
    pub age_seconds: f64,
}

/// One change that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorStatus {
    /// What kind of object it was about.
    pub kind: String,
    /// The change, as one would type it.
    pub change: String,
    /// The error number; 0 where there is none.
    pub errno: i32,
    /// What the kernel said.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        Status {
            version: VERSION,
            agent_version: "0.1.0".into(),
            node: "node1".into(),
            uplinks: vec![UplinkStatus {
                family: FamilyName::Ipv4,
                link: "eth0".into(),
                address: "192.168.0.1".into(),
                mtu: 1500,
                mac: Some("02:00:00:00:00:01".into()),
            }],
            pod_cidrs: vec!["10.244.1.0/24".into()],
            pod_mtu: Some(1500),
            view: ViewStatus { source: ViewSource::Live, age_seconds: 0.0, nodes: 2 },
            ready: ReadyStatus { ready: true, missing_count: 0, missing: Vec::new() },
            peers: vec![PeerStatus {
                node: "node2".into(),
                family: FamilyName::Ipv4,
                address: Some("192.168.0.2".into()),
                mode: ReachMode::Direct,
                routes: vec![PeerRoute {
                    pod_cidr: "10.244.2.0/24".into(),
                    next_hop: Some("via 192.168.0.2 dev eth0".into()),
                    state: RouteState::In,
                }],
            }],
            notes: Vec::new(),
            counters: Counters::default(),
            last_report: None,
        }
    }

    #[test]
    fn json_is_what_the_documentation_shows() {
        let json = serde_json::to_string_pretty(&example()).unwrap();
        let documentation = include_str!("../../../docs/status.md");
        assert!(documentation.contains(&json), "docs/status.md should show:\n{json}");
    }

    #[test]
    fn a_reader_takes_what_it_knows_and_ignores_the_rest() {
        let mut value = serde_json::to_value(example()).unwrap();
        value["later"] = serde_json::json!({"field": 1});
        value["peers"][0]["later"] = 1.into();
        assert_eq!(serde_json::from_value::<Status>(value).unwrap(), example());
    }
}
