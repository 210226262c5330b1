//! Maps of owned objects that are also found the other way round, so that one changed object costs the same in a cluster
//! of 100,000 nodes as in one of three.

use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{ObservedNextHop, ObservedRoute, ObservedTarget};
use crate::object::{NextHop, RouteKey};

/// Routes by key, and by the nexthop object that they use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    by_key: BTreeMap<RouteKey, ObservedRoute>,
    users: BTreeSet<(u32, RouteKey)>,
}

impl Routes {
    /// Writes a route; gives what stood there.
    pub fn insert(&mut self, key: RouteKey, route: ObservedRoute) -> Option<ObservedRoute> {
        let former = self.remove(&key);
        if let ObservedTarget::Object(id) = route.target {
            self.users.insert((id, key));
        }
        self.by_key.insert(key, route);
        former
    }

    /// Takes a route out; gives what stood there.
    pub fn remove(&mut self, key: &RouteKey) -> Option<ObservedRoute> {
        let former = self.by_key.remove(key)?;
        if let ObservedTarget::Object(id) = former.target {
            self.users.remove(&(id, *key));
        }
        Some(former)
    }

    /// The route of that key.
    pub fn get(&self, key: &RouteKey) -> Option<&ObservedRoute> {
        self.by_key.get(key)
    }

    /// Whether a route of that key stands.
    pub fn contains_key(&self, key: &RouteKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// All routes in order of their keys.
    pub fn iter(&self) -> btree_map::Iter<'_, RouteKey, ObservedRoute> {
        self.by_key.iter()
    }

    /// All keys in order.
    pub fn keys(&self) -> btree_map::Keys<'_, RouteKey, ObservedRoute> {
        self.by_key.keys()
    }

    /// The routes that use a nexthop object.
    pub fn users_of(&self, id: u32) -> impl Iterator<Item = RouteKey> + '_ {
        let from = self.users.range((id, LOWEST_KEY)..);
        from.take_while(move |(user, _)| *user == id).map(|(_, key)| *key)
    }

    /// Makes it as small in memory as it can be.
    pub(super) fn compact(&mut self) {
        super::compact_map(&mut self.by_key);
        super::compact_set(&mut self.users);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

/// Sorts before every other key.
const LOWEST_KEY: RouteKey = RouteKey { table: 0, dst: crate::cidr::Cidr::LOWEST, metric: 0 };

impl FromIterator<(RouteKey, ObservedRoute)> for Routes {
    fn from_iter<I: IntoIterator<Item = (RouteKey, ObservedRoute)>>(routes: I) -> Self {
        let by_key: BTreeMap<_, _> = routes.into_iter().collect();
        let users = by_key.iter().filter_map(|(key, route)| match route.target {
            ObservedTarget::Object(id) => Some((id, *key)),
            _ => None,
        });
        Routes { users: users.collect(), by_key }
    }
}

impl<'a> IntoIterator for &'a Routes {
    type Item = (&'a RouteKey, &'a ObservedRoute);
    type IntoIter = btree_map::Iter<'a, RouteKey, ObservedRoute>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Nexthop objects by id, and by what they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NextHops {
    by_id: BTreeMap<u32, ObservedNextHop>,
    /// Ids by the hash of what the object is: a fifth of the memory that the next hops themselves would take.
    ids: BTreeSet<(u32, u32)>,
}

/// The same in every process, which nothing depends on.
fn hash(next_hop: NextHop) -> u32 {
    let mut hasher = DefaultHasher::new();
    next_hop.hash(&mut hasher);
    hasher.finish() as u32
}

impl NextHops {
    /// Writes an object; gives what stood there.
    pub fn insert(&mut self, id: u32, object: ObservedNextHop) -> Option<ObservedNextHop> {
        let former = self.remove(&id);
        if let ObservedNextHop::Known(next_hop) = object {
            self.ids.insert((hash(next_hop), id));
        }
        self.by_id.insert(id, object);
        former
    }

    /// Takes an object out; gives what stood there.
    pub fn remove(&mut self, id: &u32) -> Option<ObservedNextHop> {
        let former = self.by_id.remove(id)?;
        if let ObservedNextHop::Known(next_hop) = former {
            self.ids.remove(&(hash(next_hop), *id));
        }
        Some(former)
    }

    /// The object of that id.
    pub fn get(&self, id: &u32) -> Option<&ObservedNextHop> {
        self.by_id.get(id)
    }

    /// Whether an object has that id.
    pub fn contains_key(&self, id: &u32) -> bool {
        self.by_id.contains_key(id)
    }

    /// The ids of the objects that are this next hop, ascending.
    pub fn ids_of(&self, next_hop: NextHop) -> impl Iterator<Item = u32> + '_ {
        let hash = hash(next_hop);
        let alike = self.ids.range((hash, 0)..=(hash, u32::MAX)).map(|(_, id)| *id);
        alike.filter(move |id| self.by_id.get(id) == Some(&ObservedNextHop::Known(next_hop)))
    }

    /// All objects in order of their ids.
    pub fn iter(&self) -> btree_map::Iter<'_, u32, ObservedNextHop> {
        self.by_id.iter()
    }

    /// The objects whose ids are in a range, ascending.
    pub fn range(&self, ids: std::ops::Range<u32>) -> btree_map::Range<'_, u32, ObservedNextHop> {
        self.by_id.range(ids)
    }

    /// Makes it as small in memory as it can be.
    pub(super) fn compact(&mut self) {
        super::compact_map(&mut self.by_id);
        super::compact_set(&mut self.ids);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl FromIterator<(u32, ObservedNextHop)> for NextHops {
    fn from_iter<I: IntoIterator<Item = (u32, ObservedNextHop)>>(objects: I) -> Self {
        let by_id: BTreeMap<_, _> = objects.into_iter().collect();
        let ids = by_id.iter().filter_map(|(id, object)| match object {
            ObservedNextHop::Known(next_hop) => Some((hash(*next_hop), *id)),
            ObservedNextHop::Other => None,
        });
        NextHops { ids: ids.collect(), by_id }
    }
}

impl<'a> IntoIterator for &'a NextHops {
    type Item = (&'a u32, &'a ObservedNextHop);
    type IntoIter = btree_map::Iter<'a, u32, ObservedNextHop>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
