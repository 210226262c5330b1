//! Address slices: which addresses of a LAN each node may give to its pods, where pods are hosts of that LAN.
//!
//! Nobody routes there: a pod's address is one of the LAN's own subnet, so nodes must not give out the same ones, nor
//! those of routers, printers and DHCP pools. [`assign()`] cuts what is free into disjoint slices, and changes as little as
//! it can when nodes come, go and come back: what it said before is an input.

mod assign;
mod set;
mod span;
#[cfg(test)]
mod tests;

pub use assign::{Assignment, Departed, Outcome, Shortage, assign};
pub use set::SpanSet;
pub use span::{ParseSpanError, Span};

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::family::Family;
use crate::ipam::{Range, RangeSet, address, next_address, number};

/// A LAN whose addresses are cut into slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Its subnets, disjoint, any number of either family.
    pub subnets: Vec<Cidr>,
    /// Its gateways, in its subnets or link-local. A subnet that has none is taken to have the first address for one, by
    /// custom. They are never in a slice.
    pub gateways: Vec<IpAddr>,
    /// Addresses that others have: routers, DHCP pools, the nodes themselves.
    pub exclude: Vec<Span>,
    /// How many addresses each node gets, of each family that has a subnet.
    pub per_node: u32,
}

/// Why a [`Lan`] can't be meant. The message names the value and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LanError {
    /// Nothing to cut.
    #[error("the LAN has no subnet; give at least one, for example 192.168.1.0/24")]
    NoSubnet,
    /// The same addresses twice.
    #[error("subnets {0} and {1} overlap; keep one of the two")]
    Overlap(Cidr, Cidr),
    /// Slices of nothing.
    #[error("0 addresses for each node is no slice; give at least 1")]
    Nothing,
    /// A subnet without room for pods beside its network and broadcast address.
    #[error("subnet {0} is too small for slices; it needs at least two bits for hosts")]
    TooSmall(Cidr),
    /// IPv4 in IPv6's clothes.
    #[error("subnet {0} is an IPv4 network written as IPv6; write it as IPv4")]
    Mapped(Cidr),
    /// A gateway that pods could not reach.
    #[error("gateway {0} is in none of the LAN's subnets and not link-local; give the LAN's own router")]
    Gateway(IpAddr),
}

/// The addresses of a subnet that no pod may have: for IPv4 the network and broadcast address, for IPv6 the anycast
/// address of routers (RFC 4291, 2.6.1) and those of services (the last 128, RFC 2526, where the subnet has as many twice).
fn reserved(subnet: Cidr) -> impl Iterator<Item = Span> {
    let (first, last) = (subnet.address(), subnet.last_address());
    let tail = match subnet.family() {
        Family::V4 => Some(Span::one(last)),
        Family::V6 if subnet.prefix_len() <= 120 => Span::new(address(Family::V6, number(last) - 127), last),
        Family::V6 => None,
    };
    std::iter::once(Span::one(first)).chain(tail)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl Lan {
    /// Finds what can't be meant.
    ///
    /// # Errors
    ///
    /// When there is no subnet, one is too small or IPv4 written as IPv6, two overlap, slices are to be empty, or a gateway is out of reach.
    pub fn check(&self) -> Result<(), LanError> {
        if self.subnets.is_empty() {
            return Err(LanError::NoSubnet);
        }
        if self.per_node == 0 {
            return Err(LanError::Nothing);
        }
        for (index, one) in self.subnets.iter().enumerate() {
            if one.prefix_len() > one.family().bits() - 2 {
                return Err(LanError::TooSmall(*one));
            }
            if matches!(one.address(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
                return Err(LanError::Mapped(*one));
            }
            if let Some(other) = self.subnets[index + 1..].iter().find(|other| one.overlaps(**other)) {
                return Err(LanError::Overlap(*one, *other));
            }
        }
        let unreachable =
            |gateway: &&IpAddr| !is_link_local(**gateway) && self.subnet_of(**gateway).is_none();
        self.gateways.iter().find(unreachable).map_or(Ok(()), |gateway| Err(LanError::Gateway(*gateway)))
    }

    /// The families that there are slices of.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        Family::BOTH.into_iter().filter(|family| self.subnets.iter().any(|subnet| subnet.family() == *family))
    }

    /// The subnet that an address lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<Cidr> {
        self.subnets.iter().copied().find(|subnet| subnet.contains(address))
    }

    /// The gateway that was given for a subnet: the one in it, else a link-local one.
    pub fn given_gateway(&self, subnet: Cidr) -> Option<IpAddr> {
        let fits = |gateway: &&IpAddr| {
            Family::of(**gateway) == subnet.family()
                && is_link_local(**gateway)
                && !subnet.contains(**gateway)
        };
        let inside = self.gateways.iter().find(|gateway| subnet.contains(**gateway));
        inside.or_else(|| self.gateways.iter().find(fits)).copied()
    }

    /// The address that pods of a subnet send what is not for the LAN: the one given, else the first of the subnet.
    pub fn gateway_of(&self, subnet: Cidr) -> IpAddr {
        self.given_gateway(subnet).unwrap_or_else(|| next_address(subnet.address()))
    }

    /// A slice as a range set of `host-local`: one range for each piece, with the subnet and gateway that it lies in.
    /// `None` for an empty slice, and for one that reaches out of the LAN.
    pub fn range_set(&self, slice: &SpanSet) -> Option<RangeSet> {
        let range = |span: Span| {
            let subnet = self.subnet_of(span.first())?;
            Range::new(subnet, Some(span.first()), Some(span.last()), Some(self.gateway_of(subnet))).ok()
        };
        RangeSet::new(slice.spans().map(range).collect::<Option<_>>()?).ok()
    }

    /// The addresses of one family that slices are cut from.
    pub fn usable(&self, family: Family) -> SpanSet {
        let subnets = self.subnets.iter().filter(|subnet| subnet.family() == family);
        let mut usable: SpanSet = subnets.clone().map(|subnet| Span::from(*subnet)).collect();
        for subnet in subnets {
            for span in reserved(*subnet) {
                usable.remove(span);
            }
            usable.remove(Span::one(self.gateway_of(*subnet)));
        }
        for gateway in self.gateways.iter().filter(|gateway| Family::of(**gateway) == family) {
            usable.remove(Span::one(*gateway));
        }
        for span in self.exclude.iter().filter(|span| span.family() == family) {
            usable.remove(*span);
        }
        usable
    }
}
