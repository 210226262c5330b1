//! Keeping [`Observed`] true by what the kernel tells.

use super::{Event, Observed, ObservedNextHop, ObservedRoute};
use crate::diff::Touched;
use crate::object::RouteKey;

impl Observed {
    /// Takes in one event and marks in `touched` what may now differ from what is desired. An event that says what was
    /// known already (the echo of a change of ours, once taken in) touches nothing.
    ///
    /// Events that name no object ask for a new reading: [`Event::Table`] and [`Event::Sysctls`] set
    /// [`Touched::node_wide`], [`Event::Host`] with `resync` sets [`Touched::everything`]; the caller reads again before
    /// it compares.
    #[expect(clippy::needless_pass_by_value, reason = "an event is used up by taking it in")]
    pub fn record(&mut self, event: Event, touched: &mut Touched) {
        match event {
            Event::Route { key, now } => self.record_route(key, now, touched),
            Event::NextHop { id, now } => self.record_nexthop(id, now, touched),
            Event::ForeignNextHop { id, present } => {
                if present {
                    self.foreign_nexthop_ids.insert(id);
                } else {
                    self.foreign_nexthop_ids.remove(&id);
                }
            }
            Event::Neighbour { key, now } => {
                let former = match now {
                    Some(mac) => self.neighbours.insert(key, mac),
                    None => self.neighbours.remove(&key),
                };
                if former != now {
                    touched.neighbours.insert(key);
                }
            }
            Event::Fdb { key, now } => {
                let former = match now {
                    Some(entry) => self.fdb.insert(key, entry),
                    None => self.fdb.remove(&key),
                };
                if former != now {
                    touched.fdb.insert(key);
                }
            }
            Event::Address { address, present } => {
                touched.node_wide |= toggle(&mut self.addresses, address, present);
            }
            Event::Rule { rule, present } => touched.node_wide |= toggle(&mut self.rules, rule, present),
            Event::Element { set, element, present } => {
                let Some(table) = &mut self.table else { return };
                if toggle(table.sets.entry(set).or_default(), element, present) {
                    touched.elements.insert((set, element));
                }
            }
            Event::Table | Event::Sysctls => touched.node_wide = true,
            Event::ForeignNetfilter => {}
            Event::Host { resync } => touched.everything |= resync,
        }
    }

    fn record_route(&mut self, key: RouteKey, now: Option<ObservedRoute>, touched: &mut Touched) {
        let former = match now {
            Some(route) => self.routes.insert(key, route),
            None => self.routes.remove(&key),
        };
        if former != now {
            touched.routes.insert(key);
        }
    }

    /// The kernel deletes the routes of a deleted nexthop object without telling (`__remove_nexthop_fib`), and moves those
    /// of a replaced one.
    fn record_nexthop(&mut self, id: u32, now: Option<ObservedNextHop>, touched: &mut Touched) {
        // An id that becomes ours is no longer foreign.
        if now.is_some() {
            self.foreign_nexthop_ids.remove(&id);
        }
        let former = match now {
            Some(object) => self.nexthops.insert(id, object),
            None => self.nexthops.remove(&id),
        };
        if former == now {
            return;
        }
        touched.nexthops.insert(id);
        for object in [former, now].into_iter().flatten() {
            if let ObservedNextHop::Known(next_hop) = object {
                touched.next_hops.insert(next_hop);
            }
        }
        let users: Vec<RouteKey> = self.routes.users_of(id).collect();
        for key in users {
            touched.routes.insert(key);
            if now.is_none() {
                self.routes.remove(&key);
            }
        }
    }
}

/// Inserts or removes; tells whether that made a difference.
fn toggle<T: Ord>(set: &mut std::collections::BTreeSet<T>, value: T, present: bool) -> bool {
    if present { set.insert(value) } else { set.remove(&value) }
}
