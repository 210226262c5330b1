//! Changes of per-link sysctls: `RTM_NEWNETCONF`, `struct netconfmsg`.

use super::family;
use crate::netlink::Message;
use hopwise_core::family::Family;

/// `RTM_NEWNETCONF`.
pub const NEW: u16 = 80;

const HEADER: usize = 1;

const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;

/// A change of a link's forwarding or reverse path filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetconfMessage {
    /// The family.
    pub family: Family,
    /// Whose.
    pub link: NetconfLink,
}

/// Whose sysctl it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetconfLink {
    /// `conf/all` or `conf/default`.
    Common,
    /// `conf/LINK`.
    Link(u32),
}

/// Reads a netconf message; `None` for sysctls that Hopwise does not look after.
pub fn decode(message: &Message<'_>) -> Option<NetconfMessage> {
    let [af] = message.fixed::<HEADER>()?;
    let attributes = message.attributes(HEADER);
    attributes.find(NETCONFA_FORWARDING).or_else(|| attributes.find(NETCONFA_RP_FILTER))?;
    let index = attributes.find(NETCONFA_IFINDEX)?.u32()?;
    // NETCONFA_IFINDEX_ALL and _DEFAULT are -1 and -2.
    let link = if index >= u32::MAX - 1 { NetconfLink::Common } else { NetconfLink::Link(index) };
    Some(NetconfMessage { family: family(af)?, link })
}
