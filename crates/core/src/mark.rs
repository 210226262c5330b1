//! The marks by which Hopwise knows its own objects in the kernel and on disk. Everything owned carries one of them; whatever does
//! not is foreign: never changed, never deleted.
//!
//! | object | mark |
//! |---|---|
//! | route, policy rule, nexthop object, neighbour on an uplink | protocol number [`PROTOCOL`] |
//! | link | alias starting with [`LINK_ALIAS`] |
//! | link of the plugins, apart from pods' own | alias starting with [`PLUGIN_ALIAS`] |
//! | address, neighbour, FDB entry on a link of ours | the link's mark |
//! | nftables | table [`NFT_TABLE`], family `inet` |
//! | iptables rule in `filter FORWARD` | comment [`IPTABLES_COMMENT`] |
//! | sysctl | written down with its former value in the state directory before it is changed |
//! | plugin binary | contains [`PLUGIN_BINARY`] |
//! | network configuration list put in place by `hopwise cni install` | the key [`CONFLIST_KEY`] |

use crate::family::Family;
use crate::name::{LinkName, MacAddr};

/// The routing protocol number (`rtm_protocol`, `FRA_PROTOCOL`, `nh_protocol`, `NDA_PROTOCOL`): `H`. Neither in the
/// kernel's `rtnetlink.h` nor in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 72;

/// How the alias (`ip link set … alias`) of every link of ours starts; what follows tells its purpose.
pub const LINK_ALIAS: &str = "hopwise:";

/// How the alias of a link starts that belongs to the plugins alone: the agent neither makes nor deletes such links as its
/// own, so they do not carry [`LINK_ALIAS`].
pub const PLUGIN_ALIAS: &str = "hopwise-cni:";

/// The group of links that a plugin has taken out of use and left for deletion, all with [`DISCARDED_ALIAS`]. A group alone
/// is no mark: numbers are free for all to choose.
pub const DISCARDED_GROUP: u32 = 0x4857_4400;

/// The group of those that are being deleted: the kernel deletes a group by one request, whatever is in it, so links are
/// moved here first, by whoever has seen their alias.
pub const DELETING_GROUP: u32 = DISCARDED_GROUP + 1;

/// The alias of links that are left for deletion.
pub const DISCARDED_ALIAS: &str = "hopwise-cni:deleted";

/// The name of our one nftables table, family `inet`.
pub const NFT_TABLE: &str = "hopwise";

/// The comment on our rules in the iptables `filter FORWARD` chain.
pub const IPTABLES_COMMENT: &str = "hopwise pod forwarding";

/// What every plugin binary of ours contains, and prints before the names that it can be called by when it is run without
/// `CNI_COMMAND`.
pub const PLUGIN_BINARY: &str = "Hopwise plugins in this binary: ";

/// The key of a network configuration list that says that we put it in place. Runtimes ignore keys that they don't know.
pub const CONFLIST_KEY: &str = "hopwise";

/// First id that we give to a nexthop object: `HW` in the upper half. Ids are free for all to choose, so an id alone is
/// never taken as a mark.
pub const NEXTHOP_ID_BASE: u32 = 0x4857_0000;

/// The VXLAN device for an underlay of the given family.
pub const fn vxlan_link(underlay: Family) -> LinkName {
    match underlay {
        Family::V4 => LinkName::new_static("hopwise-vx4"),
        Family::V6 => LinkName::new_static("hopwise-vx6"),
    }
}

/// The VXLAN device MAC that a node has unless it publishes another: locally administered, unicast, derived from its
/// name and the network identifier by FNV-1a, so that it is the same after every restart and peers can work it out
/// without a store that carries it.
pub fn vxlan_mac(node: &str, vni: u32) -> MacAddr {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in node.bytes().chain(vni.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    MacAddr([(a ^ g) & 0xfc | 0x02, b ^ h, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vxlan_macs_are_unicast_local_and_distinct() {
        let one = vxlan_mac("node1", 1);
        assert_eq!(one, vxlan_mac("node1", 1));
        assert_ne!(one, vxlan_mac("node2", 1));
        assert_ne!(one, vxlan_mac("node1", 2));
        assert!(one.is_unicast() && one.0[0] & 2 == 2);
    }
}
