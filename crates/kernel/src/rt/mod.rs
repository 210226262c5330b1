//! Routing messages (`NETLINK_ROUTE`): one codec for links, addresses, routes, nexthop objects, neighbours and policy
//! rules, of just the parts that Hopwise reads and writes.
//!
//! Decoders take a [`Message`](crate::netlink::Message) from an untrusted place as far as they are concerned: they give
//! `None` for what is too short or of another family, and never panic. Encoders append one message to a
//! [`Batch`](crate::netlink::Batch). Formats: rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`, `linux/nexthop.h`,
//! `linux/neighbour.h`, `linux/fib_rules.h`, `linux/netconf.h`.

pub mod address;
pub mod link;
pub mod neighbour;
pub mod netconf;
pub mod nexthop;
pub mod route;
pub mod rule;

use hopwise_core::family::Family;

/// `NLM_F_CREATE | NLM_F_EXCL`: the object must not be there yet.
pub const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// `NLM_F_CREATE | NLM_F_REPLACE`: the object becomes this one, whether it is there or not, with no moment in between.
pub const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;

/// `AF_INET` or `AF_INET6`.
pub fn af(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// The family of an `AF_` number; `None` for other families.
pub fn family(af: u8) -> Option<Family> {
    match i32::from(af) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
