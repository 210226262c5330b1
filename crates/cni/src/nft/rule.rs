//! Writing a rule's expressions, each as nft compiles it, so that nft lists the rule as its user would have written it.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_kernel::netlink::MessageWriter;
use hopwise_kernel::nft::abi::{self, data, expr};

use super::element::GOTO;

/// `NFT_REG_1`: four registers of four bytes; `NFT_REG32_00` (8) is its first.
const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
/// `NFT_RETURN` (-5).
const RETURN: u32 = -5_i32 as u32;

/// A part of a packet that a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// `meta nfproto`: the IP family.
    Nfproto,
    /// `meta l4proto`: the protocol over IP.
    L4Proto,
    /// `th dport`: the destination port.
    DestinationPort,
    /// `ip saddr`, `ip6 saddr`.
    Source(Family),
    /// `ip daddr`, `ip6 daddr`.
    Destination(Family),
    /// `meta mark`.
    Mark,
    /// `iifname`.
    InputName,
    /// `ether saddr`.
    EtherSource,
    /// `fib daddr type`.
    DestinationType,
}

/// `NFT_META_*`.
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `NFT_PAYLOAD_*_HEADER`.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`.
const FIB_RESULT_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
/// `NFT_NAT_DNAT`.
const NAT_DESTINATION: u32 = 1;

impl Load {
    /// Its length in bytes.
    fn len(self) -> u32 {
        match self {
            Load::Nfproto | Load::L4Proto => 1,
            Load::DestinationPort => 2,
            Load::Mark | Load::DestinationType => 4,
            Load::EtherSource => 6,
            Load::InputName => 16,
            Load::Source(family) | Load::Destination(family) => u32::from(family.bits()) / 8,
        }
    }
}

/// The number by which nft calls the register at a place: the big registers by theirs where they fit.
fn register(at: u32) -> u32 {
    if at.is_multiple_of(16) { REGISTER + at / 16 } else { 8 + at / 4 }
}

fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A rule being written.
pub struct Rule<'a, 'b> {
    list: &'a mut MessageWriter<'b>,
}

impl<'a, 'b> Rule<'a, 'b> {
    pub(super) fn new(list: &'a mut MessageWriter<'b>) -> Rule<'a, 'b> {
        Rule { list }
    }

    fn expression(&mut self, name: &str, write: impl FnOnce(&mut MessageWriter<'_>)) {
        let mut element = self.list.nested(abi::LIST_ELEM);
        element.str(expr::NAME, name);
        write(&mut element.nested(expr::DATA));
    }

    fn load_to(&mut self, what: Load, register: u32) {
        let meta = |key: u32| (("meta", [register, key, 0, 0]), 2);
        let payload = |base: u32, offset: u32| (("payload", [register, base, offset, what.len()]), 4);
        let address = |v4: u32, v6: u32, family: Family| {
            payload(NETWORK_HEADER, if family == Family::V4 { v4 } else { v6 })
        };
        let ((name, words), n_words) = match what {
            Load::Nfproto => meta(META_NFPROTO),
            Load::L4Proto => meta(META_L4PROTO),
            Load::Mark => meta(META_MARK),
            Load::InputName => meta(META_IIFNAME),
            Load::DestinationPort => payload(TRANSPORT_HEADER, 2),
            Load::EtherSource => payload(LINK_HEADER, 6),
            Load::Source(family) => address(12, 8, family),
            Load::Destination(family) => address(16, 24, family),
            Load::DestinationType => (("fib", [register, FIB_RESULT_TYPE, FIB_DESTINATION, 0]), 3),
        };
        self.expression(name, |data| {
            for (word, attribute) in words[..n_words].iter().zip(1..) {
                data.be32(attribute, *word);
            }
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expression("cmp", |data| {
            data.be32(1, REGISTER).be32(2, u32::from(!equal));
            data.nested(3).bytes(data::VALUE, value);
        });
    }

    /// `register = register & mask ^ xor`.
    fn bitwise(&mut self, mask: &[u8], xor: &[u8]) {
        self.expression("bitwise", |data| {
            data.be32(1, REGISTER).be32(2, REGISTER).be32(3, mask.len() as u32);
            data.nested(4).bytes(data::VALUE, mask);
            data.nested(5).bytes(data::VALUE, xor);
        });
    }

    /// Goes on if a part of the packet is (or, unequal, is not) this.
    pub fn is(&mut self, what: Load, equal: bool, value: &[u8]) {
        self.load_to(what, REGISTER);
        self.compare(equal, value);
    }

    /// Goes on for packets of a family.
    pub fn family(&mut self, family: Family) {
        self.is(Load::Nfproto, true, &[nfproto(family)]);
    }

    /// Goes on if an address lies in (or not in) a network. With the family, though only packets of it may come here: nft
    /// lists the rule by its name then.
    pub fn address_in(&mut self, what: fn(Family) -> Load, network: Cidr, inside: bool) {
        let family = network.family();
        self.family(family);
        self.load_to(what(family), REGISTER);
        let len = usize::from(family.bits()) / 8;
        let ones = u128::MAX.checked_shl(128 - u32::from(network.prefix_len())).unwrap_or(0).to_be_bytes();
        if network.prefix_len() < family.bits() {
            self.bitwise(&ones[..len], &[0; 16][..len]);
        }
        match network.address() {
            IpAddr::V4(address) => self.compare(inside, &address.octets()),
            IpAddr::V6(address) => self.compare(inside, &address.octets()),
        }
    }

    /// Goes on if the mark under the mask is (or is not) the value.
    pub fn mark(&mut self, mask: u32, equal: bool, value: u32) {
        self.load_to(Load::Mark, REGISTER);
        if mask != u32::MAX {
            self.bitwise(&mask.to_ne_bytes(), &[0; 4]);
        }
        self.compare(equal, &value.to_ne_bytes());
    }

    /// Sets bits of the packet's mark.
    pub fn set_mark_bits(&mut self, bits: u32) {
        self.load_to(Load::Mark, REGISTER);
        self.bitwise(&(!bits).to_ne_bytes(), &bits.to_ne_bytes());
        // NFTA_META_KEY, NFTA_META_SREG.
        self.expression("meta", |data| {
            data.be32(2, META_MARK).be32(3, REGISTER);
        });
    }

    fn key(&mut self, parts: &[Load]) {
        let mut at = 0;
        for part in parts {
            self.load_to(*part, register(at));
            at += part.len().next_multiple_of(4);
        }
    }

    fn lookup(&mut self, set: &str, destination: Option<u32>) {
        self.expression("lookup", |data| {
            data.str(1, set).be32(2, REGISTER);
            if let Some(register) = destination {
                data.be32(3, register);
            }
        });
    }

    /// Goes on if the key is in a set.
    pub fn in_set(&mut self, key: &[Load], set: &str) {
        self.key(key);
        self.lookup(set, None);
    }

    /// Does what a map to verdicts says of the key, if it has it.
    pub fn verdict_of(&mut self, key: &[Load], map: &str) {
        self.key(key);
        self.lookup(map, Some(REGISTER_VERDICT));
    }

    /// Sends the packet to the address and port that a map has for the key, if it has it.
    pub fn dnat_to(&mut self, family: Family, key: &[Load], map: &str) {
        self.key(key);
        self.lookup(map, Some(REGISTER));
        self.expression("nat", |data| {
            data.be32(1, NAT_DESTINATION).be32(2, u32::from(nfproto(family)));
            data.be32(3, REGISTER).be32(5, register(u32::from(family.bits()) / 8));
        });
    }

    /// The packet takes the address of the link that it leaves by.
    pub fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.expression("immediate", |data| {
            data.be32(expr::IMMEDIATE_REGISTER, REGISTER_VERDICT);
            let mut value = data.nested(expr::IMMEDIATE_DATA);
            let mut verdict = value.nested(data::VERDICT);
            verdict.be32(data::VERDICT_CODE, code);
            if let Some(chain) = chain {
                verdict.str(data::VERDICT_CHAIN, chain);
            }
        });
    }

    /// Leaves the chain.
    pub fn return_(&mut self) {
        self.verdict(RETURN, None);
    }

    /// Goes to a chain, and does not come back.
    pub fn goto(&mut self, chain: &str) {
        self.verdict(GOTO, Some(chain));
    }

    /// Lets the packet through.
    pub fn accept(&mut self) {
        self.verdict(1, None);
    }

    /// Drops the packet.
    pub fn drop_packet(&mut self) {
        self.verdict(0, None);
    }
}
