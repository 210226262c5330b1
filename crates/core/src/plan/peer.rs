//! Planning one peer in one family.

use std::net::{IpAddr, Ipv6Addr};

use super::claims::Claims;
use super::macs::{self, VxlanMacs};
use super::site::{HostIndex, Obstacle, Site};
use super::{PeerPlan, Reach, refusal, uplink};
use crate::cidr::Cidr;
use crate::cluster::{ClusterNetworks, Node, Os};
use crate::config::{MAIN_TABLE, NodeConfig, PeerMode};
use crate::family::{Family, PerFamily};
use crate::host::{ForeignRoute, HostView, Link, Lookup};
use crate::mark;
use crate::name::{IfIndex, MacAddr};
use crate::note::{Note, Severity};
use crate::object::{FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, Route, RouteKey};

/// What peers' plans are made from.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub networks: &'a ClusterNetworks,
    pub host: &'a HostView,
    pub config: &'a NodeConfig,
    pub claims: &'a Claims,
    pub macs: &'a VxlanMacs,
    pub index: &'a HostIndex,
    pub site: &'a Site,
}

/// Plans a peer. The families know nothing of each other.
pub(super) fn plan_peer(inputs: Inputs<'_>, node: &Node) -> PerFamily<Option<Box<PeerPlan>>> {
    PerFamily::from_fn(|family| Peer { inputs, node, family, notes: Vec::new() }.plan().map(Box::new))
}

/// A peer in one family, while it is being planned.
struct Peer<'a> {
    inputs: Inputs<'a>,
    node: &'a Node,
    family: Family,
    notes: Vec<Note>,
}

/// How a peer is reached, with all that is needed to write it down.
enum Way {
    /// Through its own address on this link.
    Direct { link: IfIndex },
    /// Through our VXLAN device, to this MAC address.
    Vxlan { mac: MacAddr },
    /// Through this gateway on this link, where the pod CIDR is in a fabric network; the rest of the pod CIDRs not at all.
    Fabric { link: IfIndex, gateway: IpAddr, all: bool },
    /// As foreign routes say.
    Foreign,
    /// Not.
    Unreachable,
}

impl<'a> Peer<'a> {
    fn plan(mut self) -> Option<PeerPlan> {
        let family = self.family;
        let claims_pods = self.node.pod_cidrs(family).next().is_some();
        let in_use = *self.inputs.site.in_use.get(family);
        if !claims_pods && (!in_use || self.node.address(family).is_none()) {
            return None;
        }
        let pod_cidrs = self.pod_cidrs();
        let (address, other_addresses) = if in_use { self.addresses() } else { (None, Box::default()) };
        let mut plan = PeerPlan {
            reach: Reach::Unreachable,
            address,
            other_addresses,
            pod_cidrs: pod_cidrs.into(),
            routes: Box::default(),
            neighbours: Box::default(),
            fdb: Box::default(),
            notes: Box::default(),
        };
        if let Some(address) = address {
            let way = self.way(address, &plan.pod_cidrs);
            self.write_down(&way, address, &mut plan);
        } else if in_use && self.node.address(family).is_none() {
            self.note(
                "peer-without-address",
                Severity::Error,
                format!("it has {family} pod CIDRs and no {family} address"),
                format!("give the node an {family} address"),
            );
        }
        plan.notes = self.notes.into();
        Some(plan)
    }

    /// The pod CIDRs that stand, in the order of the claims.
    fn pod_cidrs(&mut self) -> Vec<Cidr> {
        let Inputs { networks, claims, config, site, .. } = self.inputs;
        let mut standing = Vec::new();
        let mut seen = Vec::new();
        for cidr in self.node.pod_cidrs(self.family) {
            if seen.contains(&cidr) {
                continue;
            }
            seen.push(cidr);
            match claims.judge_pod_cidr(self.node, cidr, networks) {
                // The bridge's own route has the same key.
                Ok(()) if site.pod_cidrs.contains(&cidr) => {
                    self.notes.push(refusal::served_here(self.node, cidr));
                }
                Ok(()) => standing.push(cidr),
                Err(reason) => {
                    self.notes.push(refusal::pod_cidr(self.node, cidr, &reason, networks, &config.node));
                }
            }
        }
        standing
    }

    /// The addresses that stand: the one that routes lead to, and the rest.
    fn addresses(&mut self) -> (Option<IpAddr>, Box<[IpAddr]>) {
        let Inputs { networks, claims, config, index, .. } = self.inputs;
        let mut standing: Vec<IpAddr> = Vec::new();
        let mut seen: Vec<IpAddr> = Vec::new();
        for address in self.node.addresses.iter().map(|claim| claim.value) {
            if Family::of(address) != self.family || seen.contains(&address) {
                continue;
            }
            seen.push(address);
            match claims.judge_address(self.node, address, networks) {
                Ok(()) if index.addresses.contains(&address) => {
                    self.notes.push(refusal::address_is_ours(self.node, address));
                }
                Ok(()) if index.broadcasts.contains(&address) => {
                    self.notes.push(refusal::address_is_broadcast(self.node, address));
                }
                Ok(()) => standing.push(address),
                Err(reason) => {
                    self.notes.push(refusal::address(self.node, address, &reason, networks, &config.node));
                }
            }
        }
        let mut standing = standing.into_iter();
        (standing.next(), standing.collect())
    }

    fn way(&mut self, address: IpAddr, pod_cidrs: &[Cidr]) -> Way {
        let mode = self.node.settings.mode.unwrap_or(self.inputs.config.mode);
        let windows = self.node.os == Os::Windows;
        match self.inputs.host.lookups.get(&address).copied() {
            None | Some(Lookup::Unreachable | Lookup::Local) => {
                self.unreachable(
                    "peer-no-route",
                    format!("the kernel has no route to its address {address}"),
                    format!(
                        "ip route get {address}; add a route to the node's network, or correct its address"
                    ),
                );
                Way::Unreachable
            }
            Some(Lookup::OnLink { link }) if self.usable_link(link).is_none() => {
                self.unreachable(
                    "peer-no-route",
                    format!("the kernel would send packets for {address} to a link that leads to no peer"),
                    format!("ip route get {address}; correct that route, or the node's address"),
                );
                Way::Unreachable
            }
            Some(Lookup::OnLink { link }) => match mode {
                PeerMode::Vxlan if !windows => self.vxlan("mode is vxlan"),
                PeerMode::Fabric => self.foreign(pod_cidrs),
                PeerMode::Auto | PeerMode::Direct | PeerMode::Vxlan => Way::Direct { link },
            },
            Some(Lookup::Via { link, gateway }) => match mode {
                PeerMode::Direct => {
                    self.off_link(address, gateway, "mode is direct");
                    Way::Unreachable
                }
                PeerMode::Fabric => Way::Fabric { link, gateway, all: true },
                PeerMode::Vxlan if !windows => self.vxlan("mode is vxlan"),
                PeerMode::Auto | PeerMode::Vxlan => self.across(address, (link, gateway), pod_cidrs),
            },
        }
    }

    /// Off the link, and left to us how to reach it.
    fn across(&mut self, address: IpAddr, (link, gateway): (IfIndex, IpAddr), pod_cidrs: &[Cidr]) -> Way {
        let in_fabric = pod_cidrs.iter().filter(|cidr| self.in_fabric(**cidr)).count();
        if in_fabric > 0 && in_fabric == pod_cidrs.len() {
            return Way::Fabric { link, gateway, all: true };
        }
        if self.inputs.config.vxlan && self.node.os == Os::Linux {
            match self.vxlan_mac() {
                Ok(mac) => return Way::Vxlan { mac },
                Err(obstacle) if in_fabric == 0 => {
                    self.no_vxlan(&format!("it is behind the gateway {gateway}"), obstacle);
                    return Way::Unreachable;
                }
                Err(_) => {}
            }
        }
        let why =
            if self.node.os == Os::Windows { "Windows nodes have no VXLAN here" } else { "VXLAN is off" };
        if in_fabric > 0 {
            self.off_link(
                address,
                gateway,
                &format!("only {in_fabric} of its pod CIDRs are in networks.fabric"),
            );
            return Way::Fabric { link, gateway, all: false };
        }
        self.off_link(address, gateway, why);
        Way::Unreachable
    }

    fn in_fabric(&self, cidr: Cidr) -> bool {
        self.inputs.networks.fabric.iter().any(|fabric| fabric.contains_cidr(cidr))
    }

    fn vxlan(&mut self, why: &str) -> Way {
        match self.vxlan_mac() {
            Ok(mac) => Way::Vxlan { mac },
            Err(obstacle) => {
                self.no_vxlan(why, obstacle);
                Way::Unreachable
            }
        }
    }

    /// The MAC address of the peer's VXLAN device, or why there can be no tunnel to it.
    fn vxlan_mac(&self) -> Result<MacAddr, Obstacle> {
        let Inputs { config, macs, site, .. } = self.inputs;
        if let Some(obstacle) = site.vxlan_obstacle.get(self.family) {
            return Err(obstacle.clone());
        }
        let mac = macs::mac_of(self.node, config.vxlan_vni);
        match macs.owner(mac) {
            Some(owner) if *owner == self.node.name => Ok(mac),
            Some(owner) => Err(Obstacle {
                evidence: format!("it publishes the VXLAN MAC address {mac}, which is that of node {owner}"),
                fix: "take vxlanMac out of its node data".to_owned(),
            }),
            None => Err(Obstacle {
                evidence: format!("it publishes the VXLAN MAC address {mac}, which no single host can have"),
                fix: "take vxlanMac out of its node data".to_owned(),
            }),
        }
    }

    /// Fabric mode for an on-link peer: some foreign route has to know its pod CIDRs.
    fn foreign(&mut self, pod_cidrs: &[Cidr]) -> Way {
        let Inputs { host, index, .. } = self.inputs;
        let unknown: Vec<Cidr> = pod_cidrs
            .iter()
            .copied()
            .filter(|cidr| index.routes.best(&host.routes, *cidr).is_none())
            .collect();
        if unknown.is_empty() {
            return Way::Foreign;
        }
        self.unreachable(
            "fabric-no-route",
            format!("mode is fabric, and no route leads to {}", list(&unknown)),
            "add a default route to the router that knows the pod CIDRs, or set mode to auto".to_owned(),
        );
        if unknown.len() == pod_cidrs.len() { Way::Unreachable } else { Way::Foreign }
    }

    fn write_down(&mut self, way: &Way, address: IpAddr, plan: &mut PeerPlan) {
        match *way {
            Way::Unreachable => {}
            Way::Foreign => plan.reach = Reach::Fabric,
            Way::Direct { link } => {
                plan.reach = Reach::Direct;
                if let Some(link) = self.usable_link(link) {
                    let next_hop = NextHop { gateway: address, link: link.name, onlink: false };
                    plan.routes = self.routes(next_hop, link.index, &plan.pod_cidrs);
                    if !plan.routes.is_empty() {
                        plan.neighbours = self.neighbour(link, address).into_iter().collect();
                    }
                }
            }
            Way::Fabric { link, gateway, all } => {
                plan.reach = Reach::Fabric;
                if let Some(link) = self.usable_link(link) {
                    let next_hop = NextHop { gateway, link: link.name, onlink: false };
                    let in_fabric = |cidr: &&Cidr| all || self.in_fabric(**cidr);
                    let pod_cidrs: Vec<Cidr> = plan.pod_cidrs.iter().filter(in_fabric).copied().collect();
                    let unknown: Vec<Cidr> = pod_cidrs
                        .into_iter()
                        .filter(|cidr| !self.leads(*cidr, gateway, link.index))
                        .collect();
                    plan.routes = self.routes(next_hop, link.index, &unknown);
                }
            }
            Way::Vxlan { mac } => {
                plan.reach = Reach::Vxlan;
                let link = mark::vxlan_link(self.family);
                let gateway = tunnel_gateway(address, mac);
                let next_hop = NextHop { gateway, link, onlink: gateway.is_ipv4() };
                plan.routes = self.routes(next_hop, IfIndex(0), &plan.pod_cidrs);
                if !plan.routes.is_empty() {
                    let key = NeighbourKey { link, address: gateway };
                    plan.neighbours = [Neighbour { key, mac }].into();
                    plan.fdb = [FdbEntry { key: FdbKey { link, mac }, dst: address }].into();
                }
            }
        }
    }

    /// Routes to the pod CIDRs, save where a foreign route has the same key.
    fn routes(&mut self, next_hop: NextHop, link: IfIndex, pod_cidrs: &[Cidr]) -> Box<[Route]> {
        let Inputs { host, config, index, .. } = self.inputs;
        let mut routes = Vec::with_capacity(pod_cidrs.len());
        for cidr in pod_cidrs {
            let key = RouteKey { table: config.route_table, dst: *cidr, metric: self.metric(*cidr) };
            // The view has foreign routes of the main table alone; a table of our own is looked up before it.
            if key.table == MAIN_TABLE {
                let same_key = |route: &&ForeignRoute| route.table == key.table && route.metric == key.metric;
                if let Some(foreign) = index.routes.to(&host.routes, *cidr).find(same_key) {
                    let same_way = foreign.gateway == Some(next_hop.gateway) && foreign.link == Some(link);
                    self.foreign_route(foreign, same_way);
                    continue;
                }
                self.shadows(key);
            }
            routes.push(Route { key, next_hop });
        }
        routes.into()
    }

    /// A metric that depends on nothing but the destination where the kernel has no nexthop objects: IPv4 routes with the
    /// same metric and link and a gateway each share one hash bucket (`fib_info_hashfn`), which makes inserting them
    /// quadratic; distinct metrics spread them.
    fn metric(&self, dst: Cidr) -> u32 {
        let Inputs { config, host, .. } = self.inputs;
        let base = *config.route_metric.get(self.family);
        match dst.address() {
            IpAddr::V4(address) if !host.capabilities.nexthop_objects => {
                let hash = (u32::from(address) ^ u32::from(dst.prefix_len())).wrapping_mul(0x9e37_79b1);
                base.saturating_add(1 + (hash >> 16))
            }
            _ => base,
        }
    }

    /// Whether packets to the CIDR go to that gateway already.
    fn leads(&self, cidr: Cidr, gateway: IpAddr, link: IfIndex) -> bool {
        let Inputs { host, index, .. } = self.inputs;
        let best = index.routes.best(&host.routes, cidr);
        best.is_some_and(|best| best.gateway == Some(gateway) && best.link == Some(link))
    }

    /// The permanent neighbour entry of an on-link peer that published its MAC address.
    fn neighbour(&mut self, link: &Link, address: IpAddr) -> Option<Neighbour> {
        let Inputs { host, config, .. } = self.inputs;
        let own = link.mac.filter(|_| config.permanent_neighbours)?;
        let mac = (*self.node.data.link_mac.get(self.family))?;
        if !mac.is_unicast() || mac == own {
            let what =
                if mac == own { "that of our own link" } else { "not one that a single host can have" };
            self.note(
                "peer-mac-refused",
                Severity::Warning,
                format!("it publishes the MAC address {mac}, which is {what}"),
                "restart its agent, or correct mac in its node data; until then its address is resolved as usual".to_owned(),
            );
            return None;
        }
        if let Some(foreign) = host.foreign_neighbours.get(&(link.index, address)) {
            let severity = if *foreign == mac { Severity::Info } else { Severity::Warning };
            self.note(
                "foreign-neighbour",
                severity,
                format!("a permanent neighbour entry that is not ours says {address} is at {foreign}; it publishes {mac}"),
                format!("ip neigh del {address} dev {}", link.name),
            );
            return None;
        }
        Some(Neighbour { key: NeighbourKey { link: link.name, address }, mac })
    }

    /// A link that can lead to a peer: there, not the loopback, and not ours.
    fn usable_link(&self, index: IfIndex) -> Option<&'a Link> {
        let Inputs { host, .. } = self.inputs;
        host.links.get(&index).filter(|link| !link.loopback && !uplink::is_ours(link))
    }

    fn foreign_route(&mut self, foreign: &ForeignRoute, same_way: bool) {
        let (severity, effect) = if same_way {
            (Severity::Info, "it leads the same way, so packets arrive; it is not kept up to date")
        } else {
            (Severity::Error, "packets to these pods go where it leads")
        };
        let route = foreign_text(self.inputs.host, foreign);
        self.note(
            "foreign-route",
            severity,
            format!("the route {route} is not ours: {effect}"),
            format!("ip route del {route}"),
        );
    }

    /// Foreign routes that take packets before a route of ours gets to see them.
    fn shadows(&mut self, key: RouteKey) {
        let Inputs { host, index, .. } = self.inputs;
        let better = index.routes.to(&host.routes, key.dst).filter(|route| route.metric < key.metric);
        let mut shadows = better.chain(index.routes.inside(&host.routes, key.dst)).peekable();
        let Some(first) = shadows.peek().copied() else { return };
        let named: Vec<String> = shadows.by_ref().take(3).map(|route| foreign_text(host, route)).collect();
        let more = match shadows.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.note(
            "foreign-route-shadows",
            Severity::Warning,
            format!("routes that are not ours come before ours to {}: {}{more}", key.dst, named.join(", ")),
            format!("ip route del {}", foreign_text(host, first)),
        );
    }

    fn off_link(&mut self, address: IpAddr, gateway: IpAddr, why: &str) {
        let tunnel = match self.node.os {
            Os::Linux => "allow VXLAN (mode auto, vxlan true), or ",
            Os::Windows => "",
        };
        self.unreachable(
            "peer-off-link",
            format!("its address {address} is behind the gateway {gateway}, and {why}"),
            format!("{tunnel}teach the router the pod CIDRs and list them in networks.fabric"),
        );
    }

    fn no_vxlan(&mut self, why: &str, obstacle: Obstacle) {
        self.unreachable("vxlan-impossible", format!("{why}, and {}", obstacle.evidence), obstacle.fix);
    }

    fn unreachable(&mut self, id: &'static str, evidence: String, fix: String) {
        self.note(id, Severity::Error, evidence, fix);
    }

    fn note(&mut self, id: &'static str, severity: Severity, evidence: String, fix: String) {
        self.notes.push(Note { id, severity, subject: format!("node {}", self.node.name), evidence, fix });
    }
}

/// The gateway of routes into the tunnel: over IPv4 the peer's address, taken for on-link (`onlink`).
///
/// IPv6 refuses that as soon as any other route but the default one leads to the address (`ip6_route_check_nh_onlink`:
/// "Nexthop has invalid gateway or device mismatch"), so there it is the link-local address that belongs to the peer's
/// MAC address (RFC 4291, appendix A), which needs no flag.
fn tunnel_gateway(address: IpAddr, mac: MacAddr) -> IpAddr {
    if address.is_ipv4() {
        return address;
    }
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f))
}

/// A foreign route as one types it to `ip route`.
fn foreign_text(host: &HostView, route: &ForeignRoute) -> String {
    let mut text = route.dst.to_string();
    if let Some(gateway) = route.gateway {
        text += &format!(" via {gateway}");
    }
    if let Some(link) = route.link.and_then(|link| host.links.get(&link)) {
        text += &format!(" dev {}", link.name);
    }
    if route.metric != 0 {
        text += &format!(" metric {}", route.metric);
    }
    text
}

fn list(cidrs: &[Cidr]) -> String {
    let texts: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
    texts.join(", ")
}
