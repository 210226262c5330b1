//! Policy rules: `RTM_*RULE`, `struct fib_rule_hdr`.

use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::object::Rule;

use super::{CREATE, af, u32_at};
use crate::netlink::{Batch, Message};

const HEADER: usize = 12;

const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PROTOCOL: u16 = 21;
/// `FR_ACT_TO_TBL`: look up a table.
const TO_TABLE: u8 = 1;

/// A policy rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMessage {
    /// The parts that ours have.
    pub rule: Rule,
    /// `FRA_PROTOCOL`.
    pub protocol: u8,
    /// Has selectors, flags or another action besides.
    pub qualified: bool,
}

/// Reads a rule message of either IP family.
pub fn decode(message: &Message<'_>) -> Option<RuleMessage> {
    let header = message.fixed::<HEADER>()?;
    let family = super::family(header[0])?;
    let mut rule = Rule { family, priority: 0, table: u32::from(header[4]) };
    let mut protocol = 0;
    // Prefix lengths, TOS, action, flags such as FIB_RULE_INVERT.
    let mut qualified = header[1..4] != [0; 3] || header[7] != TO_TABLE || u32_at(&header, 8) != 0;
    for attribute in message.attributes(HEADER) {
        match attribute.kind {
            FRA_PRIORITY => rule.priority = attribute.u32().unwrap_or(0),
            FRA_TABLE => rule.table = attribute.u32().unwrap_or(rule.table),
            FRA_PROTOCOL => protocol = attribute.u8().unwrap_or(0),
            FRA_SUPPRESS_PREFIXLEN => qualified |= attribute.u32() != Some(u32::MAX),
            kind => qualified |= is_selector(kind),
        }
    }
    Some(RuleMessage { rule, protocol, qualified })
}

/// Addresses, links, goto, marks, realms, tunnels, suppression, l3mdev, uids, protocol and ports, DSCP, flow label. All
/// of them are left out of the message when a rule hasn't got them.
fn is_selector(kind: u16) -> bool {
    matches!(kind, 1..=4 | 10..=13 | 16 | 17 | 19 | 20 | 22..=31)
}

fn header(family: Family, table: u32, action: u8) -> [u8; HEADER] {
    let table = u8::try_from(table).unwrap_or(libc::RT_TABLE_UNSPEC);
    [af(family), 0, 0, 0, table, 0, 0, action, 0, 0, 0, 0]
}

/// Asks for the rules of a family, to be sent as a dump.
pub fn get_all(batch: &mut Batch, family: Family) {
    batch.message(libc::RTM_GETRULE, 0, &header(family, 0, 0));
}

/// Adds a rule of ours, which must not be there yet.
pub fn add(batch: &mut Batch, rule: &Rule) {
    batch
        .message(libc::RTM_NEWRULE, CREATE, &header(rule.family, rule.table, TO_TABLE))
        .u32(FRA_PRIORITY, rule.priority)
        .u32(FRA_TABLE, rule.table)
        .u8(FRA_PROTOCOL, PROTOCOL);
}

/// Deletes the rule that a dump told of in these very words. Selectors that a request leaves out the kernel does not
/// compare, so that less would hit the first rule that has no less.
pub fn delete(batch: &mut Batch, payload: &[u8]) {
    batch.message(libc::RTM_DELRULE, 0, payload);
}
