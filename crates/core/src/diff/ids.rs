//! Ids of nexthop objects.

use std::collections::BTreeMap;
use std::iter::Chain;
use std::ops::Range;

use crate::mark::NEXTHOP_ID_BASE;
use crate::name::LinkName;
use crate::object::NextHop;
use crate::observed::{Observed, ObservedNextHop};

/// Where our ids are: sixteen million.
const IDS: Range<u32> = NEXTHOP_ID_BASE..NEXTHOP_ID_BASE + (1 << 24);

/// Finds the object of each next hop, or an id for one to be made.
///
/// An object that stands is used again; of several with the same next hop the one with the lowest id. A new one gets
/// the id after the highest one in use, which costs the same with any number of objects; only when the end of the range is
/// reached is it searched for gaps.
#[derive(Debug)]
pub(super) struct Ids<'a> {
    observed: &'a Observed,
    /// Links that are made anew: what stood on them does not count.
    void: &'a [LinkName],
    chosen: BTreeMap<NextHop, u32>,
    /// Ids to try, each once.
    free: Chain<Range<u32>, Range<u32>>,
}

impl<'a> Ids<'a> {
    pub fn new(observed: &'a Observed, void: &'a [LinkName]) -> Ids<'a> {
        let ours = observed.nexthops.range(IDS).next_back().map(|(id, _)| *id);
        let foreign = observed.foreign_nexthop_ids.range(IDS).next_back().copied();
        let next = ours.max(foreign).map_or(IDS.start, |highest| highest + 1);
        Ids { observed, void, chosen: BTreeMap::new(), free: (next..IDS.end).chain(IDS.start..next) }
    }

    /// The id of the object that stands for a next hop.
    pub fn standing(&self, next_hop: NextHop) -> Option<u32> {
        let stands = !self.void.contains(&next_hop.link);
        self.observed.nexthops.ids_of(next_hop).next().filter(|_| stands)
    }

    /// Whether this object is the one that stands for its next hop.
    pub fn keeps(&self, id: u32, object: ObservedNextHop) -> bool {
        matches!(object, ObservedNextHop::Known(next_hop) if self.standing(next_hop) == Some(id))
    }

    /// The id that routes through a next hop use: of the object that stands, or of one to be made.
    pub fn of(&mut self, next_hop: NextHop) -> Option<u32> {
        if let Some(id) = self.standing(next_hop).or_else(|| self.chosen.get(&next_hop).copied()) {
            return Some(id);
        }
        let id = self.free.find(|id| !taken(self.observed, *id))?;
        self.chosen.insert(next_hop, id);
        Some(id)
    }

    /// The objects to be made.
    pub fn into_new(self) -> Vec<(u32, NextHop)> {
        let mut new: Vec<_> = self.chosen.into_iter().map(|(next_hop, id)| (id, next_hop)).collect();
        new.sort_unstable();
        new
    }
}

fn taken(observed: &Observed, id: u32) -> bool {
    observed.nexthops.contains_key(&id) || observed.foreign_nexthop_ids.contains(&id)
}
