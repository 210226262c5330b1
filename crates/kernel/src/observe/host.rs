//! Reading what is not ours but matters to planning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::config::MAIN_TABLE;
use hopwise_core::host::{Capabilities, HostView, Lookup};
use hopwise_core::mark::PROTOCOL;
use hopwise_core::name::IfIndex;
use hopwise_core::plan::sysctl_keys;

use super::{Failed, dump, enabled, translate};
use crate::netlink::{Batch, Socket};
use crate::rt;
use crate::sysctl;

/// Reads the host view, all but its `netfilter`.
pub(crate) fn view(
    socket: &mut Socket,
    capabilities: Capabilities,
    pod_networks: &[Cidr],
    lookups: &BTreeSet<IpAddr>,
) -> Result<HostView, Failed> {
    let mut view = HostView { capabilities, ..HostView::default() };
    let mut ours = BTreeSet::new();
    let links = dump(socket, "links", rt::link::get_all, |message| {
        let link = rt::link::decode(message)?;
        if translate::is_ours(&link) {
            ours.insert(link.index);
        }
        translate::host_link(&link)
    })?;
    view.links = links.into_iter().map(|link| (link.index, link)).collect();
    view.addresses = dump(
        socket,
        "addresses",
        |batch| rt::address::get_all(batch, 0),
        |message| rt::address::decode(message).map(|address| translate::link_address(&address)),
    )?;
    for family in enabled(capabilities.families) {
        view.routes.extend(dump(
            socket,
            "routes",
            |batch| rt::route::get_table(batch, family, MAIN_TABLE),
            |message| {
                let route = rt::route::decode(message)?;
                matters(&route, pod_networks).then(|| translate::foreign_route(&route))
            },
        )?);
        view.foreign_neighbours.extend(dump(
            socket,
            "neighbours",
            |batch| rt::neighbour::get_all(batch, family),
            |message| {
                let entry = rt::neighbour::decode(message)?;
                let foreign = entry.permanent()
                    && entry.protocol != PROTOCOL
                    && !entry.is_fdb()
                    && !entry.proxy()
                    && !ours.contains(&entry.link);
                foreign.then_some(((IfIndex(entry.link), entry.address?), entry.mac?))
            },
        )?);
    }
    view.lookups = look_up(socket, lookups)?;
    view.sysctls = sysctl::read(&sysctl_keys(&view));
    Ok(view)
}

/// Whether a route of the main table is foreign and can have a say about pod networks. A full table of some other
/// routing daemon is read past, not kept.
fn matters(route: &rt::route::RouteMessage, pod_networks: &[Cidr]) -> bool {
    route.table == MAIN_TABLE
        && route.protocol != PROTOCOL
        && !route.cloned
        && !route.qualified
        && (route.unicast() || route.refuses())
        && (route.dst.prefix_len() == 0 || pod_networks.iter().any(|network| network.overlaps(route.dst)))
}

/// Asks the kernel about each address, many questions in a datagram.
pub(crate) fn look_up(
    socket: &mut Socket,
    addresses: &BTreeSet<IpAddr>,
) -> Result<BTreeMap<IpAddr, Lookup>, Failed> {
    let mut answers = BTreeMap::new();
    let mut open: Vec<IpAddr> = addresses.iter().copied().collect();
    for fib_match in [true, false] {
        let mut batch = Batch::new();
        for address in &open {
            rt::route::lookup(&mut batch, *address, fib_match);
        }
        let mut unclear = Vec::new();
        let asked = socket.ask(&mut batch, |index, answer| {
            let Some(address) = open.get(index).copied() else { return };
            // A refusal is how the kernel says that no route leads there: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL.
            let lookup = answer.map_or(Some(Lookup::Unreachable), |message| {
                rt::route::decode(&message).and_then(|route| translate::lookup(&route))
            });
            match lookup {
                Some(lookup) => drop(answers.insert(address, lookup)),
                None => unclear.push(address),
            }
        });
        asked.map_err(|error| ("route lookups", error))?;
        open = unclear;
    }
    Ok(answers)
}
