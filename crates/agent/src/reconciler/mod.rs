//! The loop: one thread that owns the kernel, the plan and the knowledge of what stands in the kernel.
//!
//! A turn of the loop reads what the kernel and the mailbox have to say, brings plan and observation up to date, and settles
//! the difference: diff, apply, read our own echoes, diff again until nothing is left. Then it sleeps in `poll(2)` until
//! there is news or something is due.
//!
//! Invariants:
//! - Nothing is planned without a complete view.
//! - Watching begins before the first observation, so nothing falls between the two.
//! - There is no bookkeeping of what was written: [`Observed`] only learns from the kernel, by reading or by its
//!   notifications, our own echoes included.
//! - A turn costs what the news costs, never what the cluster costs, except for news about the whole: a new view, changed
//!   links, lost notifications, the slow full check.
//! - An error is a value that is kept, shown, and tried again ([`pace`]); it never ends the loop.

mod inbox;
mod linux;
mod network;
mod objects;
mod pace;
mod refresh;
mod report;
mod settle;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hopwise_core::config::Settings;
use hopwise_core::diff::Touched;
use hopwise_core::name::NodeName;
use hopwise_core::note::Note;
use hopwise_core::observed::{Event, Observed};
use hopwise_core::plan::Planner;
use hopwise_core::report::ApplyError;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::sync::watch;

pub use inbox::{Inbox, Question, SourcedView};
pub use linux::LinuxNetwork;
pub use network::{Network, NetworkError};
pub(crate) use refresh::source_chain;
pub use report::{LastReport, Published};

use crate::l2;
use crate::memory;
use crate::metrics::Metrics;
use crate::options::Intervals;
use crate::pulse::Pulse;
use crate::state_dir::UndoLog;
use pace::Pace;
use refresh::Stale;
use view::ViewInUse;

/// The pause after notifications could not be read.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// The full check takes at most one part in so many of a processor: with 5,000 peers it comes every 100 s, not 30 s.
const FULL_CHECK_SHARE: u32 = 2000;
/// However long it takes, this is the longest rest between two.
const LONGEST_FULL_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// For so many events the memory is kept for the next ones.
const EVENTS_KEPT: usize = 256;

/// What a reconciler is made of, apart from the network.
#[derive(Debug)]
pub struct Parts {
    /// The node that we are.
    pub node: NodeName,
    /// Settings that win over the cluster's and the node's.
    pub settings: Settings,
    /// How often, how soon.
    pub intervals: Intervals,
    /// How the asynchronous side reaches us.
    pub inbox: Arc<Inbox>,
    /// How we reach it.
    pub published: watch::Sender<Published>,
    /// Shows that we are alive.
    pub pulse: Arc<Pulse>,
    /// What we count.
    pub metrics: Metrics,
    /// Where former values of sysctls are written down.
    pub undo: UndoLog,
    /// How the guard of the uplink on the bridge is told what the settings want.
    pub l2: Arc<l2::Mailbox>,
}

/// The loop's state.
pub struct Reconciler<N> {
    network: N,
    parts: Parts,
    /// The plan; `None` until there was a complete view and the host was read.
    planner: Option<Planner>,
    view: ViewInUse,
    /// What stands in the kernel and is ours.
    observed: Observed,
    /// What to compare because the kernel said that it changed.
    drift: Touched,
    /// What to compare because the plan changed, or because it is tried again.
    planned: Touched,
    pace: Pace,
    stale: Stale,
    full_check_at: Instant,
    /// Findings of our own and of the asynchronous side, by slot.
    notes: BTreeMap<String, Note>,
    /// The errors of the latest changes that had any.
    failures: Vec<ApplyError>,
    last_report: Option<LastReport>,
    /// Kept for its capacity.
    events: Vec<Event>,
    /// Whether this turn took much memory for a moment.
    trim: bool,
}

impl<N: Network> Reconciler<N> {
    /// A reconciler that has done nothing yet.
    pub fn new(network: N, parts: Parts) -> Self {
        let now = Instant::now();
        Reconciler {
            network,
            full_check_at: now + parts.intervals.full_check,
            parts,
            planner: None,
            view: ViewInUse::default(),
            observed: Observed::default(),
            drift: Touched::default(),
            planned: Touched::default(),
            pace: Pace::default(),
            stale: Stale::nothing(now),
            notes: BTreeMap::new(),
            failures: Vec::new(),
            last_report: None,
            events: Vec::new(),
            trim: false,
        }
    }

    /// Runs until the mailbox says stop. What stands in the kernel stays there.
    pub fn run(mut self) {
        loop {
            self.wait();
            self.parts.pulse.begin_turn();
            let go_on = self.turn();
            self.parts.pulse.end_turn();
            if !go_on {
                return;
            }
        }
    }

    /// One turn; returns whether to go on.
    fn turn(&mut self) -> bool {
        let read_at = Instant::now();
        self.read_events();
        let mut mail = self.parts.inbox.take();
        if mail.stop {
            return false;
        }
        // Drift that is known exactly is repaired before anything that takes longer is looked at, unless what we know
        // about the kernel is void altogether.
        if !self.stale.observed {
            self.settle(read_at);
        }
        self.take_news(&mut mail);
        self.check_all_if_due(read_at);
        self.refresh(Instant::now());
        self.settle(read_at);
        self.end_full_check();
        self.publish();
        self.answer(std::mem::take(&mut mail.questions));
        if std::mem::take(&mut self.trim) {
            memory::trim();
        }
        true
    }

    /// Reads the kernel's notifications into what is observed.
    fn read_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match self.network.events(&mut events) {
            Ok(()) => {}
            Err(NetworkError::Lost) => {
                tracing::warn!("kernel notifications were lost; reading everything again");
                self.parts.metrics.overruns.inc();
                self.stale.everything();
            }
            Err(error) => {
                self.stale.everything();
                self.reading_failed(&error);
                // A socket that fails is readable all the time: don't spin.
                std::thread::sleep(REST_AFTER_FAILURE);
            }
        }
        for event in events.drain(..) {
            // What names no object is read before it is compared; what names one is recorded.
            if !self.stale.learn(&event, self.parts.intervals.read_netfilter) {
                self.observed.record(event, &mut self.drift);
            }
        }
        // Drift is a handful of events; the echoes of 5,000 routes would stay in memory for ever.
        if events.capacity() <= EVENTS_KEPT {
            self.events = events;
        }
    }

    /// Sleeps until there is news or something is due.
    fn wait(&self) {
        let now = Instant::now();
        // Never longer than what counts as a sign of life.
        let timeout = self.next_due().saturating_duration_since(now).min(self.parts.intervals.full_check);
        if timeout.is_zero() {
            return;
        }
        // Rounded up, or the last fraction of a millisecond would be spent spinning.
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let [route, netfilter] = self.network.notification_fds();
        let mut fds =
            [route, netfilter, self.parts.inbox.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // EINTR ends the wait early, which does no harm; nothing else can happen to valid descriptors.
        let _ = nix::poll::poll(&mut fds, timeout);
    }

    fn next_due(&self) -> Instant {
        let now = Instant::now();
        if self.planner.is_none() {
            return self.view.retry_at.unwrap_or(self.full_check_at);
        }
        if !self.drift.is_empty() || !self.planned.is_empty() {
            return now;
        }
        [Some(self.full_check_at), self.pace.next_due(), self.stale.next_due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now)
    }

    /// Starts the slow full check when its time has come.
    fn check_all_if_due(&mut self, now: Instant) {
        if now < self.full_check_at {
            return;
        }
        self.full_check_at = now + self.parts.intervals.full_check;
        self.pace.forget_quiet(now);
        if self.planner.is_some() {
            self.parts.metrics.full_checks.inc();
            self.stale.full_check = Some(cpu_time());
            self.stale.everything();
            // Nobody tells of changes of iptables-legacy.
            self.stale.netfilter_at = Some(now);
        }
    }

    /// Takes note of the end of a full check, and puts off the next one if it took long.
    fn end_full_check(&mut self) {
        let Some(began) = self.stale.full_check.filter(|_| !self.stale.observed) else { return };
        self.stale.full_check = None;
        let rest = (cpu_time().saturating_sub(began) * FULL_CHECK_SHARE).min(LONGEST_FULL_CHECK_INTERVAL);
        self.full_check_at = self.full_check_at.max(Instant::now() + rest);
    }
}

/// CPU time of this thread: what a busy machine takes from us is no reason to rest.
fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}
