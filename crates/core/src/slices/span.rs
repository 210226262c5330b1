//! [`Span`]: a run of addresses, as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::cidr::Cidr;
use crate::family::Family;
use crate::ipam::number;

/// A run of addresses of one family, first and last inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    first: IpAddr,
    last: IpAddr,
}

/// Why a string is not a [`Span`]. The message names the value and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSpanError {
    /// Not an address, a run of addresses or a CIDR.
    #[error(
        "{0:?} is no run of addresses; write one address (192.168.1.7), the first and the last \
         (192.168.1.10-192.168.1.20, or with `..`), or a CIDR (192.168.1.64/26)"
    )]
    Syntax(String),
    /// First and last of two families.
    #[error("{0:?} begins in one address family and ends in the other; write a run for each")]
    Families(String),
    /// The last before the first.
    #[error("{text:?} ends before it begins; write {last}-{first}")]
    Backwards {
        /// What was given.
        text: String,
        /// Its first address.
        first: IpAddr,
        /// Its last address.
        last: IpAddr,
    },
    /// A CIDR with host bits.
    #[error("{text} has host bits set; write {address} for the one address, {network} for the network")]
    HostBits {
        /// What was given.
        text: String,
        /// The address in it.
        address: IpAddr,
        /// The network that it lies in.
        network: Cidr,
    },
}

impl Span {
    /// From first to last; `None` when they are of two families or the wrong way round.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Span> {
        (Family::of(first) == Family::of(last) && first <= last).then_some(Span { first, last })
    }

    /// Just one address.
    pub fn one(address: IpAddr) -> Span {
        Span { first: address, last: address }
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last address, inclusive.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// The address family.
    pub fn family(self) -> Family {
        Family::of(self.first)
    }

    /// How many addresses; saturates at `u128::MAX` for all of IPv6.
    pub fn len(self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Never: a span has at least one address.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Whether an address is in it; false across families.
    pub fn contains(self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && self.first <= address && address <= self.last
    }
}

impl From<Cidr> for Span {
    fn from(cidr: Cidr) -> Span {
        Span { first: cidr.address(), last: cidr.last_address() }
    }
}

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Span, ParseSpanError> {
        let syntax = || ParseSpanError::Syntax(text.to_owned());
        let text = text.trim();
        if let Some((address, length)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| syntax())?;
            let network = length.parse().ok().and_then(|length| Cidr::containing(address, length));
            let network = network.ok_or_else(syntax)?;
            if network.address() != address {
                return Err(ParseSpanError::HostBits { text: text.to_owned(), address, network });
            }
            return Ok(network.into());
        }
        let Some((first, last)) = text.split_once("..").or_else(|| text.split_once('-')) else {
            return text.parse().map(Span::one).map_err(|_| syntax());
        };
        let first: IpAddr = first.trim().parse().map_err(|_| syntax())?;
        let last = last_address(first, last.trim()).ok_or_else(syntax)?;
        if Family::of(first) != Family::of(last) {
            return Err(ParseSpanError::Families(text.to_owned()));
        }
        let backwards = ParseSpanError::Backwards { text: text.to_owned(), first, last };
        Span::new(first, last).ok_or(backwards)
    }
}

/// The end of a run: an address, or for IPv4 only its last number, as in `192.168.1.10-20`.
fn last_address(first: IpAddr, text: &str) -> Option<IpAddr> {
    if let (IpAddr::V4(first), Ok(number)) = (first, text.parse::<u8>()) {
        let [a, b, c, _] = first.octets();
        return Some(Ipv4Addr::new(a, b, c, number).into());
    }
    text.parse().ok()
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}
