//! What every peer's plan has in common: this node's place in the network, and the host's facts to be found by key.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::claims::{self, Claims, Kind, Refusal};
use super::routes::RouteIndex;
use super::uplink::{self, Choice};
use super::{Uplink, macs};
use crate::cidr::Cidr;
use crate::cluster::ClusterView;
use crate::config::NodeConfig;
use crate::family::{Family, PerFamily};
use crate::host::HostView;
use crate::mark;
use crate::name::{MacAddr, NodeName};

/// Facts of the host, by key. A function of the host view alone.
#[derive(Clone, Debug, Default)]
pub(super) struct HostIndex {
    /// Every address of this host.
    pub addresses: BTreeSet<IpAddr>,
    /// The broadcast addresses of its IPv4 subnets.
    pub broadcasts: BTreeSet<IpAddr>,
    /// Foreign routes.
    pub routes: RouteIndex,
}

impl HostIndex {
    pub fn new(host: &HostView) -> HostIndex {
        let broadcast = |held: &crate::host::LinkAddress| {
            let subnet = Cidr::containing(held.address, held.prefix_len)?;
            (subnet.family() == Family::V4 && subnet.prefix_len() < 31).then(|| subnet.last_address())
        };
        HostIndex {
            addresses: host.addresses.iter().map(|held| held.address).collect(),
            broadcasts: host.addresses.iter().filter_map(broadcast).collect(),
            routes: RouteIndex::new(&host.routes),
        }
    }
}

/// This node's place in the network. When it changes, every peer is planned anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Site {
    /// Families in which pod networks are declared.
    pub declared: PerFamily<bool>,
    /// Those of them that the kernel has switched on.
    pub in_use: PerFamily<bool>,
    /// The node's own address, from the store.
    pub own_address: PerFamily<Option<IpAddr>>,
    /// The link and address that carry its traffic.
    pub uplink: PerFamily<Option<Uplink>>,
    /// Why VXLAN can't be used in a family, with the fix; `None`: it can.
    pub vxlan_obstacle: PerFamily<Option<Obstacle>>,
    /// The MAC address of our VXLAN devices.
    pub vxlan_mac: MacAddr,
    /// The pod CIDRs that this node serves, also those that peers were first to claim.
    pub pod_cidrs: Vec<Cidr>,
}

/// Why something can't be done, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub evidence: String,
    pub fix: String,
}

/// The overhead of VXLAN (RFC 7348): inner Ethernet 14, VXLAN 8, UDP 8, and the outer IP header of 20 or 40 bytes.
pub(super) const fn vxlan_overhead(underlay: Family) -> u32 {
    match underlay {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// RFC 8200: below this the kernel switches IPv6 off on a link.
const IPV6_MIN_MTU: u32 = 1280;

/// Finds this node's place. The notes are about the uplinks.
pub(super) fn survey(
    view: &ClusterView,
    host: &HostView,
    config: &NodeConfig,
    claims: &Claims,
) -> (Site, Vec<crate::note::Note>) {
    let declared = PerFamily::from_fn(|family| claims::in_use(&view.networks, family));
    let in_use =
        PerFamily::from_fn(|family| *declared.get(family) && *host.capabilities.families.get(family));
    let node = view.nodes.get(&config.node);
    let own_address = PerFamily::from_fn(|family| {
        let node = node?;
        let mut addresses = node.addresses.iter().map(|claim| claim.value);
        addresses.find(|address| {
            Family::of(*address) == family && claims.judge_address(node, *address, &view.networks).is_ok()
        })
    });
    let Choice { uplink, notes } = uplink::choose(host, config, &own_address, &in_use);
    let vxlan_obstacle =
        PerFamily::from_fn(|family| vxlan_obstacle(host, config, family, uplink.get(family)));
    let published = node.map(|node| macs::mac_of(node, config.vxlan_vni)).filter(|mac| mac.is_unicast());
    let vxlan_mac = published.unwrap_or_else(|| mark::vxlan_mac(config.node.as_str(), config.vxlan_vni));
    let mut pod_cidrs = Vec::new();
    let own = node.into_iter().flat_map(|node| node.pod_cidrs.iter().map(move |claim| (node, claim.value)));
    for (node, cidr) in own {
        let verdict = claims.judge_pod_cidr(node, cidr, &view.networks);
        if *in_use.get(cidr.family()) && serves(&verdict, &config.node) && !pod_cidrs.contains(&cidr) {
            pod_cidrs.push(cidr);
        }
    }
    let site = Site { declared, in_use, own_address, uplink, vxlan_obstacle, vxlan_mac, pod_cidrs };
    (site, notes)
}

/// Whether pods of ours in a pod CIDR are looked after in spite of the verdict on it. What peers make of the CIDR does
/// not change that pods run there; what can't be pods' addresses is another matter.
fn serves(verdict: &Result<(), Refusal>, own: &NodeName) -> bool {
    match verdict {
        Ok(()) => true,
        Err(Refusal::Taken { by, .. }) => by.kind == Kind::PodCidr || by.node != *own,
        Err(Refusal::Outside) => true,
        Err(Refusal::Senseless(_) | Refusal::Services(_) | Refusal::NodeNetwork(_)) => false,
    }
}

fn vxlan_obstacle(
    host: &HostView,
    config: &NodeConfig,
    family: Family,
    uplink: &Option<Uplink>,
) -> Option<Obstacle> {
    let obstacle = |evidence: String, fix: &str| Some(Obstacle { evidence, fix: fix.to_owned() });
    let name = mark::vxlan_link(family);
    if !host.capabilities.vxlan {
        return obstacle("this kernel has no VXLAN devices".to_owned(), "modprobe vxlan");
    }
    if !(1..1 << 24).contains(&config.vxlan_vni) || config.vxlan_port == 0 {
        let evidence =
            format!("vxlanVni {} or vxlanPort {} is out of range", config.vxlan_vni, config.vxlan_port);
        return obstacle(evidence, "set vxlanVni to 1 to 16777215 and vxlanPort to 1 to 65535");
    }
    if let Some(link) = host.link_named(name).filter(|link| !uplink::is_ours(link)) {
        let evidence = format!("a foreign link ({}) has the name {name}", link.kind);
        return Some(Obstacle { evidence, fix: format!("ip link delete {name}, or rename it") });
    }
    let Some(uplink) = uplink else {
        return obstacle(format!("this node has no {family} uplink"), "see the note about the uplink");
    };
    let mtu = uplink.mtu.less(vxlan_overhead(family)).bytes();
    if family == Family::V6 && mtu < IPV6_MIN_MTU {
        let evidence =
            format!("the path MTU of {} leaves {mtu} bytes, and IPv6 needs {IPV6_MIN_MTU}", uplink.mtu);
        return obstacle(evidence, "raise the MTU of the uplink to 1350 at least");
    }
    None
}
