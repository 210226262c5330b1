//! [`Range`]: a run of addresses of one subnet.

use std::fmt;
use std::net::IpAddr;

use super::{address, number};
use crate::cidr::Cidr;
use crate::family::Family;

/// A run of addresses of one subnet, first and last inclusive, with a gateway that is never allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: Cidr,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

/// Why ranges can't be used. The messages name the value and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// No room beside network and broadcast address.
    #[error("network {0} is too small to allocate from; it needs at least two bits for hosts")]
    TooSmall(Cidr),
    /// The first address is outside the subnet.
    #[error("rangeStart {first} is not in network {subnet}")]
    FirstOutside {
        /// The first address.
        first: IpAddr,
        /// The subnet.
        subnet: Cidr,
    },
    /// The last address is before the first.
    #[error("rangeEnd {last} comes before {first}, where the range starts")]
    Backwards {
        /// The first address.
        first: IpAddr,
        /// The last address.
        last: IpAddr,
    },
    /// The last address is outside the subnet.
    #[error("rangeEnd {last} is not in network {subnet}")]
    LastOutside {
        /// The last address.
        last: IpAddr,
        /// The subnet.
        subnet: Cidr,
    },
    /// The gateway is of the other family.
    #[error("gateway {gateway} is not of the same family as network {subnet}")]
    GatewayFamily {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: Cidr,
    },
    /// A set without a range.
    #[error("empty range set; give it at least one {{\"subnet\": …}}")]
    EmptySet,
    /// IPv4 and IPv6 in one set.
    #[error("mixed address families in one range set; a set gives one address, so make one set per family")]
    MixedFamilies,
    /// Two ranges of one set share addresses.
    #[error("subnets {} and {} overlap", .0[0], .0[1])]
    Overlap(Box<[Range; 2]>),
}

impl Range {
    /// A range of `subnet`. Without bounds it is all but the network address and, for IPv4, the broadcast address;
    /// without a gateway that is the first address.
    ///
    /// # Errors
    ///
    /// When the subnet is longer than /30 or /126, or a bound lies outside it.
    pub fn new(
        subnet: Cidr,
        first: Option<IpAddr>,
        last: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Range, RangeError> {
        let family = subnet.family();
        if subnet.prefix_len() > family.bits() - 2 {
            return Err(RangeError::TooSmall(subnet));
        }
        let lowest = address(family, number(subnet.address()) + 1);
        let broadcast = u128::from(family == Family::V4);
        let highest = address(family, number(subnet.last_address()) - broadcast);
        let first_address = first.unwrap_or(lowest);
        if !subnet.contains(first_address) {
            return Err(RangeError::FirstOutside { first: first_address, subnet });
        }
        let last_address = last.unwrap_or(highest);
        if !subnet.contains(last_address) {
            return Err(RangeError::LastOutside { last: last_address, subnet });
        }
        if last_address < first_address {
            return Err(RangeError::Backwards { first: first_address, last: last_address });
        }
        let gateway = gateway.unwrap_or(lowest);
        if Family::of(gateway) != family {
            return Err(RangeError::GatewayFamily { gateway, subnet });
        }
        Ok(Range { subnet, first: first_address, last: last_address, gateway })
    }

    /// The subnet: its prefix length is that of the addresses given out.
    pub fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address, inclusive.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The gateway, never allocated. It may lie outside the range.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.subnet.family()
    }

    /// Whether an address is between first and last; the gateway counts.
    pub fn contains(&self, candidate: IpAddr) -> bool {
        Family::of(candidate) == self.family() && (self.first..=self.last).contains(&candidate)
    }

    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.family() == other.family() && self.first <= other.last && other.first <= self.last
    }

    /// How many addresses can be allocated; saturates at `u128::MAX`.
    pub fn capacity(&self) -> u128 {
        let all = (number(self.last) - number(self.first)).saturating_add(1);
        if self.contains(self.gateway) { all - 1 } else { all }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
