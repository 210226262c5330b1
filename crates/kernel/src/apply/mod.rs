//! Writing changes: everything in one pass over one socket, in the order of [`Changes`]' fields, each refusal mapped to
//! the change that it is about. A refusal never stops the rest.
//!
//! Requests of all kinds share batches; what another request refers to precedes it, and the kernel works through a
//! datagram in order. Only links cut the pass in two: the kernel chooses their index when it makes them, and everything
//! after names them by it.

mod links;
mod op;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use hopwise_core::diff::{Changes, RouteTarget};
use hopwise_core::host::SysctlKey;
use hopwise_core::name::LinkName;
use hopwise_core::object::RouteKey;
use hopwise_core::report::{ApplyError, Report};

use crate::netlink::{Batch, NetlinkError, Socket};
use crate::observe::Doubled;
use crate::{iptables, nft, rt, sysctl};
use links::Resolved;
use op::Op;

/// Requests that are collected before they are sent: a datagram's worth. Bounds the memory that 60,000 routes take, and
/// what a watch has to hold until `between` reads it, also where its buffer can't be made larger (without the right to).
const FLUSH: usize = 100;

/// Executes changes.
///
/// Routing comes first and netfilter last, so that no route ever waits for a program that is run.
pub(crate) fn apply(
    route: &mut Socket,
    netfilter: Option<&mut Socket>,
    changes: &Changes,
    doubled: &Doubled,
    between: &mut dyn FnMut(),
) -> Report {
    let started = Instant::now();
    let mut writer = Writer {
        socket: route,
        between,
        doubled,
        batch: Batch::new(),
        ops: Vec::new(),
        report: Report::default(),
    };
    writer.sysctls(&changes.sysctls);
    let mut links = writer.resolve(&links_before(changes));
    writer.links(changes, &links);
    if !changes.links_add.is_empty() {
        let new = changes.links_add.iter().map(|link| link.name).collect();
        links.extend(writer.resolve(&new));
    }
    writer.sysctls(&changes.link_sysctls);
    writer.additions(changes, &links);
    writer.deletions(changes, &links);
    writer.flush();
    let mut report = writer.report;
    netfilter_changes(netfilter, changes, &mut report);
    report.elapsed = started.elapsed();
    report
}

/// Every link that the changes refer to.
fn links_before(changes: &Changes) -> BTreeSet<LinkName> {
    let mut names = BTreeSet::new();
    names.extend(&changes.links_recreate);
    names.extend(changes.links_add.iter().flat_map(|link| [link.name, link.uplink]));
    names.extend(changes.links_set.iter().map(|link| link.name));
    names.extend(changes.addresses_add.iter().map(|address| address.link));
    names.extend(changes.nexthops_add.iter().map(|(_, next_hop)| next_hop.link));
    names.extend(changes.neighbours_set.iter().map(|neighbour| neighbour.key.link));
    names.extend(changes.fdb_set.iter().map(|entry| entry.key.link));
    let by_gateway = changes.routes_set.iter().filter(|change| change.target == RouteTarget::Gateway);
    names.extend(by_gateway.map(|change| change.route.next_hop.link));
    names.extend(changes.fdb_delete.iter().map(|key| key.link));
    names.extend(changes.neighbours_delete.iter().map(|key| key.link));
    names.extend(changes.addresses_delete.iter().map(|address| address.link));
    names.extend(&changes.links_delete);
    names
}

struct Writer<'k, 'c> {
    socket: &'k mut Socket,
    /// Called after each batch.
    between: &'k mut dyn FnMut(),
    doubled: &'k Doubled,
    batch: Batch,
    /// What each message of the batch is about.
    ops: Vec<Op<'c>>,
    report: Report,
}

impl<'c> Writer<'_, 'c> {
    fn sysctls(&mut self, sysctls: &'c [(SysctlKey, String)]) {
        for change in sysctls {
            let written = sysctl::write(&change.0, &change.1).map_err(NetlinkError::Io);
            self.record(Op::Sysctl(change), written);
        }
    }

    fn resolve(&mut self, names: &BTreeSet<LinkName>) -> BTreeMap<LinkName, Resolved> {
        // A socket that fails here fails again with the requests that need the links, and is reported with them.
        links::resolve(self.socket, names).unwrap_or_default()
    }

    fn links(&mut self, changes: &'c Changes, links: &BTreeMap<LinkName, Resolved>) {
        for name in &changes.links_recreate {
            self.delete_link(Op::LinkRecreate(name), links.get(name));
        }
        for link in &changes.links_add {
            // The requests that follow the first name the link: they must not hit one that is not ours.
            let taken = links.get(&link.name).is_some_and(|found| !found.ours);
            match links.get(&link.uplink) {
                _ if taken => {
                    let error = NetlinkError::Refused { errno: libc::EEXIST, message: None };
                    self.record(Op::LinkAdd(link), Err(error));
                }
                Some(uplink) => {
                    rt::link::add_vxlan(&mut self.batch, link, uplink.index);
                    self.ops.push(Op::LinkAdd(link));
                    // The rest of the same change; they fail when it does.
                    self.ops.extend([Op::LinkFinish(link); rt::link::ADD_VXLAN_MESSAGES - 1]);
                }
                None => self.missing(Op::LinkAdd(link), link.uplink),
            }
        }
        for link in &changes.links_set {
            match links.get(&link.name).filter(|found| found.ours) {
                Some(found) => {
                    rt::link::set(&mut self.batch, found.index, found.mac, link);
                    self.ops.push(Op::LinkSet(link));
                }
                None => self.missing(Op::LinkSet(link), link.name),
            }
        }
        self.flush();
    }

    /// Deletes a link that is still ours; one that has gone, or lost our alias, is left alone.
    fn delete_link(&mut self, op: Op<'c>, link: Option<&Resolved>) {
        match link.filter(|link| link.ours) {
            Some(link) => {
                rt::link::delete(&mut self.batch, link.index);
                self.queued(op);
            }
            None => self.report.applied += 1,
        }
    }

    fn additions(&mut self, changes: &'c Changes, links: &BTreeMap<LinkName, Resolved>) {
        let index = |name: LinkName| links.get(&name).map(|link| link.index);
        for address in &changes.addresses_add {
            self.on_link(Op::AddressAdd(address), address.link, index(address.link), |batch, link| {
                rt::address::add(batch, link, address.address, address.prefix_len);
            });
        }
        for add in &changes.nexthops_add {
            self.on_link(Op::NextHopAdd(add), add.1.link, index(add.1.link), |batch, link| {
                rt::nexthop::add(batch, add.0, &add.1, link);
            });
        }
        for neighbour in &changes.neighbours_set {
            let name = neighbour.key.link;
            self.on_link(Op::NeighbourSet(neighbour), name, index(name), |batch, link| {
                rt::neighbour::set(batch, link, neighbour.key.address, neighbour.mac);
            });
        }
        for entry in &changes.fdb_set {
            self.on_link(Op::FdbSet(entry), entry.key.link, index(entry.key.link), |batch, link| {
                rt::neighbour::set_fdb(batch, link, entry.key.mac, entry.dst);
            });
        }
        for change in &changes.routes_set {
            let name = change.route.next_hop.link;
            let link = if change.target == RouteTarget::Gateway { index(name) } else { Some(0) };
            if change.replace {
                self.delete_doubled(&change.route.key);
            }
            self.on_link(Op::RouteSet(change), name, link, |batch, link| {
                rt::route::set(batch, change, link);
            });
        }
        for rule in &changes.rules_add {
            rt::rule::add(&mut self.batch, rule);
            self.queued(Op::RuleAdd(rule));
        }
    }

    fn deletions(&mut self, changes: &'c Changes, links: &BTreeMap<LinkName, Resolved>) {
        self.rules(changes);
        for key in &changes.routes_delete {
            self.delete_doubled(key);
            rt::route::delete(&mut self.batch, key);
            self.queued(Op::RouteDelete(key));
        }
        for id in &changes.nexthops_delete {
            rt::nexthop::delete(&mut self.batch, *id);
            self.queued(Op::NextHopDelete(*id));
        }
        // What was on a link that has gone went with it.
        let index = |name: &LinkName| links.get(name).map(|link| link.index);
        for key in &changes.fdb_delete {
            self.if_linked(Op::FdbDelete(key), index(&key.link), |batch, link| {
                rt::neighbour::delete_fdb(batch, link, key.mac);
            });
        }
        for key in &changes.neighbours_delete {
            self.if_linked(Op::NeighbourDelete(key), index(&key.link), |batch, link| {
                rt::neighbour::delete(batch, link, key.address);
            });
        }
        for address in &changes.addresses_delete {
            self.if_linked(Op::AddressDelete(address), index(&address.link), |batch, link| {
                rt::address::delete(batch, link, address.address, address.prefix_len);
            });
        }
        for name in &changes.links_delete {
            self.delete_link(Op::LinkDelete(name), links.get(name));
        }
    }

    /// Deletes all but one of the routes of a key, of which somebody made several.
    fn delete_doubled(&mut self, key: &'c RouteKey) {
        for _ in 1..self.doubled.get(key).copied().unwrap_or(1) {
            rt::route::delete(&mut self.batch, key);
            self.queued(Op::Doubled(key));
        }
    }

    /// Several rules of ours may have the same priority and table, of which the altered ones are to go first.
    fn rules(&mut self, changes: &'c Changes) {
        if changes.rules_delete.is_empty() {
            return;
        }
        self.flush();
        let mut standing = match rules::ours(self.socket) {
            Ok(standing) => standing,
            Err((_, error)) => return self.record(Op::RuleDelete(&changes.rules_delete[0]), Err(error)),
        };
        for rule in &changes.rules_delete {
            match standing.iter().position(|found| found.rule == *rule) {
                Some(position) => {
                    rt::rule::delete(&mut self.batch, &standing.remove(position).payload);
                    self.queued(Op::RuleDelete(rule));
                }
                None => self.report.applied += 1,
            }
        }
    }

    fn on_link(
        &mut self,
        op: Op<'c>,
        name: LinkName,
        link: Option<u32>,
        write: impl FnOnce(&mut Batch, u32),
    ) {
        match link {
            Some(link) => {
                write(&mut self.batch, link);
                self.queued(op);
            }
            None => self.missing(op, name),
        }
    }

    fn if_linked(&mut self, op: Op<'c>, link: Option<u32>, write: impl FnOnce(&mut Batch, u32)) {
        match link {
            Some(link) => {
                write(&mut self.batch, link);
                self.queued(op);
            }
            None => self.report.applied += 1,
        }
    }

    fn missing(&mut self, op: Op<'c>, name: LinkName) {
        self.report.errors.push(ApplyError {
            kind: op.kind(),
            change: op.command(),
            errno: libc::ENODEV,
            message: format!("there is no link {name}"),
        });
    }

    fn queued(&mut self, op: Op<'c>) {
        self.ops.push(op);
        if self.batch.len() >= FLUSH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let executed = self.socket.execute(&mut self.batch);
        self.batch.clear();
        let ops = std::mem::take(&mut self.ops);
        match executed {
            Ok(verdicts) => {
                for (op, verdict) in ops.iter().zip(verdicts) {
                    self.record(*op, verdict);
                }
            }
            // The socket failed, and nobody knows how far the kernel came: the next observation tells.
            Err(error) => {
                if let Some(op) = ops.first() {
                    self.record(*op, Err(error));
                }
            }
        }
        self.ops = ops;
        self.ops.clear();
        (self.between)();
    }

    fn record(&mut self, op: Op<'c>, verdict: Result<(), NetlinkError>) {
        match verdict {
            Ok(()) if op.counts() => self.report.applied += 1,
            Ok(()) => {}
            Err(error) if op.is_done_already(error.errno()) => {
                self.report.applied += usize::from(op.counts());
            }
            // Its first part was refused, and is reported.
            Err(_) if matches!(op, Op::LinkFinish(link) if self.refused(link.name)) => {}
            Err(error) => self.report.errors.push(op.refused(&error)),
        }
    }

    fn refused(&self, link: LinkName) -> bool {
        let word = link.as_str();
        self.report
            .errors
            .iter()
            .any(|error| error.kind == hopwise_core::report::ObjectKind::Link && error.change.contains(word))
    }
}

fn netfilter_changes(socket: Option<&mut Socket>, changes: &Changes, report: &mut Report) {
    if let Some(change) = &changes.table {
        let op = Op::Table(change);
        let applied = match socket {
            Some(socket) => nft::apply(socket, change),
            None => Err(NetlinkError::Refused { errno: libc::EPROTONOSUPPORT, message: None }),
        };
        match applied {
            Ok(()) => report.applied += 1,
            Err(error) => report.errors.push(op.refused(&error)),
        }
    }
    for accepts in &changes.forward_accepts {
        match iptables::apply(accepts.0, &accepts.1) {
            Ok(()) => report.applied += 1,
            Err(error) => {
                let op = Op::Accepts(accepts);
                report.errors.push(ApplyError {
                    kind: op.kind(),
                    change: op.command(),
                    errno: 0,
                    message: chain(&error),
                });
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
