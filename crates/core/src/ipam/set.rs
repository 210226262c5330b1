//! [`RangeSet`]: ranges that together yield one address.

use std::fmt;
use std::net::IpAddr;

use super::{Range, RangeError, next_address};
use crate::family::Family;

/// Ranges of one family without overlap, from which one address is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// Checks that the ranges fit together.
    ///
    /// # Errors
    ///
    /// When there are none, they are of both families, or two overlap.
    pub fn new(ranges: Vec<Range>) -> Result<RangeSet, RangeError> {
        let family = ranges.first().ok_or(RangeError::EmptySet)?.family();
        if ranges.iter().any(|range| range.family() != family) {
            return Err(RangeError::MixedFamilies);
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[index + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(RangeError::Overlap(Box::new([*one, *other])));
            }
        }
        Ok(RangeSet(ranges))
    }

    /// The ranges, in order; at least one.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.0[0].family()
    }

    /// The range that contains an address.
    pub fn range_for(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Whether any ranges of the two sets overlap.
    pub fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// How many addresses can be allocated; saturates at `u128::MAX`.
    pub fn capacity(&self) -> u128 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.capacity()))
    }

    /// Every address that can be allocated, once, with its range. Starts after `last`, the one given out last, and
    /// wraps; starts at the front when `last` is not in the set. Gateways are left out.
    pub fn candidates(&self, last: Option<IpAddr>) -> Candidates<'_> {
        let position = last.and_then(|last| {
            let index = self.0.iter().position(|range| range.contains(last))?;
            Some(self.after(index, last))
        });
        let (index, address) = position.unwrap_or((0, self.0[0].first()));
        Candidates { set: self, position: Some((index, address)), start: address }
    }

    fn after(&self, index: usize, address: IpAddr) -> (usize, IpAddr) {
        if address == self.0[index].last() {
            let index = (index + 1) % self.0.len();
            (index, self.0[index].first())
        } else {
            (index, next_address(address))
        }
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The addresses of a set in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    set: &'a RangeSet,
    /// Where to go on: range and address. `None` when all have been seen.
    position: Option<(usize, IpAddr)>,
    start: IpAddr,
}

impl<'a> Iterator for Candidates<'a> {
    type Item = (IpAddr, &'a Range);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, address) = self.position?;
            let range = &self.set.0[index];
            self.position = Some(self.set.after(index, address)).filter(|(_, next)| *next != self.start);
            if address != range.gateway() {
                return Some((address, range));
            }
        }
    }
}
