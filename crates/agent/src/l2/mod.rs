//! The uplink on the bridge: attaching, detaching, going on after a crash, healing. Shared by `hopwise l2` and the agent.
//!
//! A journal is written before the first change ([`journal`]). Whoever comes next, command or agent, first deals with what it
//! says: an attachment that was not finished is undone, since nobody has verified it; a detachment that was not finished
//! is finished, since somebody wanted it.

mod guard;
mod journal;
mod verify;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hopwise_core::l2::heal::{self, Finding, Healing};
use hopwise_core::l2::refusal::Refusal;
use hopwise_core::l2::step::Step;
use hopwise_core::l2::value::{Observed, Record, Wanted};
use hopwise_core::l2::{attach, detach};
use hopwise_kernel::l2::{L2, StepError};
use hopwise_kernel::netlink::NetlinkError;

pub use guard::{Guard, Mailbox, Tell};
pub use journal::{By, Entry, Phase};

use crate::state_dir::StateError;
use journal::Journal;
use verify::Targets;

/// How long an answer is waited for unless told otherwise.
pub const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why an uplink could not be attached, detached or looked after.
#[derive(Debug, thiserror::Error)]
pub enum L2Error {
    /// Nothing was changed.
    #[error("{0}")]
    Refused(Refusal),
    /// Somebody did not answer afterwards; everything is as it was.
    #[error(
        "{silent} did not answer within {} s with {uplink} on {bridge}; everything was put back",
        waited.as_secs()
    )]
    Silent {
        /// Who.
        silent: IpAddr,
        /// The uplink.
        uplink: String,
        /// The bridge.
        bridge: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A step failed; everything is as it was.
    #[error("{}; everything was put back", described(.0))]
    Undone(Vec<StepError>),
    /// A step failed in putting things back.
    #[error("{}; the journal is kept, and the next `hopwise l2` command or agent tries again", described(.0))]
    Stuck(Vec<StepError>),
    /// There is nothing to detach.
    #[error("nothing is attached here")]
    NotAttached,
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another command or the agent is at it.
    #[error("another hopwise is attaching or detaching (it holds {0}); try again when it is done")]
    Busy(PathBuf),
    /// The journal can't be read.
    #[error("the journal {path} can't be used: {what}; put the network right by hand, then remove the file")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Netlink.
    #[error("can't read or change the network; run as root, or with CAP_NET_ADMIN")]
    Netlink(#[from] NetlinkError),
}

fn described(errors: &[StepError]) -> String {
    let texts: Vec<String> =
        errors.iter().map(|error| format!("{error}: {}", crate::reconciler::source_chain(error))).collect();
    texts.join("; ")
}

/// A point between two changes of kernel or disk. A test stops at each of them and looks at what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point<'a> {
    /// The journal says what is going to be done.
    Written,
    /// Before this step.
    Before(&'a Step),
    /// All steps are done; whether somebody answers is asked next.
    Verifying,
    /// It is decided to put everything back.
    UndoBegins,
    /// All is done but for the journal.
    Done,
}

/// What is called at each [`Point`]. [`no_points`] outside tests.
pub type Points<'a> = &'a mut dyn FnMut(Point<'_>);

/// Does nothing.
pub fn no_points(_: Point<'_>) {}

/// What to attach, and how to see that it works.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// Which link on which bridge.
    pub wanted: Wanted,
    /// Who has to answer, before and after; with none given the routers that the uplink's default routes lead to.
    pub verify: Vec<IpAddr>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// On whose behalf.
    pub by: By,
}

/// What attaching came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// What was done, as commands; empty: it was attached already.
    pub commands: Vec<String>,
    /// Who answered afterwards; empty: there was nobody to ask.
    pub answered: Vec<IpAddr>,
}

/// The uplink and the journal of one state directory, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct Uplink {
    journal: Journal,
    l2: L2,
    one_by_one: bool,
}

impl Uplink {
    /// Waits for its turn, then deals with what a crash left.
    pub fn open(state_dir: &Path) -> Result<Uplink, L2Error> {
        let mut uplink = Uplink { journal: Journal::lock(state_dir)?, l2: L2::open()?, one_by_one: false };
        uplink.recover(&mut no_points)?;
        Ok(uplink)
    }

    /// [`Uplink::open`] for tests that stop in the middle of dealing with what a crash left.
    pub fn recover_stepwise(state_dir: &Path, points: Points<'_>) -> Result<Uplink, L2Error> {
        let mut uplink = Uplink { journal: Journal::lock(state_dir)?, l2: L2::open()?, one_by_one: true };
        uplink.recover(points)?;
        Ok(uplink)
    }

    /// [`Uplink::open`] for tests: every step goes to the kernel by itself, so that a test can stop between any two.
    pub fn open_stepwise(state_dir: &Path) -> Result<Uplink, L2Error> {
        Ok(Uplink { one_by_one: true, ..Uplink::open(state_dir)? })
    }

    /// Whether a state directory has a journal at all.
    pub fn has_journal(state_dir: &Path) -> bool {
        Journal::exists(state_dir)
    }

    /// What is attached.
    pub fn attached(&self) -> Result<Option<Entry>, L2Error> {
        self.journal.read()
    }

    /// Undoes what was begun and not finished, or finishes it.
    fn recover(&mut self, points: Points<'_>) -> Result<(), L2Error> {
        let Some(entry) = self.journal.read()? else { return Ok(()) };
        if entry.phase == Phase::Attached {
            return Ok(());
        }
        tracing::warn!(
            "{} of {} was interrupted: putting everything back",
            if entry.phase == Phase::Attaching { "attaching" } else { "detaching" },
            entry.record.wanted.uplink
        );
        let aged = Record { held: entry.record.held.aged(entry.elapsed()), ..entry.record };
        self.put_back(&aged, points)
    }

    /// Plans an attachment, and changes nothing.
    pub fn plan_attach(&mut self, wanted: Wanted) -> Result<Vec<String>, L2Error> {
        if self.is_attached(wanted)? {
            return Ok(Vec::new());
        }
        let observed = self.l2.observe(wanted)?;
        if is_port(&observed, wanted) {
            return Ok(Vec::new());
        }
        Ok(commands(&attach::plan(&observed, wanted).map_err(L2Error::Refused)?.steps))
    }

    fn is_attached(&self, wanted: Wanted) -> Result<bool, L2Error> {
        match self.journal.read()? {
            Some(entry) if entry.record.wanted == wanted => Ok(true),
            Some(entry) => {
                let Wanted { uplink, bridge } = entry.record.wanted;
                Err(L2Error::Refused(Refusal {
                    reason: format!("{uplink} is attached to {bridge} already"),
                    fix: "one uplink can be attached: `hopwise l2 detach` first".to_owned(),
                }))
            }
            None => Ok(false),
        }
    }

    /// Attaches an uplink, sees whether somebody still answers, and puts everything back if not.
    pub fn attach(&mut self, options: &AttachOptions, points: Points<'_>) -> Result<Attached, L2Error> {
        let AttachOptions { wanted, verify, timeout, by } = options;
        if self.is_attached(*wanted)? {
            return Ok(Attached { commands: Vec::new(), answered: Vec::new() });
        }
        let observed = self.l2.observe(*wanted)?;
        if is_port(&observed, *wanted) {
            return Ok(Attached { commands: Vec::new(), answered: Vec::new() });
        }
        let plan = attach::plan(&observed, *wanted).map_err(L2Error::Refused)?;
        let mut targets = Targets::before(&mut self.l2, *wanted, verify, &plan.gateways, *timeout)?;
        self.journal.write(Phase::Attaching, *by, &plan.record)?;
        points(Point::Written);
        let errors = self.l2.apply(&plan.steps, self.one_by_one, &mut |step| points(Point::Before(step)))?;
        if !errors.is_empty() {
            points(Point::UndoBegins);
            self.put_back(&plan.record, points)?;
            return Err(L2Error::Undone(errors));
        }
        points(Point::Verifying);
        if let Some(silent) = targets.silent_after(&mut self.l2, *wanted)? {
            points(Point::UndoBegins);
            self.put_back(&plan.record, points)?;
            return Err(L2Error::Silent {
                silent,
                uplink: wanted.uplink.to_string(),
                bridge: wanted.bridge.to_string(),
                waited: *timeout,
            });
        }
        let advertised = |step: &&Step| matches!(step, Step::AddRoute(route, _) if observed.is_from_ra(route, wanted.uplink));
        let stand_ins = plan.steps.iter().filter(advertised).count();
        verify::wait_for_routers(&mut self.l2, *wanted, stand_ins)?;
        points(Point::Done);
        self.journal.write(Phase::Attached, *by, &plan.record)?;
        Ok(Attached { commands: commands(&plan.steps), answered: targets.into_answered() })
    }

    /// Plans a detachment, and changes nothing.
    pub fn plan_detach(&mut self, force: bool) -> Result<Vec<String>, L2Error> {
        let (steps, _) = self.detachment(force)?;
        Ok(commands(&steps))
    }

    fn detachment(&mut self, force: bool) -> Result<(Vec<Step>, Entry), L2Error> {
        let mut entry = self.journal.read()?.ok_or(L2Error::NotAttached)?;
        let observed = self.l2.observe(entry.record.wanted)?;
        if !force {
            detach::check(&observed, entry.record.wanted).map_err(L2Error::Refused)?;
        }
        // What came back to the uplink unnoticed is not to be left in the way.
        entry.record = heal::plan(&observed, &entry.record, entry.elapsed()).record;
        Ok((detach::plan(&observed, &entry.record), entry))
    }

    /// Puts everything back where it was before attaching. Refused while pods are on the bridge, unless by force.
    pub fn detach(&mut self, force: bool, points: Points<'_>) -> Result<Vec<String>, L2Error> {
        let (steps, entry) = self.detachment(force)?;
        self.journal.write(Phase::Detaching, entry.by, &entry.record)?;
        points(Point::Written);
        self.put_back(&entry.record, points)?;
        Ok(commands(&steps))
    }

    /// Makes everything what it was before attaching, from wherever it is now, and clears the journal.
    fn put_back(&mut self, record: &Record, points: Points<'_>) -> Result<(), L2Error> {
        let observed = self.l2.observe(record.wanted)?;
        let steps = detach::plan(&observed, record);
        let errors = self.l2.apply(&steps, self.one_by_one, &mut |step| points(Point::Before(step)))?;
        if !errors.is_empty() {
            return Err(L2Error::Stuck(errors));
        }
        points(Point::Done);
        self.journal.clear()
    }

    /// What differs from what was attached; `None`: nothing is attached.
    pub fn check(&mut self) -> Result<Option<(Entry, Healing)>, L2Error> {
        let Some(entry) = self.journal.read()? else { return Ok(None) };
        let observed = self.l2.observe(entry.record.wanted)?;
        let healing = heal::plan(&observed, &entry.record, entry.elapsed());
        Ok(Some((entry, healing)))
    }

    /// Makes good what differs. What came new is written down first.
    pub fn heal(&mut self) -> Result<Option<Healed>, L2Error> {
        let Some((entry, healing)) = self.check()? else { return Ok(None) };
        // Lifetimes are written down when somebody has renewed them, not because they run.
        let mut aged = entry.record.clone();
        aged.held = aged.held.aged(entry.elapsed());
        if !heal::same_record(&aged, &healing.record) {
            self.journal.write(Phase::Attached, entry.by, &healing.record)?;
        }
        let errors = if healing.steps.is_empty() {
            Vec::new()
        } else {
            self.l2.apply(&healing.steps, self.one_by_one, &mut |_| {})?
        };
        Ok(Some(Healed {
            entry,
            findings: healing.findings,
            commands: commands(&healing.steps),
            failed: (!errors.is_empty()).then(|| described(&errors)),
        }))
    }
}

/// Whether the node's own network configuration has put the uplink on the bridge. Then that looks after it, and nothing is to
/// be done here.
fn is_port(observed: &Observed, wanted: Wanted) -> bool {
    observed.links.get(&wanted.uplink).is_some_and(|link| link.master == Some(wanted.bridge))
}

/// What healing found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// What is attached.
    pub entry: Entry,
    /// What differed.
    pub findings: Vec<Finding>,
    /// What was done about it; empty: nothing can be.
    pub commands: Vec<String>,
    /// What the kernel refused.
    pub failed: Option<String>,
}

fn commands(steps: &[Step]) -> Vec<String> {
    steps.iter().flat_map(|step| step.to_string().lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}
