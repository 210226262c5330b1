//! `ipMasq`: what leaves a pod's network takes the host's address.
//!
//! The reference adds rules per pod, through `iptables` or `nft` processes, which cost more than the rest of an ADD. Here a
//! pod is an element of a map from addresses to verdicts, one message to the kernel:
//!
//! ```text
//! table inet hopwise_cni {
//!     map pods_v4 { type ipv4_addr : verdict; elements = { 10.9.0.2 comment "NETWORK CONTAINER IFNAME" : goto net_10.9.0.0/24 } }
//!     map pods_v6 { … }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         meta nfproto ipv4 ip saddr vmap @pods_v4
//!         meta nfproto ipv6 ip6 saddr vmap @pods_v6
//!     }
//!     chain net_10.9.0.0/24 { ip daddr 10.9.0.0/24 return; ip daddr 224.0.0.0/4 return; masquerade }
//! }
//! ```
//!
//! The table is made where it isn't there, or isn't whole: whoever flushes it gets it back with the next ADD. A chain per
//! network stays. The table is apart from the agent's, which is replaced as a whole.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_kernel::netlink::{NetlinkError, Socket};

use crate::config::{Attachment, NetworkConfig};
use crate::json::FieldError;
use crate::nft::{self, Transaction, owner};
use crate::spec::{CniError, InterfaceAddress, Request};

/// How often something else may change the table between our looking and our changing it.
const ATTEMPTS: usize = 8;

/// `ipMasq` and `ipMasqBackend` of a configuration: whether to masquerade. Both names of back ends are taken, and mean the
/// same here.
///
/// # Errors
///
/// When a value is neither.
pub fn is_asked(config: &NetworkConfig) -> Result<bool, CniError> {
    let root = config.root();
    let asked = root.bool("ipMasq")?;
    match root.string("ipMasqBackend")?.as_deref() {
        None | Some("iptables" | "nftables") => Ok(asked),
        Some(_) if !asked => Ok(false),
        Some(other) => Err(FieldError {
            field: "ipMasqBackend".to_owned(),
            problem: format!("unknown ipmasq backend {other:?}; use \"nftables\" or \"iptables\""),
        }
        .into()),
    }
}

/// The table of masqueraded pods.
pub struct Masquerade<'a> {
    socket: Socket,
    network: &'a str,
}

impl<'a> Masquerade<'a> {
    /// Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// See [`nft::open`].
    pub fn open(network: &'a str) -> Result<Masquerade<'a>, CniError> {
        Ok(Masquerade { socket: nft::open("ipMasq")?, network })
    }

    /// Masquerades what an attachment's addresses send out of their networks.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn add(&mut self, request: &Request, addresses: &[InterfaceAddress]) -> Result<(), CniError> {
        let owner = owner(self.network, &request.container_id, &request.ifname);
        for address in addresses {
            self.add_one(*address, &owner).map_err(|error| failed("masquerade", &error))?;
        }
        Ok(())
    }

    fn add_one(&mut self, pod: InterfaceAddress, owner: &str) -> Result<(), NetlinkError> {
        // An address always lies in the network of its own prefix length.
        let Some(subnet) = Cidr::containing(pod.address, pod.prefix_len) else { return Ok(()) };
        let mut is_complete = table::is_complete(&mut self.socket, subnet)?;
        let mut is_taken = false;
        for _ in 1..ATTEMPTS {
            match self.try_add(pod.address, subnet, owner, is_complete, is_taken) {
                // No table, or no chain for the network; or no element of an earlier holder any more.
                Err(error) if error.errno() == libc::ENOENT => (is_complete, is_taken) = (false, false),
                // The element of an earlier holder of the address who was never deleted.
                Err(error) if error.errno() == libc::EEXIST => is_taken = true,
                other => return other,
            }
        }
        self.try_add(pod.address, subnet, owner, is_complete, is_taken)
    }

    fn try_add(
        &mut self,
        address: IpAddr,
        subnet: Cidr,
        owner: &str,
        is_complete: bool,
        is_taken: bool,
    ) -> Result<(), NetlinkError> {
        let mut transaction = Transaction::new(nft::Table::INET);
        if !is_complete {
            table::add_table(&mut transaction);
            table::add_network(&mut transaction, subnet);
        }
        if is_taken {
            table::remove_element(&mut transaction, address);
        }
        table::add_element(&mut transaction, address, subnet, owner);
        transaction.commit(&mut self.socket)
    }

    /// Ends the masquerading of addresses, where it is this attachment's. None at all is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&mut self, request: &Request, addresses: &[IpAddr]) -> Result<(), CniError> {
        let owner = owner(self.network, &request.container_id, &request.ifname);
        for address in addresses {
            self.remove_one(*address, &owner).map_err(|error| failed("stop masquerading", &error))?;
        }
        Ok(())
    }

    /// Removes the element of an address while it is the owner's.
    fn remove_one(&mut self, address: IpAddr, owner: &str) -> Result<(), NetlinkError> {
        nft::until_undisturbed(|| {
            let generation = nft::generation(&mut self.socket)?;
            if table::owner_of(&mut self.socket, address)?.as_deref() != Some(owner) {
                return Ok(());
            }
            let mut transaction = Transaction::at(nft::Table::INET, generation);
            table::remove_element(&mut transaction, address);
            transaction.commit(&mut self.socket)
        })
    }

    /// Whether an attachment's addresses are masqueraded, each by the chain of its network.
    ///
    /// # Errors
    ///
    /// When one is not; the message names it.
    pub fn check(&mut self, request: &Request, addresses: &[InterfaceAddress]) -> Result<(), CniError> {
        if addresses.is_empty() {
            // A network of layer 2 has nothing to masquerade, and ADD has made nothing.
            return Ok(());
        }
        let owner = owner(self.network, &request.container_id, &request.ifname);
        for address in addresses {
            let Some(subnet) = Cidr::containing(address.address, address.prefix_len) else { continue };
            let is_complete = table::is_complete(&mut self.socket, subnet);
            if !is_complete.map_err(|error| failed("read what is masqueraded", &error))? {
                let table = nft::Table::INET.name;
                let msg = format!(
                    "ipMasq: nothing of {subnet} is masqueraded: table inet {table} is missing or has lost rules"
                );
                return Err(CniError::failed(msg));
            }
            let held = table::owner_of(&mut self.socket, address.address);
            let held = held.map_err(|error| failed("read what is masqueraded", &error))?;
            if held.as_deref() != Some(&owner) {
                let msg = format!("ipMasq: {} is not masqueraded for {owner:?}", address.address);
                return Err(CniError::failed(msg));
            }
        }
        Ok(())
    }

    /// Ends the masquerading of this network's attachments that are not valid.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn retain(&mut self, valid: &BTreeSet<Attachment>) -> Result<(), CniError> {
        let keep: BTreeSet<String> = valid
            .iter()
            .map(|attachment| owner(self.network, &attachment.container_id, &attachment.ifname))
            .collect();
        let ours = nft::owned_by(self.network);
        for family in Family::BOTH {
            let held = table::elements(&mut self.socket, family)
                .map_err(|error| failed("read what is masqueraded", &error))?;
            for (address, owner) in held {
                if owner.starts_with(&ours) && !keep.contains(&owner) {
                    self.remove_one(address, &owner).map_err(|error| failed("stop masquerading", &error))?;
                }
            }
        }
        Ok(())
    }
}

fn failed(what: &str, error: &NetlinkError) -> CniError {
    CniError::caused(format!("ipMasq: can't {what} (nf_tables)"), error)
}
