//! What should be so in a lab: who reaches whom which way, with which largest packet and which source address. Worked out
//! from the layout and the inventory alone, apart from the planner, so that the check can find the planner wrong.
//!
//! Settings given to agents as arguments (`agentArgs`) are not taken into account: settings belong in `settings`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopwise_api::status::ReachMode;
use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{ClusterView, Node};
use hopwise_core::config::{NodeConfig, PeerMode};
use hopwise_core::family::{Family, PerFamily};
use serde::{Deserialize, Serialize};

use crate::layout::{Layout, Member, NodeRole, Path, Role};

/// What VXLAN takes from a packet (RFC 7348): outer IP header, UDP, VXLAN, inner Ethernet.
const fn vxlan_overhead(family: Family) -> u32 {
    match family {
        Family::V4 => 20 + 8 + 8 + 14,
        Family::V6 => 40 + 8 + 8 + 14,
    }
}

/// What an endpoint of the check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointKind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// A host outside the cluster.
    Outside,
}

/// One end of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: EndpointKind,
    /// The node itself, or the pod's; the host itself outside.
    pub(crate) host: &'a str,
    pub(crate) addresses: PerFamily<Option<IpAddr>>,
}

/// What one end should see of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The largest packet that arrives in one piece, in bytes.
    pub(crate) path_mtu: u32,
    /// The source address that the receiver sees.
    pub(crate) source: IpAddr,
}

/// A layout with the settings in force.
pub(crate) struct Expectations<'a> {
    layout: &'a Layout,
    view: &'a ClusterView,
    configs: BTreeMap<&'a str, NodeConfig>,
}

impl<'a> Expectations<'a> {
    pub(crate) fn new(layout: &'a Layout, view: &'a ClusterView) -> Expectations<'a> {
        let config = |node: &Node| NodeConfig::resolve(node.name.clone(), &[&view.settings, &node.settings]);
        let nodes = layout.nodes().filter_map(|(member, _)| {
            let node = view.nodes.values().find(|node| node.name.as_str() == member.name)?;
            Some((member.name.as_str(), config(node)))
        });
        Expectations { layout, view, configs: nodes.collect() }
    }

    /// How one node should reach another; `None` where there is nothing to reach in this family.
    pub(crate) fn reach(&self, from: &str, to: &str, family: Family) -> Option<ReachMode> {
        let config = self.configs.get(from).filter(|_| from != to)?;
        let peer = self.view.nodes.values().find(|node| node.name.as_str() == to)?;
        peer.address(family)?;
        let mut pod_cidrs = peer.pod_cidrs(family).peekable();
        pod_cidrs.peek()?;
        let known = |cidr: Cidr| self.view.networks.fabric.iter().any(|fabric| fabric.contains_cidr(cidr));
        let on_link = self.segment(from)? == self.segment(to)?;
        Some(match peer.settings.mode.unwrap_or(config.mode) {
            PeerMode::Direct if !on_link => ReachMode::Unreachable,
            PeerMode::Direct => ReachMode::Direct,
            PeerMode::Vxlan => ReachMode::Vxlan,
            PeerMode::Fabric => ReachMode::Fabric,
            PeerMode::Auto if on_link => ReachMode::Direct,
            PeerMode::Auto if pod_cidrs.all(known) => ReachMode::Fabric,
            PeerMode::Auto if config.vxlan => ReachMode::Vxlan,
            PeerMode::Auto => ReachMode::Unreachable,
        })
    }

    /// What `to` should see of `from`; `None` where nothing is expected to get through.
    pub(crate) fn between(&self, from: &Endpoint<'_>, to: &Endpoint<'_>, family: Family) -> Option<Expected> {
        (*to.addresses.get(family))?;
        let source = self.source(from, to, family)?;
        let path = self.path_mtu(from, to, family)?;
        let ends = [from, to].into_iter().filter(|end| end.kind == EndpointKind::Pod);
        let path_mtu = ends.filter_map(|pod| self.pod_mtu(pod.host)).fold(path, u32::min);
        Some(Expected { path_mtu, source })
    }

    fn source(&self, from: &Endpoint<'_>, to: &Endpoint<'_>, family: Family) -> Option<IpAddr> {
        use EndpointKind::{Node, Outside, Pod};
        let own = (*from.addresses.get(family))?;
        match (from.kind, to.kind) {
            (Pod, Outside) if self.masquerades(from.host, (*to.addresses.get(family))?) => {
                self.member(from.host)?.interfaces.first()?.address(family)
            }
            // The node's side of its pods' bridge has the first address of the pod CIDR.
            (Node, Pod) if from.host == to.host => next(self.pod_cidr(from.host, family)?.address()),
            // A VXLAN device has the address of the pod CIDR itself, so that answers come back through the tunnel.
            (Node, Pod) => match self.reach(from.host, to.host, family)? {
                ReachMode::Vxlan => Some(self.pod_cidr(from.host, family)?.address()),
                ReachMode::Direct | ReachMode::Fabric => Some(own),
                ReachMode::Unreachable => None,
            },
            (Pod, Pod) if from.host != to.host => {
                let reach = self.reach(from.host, to.host, family)?;
                (reach != ReachMode::Unreachable).then_some(own)
            }
            (Outside, Pod) => self.gateway_knows_pods(from.host).then_some(own),
            _ => Some(own),
        }
    }

    fn masquerades(&self, node: &str, to: IpAddr) -> bool {
        let Some(config) = self.configs.get(node) else { return false };
        let networks = &self.view.networks;
        let exempt = networks.pods.iter().chain(&networks.services).chain(&config.masquerade_exempt);
        *config.masquerade.get(Family::of(to)) && !exempt.into_iter().any(|cidr| cidr.contains(to))
    }

    /// Whether the first router of an outside host's segment has routes to pods.
    fn gateway_knows_pods(&self, host: &str) -> bool {
        let segment = self.segment(host);
        let mut routers = self.layout.topology.routers.iter();
        routers
            .find(|r| r.segments.iter().any(|s| Some(s.as_str()) == segment))
            .is_some_and(|r| r.knows_pod_cidrs)
    }

    /// The largest packet between the hosts of two ends.
    fn path_mtu(&self, from: &Endpoint<'_>, to: &Endpoint<'_>, family: Family) -> Option<u32> {
        use EndpointKind::{Node, Outside, Pod};
        if from.host == to.host {
            return Some(u32::MAX);
        }
        let tunnelled = match (from.kind, to.kind) {
            (Pod | Node, Pod) => self.reach(from.host, to.host, family)? == ReachMode::Vxlan,
            (Outside, _) | (_, Node | Outside) => false,
        };
        if tunnelled {
            let tunnel = |host| Some(self.uplink_mtu(host)?.saturating_sub(vxlan_overhead(family)));
            return Some(tunnel(from.host)?.min(tunnel(to.host)?));
        }
        let (first, last) = (self.segment(from.host)?, self.segment(to.host)?);
        let path = Path::from_segment(&self.layout.topology, first, last)?;
        let ends = [self.link_mtu(from.host)?, self.link_mtu(to.host)?];
        path.steps.iter().map(|(segment, _)| self.layout.segment_mtu(segment)).chain(ends).min()
    }

    /// The MTU that a node's pods should have: what its uplink carries, less the overhead of VXLAN where a peer is reached
    /// so.
    pub(crate) fn pod_mtu(&self, node: &str) -> Option<u32> {
        let uplink = self.uplink_mtu(node)?;
        let tunnelled = |family: &Family| {
            self.layout.nodes().any(|(peer, _)| {
                peer.name != node && self.reach(node, &peer.name, *family) == Some(ReachMode::Vxlan)
            })
        };
        let overhead = Family::BOTH.into_iter().filter(tunnelled).map(vxlan_overhead).max();
        Some(uplink - overhead.unwrap_or(0))
    }

    /// The MTU of the path between nodes as the node has it: configured, or its uplink's.
    fn uplink_mtu(&self, node: &str) -> Option<u32> {
        let configured = self.configs.get(node)?.mtu.map(|mtu| mtu.bytes());
        configured.or_else(|| self.link_mtu(node))
    }

    fn link_mtu(&self, member: &str) -> Option<u32> {
        Some(self.member(member)?.interfaces.first()?.mtu)
    }

    fn segment(&self, member: &str) -> Option<&'a str> {
        Some(&self.member(member)?.interfaces.first()?.segment)
    }

    fn pod_cidr(&self, node: &str, family: Family) -> Option<Cidr> {
        let role: &NodeRole = match &self.member(node)?.role {
            Role::Node(role) => role,
            Role::Router | Role::Outside => return None,
        };
        role.pod_cidrs.iter().copied().find(|cidr| cidr.family() == family)
    }

    fn member(&self, name: &str) -> Option<&'a Member> {
        self.layout.member(name)
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| std::net::Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| std::net::Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Inventory;
    use crate::layout::Numbers;
    use crate::topology;

    /// `node1-pod1 to node2-pod1` and so on, for the interesting pairs of a built-in topology.
    fn describe(name: &str, pairs: &[(&str, &str)], family: Family) -> String {
        let topology = topology::load(name).unwrap();
        let layout = Layout::resolve(Default::default(), topology, Numbers::default()).unwrap();
        let view = Inventory::of(&layout).view("test".as_ref()).unwrap();
        let expectations = Expectations::new(&layout, &view);
        let endpoint = |name: &'static str| -> Endpoint<'_> {
            let host = name.split("-pod").next().unwrap();
            let member = layout.member(host).unwrap();
            let kind = match (&member.role, host == name) {
                (Role::Node(_), false) => EndpointKind::Pod,
                (Role::Node(_), true) => EndpointKind::Node,
                _ => EndpointKind::Outside,
            };
            let address = |family| match kind {
                EndpointKind::Pod => next(next(expectations.pod_cidr(host, family)?.address())?),
                _ => member.interfaces[0].address(family),
            };
            Endpoint { name, kind, host, addresses: PerFamily::from_fn(address) }
        };
        let mut text = String::new();
        for (from, to) in pairs {
            let (from, to) =
                (endpoint(Box::leak(from.to_string().into())), endpoint(Box::leak(to.to_string().into())));
            let reach = expectations.reach(from.host, to.host, family).map_or("-", ReachMode::as_str);
            let seen = match expectations.between(&from, &to, family) {
                Some(expected) => format!("{} from {}", expected.path_mtu, expected.source),
                None => "nothing".into(),
            };
            text += &format!("{} to {}: {reach}, {seen}\n", from.name, to.name);
        }
        text
    }

    const PAIRS: [(&str, &str); 9] = [
        ("node1-pod1", "node1-pod2"),
        ("node1-pod1", "node1"),
        ("node1", "node1-pod1"),
        ("node1-pod1", "node2-pod1"),
        ("node1-pod1", "node3-pod1"),
        ("node1-pod1", "node3"),
        ("node1", "node3-pod1"),
        ("node1-pod1", "internet"),
        ("internet", "node1-pod1"),
    ];

    #[test]
    fn two_segments() {
        expect_test::expect![[r#"
            node1-pod1 to node1-pod2: -, 1450 from 10.244.1.2
            node1-pod1 to node1: -, 1450 from 10.244.1.2
            node1 to node1-pod1: -, 1450 from 10.244.1.1
            node1-pod1 to node2-pod1: direct, 1450 from 10.244.1.2
            node1-pod1 to node3-pod1: vxlan, 1450 from 10.244.1.2
            node1-pod1 to node3: vxlan, 1450 from 10.244.1.2
            node1 to node3-pod1: vxlan, 1450 from 10.244.1.0
            node1-pod1 to internet: -, 1450 from 192.168.1.11
            internet to node1-pod1: -, nothing
        "#]]
        .assert_eq(&describe("two-segments", &PAIRS, Family::V4));
    }

    #[test]
    fn a_router_that_knows() {
        expect_test::expect![[r#"
            node1-pod1 to node1-pod2: -, 1500 from 10.244.1.2
            node1-pod1 to node1: -, 1500 from 10.244.1.2
            node1 to node1-pod1: -, 1500 from 10.244.1.1
            node1-pod1 to node2-pod1: direct, 1500 from 10.244.1.2
            node1-pod1 to node3-pod1: fabric, 1500 from 10.244.1.2
            node1-pod1 to node3: fabric, 1500 from 10.244.1.2
            node1 to node3-pod1: fabric, 1500 from 192.168.1.11
            node1-pod1 to internet: -, 1500 from 192.168.1.11
            internet to node1-pod1: -, 1500 from 203.0.113.2
        "#]]
        .assert_eq(&describe("two-segments-fabric", &PAIRS, Family::V4));
    }

    #[test]
    fn ipv6_pays_more_for_its_tunnel() {
        expect_test::expect![[r#"
            node1-pod1 to node1-pod2: -, 1430 from fd00:10:244:1::2
            node1-pod1 to node1: -, 1430 from fd00:10:244:1::2
            node1 to node1-pod1: -, 1430 from fd00:10:244:1::1
            node1-pod1 to node2-pod1: direct, 1430 from fd00:10:244:1::2
            node1-pod1 to node3-pod1: vxlan, 1430 from fd00:10:244:1::2
            node1-pod1 to node3: vxlan, 1430 from fd00:10:244:1::2
            node1 to node3-pod1: vxlan, 1430 from fd00:10:244:1::
            node1-pod1 to internet: -, 1430 from fd00:192:168:1::b
            internet to node1-pod1: -, nothing
        "#]]
        .assert_eq(&describe("dual-stack", &PAIRS, Family::V6));
    }

    #[test]
    fn mixed_mtu() {
        expect_test::expect![[r#"
            node1-pod1 to node1-pod2: -, 9000 from 10.244.1.2
            node1-pod1 to node1: -, 9000 from 10.244.1.2
            node1 to node1-pod1: -, 9000 from 10.244.1.1
            node1-pod1 to node2-pod1: direct, 9000 from 10.244.1.2
            node1-pod1 to node3-pod1: fabric, 1500 from 10.244.1.2
            node1-pod1 to node3: fabric, 1500 from 10.244.1.2
            node1 to node3-pod1: fabric, 1500 from 192.168.1.11
            node1-pod1 to internet: -, 1500 from 192.168.1.11
            internet to node1-pod1: -, 1500 from 203.0.113.2
            node3-pod1 to node4-pod1: direct, 1500 from 10.244.3.2
        "#]]
        .assert_eq(&describe("jumbo", &[&PAIRS[..], &[("node3-pod1", "node4-pod1")]].concat(), Family::V4));
    }
}
