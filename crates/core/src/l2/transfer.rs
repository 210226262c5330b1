//! The steps that move addresses, routes and neighbours from one link to another, so that nothing is without a place in
//! between: what is needed is on the new link before it leaves the old one.

use super::step::{Place, Step};
use super::value::{Address, Held, Observed, Route, address_flags};
use crate::name::LinkName;

/// Seconds by which two lifetimes may differ and still be the same: they run on while they are read.
pub(super) const LIFETIME_SLACK: u32 = 5;

/// From which link to which.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// What has it now.
    pub from: LinkName,
    /// What is to have it.
    pub to: LinkName,
}

/// The steps after which `to` has what is in `held`, and `from` has none of it. `held` is written as on `from`.
///
/// Where an address, route or neighbour is on neither link it is made; where it is on `to` already nothing is done for it.
pub fn steps(observed: &Observed, held: &Held, direction: Direction) -> Vec<Step> {
    let Direction { from, to } = direction;
    let mut steps = Vec::new();
    let mut settle = Vec::new();
    // The kernel lists the IPv4 address that came last as the last, and the IPv6 address that came last as the first of its
    // scope; in this order both lists become what they were.
    let (v4, v6): (Vec<&Address>, Vec<&Address>) =
        held.addresses.iter().partition(|address| address.address.is_ipv4());
    for address in v4.iter().chain(v6.iter().rev()) {
        add_address(observed, &address.on_link(from, to), to, &mut steps, &mut settle);
    }
    let mut old_routes = add_routes(observed, held, direction, &mut steps);
    for neighbour in &held.neighbours {
        if !observed.neighbours_of(to).contains(neighbour) {
            steps.push(Step::AddNeighbour(to, *neighbour));
        }
    }
    steps.append(&mut old_routes);
    for neighbour in &held.neighbours {
        if observed.neighbours_of(from).iter().any(|there| there.address == neighbour.address) {
            steps.push(Step::DeleteNeighbour(from, *neighbour));
        }
    }
    // In an order in which those that are left keep theirs when this ends halfway and is undone. And with a primary IPv4
    // address the kernel deletes the secondary ones of its subnet: it goes last.
    for address in v6.into_iter().chain(v4.into_iter().rev()) {
        if let Some(there) = observed.addresses_of(from).iter().find(|there| there.same_key(address)) {
            steps.push(Step::DeleteAddress(from, there.clone()));
        }
    }
    steps.extend(prefix_routes_left(observed, held, from));
    steps.append(&mut settle);
    steps
}

/// The routes of prefixes that stay when their addresses go: with an IPv6 address that has an end the kernel leaves the route
/// to its own end (`ipv6_del_addr`).
fn prefix_routes_left(observed: &Observed, held: &Held, link: LinkName) -> impl Iterator<Item = Step> {
    let ends = |route: &&Route| {
        held.addresses.iter().any(|address| {
            address.address.is_ipv6() && address.valid.is_some() && address.network() == Some(route.dst)
        })
    };
    let of_prefixes = observed
        .routes
        .iter()
        .filter(move |route| route.uses(link) && route.follows_from(observed.addresses_of(link)));
    of_prefixes.filter(ends).cloned().map(Step::DeleteRoute).collect::<Vec<_>>().into_iter()
}

fn add_address(
    observed: &Observed,
    address: &Address,
    link: LinkName,
    steps: &mut Vec<Step>,
    settle: &mut Vec<Step>,
) {
    match observed.addresses_of(link).iter().find(|there| there.same_key(address)) {
        None => {
            steps.push(Step::AddAddress(link, address.clone()));
            // It was added without DAD; the flag stays with it for ever unless it is taken off.
            if address.address.is_ipv6() && address.flags & address_flags::NODAD == 0 {
                settle.push(Step::SetAddress(link, address.clone()));
            }
        }
        Some(there) if !agrees(there, address) => settle.push(Step::SetAddress(link, address.clone())),
        Some(_) => {}
    }
}

/// Whether an address is as it should be, apart from what can't be set.
pub(super) fn agrees(there: &Address, wanted: &Address) -> bool {
    let close = |a: Option<u32>, b: Option<u32>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= LIFETIME_SLACK,
        (a, b) => a == b,
    };
    there.flags == wanted.flags
        && there.metric == wanted.metric
        && close(there.valid, wanted.valid)
        && close(there.preferred, wanted.preferred)
}

/// Appends the steps that make the routes, and returns those that delete the old ones.
///
/// Routes without a gateway come first: the kernel takes a gateway only where a route already leads to it. Those that share
/// their key stay together, since their order is what tells them apart.
fn add_routes(observed: &Observed, held: &Held, direction: Direction, steps: &mut Vec<Step>) -> Vec<Step> {
    let mut deletes = Vec::new();
    for direct in [true, false] {
        let mut first = Vec::new();
        let mut rest = Vec::new();
        let of_class = |route: &&Route| {
            let alone = held.routes.iter().filter(|other| other.same_key(route)).count() == 1;
            (alone && route.hops.iter().all(|hop| hop.gateway.is_none())) == direct
        };
        for route in held.routes.iter().filter(of_class) {
            match place(observed, route, direction) {
                Some(Place::First) => first.push(Step::AddRoute(moved(route, direction), Place::First)),
                Some(place) => rest.push(Step::AddRoute(moved(route, direction), place)),
                None => {}
            }
            let rivals = || observed.routes.iter().filter(|there| there.same_key(route));
            let replaced = rivals().count() == 1;
            deletes.extend(
                rivals()
                    .find(|there| there.same(route) && !replaced)
                    .map(|old| Step::DeleteRoute(old.clone())),
            );
        }
        // Each one goes before all others: the last of them first.
        steps.extend(first.into_iter().rev());
        steps.append(&mut rest);
    }
    deletes
}

fn moved(route: &Route, Direction { from, to }: Direction) -> Route {
    route.on_link(from, to)
}

/// Where a route is to be put among those with its key; `None`: nowhere, it is there.
fn place(observed: &Observed, route: &Route, direction: Direction) -> Option<Place> {
    let new = moved(route, direction);
    let rivals: Vec<&Route> = observed.routes.iter().filter(|there| there.same_key(route)).collect();
    let old = rivals.iter().any(|there| there.same(route));
    if rivals.iter().any(|there| there.same(&new)) {
        return None;
    }
    match (rivals.len(), old) {
        (0, _) | (1, true) => Some(Place::Replace),
        // Before routes of other links means before them afterwards too.
        (_, true) if leads(&rivals, direction.from) => Some(Place::First),
        // Somebody put another route in its place: his is the newer word.
        (_, false) if rivals.iter().any(|there| there.uses(direction.to)) => None,
        _ => Some(Place::Last),
    }
}

/// Whether the routes of a link come before those of others among routes with one key.
fn leads(rivals: &[&Route], link: LinkName) -> bool {
    let others_begin = rivals.iter().position(|rival| !rival.uses(link)).unwrap_or(rivals.len());
    others_begin < rivals.len() && rivals[others_begin..].iter().all(|rival| !rival.uses(link))
}

/// The steps for default routes that the kernel made from routers' advertisements.
///
/// Such a route can't be copied as it is: the kernel, which keeps it apart by a flag that no program can set, would fail to
/// add its own when the next advertisement comes, and drop the advertisement. So a stand-in with the next higher metric
/// bridges the time until the router has answered the solicitation that the kernel sends on `to`; it ends when the old one
/// would have.
pub fn advertised(observed: &Observed, Direction { from, to }: Direction) -> (Vec<Step>, Vec<Step>) {
    let (mut adds, mut deletes) = (Vec::new(), Vec::new());
    for old in observed.routes_of(from).filter(|route| observed.is_from_ra(route, from)) {
        let stand_in = Route { metric: old.metric.saturating_add(1), ..old.on_link(from, to) };
        let known = observed
            .routes
            .iter()
            .any(|there| there.uses(to) && (there.same_key(old) || there.same_key(&stand_in)));
        if !known {
            adds.push(Step::AddRoute(stand_in, Place::Replace));
        }
        deletes.push(Step::DeleteRoute(old.clone()));
    }
    (adds, deletes)
}

/// The steps that take away stand-ins whose router has advertised itself on the link.
pub fn stand_ins_done(observed: &Observed, link: LinkName) -> Vec<Step> {
    let advertised = |route: &&Route| observed.is_from_ra(route, link);
    let routes: Vec<&Route> = observed.routes_of(link).filter(advertised).collect();
    let replaced = |stand_in: &&&Route| {
        routes.iter().any(|own| {
            own.metric.checked_add(1) == Some(stand_in.metric)
                && (own.dst, own.table, &own.hops) == (stand_in.dst, stand_in.table, &stand_in.hops)
        })
    };
    routes.iter().filter(replaced).map(|stand_in| Step::DeleteRoute((*stand_in).clone())).collect()
}
