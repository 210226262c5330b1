//! What foreign chains do to forwarded packets.

use std::collections::BTreeSet;

use hopwise_core::family::Family;
use hopwise_core::host::{DropCause, DroppingChain, IptablesBackend, IptablesChain, NetfilterView};
use hopwise_core::mark::NFT_TABLE;

use super::abi;
use super::foreign::{self, BaseChain, Rule, Verdict};
use crate::iptables;
use crate::netlink::{NetlinkError, Socket};

/// Chains looked into per base chain. kube-proxy and Docker have some ten of them behind FORWARD.
const MAX_CHAINS: usize = 256;
/// Rules read per base chain, after which no further chain is looked into.
const MAX_RULES: usize = 20_000;

/// Finds out what foreign netfilter rules would do to forwarded packets.
///
/// - iptables `filter FORWARD` chains with policy `DROP`, of both back ends. Their policy is not among the dropping
///   chains: accepts in the chain itself are the remedy.
/// - Base chains on the forward hook, and the chains that they jump to: those that drop by policy, the first rule of each
///   that drops or rejects under a condition, and the first that does so without.
///
/// A rule counts as unconditional when neither it nor a jump on the way to it has a match, and nothing before it decides
/// for all packets. Rules behind our own accepts in an iptables chain don't count: pods' packets don't get there. Verdict
/// maps are not followed, and of more than 256 chains or 20,000 rules behind one base chain the rest is not read.
///
/// nf_tables can't list base chains alone, so the cost follows the number of chains, though not of rules: beside 20,000
/// chains and 30,000 rules of kube-proxy some 30 ms, without them 0.1 ms. Read it when rules have changed, and not at once
/// after each of many changes.
///
/// The legacy back end is read for the network namespace of the calling thread, which must be the socket's.
pub fn view(socket: &mut Socket) -> Result<NetfilterView, NetlinkError> {
    let mut view = NetfilterView::default();
    for (family, name) in [(abi::INET, "inet"), (abi::IPV4, "ip"), (abi::IPV6, "ip6")] {
        for base in foreign::base_chains(socket, family)? {
            let ours = family == abi::INET && base.table == NFT_TABLE;
            if base.hook != abi::HOOK_FORWARD || ours {
                continue;
            }
            let iptables = (family != abi::INET && base.table == "filter" && base.name == "FORWARD")
                .then_some(if family == abi::IPV4 { Family::V4 } else { Family::V6 });
            let mut walk =
                Walk { socket: &mut *socket, family, name, base: &base, found: vec![], n_rules: 0 };
            let decided = walk.base_chain()?;
            let mut found = walk.found;
            match iptables {
                Some(family) if base.policy_drop => {
                    view.forward_policy_drop.push(IptablesChain { backend: IptablesBackend::Nft, family });
                }
                None if base.policy_drop && !decided => found.push(DroppingChain {
                    family: name,
                    table: base.table.clone(),
                    chain: base.name.clone(),
                    cause: DropCause::Policy,
                }),
                _ => {}
            }
            view.dropping_chains.append(&mut found);
        }
    }
    for family in Family::BOTH {
        if iptables::legacy::forward_chain(family)?.is_some_and(|chain| chain.policy_drop) {
            view.forward_policy_drop.push(IptablesChain { backend: IptablesBackend::Legacy, family });
        }
    }
    view.dropping_chains.sort();
    view.forward_policy_drop.sort();
    Ok(view)
}

/// Going through what a base chain leads to.
struct Walk<'a> {
    socket: &'a mut Socket,
    family: u8,
    name: &'static str,
    base: &'a BaseChain,
    found: Vec<DroppingChain>,
    n_rules: usize,
}

/// Chains to look into: each once for packets that surely come by, and once for those that may.
type Seen = BTreeSet<(String, bool)>;

impl Walk<'_> {
    fn base_chain(&mut self) -> Result<bool, NetlinkError> {
        let mut seen = Seen::new();
        let base = self.base;
        self.chain(&base.name, false, &mut seen)
    }

    /// Returns whether the chain decides over all packets that enter it.
    fn chain(&mut self, chain: &str, conditional: bool, seen: &mut Seen) -> Result<bool, NetlinkError> {
        if self.n_rules > MAX_RULES
            || seen.len() >= MAX_CHAINS
            || !seen.insert((chain.to_owned(), conditional))
        {
            return Ok(false);
        }
        let rules = foreign::rules(self.socket, self.family, &self.base.table, chain)?;
        self.n_rules += rules.len();
        for rule in rules {
            if rule.ours.is_some() {
                return Ok(true);
            }
            let conditional = conditional || rule.narrowed;
            let decides = match &rule.verdict {
                Verdict::Other => false,
                Verdict::Accept => true,
                Verdict::Return if rule.narrowed => false,
                Verdict::Return => return Ok(false),
                Verdict::Drop => {
                    self.record(chain, &rule, conditional);
                    true
                }
                Verdict::Jump(target) => self.chain(target, conditional, seen)?,
                Verdict::Goto(target) => {
                    let decided = self.chain(target, conditional, seen)?;
                    if !rule.narrowed {
                        return Ok(decided);
                    }
                    decided
                }
            };
            if decides && !rule.narrowed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn record(&mut self, chain: &str, rule: &Rule, conditional: bool) {
        let unconditional = !conditional;
        let known = self.found.iter().any(|found| {
            found.chain == chain
                && matches!(found.cause, DropCause::Rule { unconditional: known, .. } if known == unconditional)
        });
        if !known {
            self.found.push(DroppingChain {
                family: self.name,
                table: self.base.table.clone(),
                chain: chain.to_owned(),
                cause: DropCause::Rule { handle: rule.handle, unconditional },
            });
        }
    }
}
