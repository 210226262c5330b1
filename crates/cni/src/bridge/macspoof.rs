//! `macspoofchk`: a pod sends with its own MAC address or not at all.
//!
//! The reference makes two chains per pod, through `nft` processes. Here a pod is two elements, and a frame is looked up
//! twice, however many pods there are:
//!
//! ```text
//! table bridge hopwise_cni {
//!     set macspoof_links { type ifname; elements = { "veth0a1b2c3d" comment "NETWORK CONTAINER IFNAME" } }
//!     set macspoof_allowed { type ifname . ether_addr; elements = { "veth0a1b2c3d" . 02:… comment "…" } }
//!     chain prerouting {
//!         type filter hook prerouting priority dstnat; policy accept;
//!         iifname . ether saddr @macspoof_allowed accept
//!         iifname @macspoof_links drop
//!     }
//! }
//! ```

use std::collections::BTreeSet;

use hopwise_core::name::{LinkName, MacAddr};
use hopwise_kernel::netlink::{NetlinkError, Socket};

use crate::config::Attachment;
use crate::nft::{self, BaseChain, Data, Element, Load, SetSpec, Table, Transaction, owner};
use crate::spec::CniError;

/// The host's ends of pods that are checked.
const LINKS: &str = "macspoof_links";
/// Each with the address that may be sent from.
const ALLOWED: &str = "macspoof_allowed";
/// At `NF_BR_PRE_ROUTING` with `NF_BR_PRI_NAT_DST_BRIDGED`, as the reference.
const PREROUTING: BaseChain<'_> = BaseChain { name: "prerouting", kind: "filter", hook: 0, priority: -300 };
/// nft's number for `ether_addr`, and the bits of a number for each type of a concatenation.
const ETHER: u32 = 9;
const TYPE_BITS: u32 = 6;

/// The table of pods whose MAC address is checked.
pub struct MacCheck<'a> {
    socket: Socket,
    network: &'a str,
}

impl<'a> MacCheck<'a> {
    /// Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// See [`nft::open`].
    pub fn open(network: &'a str) -> Result<MacCheck<'a>, CniError> {
        Ok(MacCheck { socket: nft::open("macspoofchk")?, network })
    }

    /// Checks what comes in by a link, from now on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; one without nf_tables for bridges does.
    pub fn add(&mut self, attachment: &Attachment, link: LinkName, mac: MacAddr) -> Result<(), CniError> {
        let owner = self.owner(attachment);
        let failed = |error| failed("check MAC addresses", &error);
        let is_complete = self.is_complete().map_err(failed)?;
        let mut transaction = Transaction::new(Table::BRIDGE);
        if !is_complete {
            add_table(&mut transaction);
        }
        let [name, name_and_mac] = keys(link, mac);
        transaction.add_element(LINKS, &Element::new(name, Data::None, &owner));
        transaction.add_element(ALLOWED, &Element::new(name_and_mac, Data::None, &owner));
        transaction.commit(&mut self.socket).map_err(failed)
    }

    /// Whether the chain is there with its two rules.
    fn is_complete(&mut self) -> Result<bool, NetlinkError> {
        let uses = nft::chain_uses(&mut self.socket, Table::BRIDGE, &[PREROUTING.name])?;
        Ok(uses == [Some(2)])
    }

    /// Whether what comes in by a link is checked.
    ///
    /// # Errors
    ///
    /// When it isn't.
    pub fn check(&mut self, attachment: &Attachment, link: LinkName, mac: MacAddr) -> Result<(), CniError> {
        let owner = self.owner(attachment);
        let [name, name_and_mac] = keys(link, mac);
        let read = |error: NetlinkError| failed("read what is checked", &error);
        let keys = [(LINKS, name), (ALLOWED, name_and_mac)];
        let found = nft::elements_at(&mut self.socket, Table::BRIDGE, &keys).map_err(read)?;
        let is_ours = |element: &Option<Element>| element.as_ref().is_some_and(|held| held.comment == owner);
        if found.iter().all(is_ours) && self.is_complete().map_err(read)? {
            return Ok(());
        }
        let msg = format!(
            "macspoofchk: {link} is not held to {mac}: set {ALLOWED} of table bridge {} has not got it, or chain {} has \
             lost its rules",
            Table::BRIDGE.name,
            PREROUTING.name
        );
        Err(CniError::failed(msg))
    }

    /// Ends the checking of an attachment. None at all is no error.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&mut self, attachment: &Attachment) -> Result<(), CniError> {
        let owner = self.owner(attachment);
        self.remove_if(|comment| comment == owner)
    }

    /// Ends the checking of this network's attachments that are not valid.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn retain(&mut self, valid: &BTreeSet<Attachment>) -> Result<(), CniError> {
        let keep: BTreeSet<String> = valid.iter().map(|attachment| self.owner(attachment)).collect();
        let ours = nft::owned_by(self.network);
        self.remove_if(|comment| comment.starts_with(&ours) && !keep.contains(comment))
    }

    fn owner(&self, attachment: &Attachment) -> String {
        owner(self.network, &attachment.container_id, &attachment.ifname)
    }

    /// The link may be gone with its pod, and with it its name: so all are looked through.
    fn remove_if(&mut self, is_concerned: impl Fn(&str) -> bool) -> Result<(), CniError> {
        let removed = nft::until_undisturbed(|| {
            let generation = nft::generation(&mut self.socket)?;
            let mut transaction = Transaction::at(Table::BRIDGE, generation);
            for set in [LINKS, ALLOWED] {
                for element in nft::elements(&mut self.socket, Table::BRIDGE, set)? {
                    if is_concerned(&element.comment) {
                        transaction.remove_element(set, &element.key);
                    }
                }
            }
            if transaction.is_empty() { Ok(()) } else { transaction.commit(&mut self.socket) }
        });
        removed.map_err(|error| failed("end the checking of MAC addresses", &error))
    }
}

fn keys(link: LinkName, mac: MacAddr) -> [Vec<u8>; 2] {
    let mut name = link.as_str().as_bytes().to_vec();
    name.resize(16, 0);
    let name_and_mac = [&name[..], &mac.0, &[0; 2]].concat();
    [name, name_and_mac]
}

fn add_table(transaction: &mut Transaction) {
    transaction.add_table();
    transaction.add_set(&SetSpec { name: LINKS, key: (SetSpec::IFNAME, 16), data: None });
    let pair = (SetSpec::IFNAME << TYPE_BITS | ETHER, 24);
    transaction.add_set(&SetSpec { name: ALLOWED, key: pair, data: None });
    transaction.reset_base_chain(&PREROUTING);
    transaction.rule(PREROUTING.name, |rule| {
        rule.in_set(&[Load::InputName, Load::EtherSource], ALLOWED);
        rule.accept();
    });
    transaction.rule(PREROUTING.name, |rule| {
        rule.in_set(&[Load::InputName], LINKS);
        rule.drop_packet();
    });
}

fn failed(what: &str, error: &NetlinkError) -> CniError {
    CniError::caused(format!("macspoofchk: can't {what} (nf_tables)"), error)
}

#[cfg(test)]
mod tests {
    use hopwise_kernel::netns::in_new_namespace;

    use super::*;

    #[test]
    fn the_table_is_what_nft_reads_it_as() {
        in_new_namespace(|| {
            let attachment = |id: &str| Attachment { container_id: id.to_owned(), ifname: "eth0".to_owned() };
            let mut table = MacCheck::open("net").unwrap();
            let macs = [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])];
            let links = [LinkName::new_static("veth0"), LinkName::new_static("veth1")];
            for ((id, link), mac) in ["one", "two"].into_iter().zip(links).zip(macs) {
                table.add(&attachment(id), link, mac).unwrap();
            }
            table.remove(&attachment("one")).unwrap();
            table.check(&attachment("two"), links[1], macs[1]).unwrap();
            table.check(&attachment("two"), links[1], macs[0]).unwrap_err();
            let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
            expect_test::expect![[r#"
                table bridge hopwise_cni {
                	set macspoof_links {
                		type ifname
                		elements = { "veth1" comment "net two eth0" }
                	}

                	set macspoof_allowed {
                		type ifname . ether_addr
                		elements = { "veth1" . 02:00:00:00:00:02 comment "net two eth0" }
                	}

                	chain prerouting {
                		type filter hook prerouting priority dstnat; policy accept;
                		iifname . ether saddr @macspoof_allowed accept
                		iifname @macspoof_links drop
                	}
                }
            "#]]
            .assert_eq(&String::from_utf8(output.stdout).unwrap());
        });
    }
}
