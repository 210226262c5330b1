//! Our nftables table as a value, and its text form.
//!
//! [`Table::render`] gives the very text that `nft list table inet hopwise` prints, so that the golden tests of the text
//! are tests of what the kernel holds: a namespace test applies the value by netlink and compares `nft`'s own listing.

use std::collections::{BTreeMap, BTreeSet};

use crate::cidr::Cidr;
use crate::family::Family;

/// The table that should be there. Structure (chains, rules, sets' declarations) is replaced whole, in one transaction;
/// set elements are added and removed one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What masquerade does in each family that has it on.
    pub masquerade: Vec<Masquerade>,
    /// Elements of each set.
    pub sets: BTreeMap<SetName, BTreeSet<Cidr>>,
}

/// Masquerading of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masquerade {
    /// The family.
    pub family: Family,
    /// Choose source ports at random (`NF_NAT_RANGE_PROTO_RANDOM_FULLY`).
    pub fully_random: bool,
}

/// The sets of our table. Each exists for each family that masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName {
    /// What it holds.
    pub role: SetRole,
    /// The family.
    pub family: Family,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetRole {
    /// Pod CIDRs of this node: what is masqueraded.
    LocalPods,
    /// Networks to which pods keep their address: pod networks, service ranges, exempt CIDRs.
    Exempt,
    /// Addresses of nodes: pods keep their address towards them. Single addresses.
    Nodes,
}

/// What stands in the kernel under our table's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedTable {
    /// Whether the structure is what we wrote. `None` inside means somebody else's or an older version's.
    pub structure: Option<Vec<Masquerade>>,
    /// Elements of the sets.
    pub sets: BTreeMap<SetName, BTreeSet<Cidr>>,
}
