//! Finding policy rules at the moment of deleting.

use hopwise_core::family::Family;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::object::Rule;

use crate::netlink::Socket;
use crate::observe::{self, Failed};
use crate::rt;

/// A rule of ours as it stands.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// What it is known by.
    pub(super) rule: Rule,
    /// The kernel's own words for it.
    pub(super) payload: Vec<u8>,
}

/// Reads our rules, altered ones first.
pub(super) fn ours(socket: &mut Socket) -> Result<Vec<Standing>, Failed> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        rules.extend(observe::dump(
            socket,
            "policy rules",
            |batch| rt::rule::get_all(batch, family),
            |message| {
                let found = rt::rule::decode(message).filter(|found| found.protocol == PROTOCOL)?;
                Some((!found.qualified, Standing { rule: found.rule, payload: message.payload.to_vec() }))
            },
        )?);
    }
    rules.sort_by_key(|(whole, _)| *whole);
    Ok(rules.into_iter().map(|(_, rule)| rule).collect())
}
