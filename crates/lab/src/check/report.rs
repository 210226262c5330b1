//! What a check found: values for people (see [`super::table`]) and programs (serde).

use std::fmt::Display;
use std::net::IpAddr;

use hopwise_api::status::{FamilyName, ReachMode};
use serde::{Deserialize, Serialize};

pub use crate::expect::EndpointKind;

/// What a whole check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The lab.
    pub lab: String,
    /// Whether all is as it should be.
    pub ok: bool,
    /// All ends, in the order of the matrix.
    pub endpoints: Vec<EndpointReport>,
    /// One for each pair of ends and family that should reach each other.
    pub cells: Vec<Cell>,
    /// How nodes reach each other, by the word of their agents.
    pub modes: Vec<ModeFinding>,
    /// What is wrong with agents.
    pub agents: Vec<AgentFinding>,
    /// How long it took, in milliseconds.
    pub elapsed_millis: u64,
}

/// One end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: EndpointKind,
    /// The node itself, or the pod's; the host itself outside.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What one end found out about another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// The sender's name.
    pub from: String,
    /// The receiver's name.
    pub to: String,
    /// The family.
    pub family: FamilyName,
    /// The receiver's address.
    pub address: IpAddr,
    /// An ICMP echo request is answered.
    pub icmp: Finding,
    /// Data goes there and back over TCP.
    pub tcp: Finding,
    /// A datagram goes there and back over UDP.
    pub udp: Finding,
    /// The largest packet that arrives in one piece is the expected one, and one byte more is refused with a word.
    pub mtu: Finding,
    /// The receiver sees the expected source address.
    pub source: Finding,
}

impl Cell {
    /// The five findings with their names, in the order of the matrix.
    pub fn findings(&self) -> [(&'static str, &Finding); 5] {
        [
            ("icmp", &self.icmp),
            ("tcp", &self.tcp),
            ("udp", &self.udp),
            ("mtu", &self.mtu),
            ("source", &self.source),
        ]
    }

    /// Whether all is as it should be.
    pub fn is_ok(&self) -> bool {
        self.findings().iter().all(|(_, finding)| finding.result == Outcome::Pass)
    }
}

/// How one thing turned out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How.
    pub result: Outcome,
    /// What should have been seen; for a failure always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
}

/// How one thing turned out, in a word; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As it should.
    Pass,
    /// Not tried, as something that it needs has failed.
    Skipped,
    /// Not as it should.
    Fail,
}

impl Finding {
    pub(super) fn pass() -> Finding {
        Finding { result: Outcome::Pass, expected: None, seen: None }
    }

    pub(super) fn pass_with(seen: impl Display) -> Finding {
        Finding { seen: Some(seen.to_string()), ..Finding::pass() }
    }

    pub(super) fn fail(expected: impl Display, seen: impl Display) -> Finding {
        let (expected, seen) = (Some(expected.to_string()), Some(seen.to_string()));
        Finding { result: Outcome::Fail, expected, seen }
    }

    pub(super) fn skipped() -> Finding {
        Finding { result: Outcome::Skipped, expected: None, seen: None }
    }

    pub(super) fn compare<T: Display + PartialEq>(expected: T, seen: T) -> Finding {
        if expected == seen { Finding::pass_with(seen) } else { Finding::fail(expected, seen) }
    }

    /// Whether it is not as it should be.
    pub fn is_failure(&self) -> bool {
        self.result == Outcome::Fail
    }
}

/// How one node reaches another in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModeFinding {
    /// The node whose agent says so.
    pub from: String,
    /// Its peer.
    pub to: String,
    /// The family.
    pub family: FamilyName,
    /// How it should be.
    pub expected: ReachMode,
    /// How it is; absent where the agent says nothing about that peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<ReachMode>,
}

/// Something wrong with an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFinding {
    /// Its node.
    pub node: String,
    /// What is wrong.
    pub problem: String,
}
