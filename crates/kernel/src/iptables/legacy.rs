//! Reading the legacy back end: `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, the way `iptables-legacy -L` does.
//!
//! Sources: `linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`, `linux/netfilter/x_tables.h`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::mark::IPTABLES_COMMENT;
use hopwise_core::observed::AcceptRule;

use super::{ForwardChain, altered_accept};
use crate::netlink::NetlinkError;
use crate::nft::foreign::mask_len;

/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// `IPT_SO_GET_INFO`, the same number for IPv6.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, the same number for IPv6.
const GET_ENTRIES: libc::c_int = 65;
/// `struct ipt_getinfo`: name, `valid_hooks`, five `hook_entry`, five `underflow`, `num_entries`, `size`.
const INFO_SIZE: usize = 32 + 4 * 13;
/// `struct ipt_get_entries` up to the entries: name, size, and four bytes that align what follows.
const ENTRIES_HEADER: usize = 40;
/// The verdict of a standard target: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `-NF_ACCEPT - 1`.
const ACCEPT: i32 = -2;
/// `struct xt_entry_match` and `struct xt_entry_target` up to the data: size, name, revision.
const EXTENSION_HEADER: usize = 32;
/// How often the table is read again because it changed between asking for its size and its entries.
const ATTEMPTS: usize = 16;

/// Reads `filter FORWARD`, in the network namespace of the calling thread; `None` when the table isn't there.
pub(crate) fn forward_chain(family: Family) -> Result<Option<ForwardChain>, NetlinkError> {
    let read = read_table(family, "filter")?;
    Ok(read.and_then(|Table { first, policy, entries }| read_chain(&entries, family, first, policy)))
}

/// Whether a table has a chain of that name, in the network namespace of the calling thread.
pub(crate) fn has_chain(family: Family, table: &str, chain: &str) -> Result<bool, NetlinkError> {
    // The name stands at the head of the chain, in a target that iptables calls ERROR, with a zero after it.
    let name = [chain.as_bytes(), b"\0"].concat();
    let read = read_table(family, table)?;
    Ok(read.is_some_and(|table| table.entries.windows(name.len()).any(|bytes| bytes == name)))
}

/// A table: where its `FORWARD` chain starts, where the policy of that is, all entries.
struct Table {
    first: usize,
    policy: usize,
    entries: Vec<u8>,
}

/// Reads a table, in the network namespace of the calling thread; `None` when it isn't there.
///
/// Asking for a table makes the kernel create it. So it is only asked for when `/proc` says that it exists.
fn read_table(family: Family, table: &str) -> Result<Option<Table>, NetlinkError> {
    let names = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // No such file: no legacy iptables in this kernel.
    if !std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == table)) {
        return Ok(None);
    }
    let socket = any_socket(family)?;
    for _ in 0..ATTEMPTS {
        match read_entries(&socket, family, table) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return Ok(Some(other?)),
        }
    }
    Err(NetlinkError::DumpInterrupted)
}

/// iptables opens a raw socket, but every socket of the family has these options: this one needs no CAP_NET_RAW.
fn any_socket(family: Family) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn read_entries(socket: &OwnedFd, family: Family, table: &str) -> io::Result<Table> {
    let mut info = vec![0; INFO_SIZE];
    info[..table.len()].copy_from_slice(table.as_bytes());
    get_option(socket, family, GET_INFO, &mut info)?;
    let word = |index: usize| u32_at(&info, 32 + 4 * index).unwrap_or(0) as usize;
    let (first, policy, size) = (word(1 + FORWARD), word(6 + FORWARD), word(12));
    let mut entries = vec![0; ENTRIES_HEADER + size];
    entries[..table.len()].copy_from_slice(table.as_bytes());
    entries[32..36].copy_from_slice(&(size as u32).to_ne_bytes());
    get_option(socket, family, GET_ENTRIES, &mut entries)?;
    entries.drain(..ENTRIES_HEADER);
    Ok(Table { first, policy, entries })
}

fn get_option(socket: &OwnedFd, family: Family, option: libc::c_int, value: &mut [u8]) -> io::Result<()> {
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let mut len = value.len() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`; the kernel writes no more than `len` bytes.
    let status = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads the entries from offset `first` to the policy's; `None` when they make no sense.
fn read_chain(entries: &[u8], family: Family, first: usize, policy: usize) -> Option<ForwardChain> {
    let mut rules = Vec::new();
    let mut offset = first;
    while offset < policy {
        let entry = Entry::at(entries, offset, family)?;
        rules.push(entry.ours());
        offset += entry.bytes.len();
    }
    let policy = Entry::at(entries, policy, family)?;
    Some(ForwardChain { policy_drop: policy.verdict() == Some(DROP), rules })
}

/// `struct ipt_entry` or `ip6t_entry`.
struct Entry<'a> {
    bytes: &'a [u8],
    family: Family,
    target: usize,
}

impl<'a> Entry<'a> {
    fn at(entries: &'a [u8], offset: usize, family: Family) -> Option<Entry<'a>> {
        // After the addresses and `nfcache`: `target_offset`, `next_offset`.
        let offsets = match family {
            Family::V4 => 88,
            Family::V6 => 140,
        };
        let bytes = entries.get(offset..)?;
        let target = usize::from(u16_at(bytes, offsets)?);
        let next = usize::from(u16_at(bytes, offsets + 2)?);
        // Also what keeps a reader of nonsense from going round in circles.
        (next > offsets && target < next).then_some(())?;
        Some(Entry { bytes: bytes.get(..next)?, family, target })
    }

    /// Where the matches start: after the counters.
    fn matches_offset(&self) -> usize {
        match self.family {
            Family::V4 => 112,
            Family::V6 => 168,
        }
    }

    /// The verdict, if the target is the standard one.
    fn verdict(&self) -> Option<i32> {
        let target = self.bytes.get(self.target..)?;
        let name = text(target.get(2..31)?)?;
        name.is_empty().then_some(())?;
        u32_at(target, EXTENSION_HEADER).map(|verdict| verdict as i32)
    }

    /// Name and data of the matches.
    fn matches(&self) -> Vec<(&'a str, &'a [u8])> {
        let mut matches = Vec::new();
        let mut offset = self.matches_offset();
        while offset < self.target {
            let read = || {
                let size = usize::from(u16_at(self.bytes, offset)?);
                let extension = self.bytes.get(offset..offset.checked_add(size)?)?;
                Some((size, text(extension.get(2..31)?)?, extension.get(EXTENSION_HEADER..)?))
            };
            let Some((size, name, data)) = read() else {
                break;
            };
            matches.push((name, data));
            offset += size;
        }
        matches
    }

    /// What it accepts, if it has our comment.
    fn ours(&self) -> Option<AcceptRule> {
        let matches = self.matches();
        matches
            .iter()
            .any(|(name, data)| *name == "comment" && text(data) == Some(IPTABLES_COMMENT))
            .then(|| self.accept(matches.len()).unwrap_or_else(|| altered_accept(self.family)))
    }

    /// The accept, if it is one that we write.
    fn accept(&self, n_matches: usize) -> Option<AcceptRule> {
        let width = usize::from(self.family.bits() / 8);
        let field = |index: usize| self.bytes.get(index * width..(index + 1) * width);
        // Interfaces, protocol and flags: what narrows a rule. Nothing of it is set in ours.
        let end = match self.family {
            Family::V4 => 84,
            Family::V6 => 136,
        };
        let plain = self.bytes.get(4 * width..end)?.iter().all(|byte| *byte == 0);
        if !plain || n_matches != 1 || self.verdict() != Some(ACCEPT) {
            return None;
        }
        let (source, destination) = (network(field(0)?, field(2)?)?, network(field(1)?, field(3)?)?);
        match (source.prefix_len(), destination.prefix_len()) {
            (_, 0) => Some(AcceptRule { cidr: source, destination: false }),
            (0, _) => Some(AcceptRule { cidr: destination, destination: true }),
            _ => None,
        }
    }
}

fn network(address: &[u8], mask: &[u8]) -> Option<Cidr> {
    let len = u8::try_from(mask_len(mask)?).ok()?;
    match address.len() {
        4 => Cidr::containing(<[u8; 4]>::try_from(address).ok()?.into(), len),
        _ => Cidr::containing(<[u8; 16]>::try_from(address).ok()?.into(), len),
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nonsense_is_read_without_harm(
            mut entries in vec(any::<u8>(), 0..600),
            v6 in any::<bool>(),
            first in 0_usize..600,
            policy in 0_usize..600,
            offsets in any::<Option<(u8, u8)>>(),
        ) {
            let (family, at) = if v6 { (Family::V6, 140) } else { (Family::V4, 88) };
            // Offsets that are nearly right get further in.
            if let (Some((target, next)), Some(bytes)) = (offsets, entries.get_mut(first + at..first + at + 4)) {
                bytes.copy_from_slice(&[target, 0, next, 0]);
            }
            read_chain(&entries, family, first, policy);
        }
    }
}
