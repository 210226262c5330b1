//! [`SpanSet`]: addresses of one family, as runs.

use std::collections::BTreeMap;

use super::Span;
use crate::family::Family;
use crate::ipam::{address, number};

/// A set of addresses of one family, kept as disjoint runs in ascending order that don't touch each other.
///
/// What is added must be of the family of what is there; addresses of the other family are never in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanSet {
    family: Option<Family>,
    /// First to last, inclusive.
    runs: BTreeMap<u128, u128>,
}

impl SpanSet {
    /// Adds a run. One of another family than what is there is left out.
    pub fn insert(&mut self, span: Span) {
        if *self.family.get_or_insert(span.family()) != span.family() {
            return;
        }
        let (mut first, mut last) = (number(span.first()), number(span.last()));
        // All runs that overlap or touch become one with the new one.
        while let Some((start, end)) = self.runs.range(..=last.saturating_add(1)).next_back() {
            let (start, end) = (*start, *end);
            if end.saturating_add(1) < first {
                break;
            }
            (first, last) = (first.min(start), last.max(end));
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    /// Removes a run.
    pub fn remove(&mut self, span: Span) {
        if self.family != Some(span.family()) {
            return;
        }
        let (first, last) = (number(span.first()), number(span.last()));
        while let Some((start, end)) = self.runs.range(..=last).next_back() {
            let (start, end) = (*start, *end);
            if end < first {
                break;
            }
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, end);
            }
            if start < first {
                self.runs.insert(start, first - 1);
            }
        }
        if self.runs.is_empty() {
            self.family = None;
        }
    }

    /// Removes all of another set.
    pub fn remove_all(&mut self, other: &SpanSet) {
        for span in other.spans() {
            self.remove(span);
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &SpanSet) -> SpanSet {
        let mut outside = self.clone();
        outside.remove_all(other);
        let mut both = self.clone();
        both.remove_all(&outside);
        both
    }

    /// The runs, ascending.
    pub fn spans(&self) -> impl DoubleEndedIterator<Item = Span> + '_ {
        let family = self.family.unwrap_or(Family::V4);
        let span =
            move |(first, last): (&u128, &u128)| Span::new(address(family, *first), address(family, *last));
        self.runs.iter().filter_map(span)
    }

    /// How many addresses; saturates at `u128::MAX`.
    pub fn len(&self) -> u128 {
        self.spans().fold(0, |sum, span| sum.saturating_add(span.len()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes up to `wanted` addresses out: all from the smallest run that has as many, else whole runs, the largest
    /// first, so that a slice is in as few pieces as possible.
    #[must_use]
    pub fn take(&mut self, mut wanted: u128) -> SpanSet {
        let mut taken = SpanSet::default();
        while wanted > 0 {
            let enough = self.spans().filter(|span| span.len() >= wanted).min_by_key(|span| span.len());
            let Some(run) = enough.or_else(|| self.spans().rev().max_by_key(|span| span.len())) else {
                break;
            };
            let piece = if run.len() > wanted { head(run, wanted) } else { run };
            wanted -= piece.len();
            self.remove(piece);
            taken.insert(piece);
        }
        taken
    }

    /// Takes the first `wanted` addresses out.
    #[must_use]
    pub fn take_first(&mut self, mut wanted: u128) -> SpanSet {
        let mut taken = SpanSet::default();
        while wanted > 0 {
            let first = self.spans().next();
            let Some(run) = first else { break };
            let piece = if run.len() > wanted { head(run, wanted) } else { run };
            wanted -= piece.len();
            self.remove(piece);
            taken.insert(piece);
        }
        taken
    }
}

/// The first `len` addresses of a run that has more.
fn head(run: Span, len: u128) -> Span {
    let last = address(run.family(), number(run.first()) + (len - 1));
    Span::new(run.first(), last).unwrap_or(run)
}

impl FromIterator<Span> for SpanSet {
    fn from_iter<T: IntoIterator<Item = Span>>(spans: T) -> SpanSet {
        let mut set = SpanSet::default();
        for span in spans {
            set.insert(span);
        }
        set
    }
}
