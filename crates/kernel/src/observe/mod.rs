//! Reading what is ours: dumps of every kind of object, filtered by the kernel where it filters.
//!
//! Enumerated by mark, never from what is desired. A dump that changes interrupted is run again
//! ([`crate::netlink::Socket::dump`]). The kernel does not tell of every interruption of a route dump, and time passes
//! between dumps: whoever needs the truth opens a [`crate::watch::Watch`] first and replays its events on top.

pub(crate) mod host;
pub(crate) mod translate;

use std::collections::BTreeMap;

use hopwise_core::family::{Family, PerFamily};
use hopwise_core::host::{Capabilities, SysctlKey};
use hopwise_core::mark::PROTOCOL;
use hopwise_core::name::LinkName;
use hopwise_core::object::{Address, RouteKey};
use hopwise_core::observed::{Observed, ObservedFdb, ObservedRoute, ObservedTarget, Routes};

use crate::netlink::{Batch, Message, NetlinkError, Socket};
use crate::rt;
use crate::sysctl;
use translate::Names;

/// A failed read, with what was being read.
pub(crate) type Failed = (&'static str, NetlinkError);

/// Names of links by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkNames(BTreeMap<u32, LinkName>);

impl Names for LinkNames {
    fn name(&self, index: u32) -> Option<LinkName> {
        self.0.get(&index).copied()
    }
}

/// Runs a dump and collects what `decode` makes of each message.
pub(crate) fn dump<T>(
    socket: &mut Socket,
    what: &'static str,
    request: impl FnOnce(&mut Batch),
    mut decode: impl FnMut(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>, Failed> {
    let mut batch = Batch::new();
    request(&mut batch);
    let mut collected = Vec::new();
    socket
        .dump(&mut batch, &mut collected, Vec::clear, |collected, message| collected.extend(decode(&message)))
        .map_err(|error| (what, error))?;
    Ok(collected)
}

/// Keys of which several routes of ours stand (`ip route append`), and how many: to be deleted one by one, since the
/// kernel replaces the first of them only.
pub(crate) type Doubled = BTreeMap<RouteKey, usize>;

/// Reads everything of ours that rtnetlink and the sysctls hold.
pub(crate) fn routing(
    socket: &mut Socket,
    capabilities: Capabilities,
    sysctls: &[SysctlKey],
) -> Result<(Observed, Doubled), Failed> {
    let mut observed = Observed::default();
    let names = links(socket, &mut observed)?;
    addresses(socket, &mut observed)?;
    if capabilities.nexthop_objects {
        next_hops(socket, &names, &mut observed)?;
    }
    let (routes, doubled) = routes(socket, capabilities.families, &names)?;
    observed.routes = routes;
    for family in enabled(capabilities.families) {
        neighbours(socket, family, &names, &mut observed)?;
        rules(socket, family, &mut observed)?;
    }
    fdb(socket, &mut observed)?;
    observed.sysctls = sysctl::read(sysctls);
    Ok((observed, doubled))
}

pub(crate) fn enabled(families: PerFamily<bool>) -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(move |family| *families.get(*family))
}

fn links(socket: &mut Socket, observed: &mut Observed) -> Result<LinkNames, Failed> {
    let mut names = LinkNames::default();
    let ours = dump(socket, "links", rt::link::get_all, |message| {
        let link = rt::link::decode(message)?;
        let name = link.name?;
        names.0.insert(link.index, name);
        translate::is_ours(&link).then(|| (name, translate::observed_link(&link)))
    })?;
    observed.links.extend(ours);
    Ok(names)
}

fn addresses(socket: &mut Socket, observed: &mut Observed) -> Result<(), Failed> {
    for (name, link) in &observed.links {
        let ours = dump(
            socket,
            "addresses",
            |batch| rt::address::get_all(batch, link.index.0),
            |message| {
                let address = rt::address::decode(message)?;
                (address.link == link.index.0 && !address.link_local()).then_some(Address {
                    link: *name,
                    address: address.address,
                    prefix_len: address.prefix_len,
                })
            },
        );
        match ours {
            Ok(ours) => observed.addresses.extend(ours),
            // The link went away after the link dump.
            Err((_, error)) if error.errno() == libc::ENODEV => {}
            Err(failed) => return Err(failed),
        }
    }
    Ok(())
}

fn next_hops(socket: &mut Socket, names: &LinkNames, observed: &mut Observed) -> Result<(), Failed> {
    let next_hops = dump(socket, "nexthop objects", rt::nexthop::get_all, rt::nexthop::decode)?;
    for next_hop in next_hops {
        if next_hop.protocol == PROTOCOL {
            observed.nexthops.insert(next_hop.id, translate::observed_next_hop(&next_hop, names));
        } else {
            observed.foreign_nexthop_ids.insert(next_hop.id);
        }
    }
    Ok(())
}

fn routes(
    socket: &mut Socket,
    families: PerFamily<bool>,
    names: &LinkNames,
) -> Result<(Routes, Doubled), Failed> {
    let mut routes: BTreeMap<RouteKey, ObservedRoute> = BTreeMap::new();
    let mut doubled = Doubled::new();
    for family in enabled(families) {
        let ours = dump(
            socket,
            "routes",
            |batch| rt::route::get_protocol(batch, family, PROTOCOL),
            |message| {
                let route = rt::route::decode(message).filter(translate::is_our_route)?;
                Some((translate::route_key(&route), translate::observed_route(&route, names)))
            },
        )?;
        for (key, route) in ours {
            let twice = |first: &mut ObservedRoute| {
                first.target = ObservedTarget::Other;
                *doubled.entry(key).or_insert(1) += 1;
            };
            routes.entry(key).and_modify(twice).or_insert(route);
        }
    }
    Ok((routes.into_iter().collect(), doubled))
}

fn neighbours(
    socket: &mut Socket,
    family: Family,
    names: &LinkNames,
    observed: &mut Observed,
) -> Result<(), Failed> {
    let links = &observed.links;
    let ours = dump(
        socket,
        "neighbours",
        |batch| rt::neighbour::get_all(batch, family),
        |message| {
            let neighbour = rt::neighbour::decode(message)?;
            let name = names.name(neighbour.link)?;
            let (key, mac) = translate::neighbour(&neighbour, name, links.contains_key(&name))?;
            Some((key, mac?))
        },
    )?;
    observed.neighbours.extend(ours);
    Ok(())
}

fn fdb(socket: &mut Socket, observed: &mut Observed) -> Result<(), Failed> {
    for (name, link) in observed.links.iter().filter(|(_, link)| link.kind == "vxlan") {
        let entries = dump(
            socket,
            "the FDB of a VXLAN device",
            |batch| rt::neighbour::get_fdb(batch, link.index.0),
            |message| {
                let entry = rt::neighbour::decode(message).filter(|entry| entry.link == link.index.0)?;
                translate::fdb(&entry, *name)
            },
        );
        let entries = match entries {
            Err((_, error)) if error.errno() == libc::ENODEV => continue,
            entries => entries?,
        };
        for (key, entry) in entries {
            // A second destination of the same MAC address was appended by hand.
            observed.fdb.entry(key).and_modify(|first| *first = ObservedFdb::Other).or_insert(entry);
        }
    }
    Ok(())
}

fn rules(socket: &mut Socket, family: Family, observed: &mut Observed) -> Result<(), Failed> {
    let ours = dump(
        socket,
        "policy rules",
        |batch| rt::rule::get_all(batch, family),
        |message| translate::observed_rule(&rt::rule::decode(message)?),
    )?;
    observed.rules.extend(ours);
    Ok(())
}
