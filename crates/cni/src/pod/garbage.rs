//! GC of what plugins that attach pods share.

use std::path::Path;

use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::netns::Namespace;

use super::is_own;
use crate::ipam::Ipam;
use crate::ipam::host_local::{Entry, is_namespace};
use crate::masquerade::Masquerade;
use crate::nft;
use crate::plugin::Invocation;
use crate::spec::CniError;

/// Gives back what belongs to no valid attachment: addresses, and links whose namespace is still there,
/// masquerading, and links that an earlier DEL took out of use.
///
/// # Errors
///
/// When something could not be given back; all else is.
pub fn collect_garbage(invocation: &Invocation) -> Result<(), CniError> {
    let Invocation { request, config } = invocation;
    let valid = config.valid_attachments()?.into_iter().collect();
    let mut errors = Vec::new();
    if config.root().bool("ipMasq")? {
        let ended = Masquerade::open(&config.name).and_then(|mut table| table.retain(&valid));
        errors.extend(nft::release(ended).err());
    }
    let leftovers = Ipam::load(config, request)?.gc(request, &valid)?;
    for leftover in leftovers {
        errors.extend(delete_leftover(&leftover).err());
    }
    errors.extend(super::discard::reap().err());
    CniError::collect(errors)
}

/// Deletes the link of what gives its address back, if it still has the address: its namespace's path may be another pod's
/// by now. Or if it is down and has none: an ADD that was killed got no further.
pub(super) fn delete_leftover(leftover: &Entry) -> Result<(), CniError> {
    let path = Path::new(&leftover.netns);
    if leftover.netns.is_empty() || !is_namespace(path) {
        return Ok(());
    }
    let what = || format!("failed to delete {:?} in {}", leftover.ifname, leftover.netns);
    let failed = |error: NetlinkError| CniError::caused(what(), &error);
    let Ok(namespace) = Namespace::open(path) else { return Ok(()) };
    if is_own(&namespace) {
        return Ok(());
    }
    let Ok(name) = leftover.ifname.parse::<LinkName>() else { return Ok(()) };
    let mut inside = super::open_in(&namespace)?;
    let Some(link) = inside.link_by_name(name).map_err(failed)? else { return Ok(()) };
    let addresses = inside.addresses(link.index).map_err(failed)?;
    let half_made = !link.up && addresses.is_empty();
    let of_leftover = half_made || addresses.iter().any(|held| held.address == leftover.address);
    if link.kind != "veth" || !of_leftover {
        return Ok(());
    }
    match inside.delete_link(link.index) {
        Err(error) if error.errno() != libc::ENODEV => Err(failed(error)),
        _ => Ok(()),
    }
}
