//! Finding links by name at the moment of writing.

use std::collections::{BTreeMap, BTreeSet};

use hopwise_core::name::{LinkName, MacAddr};

use crate::netlink::{Batch, NetlinkError, Socket};
use crate::observe::translate;
use crate::rt;

/// A link as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolved {
    /// Its index.
    pub(super) index: u32,
    /// Whether it carries our alias.
    pub(super) ours: bool,
    /// Its MAC address.
    pub(super) mac: Option<MacAddr>,
}

/// Asks for links by name. One that isn't there is left out.
pub(super) fn resolve(
    socket: &mut Socket,
    names: &BTreeSet<LinkName>,
) -> Result<BTreeMap<LinkName, Resolved>, NetlinkError> {
    let mut batch = Batch::new();
    for name in names {
        rt::link::get(&mut batch, *name);
    }
    let mut found = BTreeMap::new();
    socket.ask(&mut batch, |_, answer| {
        let link = answer.ok().and_then(|message| {
            let link = rt::link::decode(&message)?;
            let ours = translate::is_ours(&link);
            Some((link.name?, Resolved { index: link.index, ours, mac: link.mac }))
        });
        found.extend(link);
    })?;
    Ok(found)
}
