//! IP address ranges: what may be allocated, in which order. Pure arithmetic; who holds what is somebody else's store.
//!
//! The rules are those of the reference `host-local` CNI plugin (v1.9): a range is a subnet with optional first and last
//! address and a gateway that is never allocated; a range set yields one address; allocation goes round robin, so that
//! a pod that restarts in a loop does not get the same address again until all others had their turn.

mod range;
mod set;
#[cfg(test)]
mod tests;

pub use range::{Range, RangeError};
pub use set::RangeSet;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::family::Family;

/// An address as a number; IPv4 in the low 32 bits.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of a number. IPv4 takes the low 32 bits.
pub(crate) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// The address after this one, wrapping from the last of the family to the first.
pub fn next_address(current: IpAddr) -> IpAddr {
    address(Family::of(current), number(current).wrapping_add(1))
}
