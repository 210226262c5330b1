//! Names, addresses and routes for the parts of a topology.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::name::{LinkName, NodeName};

use super::path::{Path, first_router};
use super::{Interface, Layout, Member, NodeRole, Numbers, Role, SWITCH, StaticRoute};
use crate::name::LabName;
use crate::topology::{NodeGroup, Segment, Topology, TopologyError};

/// Nodes' addresses start here in their segment; routers and outside hosts have those below, while there is room.
const FIRST_NODE: u64 = 11;
/// IPv6 needs 1280 (RFC 8200); 4,000 bytes of IPv4's 65,535 are left for what a path adds.
const MTU_RANGE: std::ops::RangeInclusive<u32> = 576..=61_000;
const MIN_MTU_V6: u32 = 1280;

fn invalid(subject: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> TopologyError {
    TopologyError::Invalid { subject: subject.into(), problem: problem.into(), fix: fix.into() }
}

pub(super) fn resolve(lab: LabName, topology: Topology, numbers: Numbers) -> Result<Layout, TopologyError> {
    check_segments(&topology)?;
    check_pod_networks(&topology)?;
    let groups = expand(&topology, numbers.nodes)?;
    let mut assign = Assign::new(&topology);
    let mut members = Vec::new();
    for router in &topology.routers {
        members.push(assign.router(&router.name, &router.segments)?);
    }
    let first_outside = members.len();
    for host in &topology.outside {
        members.push(assign.member(&host.name, Role::Outside, &host.segment, None, 1)?);
    }
    let outside = members.split_off(first_outside);
    for (number, (name, group)) in groups.iter().enumerate() {
        let role = node_role(&topology, name, group, number + 1, numbers.pods_per_node)?;
        members.push(assign.member(name, Role::Node(role), &group.segment, group.mtu, FIRST_NODE)?);
    }
    members.extend(outside);
    check_names(&members)?;
    let routes: Vec<Vec<StaticRoute>> = (members.iter())
        .map(|member| static_routes(&topology, &members, member))
        .collect::<Result<_, _>>()?;
    for (member, routes) in members.iter_mut().zip(routes) {
        member.routes = routes;
    }
    Ok(Layout { lab, topology, members })
}

fn check_segments(topology: &Topology) -> Result<(), TopologyError> {
    if topology.segments.is_empty() {
        return Err(invalid("segments", "there is none", "add one: {name: lan, cidrs: [192.168.0.0/24]}"));
    }
    let mut seen: Vec<(&str, Cidr)> = Vec::new();
    for segment in &topology.segments {
        let subject = format!("segment {}", segment.name);
        if segment.name.parse::<LinkName>().is_err() || segment.name == "lo" {
            return Err(invalid(
                subject,
                "can't be a bridge's name",
                "use 1 to 15 letters, digits and dashes",
            ));
        }
        if topology.segments.iter().filter(|other| other.name == segment.name).count() > 1 {
            return Err(invalid(subject, "is there twice", "give each segment its own name"));
        }
        for family in Family::BOTH {
            if segment.cidrs.iter().filter(|cidr| cidr.family() == family).count() > 1 {
                return Err(invalid(
                    subject,
                    format!("has several {family} CIDRs"),
                    "leave one of each family",
                ));
            }
        }
        let has_v6 = segment.cidrs.iter().any(|cidr| cidr.family() == Family::V6);
        check_mtu(&format!("{subject}: mtu"), segment.mtu, has_v6)?;
        for cidr in &segment.cidrs {
            if let Some((other, taken)) = seen.iter().find(|(_, taken)| taken.overlaps(*cidr)) {
                let problem = format!("{cidr} overlaps {taken} of segment {other}");
                return Err(invalid(subject, problem, "give each segment its own addresses"));
            }
            seen.push((&segment.name, *cidr));
        }
    }
    Ok(())
}

fn check_mtu(subject: &str, mtu: u32, has_v6: bool) -> Result<(), TopologyError> {
    if !MTU_RANGE.contains(&mtu) {
        let fix = format!("use {} to {}", MTU_RANGE.start(), MTU_RANGE.end());
        return Err(invalid(subject, format!("{mtu} can't be used"), fix));
    }
    if has_v6 && mtu < MIN_MTU_V6 {
        return Err(invalid(subject, format!("{mtu} is less than IPv6 needs"), "use 1280 or more"));
    }
    Ok(())
}

fn check_pod_networks(topology: &Topology) -> Result<(), TopologyError> {
    if topology.networks.pods.is_empty() {
        return Err(invalid("networks.pods", "there is none", "add one: [10.244.0.0/16]"));
    }
    for family in Family::BOTH {
        if topology.networks.pods.iter().filter(|cidr| cidr.family() == family).count() > 1 {
            let problem = format!("there are several {family} networks");
            return Err(invalid("networks.pods", problem, "leave one of each family"));
        }
    }
    Ok(())
}

/// The nodes one by one, with their names.
fn expand(topology: &Topology, wanted: Option<usize>) -> Result<Vec<(String, &NodeGroup)>, TopologyError> {
    let mut each = Vec::new();
    for group in &topology.nodes {
        if group.name.is_some() && group.count != 1 {
            let name = group.name.as_deref().unwrap_or_default();
            let problem = format!("count is {}", group.count);
            return Err(invalid(format!("node {name}"), problem, "leave out the name or the count"));
        }
        each.extend(std::iter::repeat_n(group, group.count));
    }
    let n_nodes = wanted.unwrap_or(each.len());
    if each.is_empty() || n_nodes == 0 {
        return Err(invalid("nodes", "there is none", "add one: {segment: lan}, or ask for at least one"));
    }
    let given = each.len();
    let named = |number: usize, group: &NodeGroup| match &group.name {
        Some(name) if number < given => name.clone(),
        _ => format!("node{}", number + 1),
    };
    Ok((each.into_iter().cycle().take(n_nodes).enumerate())
        .map(|(number, group)| (named(number, group), group))
        .collect())
}

fn node_role(
    topology: &Topology,
    name: &str,
    group: &NodeGroup,
    number: usize,
    pods_per_node: Option<usize>,
) -> Result<NodeRole, TopologyError> {
    let n_pods = pods_per_node.or(group.pods).unwrap_or(topology.pods_per_node);
    let pod_cidrs = topology.networks.pods.iter().map(|network| {
        let len = if network.family() == Family::V4 { 24 } else { 64 };
        nth_subnet(*network, len, number as u64).ok_or_else(|| {
            let problem = format!("{network} has no /{len} number {number} for node {name}");
            invalid("networks.pods", problem, "use a wider network or fewer nodes")
        })
    });
    let pod_cidrs = pod_cidrs.collect::<Result<Vec<_>, _>>()?;
    // The first addresses of a pod CIDR are the network's and the gateway's.
    if n_pods > 250 {
        let problem = format!("{n_pods} pods don't fit a /24");
        return Err(invalid(format!("node {name}"), problem, "use 250 at most"));
    }
    Ok(NodeRole {
        pod_cidrs,
        pods: (1..=n_pods).map(|pod| format!("{name}-pod{pod}")).collect(),
        settings: group.settings.clone(),
        agent_args: group.agent_args.clone(),
        lies: group.lies.clone(),
    })
}

/// The subnet of the given length and number within a network.
fn nth_subnet(network: Cidr, len: u8, number: u64) -> Option<Cidr> {
    let room = len.checked_sub(network.prefix_len())?;
    if room < 64 && number >= 1 << room {
        return None;
    }
    let host_bits = u32::from(network.family().bits() - len);
    Cidr::containing(offset(network.address(), u128::from(number) << host_bits)?, len)
}

fn offset(address: IpAddr, by: u128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            Some(Ipv4Addr::from_bits(v4.to_bits().checked_add(u32::try_from(by).ok()?)?).into())
        }
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits().checked_add(by)?).into()),
    }
}

fn check_names(members: &[Member]) -> Result<(), TopologyError> {
    let mut seen = BTreeSet::from([SWITCH]);
    for member in members {
        let subject = format!("member {:?}", member.name);
        if member.name.parse::<NodeName>().is_err() || member.name.len() > 63 {
            let fix = "use lower-case letters, digits, '-' and '.', at most 63 characters";
            return Err(invalid(subject, "is not a host name", fix));
        }
        let pods: &[String] = match &member.role {
            Role::Node(node) => &node.pods,
            Role::Router | Role::Outside => &[],
        };
        for name in std::iter::once(&member.name).chain(pods) {
            if !seen.insert(name) {
                let problem = format!("the name {name} is taken");
                return Err(invalid(subject, problem, "give each member its own name"));
            }
        }
    }
    Ok(())
}

/// Hands out addresses and port names.
struct Assign<'a> {
    topology: &'a Topology,
    taken: BTreeMap<&'a str, BTreeSet<u64>>,
    ports: BTreeSet<String>,
}

impl<'a> Assign<'a> {
    fn new(topology: &'a Topology) -> Assign<'a> {
        let ports = topology.segments.iter().map(|segment| segment.name.clone()).collect();
        Assign { topology, taken: BTreeMap::new(), ports }
    }

    fn router(&mut self, name: &str, segments: &[String]) -> Result<Member, TopologyError> {
        if segments.is_empty() {
            return Err(invalid(format!("router {name}"), "has no segments", "name at least one"));
        }
        let interfaces = segments
            .iter()
            .enumerate()
            .map(|(number, segment)| self.interface(name, number, segment, None, 1))
            .collect::<Result<_, _>>()?;
        Ok(Member { name: name.to_owned(), role: Role::Router, interfaces, routes: Vec::new() })
    }

    fn member(
        &mut self,
        name: &str,
        role: Role,
        segment: &str,
        mtu: Option<u32>,
        first: u64,
    ) -> Result<Member, TopologyError> {
        let interface = self.interface(name, 0, segment, mtu, first)?;
        Ok(Member { name: name.to_owned(), role, interfaces: vec![interface], routes: Vec::new() })
    }

    fn interface(
        &mut self,
        member: &str,
        number: usize,
        segment: &str,
        mtu: Option<u32>,
        first: u64,
    ) -> Result<Interface, TopologyError> {
        let Some(segment) = self.topology.segments.iter().find(|known| known.name == segment) else {
            let known: Vec<&str> = self.topology.segments.iter().map(|known| known.name.as_str()).collect();
            let fix = format!("use one of {}", known.join(", "));
            return Err(invalid(member, format!("segment {segment:?} is not there"), fix));
        };
        let mtu = mtu.unwrap_or(segment.mtu);
        let has_v6 = segment.cidrs.iter().any(|cidr| cidr.family() == Family::V6);
        check_mtu(&format!("{member}: mtu"), mtu, has_v6)?;
        if mtu > segment.mtu {
            let problem = format!("{mtu} is more than the {} of segment {}", segment.mtu, segment.name);
            return Err(invalid(format!("{member}: mtu"), problem, "use the segment's or less"));
        }
        Ok(Interface {
            name: format!("eth{number}"),
            segment: segment.name.clone(),
            port: self.port(member, &segment.name),
            mtu,
            addresses: self.addresses(member, segment, first)?,
        })
    }

    fn addresses(
        &mut self,
        member: &str,
        segment: &'a Segment,
        first: u64,
    ) -> Result<Vec<(IpAddr, u8)>, TopologyError> {
        let taken = self.taken.entry(&segment.name).or_default();
        let number = (first..).find(|number| !taken.contains(number)).unwrap_or(first);
        taken.insert(number);
        let mut cidrs = segment.cidrs.clone();
        cidrs.sort();
        let address = |cidr: &Cidr| {
            let address = offset(cidr.address(), u128::from(number));
            let usable = |address: &IpAddr| cidr.contains(*address) && *address != cidr.last_address();
            address.filter(usable).map(|address| (address, cidr.prefix_len())).ok_or_else(|| {
                let problem = format!("{cidr} has no room for {member}");
                invalid(format!("segment {}", segment.name), problem, "use a wider CIDR or fewer members")
            })
        };
        cidrs.iter().map(address).collect()
    }

    /// A bridge port called after its member, as far as 15 characters allow.
    fn port(&mut self, member: &str, segment: &str) -> String {
        let readable = [member.to_owned(), format!("{member}.{segment}")];
        let numbered = (1_u32..).map(|number| format!("port{number}"));
        let free = |name: &String| name.parse::<LinkName>().is_ok() && !self.ports.contains(name);
        let name = readable.into_iter().chain(numbered).find(free).unwrap_or_default();
        self.ports.insert(name.clone());
        name
    }
}

fn static_routes(
    topology: &Topology,
    members: &[Member],
    member: &Member,
) -> Result<Vec<StaticRoute>, TopologyError> {
    if member.role == Role::Router {
        return Ok(router_routes(topology, members, member));
    }
    let segment = &member.interfaces[0].segment;
    let host = topology.outside.iter().find(|host| host.name == member.name);
    if let Some(host) = host.filter(|host| !host.routes.is_empty()) {
        return host.routes.iter().map(|route| host_route(members, segment, &host.name, route)).collect();
    }
    let gateway = first_router(topology, segment).and_then(|number| members.get(number));
    let addresses = gateway.and_then(|router| on_segment(router, segment)).map(|link| link.addresses.clone());
    Ok((addresses.unwrap_or_default().iter())
        .map(|(via, _)| StaticRoute { to: default_of(*via), via: *via })
        .collect())
}

fn host_route(
    members: &[Member],
    segment: &str,
    host: &str,
    route: &crate::topology::HostRoute,
) -> Result<StaticRoute, TopologyError> {
    let via = members.iter().find(|member| member.name == route.via);
    let link = via.and_then(|member| on_segment(member, segment));
    match link.and_then(|link| link.address(route.to.family())) {
        Some(via) => Ok(StaticRoute { to: route.to, via }),
        None => {
            let problem = format!("via {:?} has no address of {}'s family on {segment}", route.via, route.to);
            Err(invalid(format!("{host}: routes"), problem, "name a router or node on the same segment"))
        }
    }
}

fn default_of(address: IpAddr) -> Cidr {
    Cidr::containing(address, 0).unwrap_or(Cidr::host(address))
}

fn on_segment<'a>(member: &'a Member, segment: &str) -> Option<&'a Interface> {
    member.interfaces.iter().find(|link| link.segment == segment)
}

/// Routes to the segments that a router is not on, and to the pod CIDRs if it knows them.
fn router_routes(topology: &Topology, members: &[Member], router: &Member) -> Vec<StaticRoute> {
    let Some(number) = topology.routers.iter().position(|known| known.name == router.name) else {
        return Vec::new();
    };
    let mut routes = Vec::new();
    // Routers come first among the members, in the topology's order.
    let via = |path: &Path, family: Family| {
        let (segment, next) = path.steps.first()?;
        on_segment(&members[(*next)?], segment)?.address(family)
    };
    for segment in &topology.segments {
        if on_segment(router, &segment.name).is_some() {
            continue;
        }
        if let Some(path) = Path::from_router(topology, number, &segment.name) {
            for to in &segment.cidrs {
                routes.extend(via(&path, to.family()).map(|via| StaticRoute { to: *to, via }));
            }
        }
    }
    if topology.routers[number].knows_pod_cidrs {
        for member in members {
            let Role::Node(role) = &member.role else { continue };
            let uplink = &member.interfaces[0];
            let path = Path::from_router(topology, number, &uplink.segment).unwrap_or_default();
            for to in &role.pod_cidrs {
                let next = match on_segment(router, &uplink.segment) {
                    Some(_) => uplink.address(to.family()),
                    None => via(&path, to.family()),
                };
                routes.extend(next.map(|via| StaticRoute { to: *to, via }));
            }
        }
    }
    routes
}
