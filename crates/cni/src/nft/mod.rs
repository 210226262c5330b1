//! nf_tables messages, as far as plugins need them: no `nft` process, one message to the kernel for what is usual.
//!
//! Everything that belongs to an attachment is an *element* of a set or map in a table of ours, with the attachment as its
//! comment ([`owner`]), so that a packet's way does not grow with the number of pods. A transaction takes effect as a whole
//! or not at all. One that depends on what was read before names the generation of the rule set that it was read in
//! ([`Transaction::at`]): the kernel refuses it if anything has changed since, so that an element is deleted only while it
//! is still whose it was.
//!
//! Sources: `linux/netfilter/nf_tables.h`, `net/netfilter/{nfnetlink,nf_tables_api}.c` of Linux 6.18.

mod element;
mod read;
mod rule;
mod write;

use hopwise_kernel::netlink::{NetlinkError, Socket};

use crate::sha512;
use crate::spec::{CniError, Code};

pub use element::{Data, Element};
pub use read::{RuleInfo, chain_uses, elements, elements_at, generation, rules};
pub use rule::{Load, Rule};
pub use write::{BaseChain, SetSpec, Transaction};

/// A table: its family, its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_*`.
    pub family: u8,
    /// Its name.
    pub name: &'static str,
}

impl Table {
    /// Ours, for packets of both IP families.
    pub const INET: Table = Table { family: 1, name: "hopwise_cni" };
    /// Ours, for frames on bridges.
    pub const BRIDGE: Table = Table { family: 7, name: "hopwise_cni" };
}

/// Opens a socket to nf_tables, for what a key of a configuration asks for.
///
/// # Errors
///
/// [`Code::UnsupportedField`] when the kernel has no nf_tables.
pub fn open(key: &str) -> Result<Socket, CniError> {
    let opened =
        Socket::open(libc::NETLINK_NETFILTER).and_then(|mut socket| generation(&mut socket).map(|_| socket));
    opened.map_err(|error| match error.errno() {
        // Without nfnetlink, and with it but without nf_tables.
        libc::EPROTONOSUPPORT | libc::EINVAL => {
            let msg = format!(
                "{key} is not supported by this kernel: it has no nf_tables (CONFIG_NF_TABLES); load that module, take \
                 the key out of the configuration, or boot another kernel"
            );
            CniError::new(Code::UnsupportedField, msg)
        }
        _ => CniError::caused(format!("{key}: can't open a socket to nf_tables"), &error),
    })
}

/// What a release says: nothing can be left in what the kernel does not have.
///
/// # Errors
///
/// What it says else.
pub fn release(said: Result<(), CniError>) -> Result<(), CniError> {
    said.or_else(|error| if error.code == Code::UnsupportedField { Ok(()) } else { Err(error) })
}

/// What nft takes for a comment at most.
const MAX_COMMENT: usize = 128;
/// How often something else may change the rule set between our looking and our changing it.
const ATTEMPTS: u32 = 500;

/// What a network's name may have of that.
const MAX_NETWORK: usize = 64;

/// The attachment that an element belongs to, as its comment names it. None of the three can contain a blank. What is too
/// long is named by a hash: cut off, it could be another's name.
pub fn owner(network: &str, container_id: &str, ifname: &str) -> String {
    let ours = owned_by(network);
    let text = format!("{ours}{container_id} {ifname}");
    if text.len() <= MAX_COMMENT { text } else { format!("{ours}{} {ifname}", short_hash(container_id)) }
}

/// What the names of all attachments of a network begin with, and no other's.
pub fn owned_by(network: &str) -> String {
    match network.get(..MAX_NETWORK) {
        // No network's name has a tilde.
        Some(start) if network.len() > MAX_NETWORK => format!("{start}~{} ", short_hash(network)),
        _ => format!("{network} "),
    }
}

fn short_hash(text: &str) -> String {
    sha512::hex(text.as_bytes())[..16].to_owned()
}

/// Looks and changes until nothing else changed the rule set in between.
///
/// # Errors
///
/// The first that can't be about such a change, or the last.
pub fn until_undisturbed<T>(mut attempt: impl FnMut() -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
    let mut attempts = 0;
    loop {
        match attempt() {
            Err(error) if is_disturbance(&error) && attempts < ATTEMPTS => {
                attempts += 1;
                // Whoever came first is done by now; others who lost too spread by their scheduling.
                std::thread::sleep(std::time::Duration::from_micros(u64::from(attempts.min(40)) * 50));
            }
            other => return other,
        }
    }
}

/// Another generation; something is there by now, or is not any more.
fn is_disturbance(error: &NetlinkError) -> bool {
    matches!(error.errno(), libc::ERESTART | libc::EEXIST | libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_attachments_have_one_name() {
        assert_eq!(owner("pods", "a", "eth0"), "pods a eth0");
        let long = |last: &str| format!("{}{last}", "x".repeat(250));
        let mut names = BTreeSet::new();
        for network in ["pods".to_owned(), long("a"), long("b"), "x".repeat(64)] {
            for container in ["a".to_owned(), "f".repeat(64), long("a"), long("b")] {
                for ifname in ["eth0", "fifteen-letters"] {
                    let name = owner(&network, &container, ifname);
                    assert!(name.len() <= MAX_COMMENT && name.starts_with(&owned_by(&network)), "{name}");
                    assert!(names.insert(name), "{network} {container} {ifname}");
                }
            }
        }
        assert_ne!(owned_by(&long("a")), owned_by(&long("b")));
    }
}
