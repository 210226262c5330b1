//! What stands in the kernel and is ours.

mod index;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::host::{IptablesChain, SysctlKey};
use crate::name::{IfIndex, LinkName, MacAddr, Mtu};
use crate::netfilter::ObservedTable;
use crate::object::{Address, FdbKey, NeighbourKey, NextHop, RouteKey, Rule};

pub use index::{NextHops, Routes};

/// Everything in the kernel that carries our mark, complete. Enumerated from the kernel, never from what is desired, so
/// that what nobody wants any more is found and removed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Our links.
    pub links: BTreeMap<LinkName, ObservedLink>,
    /// Addresses on our links, the kernel's own link-local ones left out.
    pub addresses: BTreeSet<Address>,
    /// Nexthop objects by id.
    pub nexthops: NextHops,
    /// Ids of nexthop objects that are not ours, to stay clear of.
    pub foreign_nexthop_ids: BTreeSet<u32>,
    /// Routes by key.
    pub routes: Routes,
    /// Neighbours, on any link.
    pub neighbours: BTreeMap<NeighbourKey, MacAddr>,
    /// FDB entries of our VXLAN devices.
    pub fdb: BTreeMap<FdbKey, ObservedFdb>,
    /// Policy rules.
    pub rules: BTreeSet<ObservedRule>,
    /// Our nftables table; `None` when it isn't there.
    pub table: Option<ObservedTable>,
    /// What our accepts look like in each iptables `FORWARD` chain that was found with policy `DROP`, or that has any.
    pub forward_accepts: BTreeMap<IptablesChain, ObservedAccepts>,
    /// Present values of the sysctls that the plan names.
    pub sysctls: BTreeMap<SysctlKey, String>,
}

impl Observed {
    /// Makes it as small in memory as it can be, at the cost of going through all of it once. Worth it when much has come
    /// in one by one, as after a first reading or a first apply: maps that grew in order are little more than half full.
    pub fn compact(&mut self) {
        self.nexthops.compact();
        self.routes.compact();
        compact_map(&mut self.neighbours);
        compact_map(&mut self.fdb);
        for elements in self.table.iter_mut().flat_map(|table| table.sets.values_mut()) {
            compact_set(elements);
        }
    }
}

fn compact_map<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
}

fn compact_set<T: Ord>(set: &mut BTreeSet<T>) {
    *set = std::mem::take(set).into_iter().collect();
}

/// A link of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLink {
    /// Its index.
    pub index: IfIndex,
    /// Its kind.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: Option<MacAddr>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN destination port.
    pub port: u16,
    /// VXLAN underlay source address.
    pub local: Option<IpAddr>,
    /// The link that the tunnel is bound to.
    pub uplink: Option<IfIndex>,
    /// Whether the FDB learns from traffic (it must not).
    pub learning: bool,
}

/// A nexthop object of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedNextHop {
    /// One of the shape that we make.
    Known(NextHop),
    /// Another shape (altered by hand, or made by a later version): not usable, to be removed.
    Other,
}

/// Where a route of ours leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedTarget {
    /// To a nexthop object.
    Object(u32),
    /// To a gateway written into the route itself (kernels without nexthop objects).
    Gateway(NextHop),
    /// Anywhere else (altered by hand): to be replaced.
    Other,
}

/// A route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedRoute {
    /// Where it leads.
    pub target: ObservedTarget,
    /// Its own MTU metric, if it has one (we set none).
    pub mtu: Option<Mtu>,
}

/// An FDB entry on a VXLAN device of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedFdb {
    /// To one underlay address, permanent.
    Known(IpAddr),
    /// Of another shape.
    Other,
}

/// A policy rule with our protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedRule {
    /// The parts that we set.
    pub rule: Rule,
    /// Whether it has selectors or an action besides: altered, to be replaced.
    pub altered: bool,
}

/// Our rules in an iptables `FORWARD` chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedAccepts {
    /// Pod networks accepted, in the order of the rules, each as source or destination.
    pub rules: Vec<AcceptRule>,
    /// Whether our rules are the first of the chain, with nothing between them.
    pub first: bool,
}

/// One accept rule in `FORWARD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptRule {
    /// The pod network.
    pub cidr: crate::cidr::Cidr,
    /// Matches it as the destination rather than the source.
    pub destination: bool,
}

/// A change that the kernel told us about by netlink multicast, translated. Our own changes come back as events too.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A route with our mark was written or deleted.
    Route {
        /// Its key.
        key: RouteKey,
        /// What it is now; `None`: deleted, or no longer ours.
        now: Option<ObservedRoute>,
    },
    /// A nexthop object with our mark was written or deleted. With it the kernel silently deletes the routes that use it.
    NextHop {
        /// Its id.
        id: u32,
        /// What it is now.
        now: Option<ObservedNextHop>,
    },
    /// A foreign nexthop object appeared or went.
    ForeignNextHop {
        /// Its id.
        id: u32,
        /// Whether it is there now.
        present: bool,
    },
    /// A neighbour entry that is ours, or that stands where one of ours may have been.
    Neighbour {
        /// Its key.
        key: NeighbourKey,
        /// Our entry's MAC address; `None`: gone, or no longer ours.
        now: Option<MacAddr>,
    },
    /// An FDB entry of a VXLAN device of ours.
    Fdb {
        /// Its key.
        key: FdbKey,
        /// What it is now.
        now: Option<ObservedFdb>,
    },
    /// An address on a link of ours.
    Address {
        /// The address.
        address: Address,
        /// Whether it is there now.
        present: bool,
    },
    /// A policy rule with our mark.
    Rule {
        /// The rule.
        rule: ObservedRule,
        /// Whether it is there now.
        present: bool,
    },
    /// Something in our nftables table changed: it has to be read again.
    Table,
    /// An element of a set of ours was added or removed, with nothing else in the table changed: no need to read it all
    /// again. Only from sets of single addresses ([`crate::netfilter::SetRole::Nodes`]).
    Element {
        /// The set.
        set: crate::netfilter::SetName,
        /// The element.
        element: crate::cidr::Cidr,
        /// Whether it is there now.
        present: bool,
    },
    /// A sysctl of a kind that we look after changed (`RTM_NEWNETCONF`): they have to be read again.
    Sysctls,
    /// Foreign netfilter tables changed.
    ForeignNetfilter,
    /// Links, foreign addresses, foreign routes or rules changed: the host view has to be read again, and what is
    /// ours with it when a link went down, went away or was renamed, since the kernel deletes without telling.
    Host {
        /// Whether owned objects may have gone silently.
        resync: bool,
    },
}
