//! Telling others: what is published after every turn, and answers to questions.

use std::time::Instant;

use hopwise_api::status::{
    Counters, ErrorStatus, NoteStatus, ReadyStatus, ReportStatus, Status, VERSION, ViewStatus,
};
use hopwise_core::cluster::NodeData;
use hopwise_core::mark;
use hopwise_core::note::{Note, Severity};
use hopwise_core::report::{ApplyError, Report};

use super::inbox::Question;
use super::objects::Object;
use super::{Network, Reconciler};
use crate::metrics::{Gauges, Metrics};
use crate::run_dir::NodeFile;
use crate::status;

/// How many missing things, and how many errors, are named one by one.
const NAMED: usize = 20;

/// What the asynchronous side is told after every turn, when it changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// Readiness.
    pub ready: ReadyStatus,
    /// What to write for other programs on this node; `None` before the first plan.
    pub node_file: Option<NodeFile>,
    /// What peers should know of this node; `None` before the first plan.
    pub node_data: Option<NodeData>,
}

/// What became of the latest changes.
#[derive(Clone, Debug)]
pub struct LastReport {
    applied: usize,
    errors: Vec<ApplyError>,
    error_count: usize,
    elapsed_micros: u64,
    at: Instant,
}

impl LastReport {
    /// Keeps a report, with the first of its errors.
    pub fn new(mut report: Report, at: Instant) -> LastReport {
        let error_count = report.errors.len();
        report.errors.truncate(NAMED);
        LastReport {
            applied: report.applied,
            errors: report.errors,
            error_count,
            elapsed_micros: u64::try_from(report.elapsed.as_micros()).unwrap_or(u64::MAX),
            at,
        }
    }

    fn status(&self) -> ReportStatus {
        let error = |error: &ApplyError| ErrorStatus {
            kind: error.kind.as_str().to_owned(),
            change: error.change.clone(),
            errno: error.errno,
            message: error.message.clone(),
        };
        ReportStatus {
            applied: self.applied,
            errors: self.errors.iter().map(error).collect(),
            error_count: self.error_count,
            elapsed_micros: self.elapsed_micros,
            age_seconds: self.at.elapsed().as_secs_f64(),
        }
    }
}

impl<N: Network> Reconciler<N> {
    /// Tells the asynchronous side what it has to know without asking. Costs the same whatever the cluster's size.
    pub(super) fn publish(&self) {
        let mut now = Published { ready: self.readiness(), node_file: None, node_data: None };
        if let Some(planner) = &self.planner {
            let node = &planner.plan().node;
            now.node_file = Some(NodeFile::new(&self.parts.node, node, now.ready.ready));
            now.node_data = Some(node.publish.clone());
        }
        self.parts.published.send_if_modified(|published| {
            let changed = *published != now;
            if changed {
                *published = now;
            }
            changed
        });
    }

    fn readiness(&self) -> ReadyStatus {
        if self.planner.is_none() {
            let missing = "a complete view of the cluster, from the store or saved by an earlier run";
            return ReadyStatus { ready: false, missing_count: 1, missing: vec![missing.to_owned()] };
        }
        let mut missing = self.pace.waiting().filter(Object::carries_traffic);
        let named: Vec<String> = missing.by_ref().take(NAMED).map(|object| object.to_string()).collect();
        ReadyStatus { ready: named.is_empty(), missing_count: named.len() + missing.count(), missing: named }
    }

    /// Answers questions.
    pub(super) fn answer(&self, questions: Vec<Question>) {
        for question in questions {
            // Who asked may have stopped waiting.
            match question {
                Question::Status(answer) => drop(answer.send(self.status())),
                Question::Gauges(answer) => drop(answer.send(self.gauges())),
            }
        }
    }

    fn status(&self) -> Status {
        let metrics = &self.parts.metrics;
        let mut status = Status {
            version: VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.parts.node.to_string(),
            uplinks: Vec::new(),
            pod_cidrs: Vec::new(),
            pod_mtu: None,
            view: ViewStatus {
                source: self.view.source,
                age_seconds: self.view.age().as_secs_f64(),
                nodes: self.planner.as_ref().map_or(0, |planner| planner.view().nodes.len()),
            },
            ready: self.readiness(),
            peers: Vec::new(),
            notes: self.own_notes().iter().map(NoteStatus::from).collect(),
            counters: Counters {
                repairs: Metrics::counts(&metrics.repairs),
                apply_errors: Metrics::counts(&metrics.apply_errors),
                applied: metrics.applied.get(),
                overruns: metrics.overruns.get(),
                full_checks: metrics.full_checks.get(),
                full_check_findings: metrics.full_check_findings.get(),
            },
            last_report: self.last_report.as_ref().map(LastReport::status),
        };
        if let Some(planner) = &self.planner {
            status::describe_plan(&mut status, planner.plan(), &self.observed);
        }
        status.notes.sort_by_key(|note| std::cmp::Reverse(note.severity));
        status
    }

    fn gauges(&self) -> Gauges {
        let mut gauges = Gauges {
            view_source: self.view.source,
            view_age: self.view.age(),
            ready: self.readiness().ready,
            ..Gauges::default()
        };
        for (key, _) in &self.observed.routes {
            *gauges.routes.entry(key.dst.family().into()).or_default() += 1;
        }
        let mut count_note = |note: &Note| {
            *gauges.notes.entry((note.id, note.severity.into())).or_default() += 1;
        };
        self.own_notes().iter().for_each(&mut count_note);
        if let Some(planner) = &self.planner {
            planner.plan().notes().for_each(&mut count_note);
            gauges.view_nodes = planner.view().nodes.len() as u64;
            for (family, peer) in planner.plan().peers.values().flat_map(|peer| peer.iter()) {
                if let Some(peer) = peer {
                    *gauges.peers.entry((peer.reach.into(), family.into())).or_default() += 1;
                }
            }
        }
        gauges
    }

    /// Notes about the agent's own work, rather than the plan's.
    fn own_notes(&self) -> Vec<Note> {
        let mut notes: Vec<Note> = self.notes.values().cloned().collect();
        notes.extend(self.pace.contended().map(|(object, repairs)| contention(&object, repairs)));
        if self.pace.waiting().next().is_some() {
            notes.extend(self.failures.iter().take(NAMED).map(refused));
        }
        notes
    }
}

fn contention(object: &Object, repairs: u32) -> Note {
    Note {
        id: "contention",
        severity: Severity::Warning,
        subject: object.to_string(),
        evidence: format!("put back {repairs} times within a minute, since something else keeps changing it"),
        fix: format!(
            "find that program (`ip monitor`, `nft monitor`) and tell it to leave alone what is ours: route protocol {}, \
             table inet {}",
            mark::PROTOCOL,
            mark::NFT_TABLE
        ),
    }
}

fn refused(error: &ApplyError) -> Note {
    Note {
        id: "apply-failed",
        severity: Severity::Error,
        subject: error.change.clone(),
        evidence: format!("{} (errno {})", error.message, error.errno),
        fix: "it is tried again by itself, at once when links, addresses or routes change; try it by hand to see more"
            .to_owned(),
    }
}
