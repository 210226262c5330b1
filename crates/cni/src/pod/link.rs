//! The pod's end of its link: what it gets, and the giving, in one visit to the pod's namespace.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hopwise_core::cidr::Cidr;
use hopwise_core::name::{IfIndex, LinkName, MacAddr};
use hopwise_kernel::rtnl::{AddressSpec, Requests, RouteSpec, Rtnl};

use crate::spec::{AddResult, CniError, IpConfig, Route};
use crate::sysctl;

/// `linux/if_addr.h`.
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// How long addresses may take to settle where duplicate address detection is asked for.
const SETTLE: Duration = Duration::from_secs(5);

/// What the pod's end gets.
#[derive(Clone, Debug, Default)]
pub struct PodEnd {
    /// Its addresses.
    pub addresses: Vec<AddressSpec>,
    /// Its routes, in this order; the link is filled in.
    pub routes: Vec<RouteSpec>,
    /// Permanent neighbours.
    pub neighbours: Vec<(IpAddr, MacAddr)>,
    /// Whether it announces its addresses whenever it is raised (`arp_notify`, `ndisc_notify`).
    pub announces: bool,
    /// Sysctls that are good to have, relative to `/proc/sys/net/`.
    pub sysctls: Vec<(String, &'static str)>,
}

impl PodEnd {
    /// The addresses and routes of a result. With `dad`, duplicate address detection is waited for; without it
    /// addresses can be used at once.
    ///
    /// # Errors
    ///
    /// When a route's destination has host bits.
    pub fn from_result(result: &AddResult, dad: bool) -> Result<PodEnd, CniError> {
        let address = |ip: &IpConfig| AddressSpec {
            no_dad: !dad,
            ..AddressSpec::new(ip.address.address, ip.address.prefix_len)
        };
        let first_gateway = |is_ipv4: bool| {
            result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == is_ipv4)
        };
        let route = |route: &Route| {
            route_spec(route, route.gw.or_else(|| first_gateway(route.dst.address.is_ipv4())))
        };
        Ok(PodEnd {
            addresses: result.ips.iter().map(address).collect(),
            routes: result.routes.iter().map(route).collect::<Result<_, _>>()?,
            ..PodEnd::default()
        })
    }

    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|address| address.address.is_ipv6())
    }

    /// The requests, and for each what to say when it is refused.
    fn requests(&self, index: IfIndex, ifname: &str) -> (Requests, Vec<Asked>) {
        let mut requests = Requests::new();
        let mut names = Vec::new();
        let mut name = |failure: String, is_route| names.push(Asked { failure, is_route });
        for address in &self.addresses {
            requests.add_address(index, address);
            let text = format!("{}/{}", address.address, address.prefix_len);
            name(format!("failed to add IP addr {text} to {ifname:?}"), false);
        }
        if self.announces {
            requests.set_arp_notify(index);
            name(format!("failed to set arp_notify of {ifname:?}"), false);
        }
        requests.set_up(index);
        name(format!("failed to set {ifname:?} UP"), false);
        for (address, mac) in &self.neighbours {
            requests.add_neighbour(index, *address, *mac);
            name(format!("failed to add neighbour {address} to {ifname:?}"), false);
        }
        for route in &self.routes {
            requests.prepend_route(&route.dev(index));
            let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            name(format!("failed to add route '{}{via} dev {ifname}'", route.dst), true);
        }
        (requests, names)
    }
}

/// What a request is about, for the message when it is refused.
struct Asked {
    failure: String,
    is_route: bool,
}

/// The pod's end, seen from inside: to be used within [`super::inside`].
pub struct PodLink<'a> {
    ifname: &'a str,
    index: IfIndex,
    rtnl: Rtnl,
}

impl PodLink<'_> {
    /// Opens a socket into the pod's namespace, and looks the link up.
    ///
    /// # Errors
    ///
    /// When there is no netlink, or no such link.
    pub fn open(ifname: &str) -> Result<PodLink<'_>, CniError> {
        let rtnl = super::open_host()?;
        let name: LinkName = ifname.parse().map_err(|error| CniError::caused("CNI_IFNAME", &error))?;
        let index = super::index(&rtnl, name)?;
        Ok(PodLink { ifname, index, rtnl })
    }

    /// Configures the link and raises it: addresses before it is up, so that the kernel announces them (`arp_notify`),
    /// routes after. All of it is one send.
    ///
    /// # Errors
    ///
    /// When the kernel refuses any of it; the message says which.
    pub fn configure(&mut self, end: &PodEnd) -> Result<(), CniError> {
        let ifname = self.ifname;
        write_sysctls(ifname, end)?;
        let (mut requests, names) = end.requests(self.index, ifname);
        let verdicts = self
            .rtnl
            .execute(&mut requests)
            .map_err(|error| CniError::caused(format!("failed to configure {ifname:?}"), &error))?;
        for (verdict, what) in verdicts.into_iter().zip(names) {
            match verdict {
                // The same route twice: `isDefaultGateway` beside a default route without a gateway in `ipam.routes`.
                Err(error) if error.errno() == libc::EEXIST && what.is_route => {}
                Err(error) => return Err(CniError::caused(what.failure, &error)),
                Ok(()) => {}
            }
        }
        if end.addresses.iter().any(|address| address.address.is_ipv6() && !address.no_dad) {
            self.settle()?;
        }
        Ok(())
    }

    /// Tells the network who has the pod's addresses now, so that no cache knows an earlier holder. To be called when frames
    /// get through: the kernel announces by itself when a link is raised (`arp_notify`), but often before the bridge has
    /// noticed that its port has a carrier, and is not heard then (17 of 60 times, Linux 6.18). Setting a MAC address, even
    /// to the same one, makes it announce again (and `ndisc_notify` for IPv6). Not by a packet socket: closing one waits for
    /// the kernel, longer than all of an ADD.
    ///
    /// Best effort: without it caches find out by themselves, in up to a minute.
    pub fn announce(&mut self, mac: MacAddr) {
        if let Err(error) = self.rtnl.set_mac(self.index, mac) {
            let ifname = self.ifname;
            eprintln!("hopwise-cni: {}", CniError::caused(format!("can't announce {ifname:?}"), &error));
        }
    }

    /// Waits until no address is tentative any more.
    fn settle(&mut self) -> Result<(), CniError> {
        let ifname = self.ifname;
        let started = Instant::now();
        loop {
            let addresses = self.rtnl.addresses(self.index).map_err(|error| {
                CniError::caused(format!("failed to settle addresses for {ifname:?}"), &error)
            })?;
            if let Some(failed) = addresses.iter().find(|address| address.flags & IFA_F_DADFAILED != 0) {
                let msg = format!("link {ifname} has address {} in DADFAILED state", failed.address);
                return Err(CniError::failed(msg).details("another host has it"));
            }
            if addresses.iter().all(|address| address.flags & IFA_F_TENTATIVE == 0) {
                return Ok(());
            }
            if started.elapsed() > SETTLE {
                let msg =
                    format!("link {ifname} still has tentative addresses after {} seconds", SETTLE.as_secs());
                return Err(CniError::failed(msg));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn write_sysctls(ifname: &str, end: &PodEnd) -> Result<(), CniError> {
    if end.announces {
        sysctl::try_write(&format!("ipv6/conf/{ifname}/ndisc_notify"), "1");
    }
    for (key, value) in &end.sysctls {
        sysctl::try_write(key, value);
    }
    if end.has_ipv6() {
        for link in ["lo", ifname] {
            let key = format!("ipv6/conf/{link}/disable_ipv6");
            sysctl::ensure(&key, "0").map_err(|error| error.context("failed to enable IPv6"))?;
        }
        // So that addresses survive when the link is taken down.
        sysctl::ensure(&format!("ipv6/conf/{ifname}/keep_addr_on_down"), "1")?;
    }
    Ok(())
}

fn route_spec(route: &Route, gateway: Option<IpAddr>) -> Result<RouteSpec, CniError> {
    let dst: Cidr =
        route.dst.to_string().parse().map_err(|error| CniError::caused("a route's dst", &error))?;
    let mut spec = RouteSpec::new(dst);
    spec.gateway = gateway;
    spec.metric = route.priority.unwrap_or(0);
    spec.table = route.table.unwrap_or(spec.table);
    spec.scope = Some(route.scope.unwrap_or(libc::RT_SCOPE_UNIVERSE));
    (spec.mtu, spec.advmss) = (route.mtu, route.advmss);
    Ok(spec)
}
