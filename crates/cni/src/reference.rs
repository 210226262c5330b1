//! What the reference plugins left in netfilter for a pod that they attached and we detach.
//!
//! Whether there is anything is one question by name, so that it costs next to nothing on a node that never had them. What
//! the back end of nf_tables holds, that of iptables too, is removed by message; only chains of the legacy back end of
//! iptables need its own program. Names are those of containernetworking/plugins v1.9.

use hopwise_core::family::Family;
use hopwise_kernel::iptables::{has_legacy_nat_chain, remove_legacy_nat_chain};
use hopwise_kernel::netlink::{NetlinkError, Socket};

use crate::nft::{self, RuleInfo, Table, Transaction};
use crate::sha512;
use crate::spec::CniError;

/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_BRIDGE`, `NFPROTO_IPV6`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const BRIDGE: u8 = 7;
const IPV6: u8 = 10;
/// How long the names of iptables chains are.
const CHAIN_LEN: usize = 28;

/// The table `nat` of iptables' nf_tables back end.
const fn nat(family: Family) -> Table {
    Table { family: protocol(family), name: "nat" }
}

const fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

fn hashed(prefix: &str, text: &str, len: usize) -> String {
    let mut name = format!("{prefix}{}", sha512::hex(text.as_bytes()));
    name.truncate(len);
    name
}

/// The table and chain in which `bridge` and `ptp` masquerade by nftables.
const MASQUERADE: (Table, &str) = (Table { family: INET, name: "cni_plugins_masquerade" }, "masq_checks");
/// The chains of table `cni_hostport` with rules of attachments.
const PORTS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];
/// The table in which `bridge` checks MAC addresses.
const MAC_CHECKS: Table = Table { family: BRIDGE, name: "nat" };

const fn hostport(family: Family) -> Table {
    Table { family: protocol(family), name: "cni_hostport" }
}

/// What the reference left for an attachment.
pub struct Leftovers<'a> {
    socket: Socket,
    network: &'a str,
    container_id: &'a str,
    ifname: &'a str,
}

impl<'a> Leftovers<'a> {
    /// Of an attachment. Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// See [`nft::open`].
    pub fn of(network: &'a str, container_id: &'a str, ifname: &'a str) -> Result<Leftovers<'a>, CniError> {
        let socket = nft::open("what the reference plugins left")?;
        Ok(Leftovers { socket, network, container_id, ifname })
    }

    /// Ends the masquerading by rules of `bridge` and `ptp`.
    ///
    /// # Errors
    ///
    /// When something is left.
    pub fn release_masquerade(&mut self) -> Result<(), CniError> {
        let ours = self.comment();
        let (table, chain) = MASQUERADE;
        let by_nft = self.remove_rules(table, &[chain], |rule| rule.comment.starts_with(&ours));
        let by_iptables = self.remove_iptables_chain(&self.iptables_chain("CNI-"), "POSTROUTING");
        let errors = [by_nft, by_iptables].into_iter().filter_map(Result::err);
        CniError::collect(errors.map(|error| error.context("masquerading by the reference")).collect())
    }

    /// Ends the mappings of `portmap`.
    ///
    /// # Errors
    ///
    /// When something is left.
    pub fn release_ports(&mut self) -> Result<(), CniError> {
        let mut errors = Vec::new();
        let ours = self.container_id;
        for family in Family::BOTH {
            errors.extend(self.remove_rules(hostport(family), &PORTS, |rule| rule.comment == ours).err());
        }
        // The second is that of releases before 0.9.
        for (prefix, parent) in [("CNI-DN-", "CNI-HOSTPORT-DNAT"), ("CNI-SN-", "CNI-HOSTPORT-SNAT")] {
            errors.extend(self.remove_iptables_chain(&self.iptables_chain(prefix), parent).err());
        }
        CniError::collect(
            errors.into_iter().map(|error| error.context("mappings by the reference")).collect(),
        )
    }

    /// Ends the check of MAC addresses by `bridge`.
    ///
    /// # Errors
    ///
    /// When something is left.
    pub fn release_mac_check(&mut self) -> Result<(), CniError> {
        let chain = self.mac_chain();
        let mac = format!("{chain}-mac");
        self.remove_chains(MAC_CHECKS, &[&chain, &mac], "PREROUTING")
            .map_err(|error| CniError::caused(format!("can't remove chain {chain} of the reference"), &error))
    }

    /// Whether the attachment is masqueraded by rules.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to say.
    pub fn has_masquerade(&mut self) -> Result<bool, CniError> {
        let ours = self.comment();
        let (table, chain) = MASQUERADE;
        let by_nft = nft::rules(&mut self.socket, table, chain).map_err(|error| unread(&error))?;
        Ok(by_nft.iter().any(|rule| rule.comment.starts_with(&ours)) || self.has_iptables_chain("CNI-")?)
    }

    /// Whether the attachment has mappings by rules.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to say.
    pub fn has_ports(&mut self) -> Result<bool, CniError> {
        for family in Family::BOTH {
            for chain in PORTS {
                let rules = nft::rules(&mut self.socket, hostport(family), chain);
                if rules.map_err(|error| unread(&error))?.iter().any(|rule| rule.comment == self.container_id)
                {
                    return Ok(true);
                }
            }
        }
        self.has_iptables_chain("CNI-DN-")
    }

    /// Whether the attachment's MAC address is checked by rules.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to say.
    pub fn has_mac_check(&mut self) -> Result<bool, CniError> {
        let chain = self.mac_chain();
        let uses = nft::chain_uses(&mut self.socket, MAC_CHECKS, &[&chain]);
        Ok(uses.map_err(|error| unread(&error))?.iter().any(Option::is_some))
    }

    fn has_iptables_chain(&mut self, prefix: &str) -> Result<bool, CniError> {
        let chain = self.iptables_chain(prefix);
        for family in Family::BOTH {
            let uses = nft::chain_uses(&mut self.socket, nat(family), &[&chain]);
            let by_nft = uses.map_err(|error| unread(&error))?.iter().any(Option::is_some);
            if by_nft || has_legacy_nat_chain(family, &chain).map_err(|error| unread(&error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How the comments of its rules that masquerade start.
    fn comment(&self) -> String {
        let attachment = format!("{}:{}", self.ifname, self.container_id);
        format!("{}-{}", hashed("", self.network, 16), hashed("", &attachment, 16))
    }

    fn iptables_chain(&self, prefix: &str) -> String {
        hashed(prefix, &format!("{}{}", self.network, self.container_id), CHAIN_LEN)
    }

    fn mac_chain(&self) -> String {
        format!("cni-br-iface-{}-{}", self.container_id, self.ifname)
    }

    /// Removes rules of chains of a table, those that are there.
    fn remove_rules(
        &mut self,
        table: Table,
        chains: &[&str],
        is_concerned: impl Fn(&RuleInfo) -> bool,
    ) -> Result<(), CniError> {
        let removed = nft::until_undisturbed(|| {
            let uses = nft::chain_uses(&mut self.socket, table, chains)?;
            let mut transaction = Transaction::new(table);
            for (chain, _) in chains.iter().zip(uses).filter(|(_, uses)| uses.is_some_and(|uses| uses > 0)) {
                for rule in nft::rules(&mut self.socket, table, chain)? {
                    if is_concerned(&rule) {
                        transaction.delete_rule(chain, rule.handle);
                    }
                }
            }
            if transaction.is_empty() { Ok(()) } else { transaction.commit(&mut self.socket) }
        });
        removed
            .map_err(|error| CniError::caused(format!("can't remove rules of table {}", table.name), &error))
    }

    /// Removes a chain of both back ends of iptables, of both families.
    fn remove_iptables_chain(&mut self, chain: &str, parent: &str) -> Result<(), CniError> {
        let mut errors = Vec::new();
        for family in Family::BOTH {
            let failed = |error: &dyn std::error::Error| {
                CniError::caused(format!("can't remove iptables chain {chain} ({family})"), error)
            };
            let by_nft = self.remove_chains(nat(family), &[chain], parent);
            errors.extend(by_nft.map_err(|error| failed(&error)).err());
            let legacy = remove_legacy_nat_chain(family, chain, &[parent]);
            errors.extend(legacy.map_err(|error| failed(&error)).err());
        }
        CniError::collect(errors)
    }

    /// Removes chains, each of which only the one before it and the parent lead to.
    fn remove_chains(&mut self, table: Table, chains: &[&str], parent: &str) -> Result<(), NetlinkError> {
        nft::until_undisturbed(|| {
            let uses = nft::chain_uses(&mut self.socket, table, chains)?;
            let present: Vec<&str> =
                chains.iter().zip(uses).filter_map(|(chain, uses)| uses.map(|_| *chain)).collect();
            if present.is_empty() {
                return Ok(());
            }
            let mut transaction = Transaction::new(table);
            for rule in nft::rules(&mut self.socket, table, parent)? {
                if rule.target.is_some_and(|target| present.contains(&target.as_str())) {
                    transaction.delete_rule(parent, rule.handle);
                }
            }
            for chain in &present {
                transaction.flush(chain);
            }
            for chain in &present {
                transaction.delete_chain(chain);
            }
            transaction.commit(&mut self.socket)
        })
    }
}

fn unread(error: &dyn std::error::Error) -> CniError {
    CniError::caused("can't read the reference's rules", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference() {
        // From its own tests.
        let id = "icee6giejonei6sohng6ahngee7laquohquee9shiGo7fohferakah3Feiyoolu2pei7ciPhoh7shaoX6vai3vuf0ahfaeng8yohb9ceu0\
                  daez5hashee8ooYai5wa3y";
        assert_eq!(hashed("CNI-DN-", &format!("test{id}"), CHAIN_LEN), "CNI-DN-67e92b96e692a494b6b85");
        assert_eq!(hashed("CNI-", "test1234", CHAIN_LEN), "CNI-2bbe0c48b91a7d1b8a6753a8");
    }
}
