//! Reading again what notifications only said has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::Touched;
use hopwise_core::netfilter::{ObservedTable, SetName};
use hopwise_core::note::{Note, Severity};
use hopwise_core::observed::Event;
use hopwise_core::plan;

use super::view::interest;
use super::{Network, NetworkError, Reconciler, cpu_time};

/// After reading the whole host, the pause before it is read again is so many times the CPU time that it took: links come
/// and go with every pod.
const IDLE_TIMES: u32 = 4;
/// However long a reading took, the next one never waits longer for that reason.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The wait after a failed reading.
const RETRY_READING: Duration = Duration::from_millis(200);

/// The slot of the note about failed readings.
pub(super) const READING: &str = "reading";

/// What has to be read again.
#[derive(Debug)]
pub(super) struct Stale {
    /// Links, addresses, foreign routes, lookups.
    pub host: bool,
    /// Everything of ours.
    pub observed: bool,
    /// Our nftables table.
    pub table: bool,
    /// Sysctls.
    pub sysctls: bool,
    /// Foreign netfilter rules, at that time.
    pub netfilter_at: Option<Instant>,
    /// The CPU time of this thread at the beginning of the slow full check that the reading is.
    pub full_check: Option<Duration>,
    /// `host` and `observed` are not read again before.
    pub not_before: Instant,
    /// Nothing is read again before, since the last reading failed.
    pub retry_at: Option<Instant>,
}

impl Stale {
    /// Nothing.
    pub fn nothing(now: Instant) -> Stale {
        Stale {
            host: false,
            observed: false,
            table: false,
            sysctls: false,
            netfilter_at: None,
            full_check: None,
            not_before: now,
            retry_at: None,
        }
    }

    /// Everything but foreign netfilter rules, whose reading is the slowest and where no object of ours goes missing.
    pub fn everything(&mut self) {
        self.host = true;
        self.observed = true;
    }

    /// Takes in a notification that only says that something has to be read again; returns whether it is one.
    pub fn learn(&mut self, event: &Event, read_netfilter: Duration) -> bool {
        match event {
            Event::Table => self.table = true,
            Event::Sysctls => self.sysctls = true,
            Event::ForeignNetfilter => {
                self.netfilter_at.get_or_insert_with(|| Instant::now() + read_netfilter);
            }
            Event::Host { resync } => {
                self.host = true;
                self.observed |= *resync;
            }
            _ => return false,
        }
        true
    }

    /// When there is something to read.
    pub fn next_due(&self) -> Option<Instant> {
        let whole = (self.host || self.observed).then_some(self.not_before);
        let part = (self.table || self.sysctls).then(Instant::now);
        let due = whole.into_iter().chain(part).chain(self.netfilter_at).min()?;
        Some(self.retry_at.map_or(due, |at| at.max(due)))
    }
}

impl<N: Network> Reconciler<N> {
    /// Reads again what is stale, as far as its time has come, and plans anew where that changes something.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.planner.is_none() || self.stale.retry_at.is_some_and(|at| now < at) {
            return;
        }
        match self.refresh_now(now) {
            Ok(()) => {
                if self.stale.retry_at.take().is_some() {
                    self.notes.remove(READING);
                }
            }
            Err(error) => self.reading_failed(&error),
        }
    }

    fn refresh_now(&mut self, now: Instant) -> Result<(), NetworkError> {
        if (self.stale.host || self.stale.observed) && now >= self.stale.not_before {
            let began = cpu_time();
            if self.stale.host {
                self.read_host()?;
            }
            if self.stale.observed {
                self.read_observed()?;
            }
            let pause = (cpu_time().saturating_sub(began) * IDLE_TIMES).min(LONGEST_PAUSE);
            self.stale.not_before = Instant::now() + pause;
        }
        if self.stale.table {
            self.read_table()?;
        }
        if self.stale.sysctls {
            self.read_sysctls();
        }
        if self.stale.netfilter_at.is_some_and(|at| at <= now) {
            self.read_netfilter()?;
        }
        Ok(())
    }

    fn read_host(&mut self) -> Result<(), NetworkError> {
        let Some(planner) = &mut self.planner else { return Ok(()) };
        let targets = plan::lookup_targets(planner.view(), planner.config());
        let mut host = self.network.host(&planner.view().networks.pods, &targets)?;
        host.netfilter = planner.host().netfilter.clone();
        self.stale.host = false;
        if host != *planner.host() {
            let started = Instant::now();
            self.planned.merge(planner.set_host(host));
            self.parts.metrics.plan_seconds.observe(started.elapsed().as_secs_f64());
            // Whatever the kernel refused, the reason may be gone.
            self.pace.retry_failed(Instant::now());
            self.network.set_interest(interest(planner));
        }
        Ok(())
    }

    /// Reads everything of ours.
    pub(super) fn read_observed(&mut self) -> Result<(), NetworkError> {
        let Some(planner) = &self.planner else { return Ok(()) };
        let now = self.network.observe(&plan::sysctl_keys(planner.host()))?;
        self.stale.observed = false;
        self.stale.table = false;
        self.stale.sysctls = false;
        // What was known has been compared, or waits in `drift`, `planned` or `pace`.
        if now != self.observed {
            self.observed = now;
            self.drift = Touched { everything: true, ..Touched::default() };
        }
        Ok(())
    }

    /// Reads our nftables table.
    pub(super) fn read_table(&mut self) -> Result<(), NetworkError> {
        let now = self.network.observe_table()?;
        self.stale.table = false;
        self.drift.node_wide = true;
        self.drift.elements.extend(changed_elements(self.observed.table.as_ref(), now.as_ref()));
        self.observed.table = now;
        Ok(())
    }

    /// Reads our accepts in iptables chains.
    pub(super) fn read_accepts(&mut self) -> Result<(), NetworkError> {
        let now = self.network.observe_accepts()?;
        self.drift.node_wide |= now != self.observed.forward_accepts;
        self.observed.forward_accepts = now;
        Ok(())
    }

    /// Reads sysctls.
    pub(super) fn read_sysctls(&mut self) {
        self.stale.sysctls = false;
        let Some(planner) = &mut self.planner else { return };
        let values = self.network.observe_sysctls(&plan::sysctl_keys(planner.host()));
        if values != self.observed.sysctls {
            self.observed.sysctls.clone_from(&values);
            self.drift.node_wide = true;
        }
        if values != planner.host().sysctls {
            let mut host = planner.host().clone();
            host.sysctls = values;
            self.planned.merge(planner.set_host(host));
        }
    }

    fn read_netfilter(&mut self) -> Result<(), NetworkError> {
        let Some(planner) = &mut self.planner else { return Ok(()) };
        let netfilter = self.network.netfilter()?;
        self.stale.netfilter_at = None;
        if netfilter != planner.host().netfilter {
            let mut host = planner.host().clone();
            host.netfilter = netfilter;
            self.planned.merge(planner.set_host(host));
        }
        // Our accepts stand in chains of others: whatever changed those may have changed ours.
        self.read_accepts()
    }

    /// Keeps a note of a reading that failed; it is tried again soon.
    pub(super) fn reading_failed(&mut self, error: &NetworkError) {
        self.stale.retry_at = Some(Instant::now() + RETRY_READING);
        let evidence = format!("{error}: {}", source_chain(error));
        tracing::warn!("{evidence}");
        self.notes.insert(
            READING.to_owned(),
            Note {
                id: "kernel-read-failed",
                severity: Severity::Error,
                subject: "kernel".to_owned(),
                evidence,
                fix: "check that the agent runs as root with CAP_NET_ADMIN; it tries again by itself"
                    .to_owned(),
            },
        );
    }
}

/// The sources of an error, joined.
pub(crate) fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = Vec::new();
    let mut source = error.source();
    while let Some(error) = source {
        text.push(error.to_string());
        source = error.source();
    }
    text.join(": ")
}

/// The elements that are in one of the two tables only.
fn changed_elements(before: Option<&ObservedTable>, after: Option<&ObservedTable>) -> Vec<(SetName, Cidr)> {
    let (no_sets, no_elements) = (BTreeMap::new(), BTreeSet::new());
    let before = before.map_or(&no_sets, |table| &table.sets);
    let after = after.map_or(&no_sets, |table| &table.sets);
    let names: BTreeSet<SetName> = before.keys().chain(after.keys()).copied().collect();
    let mut changed = Vec::new();
    for name in names {
        let old = before.get(&name).unwrap_or(&no_elements);
        let new = after.get(&name).unwrap_or(&no_elements);
        changed.extend(old.symmetric_difference(new).map(|element| (name, *element)));
    }
    changed
}
