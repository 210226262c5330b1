//! Whose VXLAN device has which MAC address.
//!
//! The FDB of a VXLAN device has one destination per MAC address, so a peer that publishes another's would take its
//! traffic. A MAC belongs to us before anybody else, then to the node that it is derived from
//! ([`crate::mark::vxlan_mac`]), then to the node with the most senior address, then by name.

use std::collections::BTreeSet;

use crate::cluster::{Node, Os};
use crate::mark;
use crate::name::{MacAddr, NodeName};

/// All MAC addresses of VXLAN devices, those of each address in order of right to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct VxlanMacs {
    holders: BTreeSet<(MacAddr, Holder)>,
}

/// Sorts by right to the address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    peer: bool,
    published: bool,
    since: u64,
    node: NodeName,
}

/// The MAC address of a node's VXLAN devices.
pub(super) fn mac_of(node: &Node, vni: u32) -> MacAddr {
    node.data.vxlan_mac.unwrap_or_else(|| mark::vxlan_mac(node.name.as_str(), vni))
}

fn entry(node: &Node, own: &NodeName, vni: u32) -> Option<(MacAddr, Holder)> {
    let mac = mac_of(node, vni);
    let holder = Holder {
        peer: node.name != *own,
        published: mac != mark::vxlan_mac(node.name.as_str(), vni),
        since: node.addresses.iter().map(|claim| claim.since).min().unwrap_or(u64::MAX),
        node: node.name.clone(),
    };
    (node.os == Os::Linux && mac.is_unicast()).then_some((mac, holder))
}

impl VxlanMacs {
    /// The MAC addresses of all these nodes.
    pub fn of<'a>(nodes: impl Iterator<Item = &'a Node>, own: &NodeName, vni: u32) -> VxlanMacs {
        VxlanMacs { holders: nodes.filter_map(|node| entry(node, own, vni)).collect() }
    }

    /// Changes one node's entry. Adds the nodes for which the owner of their MAC address may differ to `touched`.
    pub fn change(
        &mut self,
        (old, new): (Option<&Node>, Option<&Node>),
        own: &NodeName,
        vni: u32,
        touched: &mut BTreeSet<NodeName>,
    ) {
        let old = old.and_then(|node| entry(node, own, vni));
        let new = new.and_then(|node| entry(node, own, vni));
        if old == new {
            return;
        }
        if let Some(old) = old {
            let mac = old.0;
            self.holders.remove(&old);
            touched.extend(self.holders_of(mac).map(|holder| holder.node.clone()));
        }
        if let Some(new) = new {
            let mac = new.0;
            self.holders.insert(new);
            touched.extend(self.holders_of(mac).map(|holder| holder.node.clone()));
        }
    }

    /// The node that a MAC address belongs to.
    pub fn owner(&self, mac: MacAddr) -> Option<&NodeName> {
        self.holders_of(mac).next().map(|holder| &holder.node)
    }

    fn holders_of(&self, mac: MacAddr) -> impl Iterator<Item = &Holder> {
        let lowest = Holder { peer: false, published: false, since: 0, node: NodeName::lowest() };
        let from = self.holders.range((mac, lowest)..);
        from.take_while(move |(held, _)| *held == mac).map(|(_, holder)| holder)
    }
}
