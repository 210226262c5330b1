//! Which way a packet takes through routers.

use std::collections::{BTreeSet, VecDeque};

use crate::topology::Topology;

/// A way through routers: the segments entered, with the router found on each; the last has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) steps: Vec<(String, Option<usize>)>,
}

impl Path {
    /// The shortest way from a router, by its number, onto a segment.
    pub(crate) fn from_router(topology: &Topology, router: usize, to_segment: &str) -> Option<Path> {
        let mut seen = BTreeSet::from([router]);
        let mut open = VecDeque::from([(router, Path::default())]);
        while let Some((at, path)) = open.pop_front() {
            let attached = &topology.routers[at].segments;
            if attached.iter().any(|segment| segment == to_segment) {
                return Some(path.then(to_segment, None));
            }
            for segment in attached {
                for (next, router) in topology.routers.iter().enumerate() {
                    if router.segments.contains(segment) && seen.insert(next) {
                        open.push_back((next, path.clone().then(segment, Some(next))));
                    }
                }
            }
        }
        None
    }

    /// The way of a host on one segment to another: through its default gateway, the segment's first router.
    pub(crate) fn from_segment(topology: &Topology, from: &str, to: &str) -> Option<Path> {
        if from == to {
            return Some(Path::default().then(to, None));
        }
        let gateway = first_router(topology, from)?;
        let onwards = Path::from_router(topology, gateway, to)?;
        let mut steps = vec![(from.to_owned(), Some(gateway))];
        steps.extend(onwards.steps);
        Some(Path { steps })
    }

    fn then(mut self, segment: &str, router: Option<usize>) -> Path {
        self.steps.push((segment.to_owned(), router));
        self
    }
}

/// The first router on a segment, by its number.
pub(crate) fn first_router(topology: &Topology, segment: &str) -> Option<usize> {
    topology.routers.iter().position(|router| router.segments.iter().any(|name| name == segment))
}
