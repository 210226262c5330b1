//! Diffing: what has to change for what we own to become what we want.
//!
//! Only what carries our mark is ever compared, so nothing foreign can be in [`Changes`].

mod commands;
mod compare;
mod desired;
mod ids;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::host::{IptablesChain, SysctlKey};
use crate::name::{IfIndex, LinkName, MacAddr};
use crate::netfilter::{SetName, Table};
use crate::object::{
    Address, FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, Route, RouteKey, Rule, VxlanLink,
};
use crate::observed::AcceptRule;

pub use compare::{diff, diff_touched};

/// The desired objects by key, as [`diff`] compares them: a [`crate::plan::NodePlan`] laid flat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// Links.
    pub links: BTreeMap<LinkName, VxlanLink>,
    /// Addresses on them.
    pub addresses: BTreeSet<Address>,
    /// Routes, and through them next hops.
    pub routes: BTreeMap<RouteKey, NextHop>,
    /// Whether the kernel has nexthop objects; without them routes carry their gateways.
    pub nexthop_objects: bool,
    /// Indexes of the uplinks that links of ours are bound to.
    pub uplinks: BTreeMap<LinkName, IfIndex>,
    /// How many routes use each next hop.
    pub next_hops: BTreeMap<NextHop, usize>,
    /// Neighbours.
    pub neighbours: BTreeMap<NeighbourKey, MacAddr>,
    /// FDB entries.
    pub fdb: BTreeMap<FdbKey, IpAddr>,
    /// Policy rules.
    pub rules: BTreeSet<Rule>,
    /// Our nftables table, all elements included.
    pub table: Option<Table>,
    /// Accepts per iptables chain.
    pub forward_accepts: BTreeMap<IptablesChain, Vec<AcceptRule>>,
    /// Sysctls in the order of writing.
    pub sysctls: Vec<(SysctlKey, String)>,
}

/// What to write into a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// A nexthop object's id.
    Object(u32),
    /// The gateway itself.
    Gateway,
}

/// A route to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The route.
    pub route: Route,
    /// By object or by gateway.
    pub target: RouteTarget,
    /// Replace one of ours that stands (`NLM_F_REPLACE`); otherwise the kernel must refuse if any stands (`NLM_F_EXCL`),
    /// since that one would be foreign.
    pub replace: bool,
}

/// A change of our nftables table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// Replace (or create) the whole table in one transaction.
    Replace(Table),
    /// Add and remove set elements, in one transaction.
    Elements {
        /// Elements to add.
        add: Vec<(SetName, Cidr)>,
        /// Elements to remove.
        remove: Vec<(SetName, Cidr)>,
    },
    /// Remove the table.
    Delete,
}

/// What has to change, in groups that are applied in the order of the fields: what others refer to comes before them,
/// and goes after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sysctls to write, in order.
    pub sysctls: Vec<(SysctlKey, String)>,
    /// Links to delete because they must be made anew with other parameters.
    pub links_recreate: Vec<LinkName>,
    /// Links to make.
    pub links_add: Vec<VxlanLink>,
    /// Links to bring in line in place (MTU, MAC, up).
    pub links_set: Vec<VxlanLink>,
    /// Sysctls of links that are only made by these changes.
    pub link_sysctls: Vec<(SysctlKey, String)>,
    /// Addresses to add.
    pub addresses_add: Vec<Address>,
    /// Nexthop objects to make, with the ids chosen for them.
    pub nexthops_add: Vec<(u32, NextHop)>,
    /// Neighbours to write (`NLM_F_REPLACE`).
    pub neighbours_set: Vec<Neighbour>,
    /// FDB entries to write (`NLM_F_REPLACE`).
    pub fdb_set: Vec<FdbEntry>,
    /// Routes to write.
    pub routes_set: Vec<RouteChange>,
    /// Policy rules to add.
    pub rules_add: Vec<Rule>,
    /// Our nftables table.
    pub table: Option<TableChange>,
    /// iptables chains whose accepts are to be written anew, with the rules they shall hold; empty: take ours out.
    pub forward_accepts: Vec<(IptablesChain, Vec<AcceptRule>)>,
    /// Policy rules to delete.
    pub rules_delete: Vec<Rule>,
    /// Routes to delete.
    pub routes_delete: Vec<RouteKey>,
    /// Nexthop objects to delete. The kernel deletes routes that still use one, so routes come first.
    pub nexthops_delete: Vec<u32>,
    /// FDB entries to delete.
    pub fdb_delete: Vec<FdbKey>,
    /// Neighbours to delete.
    pub neighbours_delete: Vec<NeighbourKey>,
    /// Addresses to delete.
    pub addresses_delete: Vec<Address>,
    /// Links to delete.
    pub links_delete: Vec<LinkName>,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects are written or deleted; a replaced table counts as one.
    pub fn len(&self) -> usize {
        let table = match &self.table {
            None => 0,
            Some(TableChange::Replace(_) | TableChange::Delete) => 1,
            Some(TableChange::Elements { add, remove }) => add.len() + remove.len(),
        };
        let sysctls = self.sysctls.len() + self.link_sysctls.len();
        let links =
            self.links_recreate.len() + self.links_add.len() + self.links_set.len() + self.links_delete.len();
        let addresses = self.addresses_add.len() + self.addresses_delete.len();
        let nexthops = self.nexthops_add.len() + self.nexthops_delete.len();
        let routes = self.routes_set.len() + self.routes_delete.len();
        let neighbours = self.neighbours_set.len() + self.neighbours_delete.len();
        let fdb = self.fdb_set.len() + self.fdb_delete.len();
        let rules = self.rules_add.len() + self.rules_delete.len();
        table
            + sysctls
            + links
            + addresses
            + nexthops
            + routes
            + neighbours
            + fdb
            + rules
            + self.forward_accepts.len()
    }
}

/// Keys of objects that may differ between what is observed and what is desired. Everything else is known to agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Compare everything: the other fields don't matter.
    pub everything: bool,
    /// Routes.
    pub routes: BTreeSet<RouteKey>,
    /// Nexthop objects, by id.
    pub nexthops: BTreeSet<u32>,
    /// Next hops.
    pub next_hops: BTreeSet<NextHop>,
    /// Neighbours.
    pub neighbours: BTreeSet<NeighbourKey>,
    /// FDB entries.
    pub fdb: BTreeSet<FdbKey>,
    /// Elements of our nftables sets.
    pub elements: BTreeSet<(SetName, Cidr)>,
    /// Links, addresses, rules, the table's structure, accepts, sysctls: few, so compared whole.
    pub node_wide: bool,
}
