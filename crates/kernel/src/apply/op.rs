//! One change, as a request refers back to it when it is refused.

use hopwise_core::diff::{Changes, RouteChange, TableChange};
use hopwise_core::host::{IptablesChain, SysctlKey};
use hopwise_core::name::LinkName;
use hopwise_core::object::{
    Address, FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, RouteKey, Rule, VxlanLink,
};
use hopwise_core::observed::AcceptRule;
use hopwise_core::report::{ApplyError, ObjectKind};

use crate::netlink::NetlinkError;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op<'c> {
    Sysctl(&'c (SysctlKey, String)),
    LinkRecreate(&'c LinkName),
    LinkAdd(&'c VxlanLink),
    /// A further request of [`Op::LinkAdd`].
    LinkFinish(&'c VxlanLink),
    LinkSet(&'c VxlanLink),
    AddressAdd(&'c Address),
    NextHopAdd(&'c (u32, NextHop)),
    NeighbourSet(&'c Neighbour),
    FdbSet(&'c FdbEntry),
    RouteSet(&'c RouteChange),
    RuleAdd(&'c Rule),
    RuleDelete(&'c Rule),
    RouteDelete(&'c RouteKey),
    /// A preliminary of [`Op::RouteSet`] or [`Op::RouteDelete`].
    Doubled(&'c RouteKey),
    NextHopDelete(u32),
    FdbDelete(&'c FdbKey),
    NeighbourDelete(&'c NeighbourKey),
    AddressDelete(&'c Address),
    LinkDelete(&'c LinkName),
    Table(&'c TableChange),
    Accepts(&'c (IptablesChain, Vec<AcceptRule>)),
}

impl Op<'_> {
    pub(super) fn kind(self) -> ObjectKind {
        match self {
            Op::Sysctl(_) => ObjectKind::Sysctl,
            Op::LinkRecreate(_) | Op::LinkAdd(_) | Op::LinkFinish(_) | Op::LinkSet(_) | Op::LinkDelete(_) => {
                ObjectKind::Link
            }
            Op::AddressAdd(_) | Op::AddressDelete(_) => ObjectKind::Address,
            Op::NextHopAdd(_) | Op::NextHopDelete(_) => ObjectKind::NextHop,
            Op::NeighbourSet(_) | Op::NeighbourDelete(_) => ObjectKind::Neighbour,
            Op::FdbSet(_) | Op::FdbDelete(_) => ObjectKind::Fdb,
            Op::RouteSet(_) | Op::RouteDelete(_) | Op::Doubled(_) => ObjectKind::Route,
            Op::RuleAdd(_) | Op::RuleDelete(_) => ObjectKind::Rule,
            Op::Table(_) => ObjectKind::Nftables,
            Op::Accepts(_) => ObjectKind::ForwardAccept,
        }
    }

    /// Whether it counts as a change; further requests of one change do not.
    pub(super) fn counts(self) -> bool {
        !matches!(self, Op::LinkFinish(_) | Op::Doubled(_))
    }

    /// Whether the refusal says that things already are as they should be: what is to go has gone.
    pub(super) fn is_done_already(self, errno: i32) -> bool {
        match self {
            Op::LinkRecreate(_) | Op::LinkDelete(_) => errno == libc::ENODEV,
            Op::RuleDelete(_) | Op::NextHopDelete(_) => errno == libc::ENOENT,
            Op::RouteDelete(_) | Op::Doubled(_) => errno == libc::ESRCH,
            Op::FdbDelete(_) | Op::NeighbourDelete(_) => matches!(errno, libc::ENOENT | libc::ENODEV),
            Op::AddressDelete(_) => matches!(errno, libc::EADDRNOTAVAIL | libc::ENODEV),
            Op::RuleAdd(_) => errno == libc::EEXIST,
            _ => false,
        }
    }

    /// The change, as a person would type it.
    pub(super) fn command(self) -> String {
        let mut changes = Changes::default();
        match self {
            Op::Sysctl(change) => changes.sysctls.push(change.clone()),
            Op::LinkRecreate(name) => changes.links_recreate.push(*name),
            Op::LinkAdd(link) | Op::LinkFinish(link) => changes.links_add.push(*link),
            Op::LinkSet(link) => changes.links_set.push(*link),
            Op::AddressAdd(address) => changes.addresses_add.push(*address),
            Op::NextHopAdd(add) => changes.nexthops_add.push(*add),
            Op::NeighbourSet(neighbour) => changes.neighbours_set.push(*neighbour),
            Op::FdbSet(entry) => changes.fdb_set.push(*entry),
            Op::RouteSet(change) => changes.routes_set.push(*change),
            Op::RuleAdd(rule) => changes.rules_add.push(*rule),
            Op::RuleDelete(rule) => changes.rules_delete.push(*rule),
            Op::RouteDelete(key) | Op::Doubled(key) => changes.routes_delete.push(*key),
            Op::NextHopDelete(id) => changes.nexthops_delete.push(id),
            Op::FdbDelete(key) => changes.fdb_delete.push(*key),
            Op::NeighbourDelete(key) => changes.neighbours_delete.push(*key),
            Op::AddressDelete(address) => changes.addresses_delete.push(*address),
            Op::LinkDelete(name) => changes.links_delete.push(*name),
            Op::Table(change) => changes.table = Some(change.clone()),
            Op::Accepts(accepts) => changes.forward_accepts.push(accepts.clone()),
        }
        changes.commands().join("; ")
    }

    /// A refusal of it.
    pub(super) fn refused(self, error: &NetlinkError) -> ApplyError {
        let errno = error.errno();
        let foreign = match self {
            Op::RouteSet(change) if errno == libc::EEXIST => {
                format!("a route to {} that is not ours stands there: ", change.route.key)
            }
            Op::LinkAdd(link) if errno == libc::EEXIST => {
                let name = link.name;
                format!(
                    "a link {name} without our alias stands there; if it is not needed, ip link delete {name}: "
                )
            }
            _ => String::new(),
        };
        let message = format!("{foreign}{}", super::chain(error));
        ApplyError { kind: self.kind(), change: self.command(), errno, message }
    }
}
