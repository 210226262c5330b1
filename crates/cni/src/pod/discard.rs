//! `deferDeletion`: a DEL that does not wait for the kernel to delete a link.
//!
//! The kernel keeps whoever deletes a link waiting for 12 to 16 ms. With `deferDeletion` a DEL takes the pod's link out of use
//! instead, which takes a fraction of a millisecond: the host's end is down, a port of nothing, and in the group of links to be
//! deleted; the pod's end is down and has another name, so that an ADD for the same pod finds its name free. The addresses
//! can be given to others then: nothing answers for them any more.
//!
//! What has gathered is deleted by a child of the DEL that found none at work: it waits half a second for more to come, deletes
//! until nothing is left, and ends. Nobody waits for it, and there is one at a time for each network namespace. No link is
//! left behind: a DEL discards before it looks for a child at work, and a child looks once more after it has made way for the
//! next. Only a child that is killed leaves links, until the next DEL, GC, or the agent's next look; and a pod's namespace
//! that ends takes its link along in any case.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{LinkInfo, Requests, Rtnl};

use crate::config::NetworkConfig;
use crate::json::FieldError;
use crate::spec::CniError;

/// How long a child waits for more links to come.
const GATHERING: Duration = Duration::from_millis(500);
/// The abstract socket that a child holds as long as it is at work. Such names belong to the network namespace, as links
/// do, leave no file behind, and are free again when the process ends, however it ends.
const AT_WORK: &[u8] = b"hopwise-cni-reaper";

/// Takes a pod's link out of use; none is no error. Returns false when that can't be done with this link, which then has to be
/// deleted: its other end is not here.
///
/// # Errors
///
/// When the kernel refuses.
pub fn discard(inside: &mut Rtnl, netns: &Namespace, name: LinkName) -> Result<bool, CniError> {
    let failed = |error| CniError::caused(format!("failed to take {name} out of use"), &error);
    let Some(pod) = inside.link_by_name(name).map_err(failed)? else { return Ok(true) };
    let mut host = super::open_host()?;
    let Some(end) = other_end(&mut host, netns, &pod).map_err(failed)? else { return Ok(false) };
    // The host's end first: a DEL that is killed between the two is repeated, and finds the pod's end by its name. Somebody
    // may delete the link as soon as it is in the group; then there is nothing left to rename.
    let mut requests = Requests::new();
    gone_or(host.execute_all(requests.discard(end.index))).map_err(failed)?;
    let mut requests = Requests::new();
    requests.set_down(pod.index).rename(pod.index, end.name);
    gone_or(inside.execute_all(&mut requests)).map_err(failed)?;
    Ok(true)
}

/// Takes a link of the host out of use, and frees its name; none is no error.
///
/// # Errors
///
/// When the kernel refuses.
pub fn discard_here(host: &mut Rtnl, name: LinkName) -> Result<(), CniError> {
    let failed = |error| CniError::caused(format!("failed to take {name} out of use"), &error);
    let Some(link) = host.link_by_name(name).map_err(failed)? else { return Ok(()) };
    let mut requests = Requests::new();
    requests.discard(link.index).rename(link.index, super::random_veth_name()?);
    gone_or(host.execute_all(&mut requests)).map_err(failed)
}

/// Refuses a `deferDeletion` that is neither true nor false, which [`is_asked`] takes for the latter.
///
/// # Errors
///
/// When it is.
pub fn check_key(config: &NetworkConfig) -> Result<(), FieldError> {
    config.root().bool("deferDeletion").map(drop)
}

/// Whether DEL is not to wait for the deletion of links: `deferDeletion`. DEL goes on with a configuration that is wrong.
pub fn is_asked(config: &NetworkConfig) -> bool {
    config.root().bool("deferDeletion").unwrap_or(false)
}

fn gone_or(verdict: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    verdict.or_else(|error| if error.errno() == libc::ENODEV { Ok(()) } else { Err(error) })
}

fn other_end(host: &mut Rtnl, netns: &Namespace, pod: &LinkInfo) -> Result<Option<LinkInfo>, NetlinkError> {
    match pod.peer {
        Some(peer) if pod.kind == "veth" => host.other_end(peer, netns.as_fd(), pod.index),
        _ => Ok(None),
    }
}

/// Has what was discarded deleted, by a child that nobody waits for; by this process if there can't be one. Only for a process
/// with one thread.
///
/// # Errors
///
/// When this process had to delete, and the kernel refused.
pub fn start_reaper() -> Result<(), CniError> {
    let Ok(at_work) = take_turn() else { return Ok(()) };
    // SAFETY: this process has one thread, so the child's memory is whole.
    match unsafe { libc::fork() } {
        -1 => reap(),
        0 => {
            leave_parent();
            work(at_work);
            // SAFETY: ends the child without running what the parent will run.
            unsafe { libc::_exit(0) }
        }
        _ => Ok(()),
    }
}

/// Deletes what was discarded.
///
/// # Errors
///
/// When the kernel refuses.
pub fn reap() -> Result<(), CniError> {
    let reaped = super::open_host()?.reap();
    reaped.map(drop).map_err(|error| CniError::caused("can't delete links that are out of use", &error))
}

/// Binds the socket that says that somebody is at work here; fails when somebody is.
fn take_turn() -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor, or fails.
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeros is a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // An abstract name starts with a zero byte.
    for (place, byte) in address.sun_path[1..].iter_mut().zip(AT_WORK) {
        *place = *byte as libc::c_char;
    }
    let len = size_of::<libc::sa_family_t>() + 1 + AT_WORK.len();
    // SAFETY: the pointer and length describe part of `address`.
    let bound =
        unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len as libc::socklen_t) };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Makes the child independent: the runtime reads the plugin's standard output to its end, and may signal its group.
fn leave_parent() {
    // SAFETY: plain system calls on descriptors that are open.
    unsafe { libc::setsid() };
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for standard in 0..=2 {
            // SAFETY: as above.
            unsafe { libc::dup2(null.as_raw_fd(), standard) };
        }
    }
}

/// The child's life.
fn work(at_work: OwnedFd) {
    let Ok(mut host) = Rtnl::open() else { return };
    loop {
        std::thread::sleep(GATHERING);
        match host.reap() {
            Ok(0) => break,
            Ok(_) => {}
            // Somebody else's turn to try.
            Err(_) => return,
        }
    }
    drop(at_work);
    // What was discarded while the socket still said that somebody is at work.
    let _ = host.reap();
}
