//! [`assign()`]: who gets which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Lan, SpanSet};
use crate::family::{Family, PerFamily};
use crate::name::NodeName;

/// Who has which addresses, and who had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The slices of the nodes that there are.
    pub nodes: BTreeMap<NodeName, PerFamily<SpanSet>>,
    /// Slices of nodes that are gone, the longest gone first. They are given to others only when nothing else is left:
    /// caches still know their pods, and a node may come back.
    pub departed: Vec<Departed>,
}

/// A slice, or a part of one, that a node no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// The node that had it.
    pub node: NodeName,
    /// What it had.
    pub slice: PerFamily<SpanSet>,
}

/// What [`assign`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The slices now; the input of the next time.
    pub assignment: Assignment,
    /// Where there were not enough addresses, by family.
    pub shortages: Vec<Shortage>,
}

/// Nodes that got less than they should. Prints as a sentence with what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The family.
    pub family: Family,
    /// How many each node should have.
    pub per_node: u32,
    /// The nodes that got too few, with how many they got.
    pub nodes: Vec<(NodeName, u128)>,
    /// How many nodes there are.
    pub n_nodes: usize,
    /// How many addresses can be had in all.
    pub usable: u128,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { family, per_node, nodes, n_nodes, usable } = self;
        let part = |got_none: bool| {
            let chosen = nodes.iter().filter(|(_, got)| (*got == 0) == got_none);
            let text = |(name, got): &(NodeName, u128)| {
                if got_none { name.to_string() } else { format!("{name} {got}") }
            };
            chosen.map(text).collect::<Vec<_>>().join(", ")
        };
        let (none, few) = (part(true), part(false));
        write!(f, "too few {family} addresses for {per_node} on each of {n_nodes} nodes: ")?;
        match (none.is_empty(), few.is_empty()) {
            (false, true) => write!(f, "{none} got none")?,
            (false, false) => write!(f, "{none} got none, {few}")?,
            (true, _) => write!(f, "{few}")?,
        }
        let needed = u128::from(*per_node) * *n_nodes as u128;
        let missing = needed.saturating_sub(*usable);
        write!(
            f,
            "; {usable} can be had, {needed} are needed: exclude {missing} fewer, use a larger subnet"
        )?;
        match usable / (*n_nodes).max(1) as u128 {
            0 => Ok(()),
            fits => write!(f, ", or give each node {fits}"),
        }
    }
}

/// Cuts the LAN's usable addresses into one slice for each node.
///
/// - A node keeps what it had, as far as the LAN still has it, and gets back what it had before it went.
/// - New slices are cut from what nobody has or had, in the order of `nodes`; then from what the longest-gone had.
/// - Where there are too few, a node gets what is left, or nothing, and a [`Shortage`] names it.
///
/// The same input gives the same answer; names that stand twice count once.
pub fn assign(lan: &Lan, nodes: &[NodeName], previous: &Assignment) -> Outcome {
    let mut seen = BTreeSet::new();
    let order: Vec<&NodeName> = nodes.iter().filter(|name| seen.insert(*name)).collect();
    let mut outcome = Outcome { assignment: Assignment::default(), shortages: Vec::new() };
    for node in &order {
        outcome.assignment.nodes.insert((*node).clone(), PerFamily::default());
    }
    outcome.assignment.departed = departed(&seen, previous);
    for family in Family::BOTH {
        let mut cut = Cut::new(lan, family, &mut outcome.assignment);
        cut.keep(&order, previous);
        cut.give_back(&order);
        cut.give_new(&order);
        outcome.shortages.extend(cut.shortage(lan, &order));
    }
    outcome.assignment.departed.retain(|gone| !gone.slice.v4.is_empty() || !gone.slice.v6.is_empty());
    outcome
}

/// Those who were gone before, then those who have gone now.
fn departed(present: &BTreeSet<&NodeName>, previous: &Assignment) -> Vec<Departed> {
    let gone_now = previous.nodes.iter().filter(|(name, _)| !present.contains(name));
    let gone_now = gone_now.map(|(node, slice)| Departed { node: node.clone(), slice: slice.clone() });
    previous.departed.iter().cloned().chain(gone_now).collect()
}

/// The work on one family.
struct Cut<'a> {
    family: Family,
    per_node: u128,
    /// What nobody has or had.
    free: SpanSet,
    assignment: &'a mut Assignment,
}

impl<'a> Cut<'a> {
    fn new(lan: &Lan, family: Family, assignment: &'a mut Assignment) -> Cut<'a> {
        // Of a family that the LAN no longer has nobody gets or keeps anything.
        let has = lan.families().any(|present| present == family);
        let per_node = if has { u128::from(lan.per_node) } else { 0 };
        Cut { family, per_node, free: lan.usable(family), assignment }
    }

    fn slice(&mut self, node: &NodeName) -> &mut SpanSet {
        self.assignment.nodes.entry(node.clone()).or_default().get_mut(self.family)
    }

    fn missing(&mut self, node: &NodeName) -> u128 {
        self.per_node.saturating_sub(self.slice(node).len())
    }

    /// Gives each node what it had. Too much is cut off at the end, and counts as departed.
    fn keep(&mut self, order: &[&NodeName], previous: &Assignment) {
        for node in order {
            let Some(had) = previous.nodes.get(*node) else { continue };
            let mut had = had.get(self.family).intersection(&self.free);
            let kept = had.take_first(self.per_node);
            self.free.remove_all(&kept);
            *self.slice(node) = kept;
            if !had.is_empty() {
                let mut slice = PerFamily::default();
                *slice.get_mut(self.family) = had;
                self.assignment.departed.push(Departed { node: (*node).clone(), slice });
            }
        }
        // What the departed had is still free, but last; nothing counts twice.
        for index in 0..self.assignment.departed.len() {
            let had = self.assignment.departed[index].slice.get(self.family).intersection(&self.free);
            self.free.remove_all(&had);
            *self.assignment.departed[index].slice.get_mut(self.family) = had;
        }
    }

    /// Gives nodes that came back what they had, the latest first.
    fn give_back(&mut self, order: &[&NodeName]) {
        for node in order {
            for index in (0..self.assignment.departed.len()).rev() {
                if self.assignment.departed[index].node == **node {
                    self.give_departed(node, index);
                }
            }
        }
    }

    fn give_departed(&mut self, node: &NodeName, index: usize) {
        let wanted = self.missing(node);
        let taken = self.assignment.departed[index].slice.get_mut(self.family).take_first(wanted);
        self.add(node, &taken);
    }

    /// Gives everybody what they still lack.
    fn give_new(&mut self, order: &[&NodeName]) {
        for node in order {
            let wanted = self.missing(node);
            let taken = self.free.take(wanted);
            self.add(node, &taken);
            for index in 0..self.assignment.departed.len() {
                self.give_departed(node, index);
            }
        }
    }

    fn add(&mut self, node: &NodeName, taken: &SpanSet) {
        let slice = self.slice(node);
        for span in taken.spans() {
            slice.insert(span);
        }
    }

    fn shortage(&mut self, lan: &Lan, order: &[&NodeName]) -> Option<Shortage> {
        let per_node = self.per_node;
        let short: Vec<(NodeName, u128)> = order
            .iter()
            .map(|node| ((*node).clone(), self.slice(node).len()))
            .filter(|(_, got)| *got < per_node)
            .collect();
        (!short.is_empty()).then(|| Shortage {
            family: self.family,
            per_node: lan.per_node,
            nodes: short,
            n_nodes: order.len(),
            usable: lan.usable(self.family).len(),
        })
    }
}
