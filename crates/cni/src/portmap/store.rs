//! The mappings of a host, as the kernel holds them.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use hopwise_kernel::netlink::{NetlinkError, Socket};
use hopwise_kernel::netns::Namespace;

use super::claim::{self, Holder};
use super::config::Mapping;
use super::table::{self, Maps, PODS, Way};
use crate::ipam::host_local::is_namespace;
use crate::nft::{self, Data, Element, Table, Transaction};
use crate::pod;
use crate::spec::CniError;

/// An attachment that mappings belong to.
pub struct Pod {
    /// Its name, see [`nft::owner`].
    pub owner: String,
    /// Its network namespace as of now, see [`note`].
    pub note: Vec<u8>,
}

/// What is noted about a network namespace, so that it can be told later whether it is gone: what identifies it, its path.
/// Nothing for one that can't be looked at: mapping its ports does not need it.
pub fn note(netns: &str) -> Vec<u8> {
    identity(netns).map(|identity| [&identity[..], netns.as_bytes()].concat()).unwrap_or_default()
}

/// The inode of a network namespace, whose number another may get when it is gone, and its cookie, which none ever gets
/// again until the next boot; 0 before Linux 5.14.
fn identity(netns: &str) -> Result<[u8; 16], CniError> {
    let failed = |error: &dyn std::error::Error| CniError::caused(format!("can't look at {netns:?}"), error);
    let namespace = Namespace::open(Path::new(netns)).map_err(|error| failed(&error))?;
    let (_, inode) = namespace.identity().map_err(|error| failed(&error))?;
    let cookie = pod::inside(&namespace, || Ok(own_cookie()))?;
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&inode.to_be_bytes());
    identity[8..].copy_from_slice(&cookie.to_be_bytes());
    Ok(identity)
}

/// The cookie of the thread's network namespace.
fn own_cookie() -> u64 {
    let Ok(socket) = UnixDatagram::unbound() else { return 0 };
    let mut cookie = 0_u64;
    let mut len = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: pointer and length describe `cookie`; the kernel writes no more than `len` bytes.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if status == 0 { cookie } else { 0 }
}

/// Whether a namespace is gone for sure: there is none, or another, where it was. One that can't be looked at may be there.
fn is_gone(note: &[u8]) -> bool {
    let Some((then, path)) = note.split_first_chunk::<16>() else { return false };
    let Ok(path) = std::str::from_utf8(path) else { return false };
    if path.is_empty() {
        return false;
    }
    !is_namespace(Path::new(path)) || identity(path).is_ok_and(|now| now != *then)
}

/// A netlink socket.
pub struct Store {
    socket: Socket,
}

impl Store {
    /// Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// When there is no netfilter.
    pub fn open() -> Result<Store, CniError> {
        let socket =
            Socket::open(libc::NETLINK_NETFILTER).map_err(|error| failed("open a socket", &error))?;
        Ok(Store { socket })
    }

    /// Whether the kernel has nf_tables.
    ///
    /// # Errors
    ///
    /// When it hasn't.
    pub fn probe(&mut self) -> Result<(), CniError> {
        nft::generation(&mut self.socket).map(drop).map_err(|error| failed("use nf_tables", &error))
    }

    /// Maps ports for a pod, in place of all that it had. Mappings of pods that are gone give way.
    ///
    /// # Errors
    ///
    /// When a port is another pod's, or the kernel refuses; nothing is changed then.
    pub fn add(&mut self, pod: &Pod, mappings: &[(Mapping, Way)]) -> Result<(), CniError> {
        let added = nft::until_undisturbed(|| self.try_add(pod, mappings));
        added.map_err(|error| lacking(&error)).flatten()
    }

    fn try_add(
        &mut self,
        pod: &Pod,
        mappings: &[(Mapping, Way)],
    ) -> Result<Result<(), CniError>, NetlinkError> {
        let generation = nft::generation(&mut self.socket)?;
        let is_complete = self.lacks(mappings)?.is_none();
        let (repeats, holders) = self.holders(pod, mappings)?;
        let evicted = match claim::evicted(&pod.owner, repeats, mappings, &holders) {
            Ok(evicted) => evicted,
            Err(conflict) => return Ok(Err(conflict)),
        };
        // What only adds is refused by the kernel if another came first; only what removes depends on what was read.
        let mut transaction = if evicted.is_empty() {
            Transaction::new(Table::INET)
        } else {
            Transaction::at(Table::INET, generation)
        };
        if !is_complete {
            table::add_table(&mut transaction);
            for (at, (_, way)) in mappings.iter().enumerate() {
                if mappings[..at].iter().all(|(_, other)| other != way) {
                    way.add(&mut transaction);
                }
            }
        }
        if !evicted.is_empty() {
            self.write_removal(&mut transaction, |owner| evicted.contains(owner))?;
        }
        let marker = Element {
            note: pod.note.clone(),
            ..Element::new(table::pod_key(&pod.owner), Data::None, &pod.owner)
        };
        transaction.add_element(PODS, &marker);
        for (mapping, way) in mappings {
            for (set, element) in table::elements(mapping, way, &pod.owner) {
                transaction.add_element(set, &element);
            }
        }
        transaction.commit(&mut self.socket).map(Ok)
    }

    /// A chain that is not there, or not whole.
    fn lacks(&mut self, mappings: &[(Mapping, Way)]) -> Result<Option<String>, NetlinkError> {
        let used: BTreeSet<(String, u32)> = mappings.iter().flat_map(|(_, way)| way.used_chains()).collect();
        let names: Vec<&str> = used.iter().map(|(name, _)| name.as_str()).collect();
        let uses = nft::chain_uses(&mut self.socket, Table::INET, &names)?;
        let lacking = used.iter().zip(uses).find(|((_, least), uses)| uses.is_none_or(|uses| uses < *least));
        if let Some(((name, _), _)) = lacking {
            return Ok(Some(name.clone()));
        }
        let shared: BTreeSet<(String, usize)> =
            mappings.iter().flat_map(|(_, way)| way.shared_chains()).collect();
        for (name, least) in shared {
            if nft::rules(&mut self.socket, Table::INET, &name)?.len() < least {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Whether the pod has mappings, and who holds each of the ports.
    fn holders(
        &mut self,
        pod: &Pod,
        mappings: &[(Mapping, Way)],
    ) -> Result<(bool, Vec<Option<Holder>>), NetlinkError> {
        let mut keys = vec![(PODS, table::pod_key(&pod.owner))];
        keys.extend(mappings.iter().map(|(mapping, _)| (Maps::of(mapping).targets, table::key(mapping))));
        let mut found = nft::elements_at(&mut self.socket, Table::INET, &keys)?.into_iter();
        let repeats = found.next().flatten().is_some();
        let found: Vec<Option<Element>> = found.collect();
        let others: BTreeSet<&str> = found.iter().flatten().map(|element| element.comment.as_str()).collect();
        let markers: Vec<_> = others.iter().map(|owner| (PODS, table::pod_key(owner))).collect();
        let markers = nft::elements_at(&mut self.socket, Table::INET, &markers)?;
        let gone: BTreeSet<&str> = others
            .iter()
            .zip(&markers)
            .filter(|(_, marker)| marker.as_ref().is_some_and(|marker| is_gone(&marker.note)))
            .map(|(owner, _)| *owner)
            .collect();
        let holder = |element: &Element| Holder {
            owner: element.comment.clone(),
            target: table::read_target(&element.data),
            is_gone: gone.contains(element.comment.as_str()),
        };
        Ok((repeats, found.iter().map(|element| element.as_ref().map(holder)).collect()))
    }

    /// Writes the removal of all elements of some owners. Returns whether there were any.
    fn write_removal(
        &mut self,
        transaction: &mut Transaction,
        is_concerned: impl Fn(&str) -> bool,
    ) -> Result<bool, NetlinkError> {
        let mut any = false;
        for set in table::SETS {
            for element in nft::elements(&mut self.socket, Table::INET, set)? {
                if is_concerned(&element.comment) {
                    transaction.remove_element(set, &element.key);
                    any = true;
                }
            }
        }
        Ok(any)
    }

    fn remove_if(&mut self, is_concerned: impl Fn(&str) -> bool) -> Result<(), NetlinkError> {
        nft::until_undisturbed(|| {
            let generation = nft::generation(&mut self.socket)?;
            let mut transaction = Transaction::at(Table::INET, generation);
            if self.write_removal(&mut transaction, &is_concerned)? {
                transaction.commit(&mut self.socket)?;
            }
            Ok(())
        })
    }

    /// Removes all mappings of an attachment. None at all is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&mut self, owner: &str) -> Result<(), CniError> {
        if self.has(owner)? {
            self.remove_if(|comment| comment == owner).map_err(|error| failed("remove mappings", &error))?;
        }
        Ok(())
    }

    /// Whether an attachment has mappings.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to say.
    pub fn has(&mut self, owner: &str) -> Result<bool, CniError> {
        let keys = [(PODS, table::pod_key(owner))];
        let marker = nft::elements_at(&mut self.socket, Table::INET, &keys);
        Ok(marker.map_err(|error| failed("read mappings", &error))?.iter().any(Option::is_some))
    }

    /// Removes the mappings of a network's attachments that are not among `keep`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn retain(&mut self, network: &str, keep: &BTreeSet<String>) -> Result<(), CniError> {
        let ours = nft::owned_by(network);
        self.remove_if(|owner| owner.starts_with(&ours) && !keep.contains(owner))
            .map_err(|error| failed("remove mappings", &error))
    }

    /// Whether all mappings of a pod are as ADD made them.
    ///
    /// # Errors
    ///
    /// When one is not; the message says which.
    pub fn check(&mut self, owner: &str, mappings: &[(Mapping, Way)]) -> Result<(), CniError> {
        let wanted: Vec<(&str, Element)> =
            mappings.iter().flat_map(|(mapping, way)| table::elements(mapping, way, owner)).collect();
        let keys: Vec<(&str, Vec<u8>)> =
            wanted.iter().map(|(set, element)| (*set, element.key.clone())).collect();
        let read = |error: NetlinkError| failed("read mappings", &error);
        let found = nft::elements_at(&mut self.socket, Table::INET, &keys).map_err(read)?;
        for (at, ((set, wanted), found)) in wanted.iter().zip(found).enumerate() {
            if found.as_ref() != Some(wanted) {
                let mapping = &mappings[at / 2].0;
                let held = found.map_or_else(
                    || format!("is not in map {set}"),
                    |found| format!("is {:?}'s in map {set}, or leads elsewhere", found.comment),
                );
                let msg = format!("{mapping} does not lead to {}: it {held}", mapping.target);
                return Err(CniError::failed(msg));
            }
        }
        match self.lacks(mappings).map_err(read)? {
            None => Ok(()),
            Some(chain) => {
                let msg = format!(
                    "no port is mapped: chain {chain} of table inet {} is missing or has lost its rules",
                    Table::INET.name
                );
                Err(CniError::failed(msg))
            }
        }
    }
}

/// The kernel says of an expression that it lacks only that it isn't there.
fn lacking(error: &NetlinkError) -> CniError {
    let said = failed("map ports", error);
    match error.errno() {
        libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT => {
            said.details("the kernel needs nf_tables for inet, with nat (Linux 5.2), masq and fib")
        }
        _ => said,
    }
}

fn failed(what: &str, error: &NetlinkError) -> CniError {
    CniError::caused(format!("portmap: can't {what} (nf_tables)"), error)
}

#[cfg(test)]
mod tests {
    use hopwise_kernel::netns::in_new_namespace;

    use super::*;

    #[test]
    fn a_namespace_is_gone_when_its_path_is_no_namespace_or_another() {
        let (here, own) = in_new_namespace(|| {
            let path = "/proc/thread-self/ns/net";
            let own = note(path);
            assert!(!is_gone(&own));
            (own.clone(), own)
        });
        assert!(is_gone(&here), "the same path leads to another namespace");
        let at = |path: &str| [&own[..16], path.as_bytes()].concat();
        assert!(is_gone(&at("/nowhere")) && is_gone(&at("/proc")));
        assert!(!is_gone(b"") && !is_gone(&[0; 16]), "nothing was noted");
        assert_eq!(note("/nowhere"), Vec::<u8>::new());
    }

    #[test]
    fn no_two_namespaces_have_one_cookie() {
        let cookies: BTreeSet<u64> = (0..8).map(|_| in_new_namespace(own_cookie)).collect();
        assert_eq!(cookies.len(), 8);
    }
}
