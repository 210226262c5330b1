//! Reading rules that are not ours: what they come down to, and whether they are accepts that we put into an iptables
//! chain.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::mark::IPTABLES_COMMENT;
use hopwise_core::observed::AcceptRule;

use super::abi::{self, chain, data, expr, msg, rule};
use super::write::family_message;
use crate::iptables;
use crate::netlink::{Attributes, Batch, Message, NetlinkError, Socket};

/// A chain with a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) hook: u32,
    pub(crate) policy_drop: bool,
}

/// A rule, as far as it matters to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) handle: u64,
    /// Whether it may let packets pass by: it has anything but counters, comments and a verdict.
    pub(crate) narrowed: bool,
    pub(crate) verdict: Verdict,
    /// Ours, by its comment: what it accepts. A rule that we wouldn't write accepts the whole address space.
    pub(crate) ours: Option<AcceptRule>,
}

/// What becomes of the packets that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They go on to the next rule, or somewhere that we don't follow (verdict maps, queues).
    Other,
    Accept,
    /// Dropped or rejected.
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// How a rule of ours that was altered is shown: as one for the whole address space, which no plan asks for.
fn altered_accept(family: u8) -> AcceptRule {
    iptables::altered_accept(if family == abi::IPV4 { Family::V4 } else { Family::V6 })
}

/// The netfilter number of a family.
pub(crate) fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => abi::IPV4,
        Family::V6 => abi::IPV6,
    }
}

/// The chains of a family's tables that have a hook.
pub(super) fn base_chains(socket: &mut Socket, family: u8) -> Result<Vec<BaseChain>, NetlinkError> {
    let mut batch = Batch::new();
    family_message(&mut batch, family, msg::GETCHAIN, 0);
    let mut chains = Vec::new();
    socket
        .dump(&mut batch, &mut chains, Vec::clear, |chains, message| chains.extend(base_chain(&message)))?;
    Ok(chains)
}

/// One chain by name, if it is there and has a hook.
pub(crate) fn find_base_chain(
    socket: &mut Socket,
    family: u8,
    table: &str,
    name: &str,
) -> Result<Option<BaseChain>, NetlinkError> {
    let mut batch = Batch::new();
    family_message(&mut batch, family, msg::GETCHAIN, 0).str(chain::TABLE, table).str(chain::NAME, name);
    let mut found = Ok(None);
    socket.ask(&mut batch, |_, answer| {
        found = match answer {
            Ok(message) => Ok(base_chain(&message)),
            Err(NetlinkError::Refused { errno: libc::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        };
    })?;
    found
}

fn base_chain(message: &Message<'_>) -> Option<BaseChain> {
    let attributes = message.attributes(abi::NFGENMSG);
    let hook = attributes.find(chain::HOOK)?.nested().find(chain::HOOK_NUMBER)?.be32()?;
    Some(BaseChain {
        table: attributes.find(chain::TABLE)?.str()?.to_owned(),
        name: attributes.find(chain::NAME)?.str()?.to_owned(),
        hook,
        policy_drop: attributes.find(chain::POLICY)?.be32()? == abi::NF_DROP,
    })
}

/// The rules of one chain, in order; none when it isn't there.
pub(crate) fn rules(
    socket: &mut Socket,
    family: u8,
    table: &str,
    chain: &str,
) -> Result<Vec<Rule>, NetlinkError> {
    let mut batch = Batch::new();
    family_message(&mut batch, family, msg::GETRULE, 0).str(rule::TABLE, table).str(rule::CHAIN, chain);
    let mut rules = Vec::new();
    let dumped = socket.dump(&mut batch, &mut rules, Vec::clear, |rules, message| {
        rules.push(read_rule(family, &message));
    });
    match dumped {
        Err(NetlinkError::Refused { errno: libc::ENOENT, .. }) => Ok(Vec::new()),
        other => other.map(|()| rules),
    }
}

pub(super) fn read_rule(family: u8, message: &Message<'_>) -> Rule {
    let attributes = message.attributes(abi::NFGENMSG);
    let mut rule = Rule {
        handle: attributes.find(rule::HANDLE).and_then(|attribute| attribute.be64()).unwrap_or(0),
        narrowed: false,
        verdict: Verdict::Other,
        ours: None,
    };
    let mut comment =
        attributes.find(rule::USERDATA).and_then(|attribute| userdata_comment(attribute.payload));
    let mut accepts = Accepts::default();
    let expressions = attributes.find(rule::EXPRESSIONS).map(|list| list.nested());
    for element in expressions.into_iter().flatten() {
        let element = element.nested();
        let name = element.find(expr::NAME).and_then(|name| name.str()).unwrap_or_default();
        let fields = element.find(expr::DATA).map_or(Attributes::new(&[]), |fields| fields.nested());
        let word = |kind| fields.find(kind).and_then(|attribute| attribute.str());
        match name {
            "counter" | "log" => {}
            "immediate" => match verdict(&fields) {
                Some(verdict) => rule.verdict = verdict,
                None => rule.narrowed = true,
            },
            "reject" => rule.verdict = Verdict::Drop,
            "target" => {
                if matches!(word(expr::COMPAT_NAME), Some("REJECT" | "DROP")) {
                    rule.verdict = Verdict::Drop;
                }
            }
            "match" if word(expr::COMPAT_NAME) == Some("comment") => {
                comment = word(expr::COMPAT_INFO).or(comment);
            }
            _ => {
                rule.narrowed = true;
                accepts.read(name, &fields);
            }
        }
    }
    if comment == Some(IPTABLES_COMMENT) {
        let unaltered = accepts.rule(family).filter(|_| rule.verdict == Verdict::Accept);
        rule.ours = Some(unaltered.unwrap_or_else(|| altered_accept(family)));
    }
    rule
}

fn verdict(immediate: &Attributes<'_>) -> Option<Verdict> {
    let verdict = immediate.find(expr::IMMEDIATE_DATA)?.nested().find(data::VERDICT)?.nested();
    let chain = || Some(verdict.find(data::VERDICT_CHAIN)?.str()?.to_owned());
    Some(match verdict.find(data::VERDICT_CODE)?.be32()? {
        abi::NF_DROP => Verdict::Drop,
        abi::NF_ACCEPT => Verdict::Accept,
        abi::NFT_RETURN => Verdict::Return,
        abi::NFT_JUMP => Verdict::Jump(chain()?),
        abi::NFT_GOTO => Verdict::Goto(chain()?),
        _ => Verdict::Other,
    })
}

/// `NFTNL_UDATA_RULE_COMMENT`: type 0, length, text with its zero. Where some versions of iptables-nft keep comments.
fn userdata_comment(mut userdata: &[u8]) -> Option<&str> {
    loop {
        let [kind, len, rest @ ..] = userdata else {
            return None;
        };
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next()?;
            return std::str::from_utf8(text).ok();
        }
        userdata = &rest[value.len()..];
    }
}

/// Recognises `-s CIDR` and `-d CIDR` as iptables-nft writes them: load part of an address, mask it unless the prefix
/// ends on a byte's boundary, compare.
#[derive(Default)]
struct Accepts {
    /// Offset and length of what is loaded.
    load: Option<(u32, u32)>,
    mask: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    other: bool,
}

impl Accepts {
    fn read(&mut self, name: &str, fields: &Attributes<'_>) {
        let number = |kind| fields.find(kind).and_then(|attribute| attribute.be32());
        let value = |kind| Some(fields.find(kind)?.nested().find(data::VALUE)?.payload.to_vec());
        match name {
            "payload" if self.load.is_none() => {
                let offset = number(expr::PAYLOAD_OFFSET);
                self.other |= number(expr::PAYLOAD_BASE) != Some(expr::NETWORK_HEADER);
                self.load = offset.zip(number(expr::PAYLOAD_LEN));
            }
            "bitwise" if self.mask.is_none() => self.mask = value(expr::BITWISE_MASK),
            "cmp" if self.value.is_none() => {
                self.other |= number(expr::CMP_OP) != Some(expr::CMP_EQ);
                self.value = value(expr::CMP_DATA);
            }
            _ => self.other = true,
        }
    }

    fn rule(&self, family: u8) -> Option<AcceptRule> {
        let ((offset, len), value) = (self.load?, self.value.as_deref()?);
        let len = len as usize;
        let destination = match (family, offset) {
            (abi::IPV4, 12) | (abi::IPV6, 8) => false,
            (abi::IPV4, 16) | (abi::IPV6, 24) => true,
            _ => return None,
        };
        let prefix_len = match &self.mask {
            None => 8 * len,
            Some(mask) => mask_len(mask)?,
        };
        if self.other || value.len() != len || self.mask.as_ref().is_some_and(|mask| mask.len() != len) {
            return None;
        }
        let address: IpAddr = match family {
            abi::IPV4 => padded::<4>(value)?.into(),
            _ => padded::<16>(value)?.into(),
        };
        let cidr = Cidr::containing(address, u8::try_from(prefix_len).ok()?)?;
        (cidr.address() == address).then_some(AcceptRule { cidr, destination })
    }
}

fn padded<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    bytes.get_mut(..value.len())?.copy_from_slice(value);
    Some(bytes)
}

/// The prefix length of a network mask; `None` when it has holes.
pub(crate) fn mask_len(mask: &[u8]) -> Option<usize> {
    let bits = mask.iter().map(|byte| byte.count_ones() as usize).sum();
    let leading = mask.iter().flat_map(|byte| (0..8).map(move |bit| byte << bit & 0x80 != 0));
    (leading.take_while(|set| *set).count() == bits).then_some(bits)
}
