//! Foreign routes of the main table, to be found by destination.

use std::collections::{BTreeMap, BTreeSet};

use crate::cidr::Cidr;
use crate::family::PerFamily;
use crate::host::ForeignRoute;

/// Indexes into [`crate::host::HostView::routes`] by destination.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteIndex {
    by_dst: BTreeMap<Cidr, Vec<u32>>,
    lengths: PerFamily<BTreeSet<u8>>,
}

impl RouteIndex {
    pub fn new(routes: &[ForeignRoute]) -> RouteIndex {
        let mut index = RouteIndex::default();
        for (position, route) in (0..).zip(routes) {
            index.by_dst.entry(route.dst).or_default().push(position);
            index.lengths.get_mut(route.dst.family()).insert(route.dst.prefix_len());
        }
        for positions in index.by_dst.values_mut() {
            positions.sort_by_key(|position| routes[*position as usize].metric);
        }
        index
    }

    /// Routes to exactly this destination, the best first.
    pub fn to<'a>(&'a self, routes: &'a [ForeignRoute], dst: Cidr) -> impl Iterator<Item = &'a ForeignRoute> {
        self.by_dst.get(&dst).into_iter().flatten().filter_map(|position| routes.get(*position as usize))
    }

    /// Routes to parts of this destination.
    pub fn inside<'a>(
        &'a self,
        routes: &'a [ForeignRoute],
        dst: Cidr,
    ) -> impl Iterator<Item = &'a ForeignRoute> {
        let narrower = self.by_dst.range(dst..=Cidr::host(dst.last_address()));
        let narrower = narrower.filter(move |(narrower, _)| **narrower != dst);
        narrower.flat_map(|(_, positions)| positions).filter_map(|position| routes.get(*position as usize))
    }

    /// The route that all of this destination takes unless a narrower one leads parts of it elsewhere.
    pub fn best<'a>(&'a self, routes: &'a [ForeignRoute], dst: Cidr) -> Option<&'a ForeignRoute> {
        let lengths = self.lengths.get(dst.family()).range(..=dst.prefix_len()).rev();
        let mut wider = lengths.filter_map(|length| Cidr::containing(dst.address(), *length));
        wider.find_map(|wider| self.to(routes, wider).next())
    }
}
