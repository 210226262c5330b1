//! The pod's link: making it, configuring its end in the pod, taking it away. Shared by the plugins that attach pods.

pub mod discard;
mod garbage;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub use garbage::collect_garbage;
use hopwise_core::cidr::Cidr;
use hopwise_core::name::{IfIndex, LinkName, MacAddr, Mtu};
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, LinkInfo, Requests, RouteSpec, Rtnl, VethSpec};

use crate::ipam::Ipam;
use crate::ipam::host_local::is_namespace;
use crate::json::{FieldError, Object};
use crate::masquerade::Masquerade;
use crate::plugin::Invocation;
use crate::reference::Leftovers;
use crate::spec::{AddResult, CniError, Code, InterfaceAddress, IpConfig, Request, Route};
use crate::sysctl;

/// `linux/if_addr.h`.
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
/// How long addresses may take to settle where duplicate address detection is asked for.
const SETTLE: Duration = Duration::from_secs(5);

/// Opens `CNI_NETNS`.
///
/// # Errors
///
/// When it isn't there or is no network namespace; [`Code::InvalidNamespace`] when it is the plugin's own, which the
/// reference notices only after it has printed a result.
pub fn open_namespace(request: &Request) -> Result<Namespace, CniError> {
    let path = Path::new(&request.netns);
    let what = || format!("failed to open netns {:?}", request.netns);
    let namespace = Namespace::open(path).map_err(|error| CniError::caused(what(), &error))?;
    if !is_namespace(path) {
        return Err(CniError::failed(format!("{}: not a network namespace", what())));
    }
    if !request.netns_override && is_own(path) {
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(CniError::new(Code::InvalidNamespace, msg));
    }
    Ok(namespace)
}

fn is_own(path: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(path) == identity(Path::new("/proc/thread-self/ns/net"))
}

/// Opens a socket into the thread's namespace, which is the host's but for [`inside`].
///
/// # Errors
///
/// When there is no netlink.
pub fn open_host() -> Result<Rtnl, CniError> {
    Rtnl::open().map_err(|error| CniError::caused("can't open a netlink socket", &error))
}

/// Runs a function in another network namespace, on the calling thread.
///
/// Not on a thread of its own, as the agent does it: this process has one thread and one job, and on a busy machine a new
/// thread waits 1.5 to 8 ms for its turn, more than all of an ADD; there and back are 8 us.
///
/// # Errors
///
/// What the function says; or when the way there, or back, is barred. Nothing may use the thread's namespace after an
/// error of this kind; sockets that were opened before stay where they are.
pub fn inside<T>(netns: &Namespace, body: impl FnOnce() -> Result<T, CniError>) -> Result<T, CniError> {
    let barred = |error| CniError::caused("can't enter the pod's namespace", &error);
    let home = Namespace::current().map_err(barred)?;
    netns.enter().map_err(barred)?;
    let result = body();
    home.enter().map_err(|error| CniError::caused("can't leave the pod's namespace", &error))?;
    result
}

/// Opens a socket into another network namespace.
///
/// # Errors
///
/// When the namespace can't be entered, or there is no netlink.
pub fn open_in(netns: &Namespace) -> Result<Rtnl, CniError> {
    inside(netns, open_host)
}

/// A link that must be there.
///
/// # Errors
///
/// When it isn't.
pub fn link(rtnl: &mut Rtnl, name: LinkName) -> Result<LinkInfo, CniError> {
    let what = || format!("failed to lookup {:?}", name.as_str());
    let found = rtnl.link_by_name(name).map_err(|error| CniError::caused(what(), &error))?;
    found.ok_or_else(|| CniError::failed(format!("{}: no such link", what())))
}

fn random<const N: usize>() -> Result<[u8; N], CniError> {
    let mut bytes = [0; N];
    // SAFETY: the pointer and length describe `bytes`.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if usize::try_from(got) == Ok(N) { Ok(bytes) } else { Err(CniError::failed("can't get random numbers")) }
}

/// A random MAC address, unicast and locally administered.
///
/// # Errors
///
/// When there is no randomness.
pub fn random_mac() -> Result<MacAddr, CniError> {
    let mut bytes: [u8; 6] = random()?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(MacAddr(bytes))
}

/// A random name for the host's end of a pair.
///
/// # Errors
///
/// When there is no randomness.
pub fn random_veth_name() -> Result<LinkName, CniError> {
    let name = format!("veth{:08x}", u32::from_ne_bytes(random()?));
    name.parse().map_err(|error| CniError::caused("veth name", &error))
}

/// `mtu` of a configuration in bytes; `None` for the kernel's choice, which is what 0 and less ask for, as in the reference.
///
/// # Errors
///
/// When it is no number, or one that no link has.
pub fn mtu(root: &Object<'_>) -> Result<Option<u32>, FieldError> {
    let Some(asked) = root.number::<i64>("mtu")?.filter(|mtu| *mtu > 0) else { return Ok(None) };
    let fits = u32::try_from(asked).ok().and_then(|mtu| Mtu::new(mtu).ok());
    fits.map(|mtu| Some(mtu.bytes())).ok_or_else(|| FieldError {
        field: root.field("mtu"),
        problem: format!("no pod's link can have {asked}; give 68 to 65535, or leave it out"),
    })
}

/// How the pod's link is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairSpec {
    /// The bridge for the host's end.
    pub master: Option<IfIndex>,
    /// The MTU of both ends in bytes.
    pub mtu: Option<u32>,
    /// The MAC address of the pod's end; random if not given.
    pub mac: Option<MacAddr>,
}

/// The MAC addresses of a pair.
#[derive(Clone, Copy, Debug)]
pub struct PairMacs {
    /// Of the host's end.
    pub host: MacAddr,
    /// Of the pod's end.
    pub pod: MacAddr,
}

/// Makes the veth pair: the host's end up under a random name, the pod's end down under `ifname`.
///
/// MAC addresses are given rather than left to the kernel: udev changes those that the kernel made up, at any time after
/// (`MACAddressPolicy=persistent`), and a result would then be a lie.
///
/// # Errors
///
/// When the name is taken in the pod, or the kernel refuses.
pub fn make_pair(
    host: &mut Rtnl,
    netns: &Namespace,
    ifname: &str,
    spec: &PairSpec,
) -> Result<(LinkName, PairMacs), CniError> {
    let peer: LinkName = ifname.parse().map_err(|error| CniError::caused("CNI_IFNAME", &error))?;
    let pod_mac = spec.mac.map_or_else(random_mac, Ok)?;
    loop {
        let name = random_veth_name()?;
        let macs = PairMacs { host: random_mac()?, pod: pod_mac };
        let mut veth = VethSpec::new(name, peer, Some(netns.as_fd()));
        veth.master = spec.master;
        (veth.mtu, veth.peer.mtu) = (spec.mtu, spec.mtu);
        (veth.mac, veth.peer.mac) = (Some(macs.host), Some(macs.pod));
        match host.add_veth(&veth) {
            Ok(()) => return Ok((name, macs)),
            Err(error) if error.errno() == libc::EEXIST => {
                let here = host.link_by_name(name).map_err(|error| CniError::caused(name, &error))?;
                if here.is_none() {
                    let msg =
                        format!("container veth name ({ifname:?}) already exists in {ifname}'s namespace");
                    return Err(CniError::failed(msg));
                }
            }
            Err(error) => return Err(CniError::caused("failed to make veth pair", &error)),
        }
    }
}

/// What the pod's end gets.
#[derive(Clone, Debug, Default)]
pub struct PodEnd {
    /// Its addresses.
    pub addresses: Vec<AddressSpec>,
    /// Its routes, in this order; the link is filled in.
    pub routes: Vec<RouteSpec>,
    /// Permanent neighbours.
    pub neighbours: Vec<(IpAddr, MacAddr)>,
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

/// Configures the pod's end and raises it: addresses before it is up, so that the kernel announces them (`arp_notify`),
/// routes after. All of it is one send.
///
/// # Errors
///
/// When the kernel refuses any of it; the message says which.
pub fn configure(netns: &Namespace, ifname: &str, end: &PodEnd) -> Result<(), CniError> {
    inside(netns, || {
        let failed =
            |error: NetlinkError| CniError::caused(format!("failed to configure {ifname:?}"), &error);
        let name: LinkName = ifname.parse().map_err(|error| CniError::caused("CNI_IFNAME", &error))?;
        let mut rtnl = Rtnl::open().map_err(failed)?;
        let index = link(&mut rtnl, name)?.index;
        write_sysctls(ifname, end)?;
        let (mut requests, names) = end.requests(index, ifname);
        for (verdict, what) in rtnl.execute(&mut requests).map_err(failed)?.into_iter().zip(names) {
            match verdict {
                // The same route twice: `isDefaultGateway` beside a default route without a gateway in `ipam.routes`.
                Err(error) if error.errno() == libc::EEXIST && what.is_route => {}
                Err(error) => return Err(CniError::caused(what.failure, &error)),
                Ok(()) => {}
            }
        }
        if end.addresses.iter().any(|address| address.address.is_ipv6() && !address.no_dad) {
            settle(&mut rtnl, index, ifname)?;
        }
        Ok(())
    })
}

/// Tells the network who has the pod's addresses now, so that no cache knows an earlier holder. To be called when frames
/// get through: the kernel announces by itself when a link is raised (`arp_notify`), but often before the bridge has
/// noticed that its port has a carrier, and is not heard then (17 of 60 times, Linux 6.18). Setting a MAC address, even to
/// the same one, makes it announce again (and `ndisc_notify` for IPv6). Not by a packet socket: closing one waits for the
/// kernel, longer than all of an ADD.
///
/// Best effort: without it caches find out by themselves, in up to a minute.
pub fn announce(netns: &Namespace, ifname: &str) {
    let announced = inside(netns, || {
        let failed = |error: NetlinkError| CniError::caused("can't announce addresses", &error);
        let mut rtnl = Rtnl::open().map_err(failed)?;
        let name: LinkName = ifname.parse().map_err(|error| CniError::caused("CNI_IFNAME", &error))?;
        let pod = link(&mut rtnl, name)?;
        pod.mac.map_or(Ok(()), |mac| rtnl.set_mac(pod.index, mac).map_err(failed))
    });
    if let Err(error) = announced {
        eprintln!("hopwise-cni: {error}");
    }
}

fn write_sysctls(ifname: &str, end: &PodEnd) -> Result<(), CniError> {
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

/// Waits until no address is tentative any more.
fn settle(rtnl: &mut Rtnl, index: IfIndex, ifname: &str) -> Result<(), CniError> {
    let started = Instant::now();
    loop {
        let addresses = rtnl.addresses(index).map_err(|error| {
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

/// Opens `CNI_NETNS` for a DEL; `None` when nothing is left of it.
///
/// # Errors
///
/// When it can't be opened; [`Code::InvalidNamespace`] when it is the plugin's own.
pub fn open_what_is_left(request: &Request) -> Result<Option<Namespace>, CniError> {
    let path = Path::new(&request.netns);
    if request.netns.is_empty() || !is_namespace(path) {
        return Ok(None);
    }
    match open_namespace(request) {
        Err(error) if error.code == Code::Internal && !is_namespace(path) => Ok(None),
        other => other.map(Some),
    }
}

/// Deletes the pod's link, or takes it out of use where deletion is deferred. No namespace, or no link in it, is no error:
/// there is nothing left to delete.
///
/// # Errors
///
/// When the kernel refuses; [`Code::InvalidNamespace`] when the namespace is the plugin's own.
fn delete_link(request: &Request, deferred: bool) -> Result<(), CniError> {
    let Some(namespace) = open_what_is_left(request)? else { return Ok(()) };
    let what = || format!("failed to delete {:?}", request.ifname);
    let name: LinkName = request.ifname.parse().map_err(|error| CniError::caused(what(), &error))?;
    let mut inside = open_in(&namespace)?;
    if deferred && discard::discard(&mut inside, &namespace, name)? {
        return Ok(());
    }
    match inside.delete_link(name) {
        Err(error) if error.errno() != libc::ENODEV => Err(CniError::caused(what(), &error)),
        _ => Ok(()),
    }
}

/// Masquerades an attachment's addresses; what could be done is undone when not all could.
///
/// # Errors
///
/// When the kernel refuses.
pub fn masquerade(invocation: &Invocation, result: &AddResult) -> Result<(), CniError> {
    let Invocation { request, config } = invocation;
    let addresses: Vec<InterfaceAddress> = result.ips.iter().map(|ip| ip.address).collect();
    let mut masquerade = Masquerade::open(&config.name)?;
    masquerade.add(request, &addresses).inspect_err(|_| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.address).collect();
        let _ = masquerade.remove(request, &addresses);
    })
}

/// Whether an attachment's addresses are masqueraded, by whichever plugin.
///
/// # Errors
///
/// When one is not.
pub fn check_masquerade(invocation: &Invocation, result: &AddResult) -> Result<(), CniError> {
    let Invocation { request, config } = invocation;
    let addresses: Vec<InterfaceAddress> = result.ips.iter().map(|ip| ip.address).collect();
    let checked = Masquerade::open(&config.name)?.check(request, &addresses);
    let theirs = || Leftovers::of(&config.name, &request.container_id, &request.ifname)?.has_masquerade();
    if checked.is_err() && theirs()? { Ok(()) } else { checked }
}

/// Takes an attachment apart: masquerading, the link, the addresses, in this order; nobody else can have the addresses
/// while they are still in use. What is masqueraded are IPAM's addresses and those of `prevResult`, so no namespace is
/// needed for it.
///
/// # Errors
///
/// When something could not be released; all else is.
pub fn detach(invocation: &Invocation) -> Result<(), CniError> {
    let Invocation { request, config } = invocation;
    let mut errors = Vec::new();
    let ipam = Ipam::load_for_release(config).map_err(|error| errors.push(error)).ok();
    // The sockets live on until the link is deleted: closing one waits for the kernel to free the elements, and so does
    // deleting a link, at the same time.
    let (mut masquerade, mut leftovers) = (None, None);
    let masquerades = config.root().bool("ipMasq").unwrap_or(false);
    let nameless = request.netns.is_empty();
    let asked = ipam.as_ref().filter(|_| masquerades || nameless);
    let held = asked.and_then(|ipam| ipam.held(request).ok()).unwrap_or_default();
    if masquerades {
        let mut addresses: Vec<IpAddr> = held.iter().map(|entry| entry.address).collect();
        let before = config.prev_result().ok().flatten().unwrap_or_default();
        addresses.extend(before.ips.iter().map(|ip| ip.address.address));
        let opened = masquerade.insert(Masquerade::open(&config.name));
        let ended = opened.as_mut().map_err(|error| error.clone());
        errors.extend(ended.and_then(|table| table.remove(request, &addresses)).err());
        let opened = Leftovers::of(&config.name, &request.container_id, &request.ifname);
        let opened = leftovers.insert(opened).as_mut().map_err(|error| error.clone());
        errors.extend(opened.and_then(|leftovers| leftovers.release_masquerade()).err());
    }
    let deferred = discard::is_asked(config);
    errors.extend(delete_link(request, deferred).err());
    if nameless {
        // A runtime that has forgotten where the pod is, which may still be there with its link and its addresses.
        errors.extend(held.iter().filter_map(|entry| garbage::delete_leftover(entry).err()));
    }
    drop((masquerade, leftovers));
    // Even if the link could not be deleted: addresses that are never released run out.
    errors.extend(ipam.and_then(|ipam| ipam.del(request).err()));
    if deferred {
        // Whether there was a link or not: a DEL that was killed may have left one, and this is its repetition.
        errors.extend(discard::start_reaper().err());
    }
    CniError::collect(errors)
}
