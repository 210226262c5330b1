//! Settling: making what stands in the kernel what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use hopwise_core::diff::{Changes, Touched, diff_touched};
use hopwise_core::note::{Note, Severity};
use hopwise_core::report::{ObjectKind, Report};

use super::objects::{self, Object};
use super::report::LastReport;
use super::{Network, Reconciler};

/// How often in a row a difference is looked for and applied before the rest of the loop gets its turn.
const ROUNDS: usize = 4;
/// From this many changes at once on, the memory that they took is given back afterwards.
const LARGE: usize = 1000;
/// So many repaired objects are named in the log; a link that comes back brings thousands.
const LOGGED: u64 = 20;

impl<N: Network> Reconciler<N> {
    /// Compares what was touched and applies what differs, until nothing does or what does has to wait.
    ///
    /// `read_at` is when the news that started this was read, for measuring.
    pub(super) fn settle(&mut self, read_at: Instant) {
        if self.planner.is_none() {
            return;
        }
        for object in self.pace.take_due(read_at) {
            object.touch(&mut self.planned);
        }
        for _ in 0..ROUNDS {
            let drift = std::mem::take(&mut self.drift);
            let planned = std::mem::take(&mut self.planned);
            let mut touched = drift.clone();
            touched.merge(planned.clone());
            if touched.is_empty() {
                return;
            }
            let mut changes = self.diff(&touched);
            self.leave_out_held(&mut changes, &touched, &planned);
            if changes.is_empty() {
                continue;
            }
            self.count_findings(&changes);
            self.apply(&changes, &drift, &planned, read_at);
        }
    }

    fn diff(&self, touched: &Touched) -> Changes {
        let Some(planner) = &self.planner else { return Changes::default() };
        let started = Instant::now();
        let changes = diff_touched(&self.observed, planner.desired(), touched);
        self.parts.metrics.diff_seconds.observe(started.elapsed().as_secs_f64());
        changes
    }

    /// Takes out of the changes what is to wait, and notices what no longer has to.
    fn leave_out_held(&mut self, changes: &mut Changes, touched: &Touched, planned: &Touched) {
        if self.pace.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut differing = BTreeSet::new();
        objects::visit(changes, |object| {
            differing.insert(object);
        });
        let settled: Vec<Object> = self
            .pace
            .waiting()
            .filter(|object| object.is_in(touched) && !differing.contains(object))
            .collect();
        for object in settled {
            self.pace.agrees(object);
        }
        let held: BTreeSet<Object> = differing
            .into_iter()
            .filter(|object| self.pace.is_held(*object, object.is_in(planned), now))
            .collect();
        objects::retain(changes, |object| !held.contains(&object));
        for object in held {
            self.pace.left_out(object);
        }
    }

    fn count_findings(&mut self, changes: &Changes) {
        if self.stale.full_check.is_none() {
            return;
        }
        self.parts.metrics.full_check_findings.inc_by(changes.len() as u64);
        let mut logged = 0;
        objects::visit(changes, |object| {
            logged += 1;
            if logged <= LOGGED {
                tracing::warn!("the full check found {object} to differ");
            }
        });
    }

    fn apply(&mut self, changes: &Changes, drift: &Touched, planned: &Touched, read_at: Instant) {
        self.trim |= changes.len() > LARGE;
        self.remember_sysctls(changes);
        let report = self.network.apply(changes);
        let done = Instant::now();
        let metrics = &self.parts.metrics;
        metrics.apply_seconds.observe(report.elapsed.as_secs_f64());
        metrics.applied.inc_by(report.applied as u64);

        let mut repairs: BTreeMap<ObjectKind, u64> = BTreeMap::new();
        objects::visit(changes, |object| {
            if object.has_drifted(drift, planned) {
                *repairs.entry(object.kind()).or_default() += 1;
                self.pace.repaired(object, done);
                if repairs.values().sum::<u64>() <= LOGGED {
                    tracing::info!("repaired {object}");
                }
            }
        });
        let n_repairs: u64 = repairs.values().sum();
        if n_repairs > LOGGED {
            tracing::info!("repaired {} more objects", n_repairs - LOGGED);
        }
        let latency = done.duration_since(read_at).as_secs_f64();
        for (kind, count) in repairs {
            metrics.repairs.get_or_create(&kind.into()).inc_by(count);
            metrics.repair_seconds.get_or_create(&kind.into()).observe(latency);
        }

        self.read_echoes(changes);
        self.drift.merge(objects::touched_by(changes));
        self.take_report(changes, report, done);
    }

    /// Learns from the kernel what our changes did. Most come back as notifications; what doesn't is read.
    fn read_echoes(&mut self, changes: &Changes) {
        self.read_events();
        let links = !changes.links_add.is_empty()
            || !changes.links_recreate.is_empty()
            || !changes.links_set.is_empty()
            || !changes.links_delete.is_empty();
        let mut read = if links {
            self.read_observed()
        } else if self.stale.table {
            self.read_table()
        } else {
            Ok(())
        };
        if read.is_ok() && !changes.forward_accepts.is_empty() {
            read = self.read_accepts();
        }
        if let Err(error) = read {
            self.stale.observed = true;
            self.reading_failed(&error);
        }
        if !changes.sysctls.is_empty() {
            self.read_sysctls();
        }
    }

    /// Keeps what became of the changes, and holds back what failed.
    fn take_report(&mut self, changes: &Changes, report: Report, now: Instant) {
        for (n, error) in (0..).zip(&report.errors) {
            self.parts.metrics.apply_errors.get_or_create(&error.kind.into()).inc();
            if n < LOGGED {
                tracing::warn!("the kernel refused {error}");
            }
        }
        let foreign_stands_there = |error: &hopwise_core::report::ApplyError| {
            error.kind == ObjectKind::Route && error.errno == nix::errno::Errno::EEXIST as i32
        };
        // The plan doesn't know of that route, or it would not have wanted ours.
        self.stale.host |= report.errors.iter().any(foreign_stands_there);
        if !report.errors.is_empty() {
            let written = objects::touched_by(changes);
            let left = self.diff(&written);
            objects::visit(&left, |object| {
                if object.is_in(&written) {
                    self.pace.failed(object, now);
                }
            });
            self.failures.clone_from(&report.errors);
        }
        self.last_report = Some(LastReport::new(report, now));
    }

    /// Writes down the former values of sysctls before they are changed.
    fn remember_sysctls(&mut self, changes: &Changes) {
        if changes.sysctls.is_empty() {
            return;
        }
        let Err(error) = self.parts.undo.remember(&changes.sysctls, &self.observed.sysctls) else {
            self.notes.remove("undo");
            return;
        };
        // Forwarding matters more than being able to undo it.
        tracing::warn!("{error}: {}", super::refresh::source_chain(&error));
        self.notes.insert(
            "undo".to_owned(),
            Note {
                id: "undo-not-saved",
                severity: Severity::Warning,
                subject: "state directory".to_owned(),
                evidence: format!("{error}: {}", super::refresh::source_chain(&error)),
                fix: "make the state directory writable; until then `hopwise cleanup` can't put back all sysctls"
                    .to_owned(),
            },
        );
    }
}
