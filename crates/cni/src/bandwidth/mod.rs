//! The `bandwidth` plugin: holds what a pod receives and sends to a rate. It comes after the plugin that made the pod's link,
//! whichever binary that was.
//!
//! What the pod receives is what the host's end of its link sends: a token bucket filter at that end's root. What the pod
//! sends can't be shaped where it arrives, so it is redirected to an `ifb` device and meets a filter there:
//!
//! ```text
//! qdisc tbf 1: dev vethX root rate INGRESS          pod receives
//! qdisc ingress ffff: dev vethX                     pod sends: u32 match all, mirred egress redirect to bwpX
//! qdisc tbf 1: dev bwpX root rate EGRESS
//! ```
//!
//! Names and numbers are the reference's, so either can CHECK and DEL what the other made.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use hopwise_core::mark::PLUGIN_ALIAS;
use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::rtnl::{LinkInfo, Requests, Rtnl, Tbf};

pub use config::{BandwidthConfig, Shape, ifb_name};

use crate::plugin::{Invocation, Plugin};
use crate::pod::{self, discard};
use crate::spec::{AddResult, CniError, Interface, SpecVersion};

/// The `bandwidth` plugin.
pub struct Bandwidth;

impl Plugin for Bandwidth {
    fn oldest(&self) -> SpecVersion {
        SpecVersion::V0_3_0
    }

    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        let bandwidth = BandwidthConfig::load(&invocation.config)?;
        let mut result = prev_result(invocation)?;
        if bandwidth.is_empty() {
            return Ok(result);
        }
        let mut host = pod::open_host()?;
        let link = host_end(&mut host, invocation, &result)?;
        let name = ifb_name(&invocation.config.name, &invocation.request.container_id);
        let made = shape(&mut host, invocation, &bandwidth, &link, name)?;
        result.interfaces.extend(made);
        Ok(result)
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        let name = ifb_name(&invocation.config.name, &invocation.request.container_id);
        let mut host = pod::open_host()?;
        if !discard::is_asked(&invocation.config) {
            return delete(&mut host, name);
        }
        discard::discard_here(&mut host, name)?;
        discard::start_reaper()
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        let bandwidth = BandwidthConfig::load(&invocation.config)?;
        let result = prev_result(invocation)?;
        let mut host = pod::open_host()?;
        let link = host_end(&mut host, invocation, &result)?;
        if let Some(shape) = bandwidth.ingress {
            check_root(&mut host, &link, &shape.tbf())?;
        }
        if let Some(shape) = bandwidth.egress {
            let name = ifb_name(&invocation.config.name, &invocation.request.container_id);
            let ifb = pod::link(&mut host, name).map_err(|error| error.context("get ifb device"))?;
            check_root(&mut host, &ifb, &shape.tbf())?;
            let redirected =
                host.has_ingress(link.index).map_err(|error| CniError::caused(link.name, &error))?;
            if !redirected {
                let msg = format!("Failed to find the ingress qdisc of {}, which feeds {name}", link.name);
                return Err(CniError::failed(msg));
            }
        }
        Ok(())
    }

    fn status(&self, invocation: &Invocation) -> Result<(), CniError> {
        BandwidthConfig::load(&invocation.config).map(drop)
    }

    fn gc(&self, invocation: &Invocation) -> Result<(), CniError> {
        let network = &invocation.config.name;
        let valid = invocation.config.valid_attachments()?;
        let keep: BTreeSet<LinkName> =
            valid.iter().map(|attachment| ifb_name(network, &attachment.container_id)).collect();
        let mut host = pod::open_host()?;
        let links = host.links().map_err(|error| CniError::caused("can't list links", &error))?;
        let ours = format!("{} ", alias(network));
        let stale = links.iter().filter(|link| link.kind == "ifb" && link.alias.starts_with(&ours));
        let ended = stale.filter(|link| !keep.contains(&link.name)).map(|link| delete(&mut host, link.name));
        CniError::collect(ended.filter_map(Result::err).collect())
    }
}

fn prev_result(invocation: &Invocation) -> Result<AddResult, CniError> {
    let missing = || CniError::failed("must be called as chained plugin");
    invocation.config.prev_result()?.ok_or_else(missing)
}

/// What the devices of a network are marked with, so that GC knows them; the reference's are not. A container's id follows.
fn alias(network: &str) -> String {
    format!("{PLUGIN_ALIAS}bandwidth {network}")
}

/// The host's end of the pod's link: the peer of the link in the pod, and one that the earlier plugin says it made.
fn host_end(host: &mut Rtnl, invocation: &Invocation, result: &AddResult) -> Result<LinkInfo, CniError> {
    let request = &invocation.request;
    if result.interfaces.is_empty() {
        return Err(CniError::failed("no interfaces provided"));
    }
    let ifname = &request.ifname;
    let name: LinkName = ifname.parse().map_err(|error| CniError::caused("CNI_IFNAME", &error))?;
    let netns = pod::open_namespace(request)?;
    let inside = pod::link(&mut pod::open_in(&netns)?, name)?;
    let no_peer = || CniError::failed(format!("container interface {ifname} has no veth peer"));
    let peer = inside.peer.filter(|_| inside.kind == "veth").ok_or_else(no_peer)?;
    let found =
        host.link_by_index(peer).map_err(|error| CniError::caused("failed to lookup veth peer", &error))?;
    let found = found
        .ok_or_else(|| CniError::failed(format!("veth peer with index {} is not in host ns", peer.0)))?;
    let named = |link: &Interface| link.sandbox.is_empty() && link.name == found.name.as_str();
    if result.interfaces.iter().any(named) {
        return Ok(found);
    }
    let details = format!("{} is not among the interfaces of prevResult", found.name);
    Err(CniError::failed("no veth peer of container interface found in host ns").details(details))
}

/// Shapes; what could be done is undone when not all could. Returns the device to name in the result.
///
/// The device for what the pod sends comes first, and its filter in it: a kernel that lacks either refuses before the pod's
/// own link is touched.
fn shape(
    host: &mut Rtnl,
    invocation: &Invocation,
    bandwidth: &BandwidthConfig,
    link: &LinkInfo,
    name: LinkName,
) -> Result<Option<Interface>, CniError> {
    let egress = bandwidth.egress;
    let made = egress.map(|shape| redirect(host, invocation, &shape, link, name)).transpose()?;
    if let Some(shape) = bandwidth.ingress {
        let mut requests = Requests::new();
        requests.add_tbf(link.index, &shape.tbf());
        if let Err(error) = host.execute_all(&mut requests) {
            if made.is_some() {
                end_redirection(host, link);
                let _ = host.delete_link(name);
            }
            return Err(refused("create qdisc", link.name, &error));
        }
    }
    Ok(made)
}

fn end_redirection(host: &mut Rtnl, link: &LinkInfo) {
    let mut requests = Requests::new();
    requests.delete_ingress(link.index);
    let _ = host.execute(&mut requests);
}

/// Makes the `ifb` device and redirects to it.
fn redirect(
    host: &mut Rtnl,
    invocation: &Invocation,
    shape: &Shape,
    link: &LinkInfo,
    name: LinkName,
) -> Result<Interface, CniError> {
    let mac = pod::random_mac()?;
    host.add_ifb(name, mac, link.mtu).map_err(|error| refused("adding link", name, &error))?;
    let fill = |host: &mut Rtnl| {
        let ifb = pod::link(host, name)?;
        let mut requests = Requests::new();
        let alias = format!("{} {}", alias(&invocation.config.name), invocation.request.container_id);
        requests.set_alias(ifb.index, alias.get(..MAX_ALIAS).unwrap_or(&alias));
        requests.add_tbf(ifb.index, &shape.tbf());
        host.execute_all(&mut requests).map_err(|error| refused("create ifb qdisc", name, &error))?;
        let mut requests = Requests::new();
        requests.add_ingress(link.index);
        host.execute_all(&mut requests)
            .map_err(|error| refused("create ingress qdisc", link.name, &error))?;
        let mut requests = Requests::new();
        requests.add_redirect(link.index, ifb.index);
        host.execute_all(&mut requests).map_err(|error| {
            end_redirection(host, link);
            refused("add filter", link.name, &error)
        })
    };
    fill(host).inspect_err(|_| {
        let _ = host.delete_link(name);
    })?;
    Ok(Interface { name: name.to_string(), mac: mac.to_string(), ..Interface::default() })
}

/// `IFALIASZ` less the terminating zero.
const MAX_ALIAS: usize = 255;

/// What the kernel refused, and what it lacks if that is why.
fn refused(what: &str, link: LinkName, error: &NetlinkError) -> CniError {
    let lacks = match (what, error.errno()) {
        ("create qdisc" | "create ifb qdisc", libc::ENOENT) => "CONFIG_NET_SCH_TBF (module sch_tbf)",
        ("adding link", libc::EOPNOTSUPP) => "CONFIG_IFB (module ifb)",
        ("create ingress qdisc", libc::ENOENT) => "CONFIG_NET_SCH_INGRESS (module sch_ingress)",
        ("add filter", libc::ENOENT) => {
            "CONFIG_NET_CLS_U32 (module cls_u32) or CONFIG_NET_ACT_MIRRED (module act_mirred)"
        }
        _ => "",
    };
    let failed = CniError::caused(format!("{what} {link}"), error);
    if lacks.is_empty() { failed } else { failed.details(format!("this kernel has no {lacks}")) }
}

fn check_root(host: &mut Rtnl, link: &LinkInfo, expected: &Tbf) -> Result<(), CniError> {
    let name = link.name;
    let root = host.root_qdisc(link.index).map_err(|error| CniError::caused(name, &error))?;
    let found = root.as_ref().and_then(|root| root.tbf);
    let Some(found) = found else {
        let kind = root.map_or_else(|| "none".to_owned(), |root| root.kind);
        return Err(CniError::failed(format!(
            "Failed to find qdisc: {name} has {kind:?} in place of \"tbf\""
        )));
    };
    let differ = |what: &str, found: u64, expected: u64| {
        let msg = format!("{what} doesn't match: {name} has {found}, not {expected}");
        if found == expected { Ok(()) } else { Err(CniError::failed(msg)) }
    };
    differ("Rate", found.rate, expected.rate)?;
    differ("Limit", found.limit.into(), expected.limit.into())?;
    differ("Buffer", found.buffer.into(), expected.buffer.into())
}

fn delete(host: &mut Rtnl, name: LinkName) -> Result<(), CniError> {
    let deleted = host.delete_if_there(name);
    deleted.map(drop).map_err(|error| CniError::caused(format!("failed to delete {name}"), &error))
}
