//! The part of the table that masquerades.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_kernel::netlink::{NetlinkError, Socket};

use crate::nft::{self, BaseChain, Data, Element, Load, SetSpec, Table, Transaction};

/// At `NF_INET_POST_ROUTING` with priority srcnat.
const POSTROUTING: BaseChain<'_> = BaseChain { name: "postrouting", kind: "nat", hook: 4, priority: 100 };

/// How many rules [`add_network`] makes.
const NETWORK_RULES: usize = 3;

/// The table with its maps and its base chain, made or put right.
pub fn add_table(transaction: &mut Transaction) {
    transaction.add_table();
    for family in Family::BOTH {
        // nft's own numbers for its types: ipv4_addr, ipv6_addr.
        let key = if family == Family::V4 { (7, 4) } else { (8, 16) };
        transaction.add_set(&SetSpec { name: map_name(family), key, data: Some(SetSpec::VERDICT) });
    }
    transaction.reset_base_chain(&POSTROUTING);
    for family in Family::BOTH {
        transaction.rule(POSTROUTING.name, |rule| {
            rule.family(family);
            rule.verdict_of(&[Load::Source(family)], map_name(family));
        });
    }
}

/// The chain of a network, made or put right.
pub fn add_network(transaction: &mut Transaction, network: Cidr) {
    let name = chain_name(network);
    transaction.reset_chain(&name);
    let multicast = match network.family() {
        Family::V4 => Cidr::containing([224, 0, 0, 0].into(), 4),
        Family::V6 => Cidr::containing([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8),
    };
    for untouched in std::iter::once(network).chain(multicast) {
        transaction.rule(&name, |rule| {
            rule.address_in(Load::Destination, untouched, true);
            rule.return_();
        });
    }
    transaction.rule(&name, |rule| rule.masquerade());
}

/// An element: packets from the address go to the chain of its network.
pub fn add_element(transaction: &mut Transaction, address: IpAddr, network: Cidr, owner: &str) {
    let element = Element::new(key(address), Data::Goto(chain_name(network)), owner);
    transaction.add_element(map_name(Family::of(address)), &element);
}

/// Removes the element of an address; `ENOENT` when there is none.
pub fn remove_element(transaction: &mut Transaction, address: IpAddr) {
    transaction.remove_element(map_name(Family::of(address)), &key(address));
}

fn key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn map_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "pods_v4",
        Family::V6 => "pods_v6",
    }
}

/// nft takes no colon in a name.
fn chain_name(network: Cidr) -> String {
    format!("net_{network}").replace(':', "_")
}

/// Whose an address's element is; `None` when there is no element.
pub fn owner_of(socket: &mut Socket, address: IpAddr) -> Result<Option<String>, NetlinkError> {
    let keys = [(map_name(Family::of(address)), key(address))];
    let found = nft::elements_at(socket, Table::INET, &keys)?;
    Ok(found.into_iter().flatten().next().map(|element| element.comment))
}

/// Whether the base chain and that of a network are there with their rules. Elements lead to the latter, any number of
/// them, so it has to be counted what is in it.
pub fn is_complete(socket: &mut Socket, network: Cidr) -> Result<bool, NetlinkError> {
    let uses = nft::chain_uses(socket, Table::INET, &[POSTROUTING.name])?;
    if uses != [Some(Family::BOTH.len() as u32)] {
        return Ok(false);
    }
    Ok(nft::rules(socket, Table::INET, &chain_name(network))?.len() == NETWORK_RULES)
}

/// All elements of a family with their owners.
pub fn elements(socket: &mut Socket, family: Family) -> Result<Vec<(IpAddr, String)>, NetlinkError> {
    let address = |element: &Element| match element.key.len() {
        4 => <[u8; 4]>::try_from(&*element.key).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(&*element.key).ok().map(IpAddr::from),
    };
    let found = nft::elements(socket, Table::INET, map_name(family))?;
    Ok(found.into_iter().filter_map(|element| Some((address(&element)?, element.comment))).collect())
}
