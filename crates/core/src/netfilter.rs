//! Our nftables table as a value, and its text form.
//!
//! [`Table::render`] gives the very text that `nft list table inet hopwise` prints, so that the golden tests of the text
//! are tests of what the kernel holds: a namespace test applies the value by netlink and compares `nft`'s own listing.
//!
//! # What the rules do
//!
//! One rule per family that masquerades, in a `nat postrouting` chain, which the kernel asks only about the first packet
//! of a connection. The tests are in the order of cheapness and of how many packets they sort out:
//!
//! 1. The source is one of this node's pods, or the rule ends: so it does for the host's own traffic, and for what comes
//!    from elsewhere (which keeps its source, also towards pods).
//! 2. The destination is not multicast (224.0.0.0/4, ff00::/8): one comparison.
//! 3. The destination is not in an exempt network: an interval lookup that sorts out all traffic inside the cluster.
//! 4. The destination is not a node: a hash lookup, which costs the same for 5 and for 60,000 nodes.
//!
//! What is left takes the address of the link that it leaves by.
//!
//! No test is needed for pod to pod on one node (the destination is exempt), for pods to their own node (that is input:
//! never in postrouting), for loopback (127.0.0.0/8 and ::1 are no pods' sources), and for broadcasts (the kernel doesn't
//! forward them, and a broadcast that the host itself sends from its pod bridge's address would get that same address).
//!
//! # Beside kube-proxy
//!
//! kube-proxy marks with 0x4000 what it wants masqueraded (NodePort traffic from outside, and hairpin: a pod that reaches
//! itself through a Service) and does so in a postrouting chain of its own. Our rule looks at no mark and gives no
//! verdict for what it leaves alone, so kube-proxy's chain still sees it: hairpin has a pod as destination, which is
//! exempt here; NodePort traffic has no local pod as source. A Service whose endpoint is outside the cluster is the one
//! case that both masquerade, to the same effect; the kernel takes whichever chain comes first. Destinations are those
//! after kube-proxy's DNAT, which happens in prerouting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use crate::cidr::Cidr;
use crate::family::Family;
use crate::mark::NFT_TABLE;

/// The table that should be there. Structure (chains, rules, sets' declarations) is replaced whole, in one transaction;
/// set elements are added and removed one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What masquerade does in each family that has it on: each family once, IPv4 first.
    pub masquerade: Vec<Masquerade>,
    /// Elements of each set. Those of sets with [`SetName::is_interval`] must not overlap ([`merge`]). Sets of families
    /// that don't masquerade, and elements of another family than their set's, are left out of the table.
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
    /// Elements of the sets. Sets that are there and empty are in it; after a structure that isn't ours, nothing is.
    pub sets: BTreeMap<SetName, BTreeSet<Cidr>>,
}

impl SetRole {
    /// All roles, in the order in which their sets stand in the table.
    pub const ALL: [SetRole; 3] = [SetRole::LocalPods, SetRole::Exempt, SetRole::Nodes];
}

impl SetName {
    /// The name in the kernel.
    pub const fn as_str(self) -> &'static str {
        match (self.role, self.family) {
            (SetRole::LocalPods, Family::V4) => "local_pods_v4",
            (SetRole::LocalPods, Family::V6) => "local_pods_v6",
            (SetRole::Exempt, Family::V4) => "exempt_v4",
            (SetRole::Exempt, Family::V6) => "exempt_v6",
            (SetRole::Nodes, Family::V4) => "nodes_v4",
            (SetRole::Nodes, Family::V6) => "nodes_v6",
        }
    }

    /// The set of that name in the kernel.
    pub fn find(name: &str) -> Option<SetName> {
        Family::BOTH.into_iter().flat_map(SetName::of_family).find(|set| set.as_str() == name)
    }

    /// The sets of one family, in the order in which they stand in the table.
    pub fn of_family(family: Family) -> impl Iterator<Item = SetName> {
        SetRole::ALL.into_iter().map(move |role| SetName { role, family })
    }

    /// Whether it holds networks (`flags interval`) rather than single addresses, which are looked up by hash.
    pub const fn is_interval(self) -> bool {
        !matches!(self.role, SetRole::Nodes)
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Table {
    /// The sets that the table has, in order.
    pub fn set_names(&self) -> impl Iterator<Item = SetName> {
        self.masquerade.iter().flat_map(|masquerade| SetName::of_family(masquerade.family))
    }

    /// The elements that a set shall hold, in order.
    pub fn elements(&self, set: SetName) -> impl Iterator<Item = Cidr> {
        let elements = self.sets.get(&set).into_iter().flatten().copied();
        elements.filter(move |element| element.family() == set.family)
    }

    /// The table as `nft list table inet hopwise` prints it; `nft -f -` reads it.
    pub fn render(&self) -> String {
        let mut blocks: Vec<String> = self.set_names().map(|set| self.render_set(set)).collect();
        if !self.masquerade.is_empty() {
            let rules: String = self.masquerade.iter().map(Masquerade::render).collect();
            blocks.push(format!(
                "\tchain postrouting {{\n\
                 \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
                 {rules}\
                 \t}}\n"
            ));
        }
        format!("table inet {NFT_TABLE} {{\n{}}}\n", blocks.join("\n"))
    }

    fn render_set(&self, set: SetName) -> String {
        // How many elements nft prints on a line.
        let (kind, per_line) = match set.family {
            Family::V4 => ("ipv4_addr", 2),
            Family::V6 => ("ipv6_addr", 1),
        };
        let mut text = format!("\tset {set} {{\n\t\ttype {kind}\n");
        if set.is_interval() {
            text.push_str("\t\tflags interval\n");
        }
        for (index, element) in self.elements(set).enumerate() {
            text.push_str(match index {
                0 => "\t\telements = { ",
                _ if index % per_line == 0 => ",\n\t\t\t     ",
                _ => ", ",
            });
            let _ = if element.prefix_len() == set.family.bits() {
                write!(text, "{}", element.address())
            } else {
                write!(text, "{element}")
            };
        }
        if self.elements(set).next().is_some() {
            text.push_str(" }\n");
        }
        text.push_str("\t}\n");
        text
    }
}

impl Masquerade {
    fn render(&self) -> String {
        let (protocol, multicast) = match self.family {
            Family::V4 => ("ip", "224.0.0.0/4"),
            Family::V6 => ("ip6", "ff00::/8"),
        };
        let [local_pods, exempt, nodes] = SetRole::ALL.map(|role| SetName { role, family: self.family });
        let random = if self.fully_random { " fully-random" } else { "" };
        format!(
            "\t\t{protocol} saddr @{local_pods} {protocol} daddr != {multicast} \
             {protocol} daddr != @{exempt} {protocol} daddr != @{nodes} masquerade{random}\n"
        )
    }
}

/// The same addresses without networks that lie inside others: the kernel refuses overlapping elements in an interval
/// set. Neighbouring networks stay apart, so that what is listed is what was configured.
pub fn merge(networks: BTreeSet<Cidr>) -> BTreeSet<Cidr> {
    let mut outer: Option<Cidr> = None;
    // In order, a network comes right before those inside it.
    let keeps = |network: &Cidr| {
        let inside = outer.is_some_and(|outer| outer.contains_cidr(*network));
        if !inside {
            outer = Some(*network);
        }
        !inside
    };
    networks.into_iter().filter(keeps).collect()
}

#[cfg(test)]
mod tests;
