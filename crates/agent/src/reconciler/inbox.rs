//! The mailbox of the reconciler: how the asynchronous side reaches its thread.
//!
//! Whatever arrives while the thread is busy is merged, so that the mailbox never holds more than one view, one delta and a
//! handful of questions, however slow the kernel or fast the store: there is no queue that could grow or block.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use hopwise_api::status::{Status, ViewSource};
use hopwise_core::cluster::{ClusterView, ViewDelta};
use hopwise_core::name::NodeName;
use hopwise_core::note::Note;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use crate::metrics::Gauges;

/// A question to the reconciler, with the way back for its answer.
#[derive(Debug)]
pub enum Question {
    /// The whole status.
    Status(oneshot::Sender<Status>),
    /// The numbers that are counted rather than kept.
    Gauges(oneshot::Sender<Gauges>),
}

/// A complete view with where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourcedView {
    /// The view.
    pub view: Arc<ClusterView>,
    /// Where it is from.
    pub source: ViewSource,
    /// When it was last known to be current; `None`: it is now.
    pub current_until: Option<SystemTime>,
}

/// What arrived since the mailbox was emptied last.
#[derive(Debug, Default)]
pub struct Mail {
    /// A complete view, in place of whatever was known.
    pub view: Option<SourcedView>,
    /// What changed after that view, or after the last one if there is none here.
    pub delta: Option<ViewDelta>,
    /// Notes of others to show (or no longer), each in its own slot.
    pub notes: BTreeMap<String, Option<Note>>,
    /// When the store stopped being readable; `Some(None)`: it is again.
    pub trouble_since: Option<Option<SystemTime>>,
    /// Questions.
    pub questions: Vec<Question>,
    /// Leave everything as it is and end.
    pub stop: bool,
}

/// The mailbox.
#[derive(Debug)]
pub struct Inbox {
    mail: Mutex<Mail>,
    wake: EventFd,
}

impl Inbox {
    /// An empty mailbox.
    pub fn new() -> std::io::Result<Inbox> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Inbox { mail: Mutex::default(), wake: EventFd::from_flags(flags)? })
    }

    /// Puts in a complete view; it takes the place of everything about the cluster that was put in before.
    pub fn put_view(&self, view: SourcedView) {
        let mut mail = self.lock();
        mail.view = Some(view);
        mail.delta = None;
        self.ring(mail);
    }

    /// Puts in a change of the view.
    pub fn put_delta(&self, delta: ViewDelta) {
        let mut mail = self.lock();
        match &mut mail.delta {
            Some(earlier) => merge(earlier, delta),
            None => mail.delta = Some(delta),
        }
        self.ring(mail);
    }

    /// Says whether the store can be read: `Some` is since when it can't be.
    pub fn put_trouble_since(&self, since: Option<SystemTime>) {
        let mut mail = self.lock();
        mail.trouble_since = Some(since);
        self.ring(mail);
    }

    /// Shows a note among the node's, in place of the one that the slot held; `None` takes it away.
    pub fn put_note(&self, slot: String, note: Option<Note>) {
        let mut mail = self.lock();
        mail.notes.insert(slot, note);
        self.ring(mail);
    }

    /// Asks a question.
    pub fn ask(&self, question: Question) {
        let mut mail = self.lock();
        mail.questions.push(question);
        self.ring(mail);
    }

    /// Asks the reconciler to end.
    pub fn stop(&self) {
        let mut mail = self.lock();
        mail.stop = true;
        self.ring(mail);
    }

    /// Takes everything out.
    pub fn take(&self) -> Mail {
        // Read before the mail is taken: what comes in between rings again, at worst for nothing.
        let _ = self.wake.read();
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing panics while it holds the lock, and mail is whole after every statement.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, mail: MutexGuard<'_, Mail>) {
        drop(mail);
        // Fails only when the counter is full, which is a ring too.
        let _ = self.wake.write(1);
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Adds a later delta to an earlier one.
fn merge(earlier: &mut ViewDelta, later: ViewDelta) {
    let told_again: BTreeSet<&NodeName> =
        later.upserted.iter().map(|node| &node.name).chain(&later.removed).collect();
    earlier.upserted.retain(|node| !told_again.contains(&node.name));
    earlier.removed.retain(|name| !told_again.contains(name));
    earlier.upserted.extend(later.upserted);
    earlier.removed.extend(later.removed);
}

#[cfg(test)]
mod tests {
    use hopwise_core::cluster::{Node, NodeData, Os};
    use hopwise_core::config::Settings;

    use super::*;

    fn node(name: &str, os: Os) -> Arc<Node> {
        Arc::new(Node {
            name: name.parse().unwrap(),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            data: NodeData::default(),
            os,
            settings: Settings::default(),
        })
    }

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn live(view: ClusterView) -> SourcedView {
        SourcedView { view: Arc::new(view), source: ViewSource::Live, current_until: None }
    }

    fn apply(view: &mut ClusterView, delta: &ViewDelta) {
        for gone in &delta.removed {
            view.nodes.remove(gone);
        }
        for node in &delta.upserted {
            view.nodes.insert(node.name.clone(), node.clone());
        }
    }

    #[test]
    fn merged_deltas_do_what_they_did_one_by_one() {
        let story = [
            ViewDelta { upserted: vec![node("a", Os::Linux), node("b", Os::Linux)], removed: vec![] },
            ViewDelta { upserted: vec![node("a", Os::Windows)], removed: vec![name("b"), name("c")] },
            ViewDelta { upserted: vec![node("c", Os::Linux)], removed: vec![name("d")] },
            ViewDelta { upserted: vec![node("b", Os::Windows)], removed: vec![name("a")] },
        ];
        let mut start = ClusterView::default();
        apply(
            &mut start,
            &ViewDelta { upserted: vec![node("c", Os::Windows), node("d", Os::Linux)], removed: vec![] },
        );
        for split in 0..story.len() {
            let inbox = Inbox::new().unwrap();
            let (mut one_by_one, mut merged) = (start.clone(), start.clone());
            for (i, delta) in story.iter().enumerate() {
                apply(&mut one_by_one, delta);
                inbox.put_delta(delta.clone());
                if i == split {
                    apply(&mut merged, &inbox.take().delta.unwrap());
                }
            }
            if let Some(delta) = inbox.take().delta {
                apply(&mut merged, &delta);
            }
            assert_eq!(one_by_one, merged, "taken after {split}");
        }
    }

    #[test]
    fn a_complete_view_makes_earlier_news_void_but_not_later_ones() {
        let inbox = Inbox::new().unwrap();
        inbox.put_delta(ViewDelta { upserted: vec![node("a", Os::Linux)], removed: vec![] });
        inbox.put_view(live(ClusterView::default()));
        assert_eq!(inbox.take().delta, None);
        inbox.put_view(live(ClusterView::default()));
        inbox.put_delta(ViewDelta { upserted: vec![], removed: vec![name("a")] });
        let mail = inbox.take();
        assert!(mail.view.is_some() && mail.delta.is_some());
    }

    #[test]
    fn the_bell_rings_until_the_mail_is_taken() {
        let inbox = Inbox::new().unwrap();
        assert!(inbox.wake.read().is_err(), "silent at first");
        inbox.put_note("x".to_owned(), None);
        inbox.stop();
        assert!(inbox.take().stop);
        assert!(inbox.wake.read().is_err(), "silent again");
    }
}
