//! The `ptp` plugin: a veth pair and a host route per pod, no bridge.
//!
//! Two shapes:
//!
//! - That of the reference, when called as `ptp`: the pod has its subnet's prefix length, and the gateway's address, which
//!   IPAM names, is on the host's end of every pod.
//! - Link-local (`linkLocalGateway`, the default of `type: hopwise`): the pod has a /32 or /128, its next hops are
//!   169.254.1.1 and fe80::1, and no address of the range is spent on a gateway. Nobody holds those two: the pod has a
//!   permanent neighbour for them, the host's end. So there is no ARP for the gateway, no proxy ARP that would need a
//!   default route on the host, and no address on the host's end that could become the source of the host's packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, Requests, RouteSpec, Rtnl};

use crate::agent;
use crate::check;
use crate::config::NetworkConfig;
use crate::ipam::Ipam;
use crate::ipam::host_local::Gateways;
use crate::masquerade::{self, Masquerade};
use crate::plugin::{Invocation, Plugin, WHOLE};
use crate::pod::{self, PairMacs, PairSpec, PodEnd, PodLink};
use crate::spec::{AddResult, CniError, Dns, Interface, InterfaceAddress, Request, Route};
use crate::sysctl;

/// The next hops of the link-local shape.
const LINK_LOCAL: Gateways = Gateways(PerFamily {
    v4: Some(IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1))),
    v6: Some(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
});

/// The pod's link is the second of the result's interfaces: host end, pod end.
const POD_INTERFACE: usize = 1;

/// The `ptp` plugin.
pub struct Ptp;

/// What the plugin is to do.
struct PtpConfig {
    mtu: Option<u32>,
    queues: Option<u32>,
    dns: Option<Dns>,
    link_local: bool,
    ip_masq: bool,
}

impl PtpConfig {
    fn load(config: &NetworkConfig) -> Result<PtpConfig, CniError> {
        let root = config.root();
        pod::discard::check_key(config)?;
        let link_local = match root.get("linkLocalGateway") {
            Some(_) => root.bool("linkLocalGateway")?,
            None => WHOLE.contains(&config.plugin.as_str()),
        };
        Ok(PtpConfig {
            mtu: pod::mtu(&root)?,
            queues: pod::queues(&root)?,
            dns: config.dns()?,
            link_local,
            ip_masq: masquerade::is_asked(config)?,
        })
    }

    fn ipam<'a>(&self, config: &'a NetworkConfig, request: &Request) -> Result<Ipam<'a>, CniError> {
        let gateways = if self.link_local { LINK_LOCAL } else { Gateways::default() };
        let ipam = Ipam::load_with(config, request, &gateways)?;
        if ipam.is_some() {
            return Ok(ipam);
        }
        Err(CniError::failed(
            "ipam.type: missing; ptp routes addresses, so it needs an IPAM plugin (host-local)",
        ))
    }
}

impl Plugin for Ptp {
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        let Invocation { request, config } = invocation;
        let ptp = PtpConfig::load(config)?;
        let ipam = ptp.ipam(config, request)?;
        let netns = pod::open_namespace(request)?;
        let mut host = pod::open_host()?;
        // Opened before anything is changed: the kernel may have no nf_tables.
        let masquerade = ptp.ip_masq.then(|| Masquerade::open(&config.name)).transpose()?;
        let mut result = ipam.add(request)?;
        attach(request, &ptp, &netns, &mut host, masquerade, &mut result).inspect_err(|_| {
            let _ = ipam.del(request);
        })?;
        if let Some(dns) = ptp.dns {
            result.dns = dns;
        }
        Ok(result)
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        pod::detach(invocation)
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        let Invocation { request, config } = invocation;
        let netns = pod::open_namespace(request)?;
        let ptp = PtpConfig::load(config)?;
        ptp.ipam(config, request)?.check(request)?;
        let result = check::prev_result(invocation)?;
        let pod_end = check::pod_interface(invocation, &result)?;
        let pod_link = check::pod(&netns, pod_end, &result)?;
        if ptp.ip_masq {
            pod::check_masquerade(invocation, &result)?;
        }
        let mut host = pod::open_host()?;
        for expected in result.interfaces.iter().filter(|link| link.sandbox.is_empty()) {
            if Some(check::link(&mut host, expected)?.index) == pod_link.peer {
                return Ok(());
            }
        }
        let msg = format!("the host's end of {} in prevResult was not found", request.ifname);
        Err(CniError::failed(msg))
    }

    fn status(&self, invocation: &Invocation) -> Result<(), CniError> {
        let Invocation { request, config } = invocation;
        let ptp = PtpConfig::load(config)?;
        agent::status(config)?;
        ptp.ipam(config, request)?.status(request)
    }

    fn gc(&self, invocation: &Invocation) -> Result<(), CniError> {
        pod::collect_garbage(invocation)
    }
}

fn attach(
    request: &Request,
    ptp: &PtpConfig,
    netns: &Namespace,
    host: &mut Rtnl,
    mut masquerade: Option<Masquerade<'_>>,
    result: &mut AddResult,
) -> Result<(), CniError> {
    // The network that a pod's packets may leave without masquerade is that of its range, whatever the pod is told.
    let masqueraded = result.clone();
    for ip in &mut result.ips {
        ip.interface = Some(POD_INTERFACE);
        let gateway = ip.gateway.ok_or_else(|| {
            CniError::failed(format!("IPAM gave no gateway for {}; ptp needs one", ip.address))
        })?;
        if ptp.link_local {
            ip.address.prefix_len = Family::of(ip.address.address).bits();
            let default = default_of(Family::of(gateway));
            if !result.routes.iter().any(|route| route.dst == default) {
                result.routes.push(Route::new(default, Some(gateway)));
            }
        }
        let forwarding = match Family::of(gateway) {
            Family::V4 => "ipv4/ip_forward",
            Family::V6 => "ipv6/conf/all/forwarding",
        };
        sysctl::ensure(forwarding, "1").map_err(|error| error.context("Could not enable IP forwarding"))?;
    }
    let mut end = PodEnd::from_result(result, false)?;
    let spec = PairSpec { mtu: ptp.mtu, queues: ptp.queues, ..PairSpec::default() };
    let (name, macs) = pod::make_pair(host, netns, &request.ifname, &spec)?;
    connect(&mut end, ptp, result, macs);
    let made = host_end(host, name, ptp, result)
        .and_then(|()| pod::inside(netns, || PodLink::open(&request.ifname)?.configure(&end)))
        .and_then(|()| match &mut masquerade {
            Some(table) => pod::masquerade(table, request, &masqueraded),
            None => Ok(()),
        });
    made.inspect_err(|_| {
        let _ = host.delete_link(name);
    })?;
    result.interfaces = vec![
        Interface { name: name.to_string(), mac: macs.host.to_string(), ..Interface::default() },
        Interface {
            name: request.ifname.clone(),
            mac: macs.pod.to_string(),
            sandbox: request.netns.clone(),
            ..Interface::default()
        },
    ];
    Ok(())
}

fn default_of(family: Family) -> InterfaceAddress {
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    InterfaceAddress { address, prefix_len: 0 }
}

/// Puts the routes that make the gateway reachable before all others; the prefix itself is not on the link.
fn connect(end: &mut PodEnd, ptp: &PtpConfig, result: &AddResult, macs: PairMacs) {
    let mut connected = Vec::new();
    for (ip, address) in result.ips.iter().zip(&mut end.addresses) {
        let Some(gateway) = ip.gateway else { continue };
        address.no_prefix_route = true;
        let mut to_gateway = RouteSpec::new(Cidr::host(gateway));
        to_gateway.scope = Some(libc::RT_SCOPE_LINK);
        if ptp.link_local {
            // fe80::1 is in fe80::/64, which every link has.
            if gateway.is_ipv4() {
                connected.push(to_gateway);
            }
            end.neighbours.push((gateway, macs.host));
            continue;
        }
        to_gateway.source = Some(ip.address.address);
        connected.push(to_gateway);
        if let Some(subnet) = Cidr::containing(ip.address.address, ip.address.prefix_len) {
            let mut to_subnet = RouteSpec::new(subnet).via(gateway);
            to_subnet.source = Some(ip.address.address);
            connected.push(to_subnet);
        }
    }
    connected.append(&mut end.routes);
    end.routes = connected;
}

/// Configures the host's end: routes to the pod, and in the reference's shape the gateways' addresses.
fn host_end(host: &mut Rtnl, name: LinkName, ptp: &PtpConfig, result: &AddResult) -> Result<(), CniError> {
    // We want to own the routes of this link. Its link-local address, which neighbour discovery asks from, can be used
    // at once: there are only two on this link.
    sysctl::try_write(&format!("ipv6/conf/{name}/accept_ra"), "0");
    sysctl::try_write(&format!("ipv6/conf/{name}/accept_dad"), "0");
    let index = pod::index(host, name)?;
    let mut requests = Requests::new();
    for ip in &result.ips {
        if let Some(gateway) = ip.gateway.filter(|_| !ptp.link_local) {
            requests.add_address(index, &AddressSpec::new(gateway, Family::of(gateway).bits()));
        }
        let mut to_pod = RouteSpec::new(Cidr::host(ip.address.address)).dev(index);
        to_pod.scope = Some(if ptp.link_local { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_HOST });
        requests.add_route(&to_pod);
    }
    let failed = |error: &dyn std::error::Error| {
        let addresses: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        CniError::caused(format!("failed to add route on host for {}", addresses.join(" ")), error)
    };
    for verdict in host.execute(&mut requests).map_err(|error| failed(&error))? {
        match verdict {
            // Two addresses of one subnet share their gateway.
            Err(error) if error.errno() == libc::EEXIST => {}
            Err(error) => return Err(failed(&error)),
            Ok(()) => {}
        }
    }
    Ok(())
}
