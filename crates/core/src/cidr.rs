//! [`Cidr`]: an IP prefix without host bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::family::Family;

/// An IP prefix whose host bits are all zero, such as `10.244.1.0/24` or `fd00:1::/64`.
///
/// Parsing refuses host bits (`10.244.1.7/24`) rather than truncating them: in a pod CIDR they are a typing error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// Why a string is not a [`Cidr`]. The message names the value and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCidrError {
    /// Not `ADDRESS/LENGTH` at all.
    #[error("{value:?} is not a CIDR; write it as ADDRESS/LENGTH, for example 10.244.1.0/24")]
    Syntax {
        /// What was given.
        value: String,
    },
    /// An address inside the prefix instead of its first one.
    #[error("{value} has host bits set; did you mean {network}?")]
    HostBits {
        /// What was given.
        value: String,
        /// The prefix that it lies in.
        network: Cidr,
    },
}

impl Cidr {
    /// Sorts before every other prefix: `0.0.0.0/0`.
    pub const LOWEST: Cidr = Cidr(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));

    /// `224.0.0.0/4`-style constants of this crate.
    pub(crate) const fn v4([a, b, c, d]: [u8; 4], prefix_len: u8) -> Cidr {
        Cidr(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)))
    }

    /// `fe80::/10`-style constants of this crate.
    pub(crate) const fn v6(first: u16, prefix_len: u8) -> Cidr {
        Cidr(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), prefix_len)))
    }

    /// The prefix of the given length that contains `address`, or `None` when the length is more than the family has.
    pub fn containing(address: IpAddr, prefix_len: u8) -> Option<Cidr> {
        IpNet::new(address, prefix_len).ok().map(|net| Cidr(net.trunc()))
    }

    /// The prefix that holds just one address: a /32 or /128.
    pub fn host(address: IpAddr) -> Cidr {
        Cidr(IpNet::from(address))
    }

    /// The address family.
    pub fn family(self) -> Family {
        Family::of(self.0.addr())
    }

    /// The first address of the prefix.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// The last address of the prefix (the broadcast address of an IPv4 subnet).
    pub fn last_address(self) -> IpAddr {
        self.0.broadcast()
    }

    /// The prefix length in bits.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether `address` is inside; false across families.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` is inside; a prefix contains itself; false across families.
    pub fn contains_cidr(self, other: Cidr) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether the two share any address; false across families.
    pub fn overlaps(self, other: Cidr) -> bool {
        self.contains_cidr(other) || other.contains_cidr(self)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let syntax = || ParseCidrError::Syntax { value: value.to_owned() };
        // The standard library's reading of addresses is the strict one: 010.0.0.1 is 8.0.0.1 to some and 10.0.0.1 to others.
        let (address, _) = value.split_once('/').ok_or_else(syntax)?;
        address.parse::<IpAddr>().map_err(|_| syntax())?;
        let net: IpNet = value.parse().map_err(|_| syntax())?;
        if net.addr() == net.network() {
            Ok(Cidr(net))
        } else {
            Err(ParseCidrError::HostBits { value: value.to_owned(), network: Cidr(net.trunc()) })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_refused_with_the_fix() {
        let error = "10.244.1.7/24".parse::<Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "10.244.1.7/24 has host bits set; did you mean 10.244.1.0/24?");
        assert!("10.244.1.0".parse::<Cidr>().is_err());
        assert!("10.244.1.0/33".parse::<Cidr>().is_err());
        assert!("010.244.1.0/24".parse::<Cidr>().is_err(), "octal to some, decimal to others");
    }

    #[test]
    fn overlap_is_containment_one_way_or_the_other() {
        let wide: Cidr = "10.244.0.0/16".parse().unwrap();
        let narrow: Cidr = "10.244.7.0/24".parse().unwrap();
        let other: Cidr = "10.245.0.0/16".parse().unwrap();
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide) && wide.overlaps(wide));
        assert!(!wide.overlaps(other));
        assert!(!wide.overlaps("::/0".parse().unwrap()));
        assert_eq!(narrow.last_address().to_string(), "10.244.7.255");
    }
}
