//! The agent's part: attach what the setting `l2` names, and keep up whatever is attached.
//!
//! A thread of its own, since an answer from the LAN is waited for in it. It sleeps until the kernel says something about one
//! of the two links, the setting changes, or the slow check is due. Nothing depends on it but healing: what is attached
//! stays attached without an agent.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hopwise_core::l2::heal::{Finding, culprit};
use hopwise_core::l2::refusal::Refusal;
use hopwise_core::l2::value::Wanted;
use hopwise_core::name::LinkName;
use hopwise_core::note::{Note, Severity};
use hopwise_kernel::l2::{Events, suspects};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{AttachOptions, By, DEFAULT_VERIFY_TIMEOUT, Entry, Healed, L2Error, Uplink, no_points};

/// Between two looks when nothing happens.
const SLOW_CHECK: Duration = Duration::from_secs(30);
/// How long after the first of several events: who puts an address on a link puts routes there too, and the kernel takes
/// them away with the last address (`fib_disable_ip`), before anybody could have moved them.
const SETTLE: Duration = Duration::from_millis(100);
/// After something failed.
const RETRY: Duration = Duration::from_secs(10);
/// So many findings are told in one note.
const TOLD: usize = 6;
/// How long a healing is shown after the last one.
const SHOWN: Duration = Duration::from_secs(600);
/// The longest pause between two healings that follow each other at once: somebody keeps undoing them.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What reaches the guard from the agent's other threads.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    wake: EventFd,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mail {
    wanted: Option<Wanted>,
    stop: bool,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new() -> std::io::Result<Mailbox> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Mailbox { mail: Mutex::default(), wake: EventFd::from_flags(flags)? })
    }

    /// Says what the settings want.
    pub fn want(&self, wanted: Option<Wanted>) {
        self.change(|mail| mail.wanted = wanted);
    }

    /// Asks the guard to end; what is attached stays.
    pub fn stop(&self) {
        self.change(|mail| mail.stop = true);
    }

    fn change(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        // Fails only when the counter is full, which is a ring too.
        let _ = self.wake.write(1);
    }

    fn read(&self) -> Mail {
        let _ = self.wake.read();
        *self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a note is shown in a slot, in place of the one that was in it; `None` takes it away.
pub type Tell = Box<dyn Fn(&'static str, Option<Note>) + Send>;

/// The guard of one state directory.
pub struct Guard {
    state_dir: PathBuf,
    mailbox: Arc<Mailbox>,
    tell: Tell,
    events: Events,
    attached: Option<Wanted>,
    pace: Pace,
    /// What is shown of healings, until then.
    shown_until: Option<Instant>,
    /// The notes that are shown, by slot.
    notes: BTreeMap<&'static str, Note>,
}

/// When to heal next.
#[derive(Debug, Default)]
struct Pace {
    pause: Duration,
    healed_at: Option<Instant>,
}

impl Pace {
    fn healed(&mut self, now: Instant) {
        let again = self.healed_at.is_some_and(|at| now - at < self.pause + Duration::from_secs(2));
        self.pause = if again {
            (self.pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
        self.healed_at = Some(now);
    }

    fn due(&self) -> Option<Instant> {
        self.healed_at.map(|at| at + self.pause)
    }
}

impl Guard {
    /// A guard in the network namespace of the calling thread; it listens from now on.
    pub fn new(state_dir: PathBuf, mailbox: Arc<Mailbox>, tell: Tell) -> Result<Guard, L2Error> {
        Ok(Guard {
            state_dir,
            mailbox,
            tell,
            events: Events::open()?,
            attached: None,
            pace: Pace::default(),
            shown_until: None,
            notes: BTreeMap::new(),
        })
    }

    /// Runs until the mailbox says stop.
    pub fn run(mut self) {
        let mut last = None;
        let mut due = Instant::now();
        loop {
            let mail = self.mailbox.read();
            if mail.stop {
                return;
            }
            let now = Instant::now();
            if last.replace(mail.wanted) != Some(mail.wanted) {
                due = now;
            }
            if self.concerned(mail.wanted) {
                let soon = now + SETTLE;
                due = due.min(self.pace.due().map_or(soon, |at| at.max(soon)));
            }
            if Instant::now() >= due {
                due = Instant::now() + self.look(mail.wanted);
            }
            self.wait(due);
        }
    }

    /// Whether the kernel has said something about the links that are attached, else about those that are to be.
    fn concerned(&mut self, wanted: Option<Wanted>) -> bool {
        self.events.drain(self.attached.or(wanted)).unwrap_or_else(|error| {
            tracing::warn!("can't read kernel notifications: {error}");
            // A socket that fails is readable all the time.
            std::thread::sleep(Duration::from_millis(500));
            true
        })
    }

    fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, or the last fraction of a millisecond would be spent spinning.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut fds =
            [self.events.fd(), self.mailbox.wake.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // EINTR ends the wait early, which does no harm.
        let _ = nix::poll::poll(&mut fds, timeout);
    }

    /// Attaches, heals, and says how things stand; returns when to look again if nothing happens.
    fn look(&mut self, wanted: Option<Wanted>) -> Duration {
        if self.shown_until.is_some_and(|until| Instant::now() >= until) {
            self.shown_until = None;
            self.show("l2 healed", None);
        }
        let looked = self.attach_or_heal(wanted);
        if let Some(watched) = self.attached.or(wanted)
            && let Err(error) = self.events.learn(watched)
        {
            tracing::warn!("can't read links: {error}");
        }
        match looked {
            Ok(()) => {
                self.show("l2 failed", None);
                SLOW_CHECK
            }
            Err(error) => {
                self.show("l2 failed", Some(failed(self.attached.or(wanted), error)));
                RETRY
            }
        }
    }

    fn attach_or_heal(&mut self, wanted: Option<Wanted>) -> Result<(), L2Error> {
        if wanted.is_none() && self.attached.is_none() && !Uplink::has_journal(&self.state_dir) {
            return Ok(());
        }
        let mut uplink = Uplink::open(&self.state_dir)?;
        let entry = uplink.attached()?;
        self.attached = entry.as_ref().map(|entry| entry.record.wanted);
        let differs = entry.as_ref().and_then(|entry| setting_differs(entry, wanted));
        self.show("l2 setting", differs);
        match (entry, wanted) {
            (Some(_), _) => {
                if let Some(healed) = uplink.heal()? {
                    self.report(&healed);
                }
            }
            (None, Some(wanted)) => {
                let options = AttachOptions {
                    wanted,
                    verify: Vec::new(),
                    timeout: DEFAULT_VERIFY_TIMEOUT,
                    by: By::Agent,
                };
                let attached = uplink.attach(&options, &mut no_points)?;
                if !attached.commands.is_empty() {
                    tracing::info!("attached {} to {}", wanted.uplink, wanted.bridge);
                    self.attached = Some(wanted);
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Says what was healed, and who did it, as far as it can be told; or that it can't be healed.
    fn report(&mut self, healed: &Healed) {
        let incurable =
            healed.failed.is_some() || (healed.commands.is_empty() && !healed.findings.is_empty());
        if !incurable {
            self.show("l2 unhealed", None);
        }
        if healed.findings.is_empty() {
            return;
        }
        let uplink = healed.entry.record.wanted.uplink;
        let mut evidence = told(&healed.findings);
        if let Some(who) = culprit(&healed.findings, &suspects(uplink)) {
            evidence += &format!(" (by {who})");
        }
        if incurable {
            if let Some(failed) = &healed.failed {
                evidence += &format!(": {failed}");
            }
            self.show("l2 unhealed", Some(unhealed(uplink, evidence)));
        } else {
            tracing::warn!("{uplink}: {evidence}; put right: {}", healed.commands.join("; "));
            self.pace.healed(Instant::now());
            self.shown_until = Some(Instant::now() + SHOWN);
            self.show("l2 healed", Some(healed_note(uplink, evidence)));
        }
    }

    /// Shows a note in a slot, or none, and logs it when it is new.
    fn show(&mut self, slot: &'static str, note: Option<Note>) {
        if self.notes.get(slot) == note.as_ref() {
            return;
        }
        if let Some(note) = &note
            && note.severity == Severity::Error
        {
            tracing::warn!("{note}");
        }
        match &note {
            Some(note) => self.notes.insert(slot, note.clone()),
            None => self.notes.remove(slot),
        };
        (self.tell)(slot, note);
    }
}

fn told(findings: &[Finding]) -> String {
    let mut texts: Vec<String> = findings.iter().take(TOLD).map(ToString::to_string).collect();
    if findings.len() > TOLD {
        texts.push(format!("and {} more", findings.len() - TOLD));
    }
    texts.join(", ")
}

fn setting_differs(entry: &Entry, wanted: Option<Wanted>) -> Option<Note> {
    let attached = entry.record.wanted;
    let says = match wanted {
        Some(wanted) if wanted == attached => return None,
        Some(wanted) => format!("the setting l2 names {} on {}", wanted.uplink, wanted.bridge),
        // Attached by a command: no setting is missed.
        None if entry.by == By::Command => return None,
        None => "there is no setting l2 any more".to_owned(),
    };
    Some(Note {
        id: "l2-setting-differs",
        severity: Severity::Warning,
        subject: format!("link {}", attached.uplink),
        evidence: format!("it is attached to {}, and {says}", attached.bridge),
        fix: "hopwise l2 detach, when pods may lose the LAN".to_owned(),
    })
}

fn failed(wanted: Option<Wanted>, error: L2Error) -> Note {
    let (evidence, fix) = match error {
        L2Error::Refused(Refusal { reason, fix }) => (reason, fix),
        error => (
            format!("{:#}", anyhow::Error::new(error)),
            "see the agent's log; it tries again by itself".to_owned(),
        ),
    };
    Note {
        id: "l2-failed",
        severity: Severity::Error,
        subject: wanted.map_or("setting l2".to_owned(), |wanted| format!("link {}", wanted.uplink)),
        evidence,
        fix,
    }
}

fn unhealed(uplink: LinkName, evidence: String) -> Note {
    Note {
        id: "l2-unhealed",
        severity: Severity::Error,
        subject: format!("link {uplink}"),
        evidence,
        fix: "bring it back, and hopwise attaches it again by itself; or hopwise l2 detach".to_owned(),
    }
}

fn healed_note(uplink: LinkName, evidence: String) -> Note {
    Note {
        id: "l2-healed",
        severity: Severity::Warning,
        subject: format!("link {uplink}"),
        evidence,
        fix: format!(
            "nothing, for this once; have whoever configures {uplink} configure the bridge instead \
             (hopwise l2 persist prints how)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_keeps_undoing_it_is_answered_ever_more_slowly() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        pace.healed(start);
        assert_eq!(pace.due(), Some(start));
        let mut now = start;
        for _ in 0..20 {
            now = pace.due().unwrap();
            pace.healed(now);
        }
        assert_eq!(pace.due(), Some(now + LONGEST_PAUSE));
        let later = now + LONGEST_PAUSE * 2;
        pace.healed(later);
        assert_eq!(pace.due(), Some(later));
    }
}
