//! Accepts for pod networks in the iptables `filter FORWARD` chains whose policy is `DROP` (Docker sets it).
//!
//! Why there: an accept ends only its own chain. Nothing in another nftables table can save a packet that iptables' chain
//! drops, whatever the priorities; only a rule in that very chain can. Why in first place: Docker, kube-proxy and others
//! insert above, and a drop that comes first wins.
//!
//! # Two back ends
//!
//! `iptables-nft` and `iptables-legacy` can be in use at the same time, and a packet has to pass both.
//!
//! - Reading needs no binary: nf_tables messages for the one ([`crate::nft`]), the socket options that iptables itself
//!   uses for the other ([`legacy`]). It costs well under a millisecond, so the order can be checked whenever rules change.
//! - Writing runs `iptables-*-restore --noflush`: one transaction per chain, some 10 to 20 ms with the listing that it
//!   needs first. Rules come rarely and must be such that every version of iptables can list, save and delete them, which
//!   its own code knows best (comments are a compatibility expression in some versions, userdata in others). Where no
//!   chain drops, no process runs and no iptables is needed.

pub(crate) mod legacy;
mod write;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::host::{IptablesBackend, IptablesChain};
use hopwise_core::observed::{AcceptRule, ObservedAccepts};

use crate::netlink::{NetlinkError, Socket};
use crate::nft::foreign;

pub use write::{IptablesError, apply, has_legacy_nat_chain, remove_legacy_nat_chain};

/// A `filter FORWARD` chain as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardChain {
    /// Its policy is `DROP`.
    pub(crate) policy_drop: bool,
    /// Each rule, in order: ours, and what it accepts, or another's.
    pub(crate) rules: Vec<Option<AcceptRule>>,
}

/// Reads our accepts from each `filter FORWARD` chain that has policy `DROP` or holds any.
///
/// A rule with our comment that is not one that we write (altered by hand) shows as an accept of the whole address space,
/// which no plan asks for: so it is replaced, or removed with the others.
///
/// The socket is of `libc::NETLINK_NETFILTER`, opened in the network namespace of the calling thread.
pub fn observe(socket: &mut Socket) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, IptablesError> {
    let mut observed = BTreeMap::new();
    for family in Family::BOTH {
        let chains = [
            (IptablesBackend::Nft, nft_forward_chain(socket, family).map_err(IptablesError::Read)?),
            (IptablesBackend::Legacy, legacy::forward_chain(family).map_err(IptablesError::Read)?),
        ];
        for (backend, chain) in chains {
            let Some(chain) = chain else {
                continue;
            };
            let rules: Vec<AcceptRule> = chain.rules.iter().flatten().copied().collect();
            if chain.policy_drop || !rules.is_empty() {
                let first = chain.rules.iter().take(rules.len()).all(Option::is_some);
                observed.insert(IptablesChain { backend, family }, ObservedAccepts { rules, first });
            }
        }
    }
    Ok(observed)
}

fn nft_forward_chain(socket: &mut Socket, family: Family) -> Result<Option<ForwardChain>, NetlinkError> {
    let protocol = foreign::protocol(family);
    let chain = match foreign::find_base_chain(socket, protocol, "filter", "FORWARD") {
        // What nfnetlink says when the kernel has no nf_tables.
        Err(NetlinkError::Refused { errno: libc::EINVAL, .. }) => None,
        other => other?,
    };
    let Some(chain) = chain else {
        return Ok(None);
    };
    let rules = foreign::rules(socket, protocol, "filter", "FORWARD")?;
    let rules = rules.into_iter().map(|rule| rule.ours).collect();
    Ok(Some(ForwardChain { policy_drop: chain.policy_drop, rules }))
}

/// How a rule of ours that was altered is shown.
pub(crate) fn altered_accept(family: Family) -> AcceptRule {
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A length of 0 fits every family.
    AcceptRule { cidr: Cidr::containing(any, 0).unwrap_or(Cidr::host(any)), destination: false }
}
