//! The pod's link: making it, configuring its end in the pod, taking it away. Shared by the plugins that attach pods.

pub mod discard;
mod garbage;
mod link;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

pub use garbage::collect_garbage;
use hopwise_core::name::{IfIndex, LinkName, MacAddr, Mtu};
use hopwise_kernel::netns::{Namespace, NamespaceError};
use hopwise_kernel::rtnl::{LinkInfo, Rtnl, VethSpec};
pub use link::{PodEnd, PodLink};

use crate::ipam::Ipam;
use crate::ipam::host_local::is_namespace;
use crate::json::{FieldError, Object};
use crate::masquerade::Masquerade;
use crate::nft;
use crate::plugin::Invocation;
use crate::reference::Leftovers;
use crate::spec::{AddResult, CniError, Code, InterfaceAddress, Request};

/// The most queues that a veth link can have (`drivers/net/veth.c`).
const MAX_QUEUES: u32 = 4096;

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
    if !request.netns_override && is_own(&namespace) {
        let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(CniError::new(Code::InvalidNamespace, msg));
    }
    Ok(namespace)
}

fn is_own(namespace: &Namespace) -> bool {
    home().is_ok_and(|home| home.identity().ok() == namespace.identity().ok())
}

/// The namespace of the calling thread, by way of a socket: a process that lives this short should not look into /proc.
fn home() -> Result<Namespace, NamespaceError> {
    let here = UnixDatagram::unbound().and_then(|socket| Namespace::of_socket(socket.as_fd()));
    here.or_else(|_| Namespace::current())
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
    let home = home().map_err(barred)?;
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

/// The index of a link that must be there.
///
/// # Errors
///
/// When it isn't.
pub fn index(rtnl: &Rtnl, name: LinkName) -> Result<IfIndex, CniError> {
    let what = || format!("failed to lookup {:?}", name.as_str());
    let found = rtnl.index_by_name(name).map_err(|error| CniError::caused(what(), &error))?;
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

/// `queues` of a configuration: how many queues the pod's link has for each direction. One unless told otherwise, as only XDP
/// and GRO on the link itself make use of more; `None` for the kernel's choice, which is what 0 asks for.
///
/// # Errors
///
/// When it is no number, or more than the kernel makes.
pub fn queues(root: &Object<'_>) -> Result<Option<u32>, FieldError> {
    match root.number::<u32>("queues")? {
        None => Ok(Some(1)),
        Some(0) => Ok(None),
        Some(asked @ 1..=MAX_QUEUES) => Ok(Some(asked)),
        Some(_) => Err(FieldError {
            field: root.field("queues"),
            problem: format!(
                "more than a veth link can have; give 1 to {MAX_QUEUES}, or 0 for the kernel's choice"
            ),
        }),
    }
}

/// How the pod's link is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct PairSpec {
    /// The bridge for the host's end.
    pub master: Option<IfIndex>,
    /// The MTU of both ends in bytes.
    pub mtu: Option<u32>,
    /// Queues of each end for each direction; `None` for the kernel's choice.
    pub queues: Option<u32>,
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
        veth.queues = spec.queues;
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
pub fn masquerade(
    masquerade: &mut Masquerade<'_>,
    request: &Request,
    result: &AddResult,
) -> Result<(), CniError> {
    let addresses: Vec<InterfaceAddress> = result.ips.iter().map(|ip| ip.address).collect();
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
        errors.extend(nft::release(ended.and_then(|table| table.remove(request, &addresses))).err());
        let opened = Leftovers::of(&config.name, &request.container_id, &request.ifname);
        let opened = leftovers.insert(opened).as_mut().map_err(|error| error.clone());
        errors.extend(nft::release(opened.and_then(|leftovers| leftovers.release_masquerade())).err());
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
