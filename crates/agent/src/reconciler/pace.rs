//! How often an object may be written: back-off after failures, and in fights with another program.
//!
//! Drift is repaired at once. Two things would turn that into a spin:
//! - the kernel refuses a change: it is tried again after 100 ms, then 200 ms, up to 30 s, and at once when an input changes;
//! - another program undoes every repair: from [`FIGHT_NOTED`] repairs of one object in a minute there is a note, and after
//!   [`FIGHT_BURST`] in ten seconds the object is left alone for 250 ms, then 500 ms, up to 30 s.
//!
//! Each object is paced for itself: trouble with one never delays another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::objects::Object;

/// From this many repairs of one object within [`NOTE_WINDOW`] there is a `contention` note.
pub const FIGHT_NOTED: u32 = 10;
/// The window for [`FIGHT_NOTED`]. An object that stays as it should for so long is at peace again.
pub const NOTE_WINDOW: Duration = Duration::from_secs(60);
/// After this many repairs of one object within [`BURST_WINDOW`] it is held back. So many repairs take some 20 ms.
pub const FIGHT_BURST: u32 = 256;
/// The window for [`FIGHT_BURST`].
pub const BURST_WINDOW: Duration = Duration::from_secs(10);

const FIRST_RETRY: Duration = Duration::from_millis(100);
const FIRST_HOLD: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// What is known about objects that are, or recently were, in trouble.
#[derive(Debug, Default)]
pub struct Pace {
    entries: BTreeMap<Object, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    repairs: Window,
    burst: Window,
    /// The delay before the next attempt after a failure; zero: it did not fail.
    retry_delay: Duration,
    /// How long the object was held back last in a fight; zero: never.
    hold: Duration,
    /// Not to be written before then.
    held_until: Option<Instant>,
    /// Whether it is known not to be as it should, and waits for `held_until`.
    waiting: bool,
}

/// Counts what happens within a stretch of time, which starts anew when it is over.
#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    count: u32,
}

impl Window {
    fn count(&mut self, now: Instant, length: Duration) -> u32 {
        if self.since.is_none_or(|since| now.duration_since(since) > length) {
            *self = Window { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count
    }

    fn is_over(&self, now: Instant, length: Duration) -> bool {
        self.since.is_none_or(|since| now.duration_since(since) > length)
    }
}

impl Pace {
    /// Counts a repair of an object that something else had changed.
    pub fn repaired(&mut self, object: Object, now: Instant) {
        let entry = self.entries.entry(object).or_default();
        entry.repairs.count(now, NOTE_WINDOW);
        let in_burst = entry.burst.count(now, BURST_WINDOW);
        if entry.hold.is_zero() && in_burst <= FIGHT_BURST {
            return;
        }
        // The first repair after a hold is a trial: when it is undone again the next hold is twice as long.
        entry.hold = if entry.hold.is_zero() { FIRST_HOLD } else { (entry.hold * 2).min(LONGEST) };
        entry.held_until = Some(now + entry.hold);
    }

    /// Counts a change that did not take effect.
    pub fn failed(&mut self, object: Object, now: Instant) {
        let entry = self.entries.entry(object).or_default();
        entry.retry_delay =
            if entry.retry_delay.is_zero() { FIRST_RETRY } else { (entry.retry_delay * 2).min(LONGEST) };
        entry.held_until = Some(now + entry.retry_delay);
        entry.waiting = true;
    }

    /// An object is not as it should be, and is left so because it is held.
    pub fn left_out(&mut self, object: Object) {
        if let Some(entry) = self.entries.get_mut(&object) {
            entry.waiting = true;
        }
    }

    /// The object is as it should be.
    pub fn agrees(&mut self, object: Object) {
        if let Some(entry) = self.entries.get_mut(&object) {
            entry.waiting = false;
            if !entry.retry_delay.is_zero() {
                entry.retry_delay = Duration::ZERO;
                entry.held_until = None;
            }
        }
    }

    /// Whether the object is not to be written now. With `wanted_anew` (an input changed what it should be) a failure of
    /// the past doesn't count.
    pub fn is_held(&self, object: Object, wanted_anew: bool, now: Instant) -> bool {
        self.entries.get(&object).is_some_and(|entry| {
            entry.held_until.is_some_and(|until| until > now) && !(wanted_anew && entry.hold.is_zero())
        })
    }

    /// Whether there is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the next object may be written again.
    pub fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter(|entry| entry.waiting).filter_map(|entry| entry.held_until).min()
    }

    /// The objects whose time has come; they are no longer held, and have to be compared.
    pub fn take_due(&mut self, now: Instant) -> Vec<Object> {
        let mut due = Vec::new();
        for (object, entry) in &mut self.entries {
            if entry.waiting && entry.held_until.is_some_and(|until| until <= now) {
                entry.held_until = None;
                entry.waiting = false;
                due.push(*object);
            }
        }
        due
    }

    /// Makes every object that failed due: something changed that may have been the reason.
    pub fn retry_failed(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if entry.waiting && entry.hold.is_zero() {
                entry.held_until = Some(now);
            }
        }
    }

    /// The objects that are not as they should be, and wait.
    pub fn waiting(&self) -> impl Iterator<Item = Object> {
        self.entries.iter().filter(|(_, entry)| entry.waiting).map(|(object, _)| *object)
    }

    /// The objects that another program keeps changing, with the number of repairs in the present minute.
    pub fn contended(&self) -> impl Iterator<Item = (Object, u32)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.repairs.count >= FIGHT_NOTED || !entry.hold.is_zero())
            .map(|(object, entry)| (*object, entry.repairs.count))
    }

    /// Forgets objects that have been at peace for [`NOTE_WINDOW`].
    pub fn forget_quiet(&mut self, now: Instant) {
        self.entries.retain(|_, entry| {
            !entry.retry_delay.is_zero()
                || entry.waiting
                || !entry.repairs.is_over(now, NOTE_WINDOW.max(entry.hold * 2))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Object = Object::Table;
    const OTHER: Object = Object::NextHopId(7);

    #[test]
    fn failures_back_off_exponentially_and_each_for_itself() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut now = start;
        let mut delays = Vec::new();
        for _ in 0..11 {
            pace.failed(TABLE, now);
            assert!(pace.is_held(TABLE, false, now) && !pace.is_held(OTHER, false, now));
            let due = pace.next_due().unwrap();
            delays.push((due - now).as_millis());
            now = due;
            assert_eq!(pace.take_due(now), [TABLE]);
            assert!(!pace.is_held(TABLE, false, now));
        }
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        pace.agrees(TABLE);
        pace.forget_quiet(now);
        assert!(pace.is_empty());
    }

    #[test]
    fn a_changed_input_lifts_the_hold_of_a_failure() {
        let now = Instant::now();
        let mut pace = Pace::default();
        pace.failed(TABLE, now);
        assert!(pace.is_held(TABLE, false, now) && !pace.is_held(TABLE, true, now));
        pace.retry_failed(now);
        assert_eq!(pace.take_due(now), [TABLE]);
    }

    #[test]
    fn two_hundred_repairs_in_a_row_are_no_reason_to_wait_but_are_noted() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for i in 1..=200 {
            pace.repaired(TABLE, now);
            assert!(!pace.is_held(TABLE, false, now));
            assert_eq!(pace.contended().count(), usize::from(i >= FIGHT_NOTED));
        }
    }

    #[test]
    fn a_fight_is_slowed_down_and_peace_forgets_it() {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..=FIGHT_BURST {
            pace.repaired(TABLE, now);
        }
        let mut holds = Vec::new();
        for _ in 0..9 {
            assert!(pace.is_held(TABLE, true, now), "a fight outlasts changes of inputs");
            pace.left_out(TABLE);
            let due = pace.next_due().unwrap();
            holds.push((due - now).as_millis());
            now = due;
            assert_eq!(pace.take_due(now), [TABLE]);
            pace.repaired(TABLE, now);
        }
        assert_eq!(holds, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!((pace.next_due(), pace.waiting().count()), (None, 0), "the last repair held");
        pace.forget_quiet(now + NOTE_WINDOW * 2);
        assert!(pace.is_empty());
    }
}
