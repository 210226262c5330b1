//! The `portmap` plugin: ports of the host lead to ports of pods.
//!
//! A mapping is an element in two maps of the nftables table `inet hopwise_cni`, so that a connection finds its mapping by
//! two lookups however many there are, and adding one is one message to the kernel:
//!
//! ```text
//! map hostports_v4 { type inet_proto . inet_service : verdict
//!     elements = { tcp . 8080 comment "NETWORK CONTAINER IFNAME" : goto near_10.9.0.0/24_13 } }
//! map targets_v4 { type inet_proto . inet_service : ipv4_addr . inet_service
//!     elements = { tcp . 8080 comment "NETWORK CONTAINER IFNAME" : 10.9.0.2 . 80 } }
//! chain portmap_prerouting { type nat hook prerouting priority dstnat; fib daddr type local goto portmap }
//! chain portmap_output { type nat hook output priority dstnat; fib daddr type local goto portmap }
//! chain portmap {
//!     ip6 daddr ::1 return
//!     ip daddr . meta l4proto . th dport vmap @hostip_hostports_v4
//!     meta nfproto ipv4 meta l4proto . th dport vmap @hostports_v4
//!     …
//! }
//! chain near_10.9.0.0/24_13 {
//!     ip saddr 10.9.0.0/24 meta mark set meta mark | 0x00002000
//!     ip saddr 127.0.0.0/8 meta mark set meta mark | 0x00002000
//!     goto portmap_dnat_v4
//! }
//! chain portmap_dnat_v4 {
//!     dnat ip to ip daddr . meta l4proto . th dport map @hostip_targets_v4
//!     dnat ip to meta l4proto . th dport map @targets_v4
//! }
//! chain portmap_postrouting_13 {
//!     type nat hook postrouting priority srcnat; meta mark & 0x00002000 == 0x00002000 masquerade
//! }
//! ```
//!
//! The first map says by which chain a packet goes: the one of its pod's network, which marks what has to be masqueraded
//! so that answers come back by this host (the pod itself and its neighbours on the bridge, the host's 127.0.0.0/8), or one
//! with `conditionsV4` before that. The second says where to. Both have the same keys. Set `portmap_pods` has an element for
//! each pod with mappings, which also notes its network namespace: what a pod left that is gone can be told.

mod claim;
mod conditions;
mod config;
mod conntrack;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use hopwise_core::family::Family;

use self::config::{Mapping, PodAddress, PortmapConfig, pod_addresses};
use self::store::{Pod, Store};
use self::table::Way;
use crate::check;
use crate::nft::owner;
use crate::plugin::{Invocation, Plugin};
use crate::pod;
use crate::reference::Leftovers;
use crate::spec::{AddResult, CniError, Code};
use crate::sysctl;

/// The `portmap` plugin.
pub struct Portmap;

impl Plugin for Portmap {
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        let Invocation { request, config } = invocation;
        let portmap = PortmapConfig::load(config)?;
        let result = previous(invocation)?;
        let result = result.ok_or_else(|| CniError::failed("must be called as chained plugin"))?;
        let addresses = pod_addresses(&result, &request.ifname);
        let mappings = ways(&portmap, &addresses)?;
        if !request.netns_override {
            // Nothing is done in it, but as in the reference it has to be there, and not the plugin's own.
            drop(pod::open_namespace(request)?);
        }
        let owner = owner_of(invocation);
        if mappings.is_empty() {
            // An ADD that is repeated replaces what the first one made. A kernel without nf_tables has nothing of it.
            if let Ok(mut store) = Store::open()
                && store.has(&owner).unwrap_or(false)
            {
                store.remove(&owner)?;
            }
            return Ok(result);
        }
        let mut store = Store::open()?;
        store.add(&Pod { owner: owner.clone(), note: store::note(&request.netns) }, &mappings)?;
        finish(&portmap, &addresses, &mappings).inspect_err(|_| {
            let _ = store.remove(&owner);
        })?;
        Ok(result)
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        let Invocation { request, config } = invocation;
        let removed = Store::open().and_then(|mut store| store.remove(&owner_of(invocation)));
        let leftovers = Leftovers::of(&config.name, &request.container_id, &request.ifname);
        let released = leftovers.and_then(|mut leftovers| leftovers.release_ports());
        CniError::collect([removed, released].into_iter().filter_map(Result::err).collect())
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        let portmap = PortmapConfig::load(&invocation.config)?;
        let result = check::prev_result(invocation)?;
        let mappings = ways(&portmap, &pod_addresses(&result, &invocation.request.ifname))?;
        if mappings.is_empty() {
            return Ok(());
        }
        let Invocation { request, config } = invocation;
        let mut store = Store::open()?;
        let owner = owner_of(invocation);
        let checked = store.check(&owner, &mappings);
        if checked.is_err() && !store.has(&owner)? {
            // Perhaps the reference mapped the ports.
            let mut theirs = Leftovers::of(&config.name, &request.container_id, &request.ifname)?;
            return if theirs.has_ports()? { Ok(()) } else { checked };
        }
        checked
    }

    fn status(&self, invocation: &Invocation) -> Result<(), CniError> {
        PortmapConfig::load(&invocation.config)?;
        let probed = Store::open().and_then(|mut store| store.probe());
        probed.map_err(|error| CniError { code: Code::NotAvailable, ..error })
    }

    fn gc(&self, invocation: &Invocation) -> Result<(), CniError> {
        let config = &invocation.config;
        let valid = config.valid_attachments()?;
        let keep: BTreeSet<String> =
            valid.iter().map(|valid| owner(&config.name, &valid.container_id, &valid.ifname)).collect();
        Store::open()?.retain(&config.name, &keep)
    }
}

fn owner_of(Invocation { request, config }: &Invocation) -> String {
    owner(&config.name, &request.container_id, &request.ifname)
}

fn previous(invocation: &Invocation) -> Result<Option<AddResult>, CniError> {
    let read = invocation.config.prev_result();
    read.map_err(|error| {
        CniError::failed(format!("failed to parse config: could not parse prevResult: {error}"))
    })
}

/// Each mapping with its way.
fn ways(portmap: &PortmapConfig, pod: &[PodAddress]) -> Result<Vec<(Mapping, Way)>, CniError> {
    if portmap.is_empty() {
        return Ok(Vec::new());
    }
    let ways: Vec<Way> = pod.iter().map(|pod| Way::new(portmap, pod.network)).collect();
    let way = |mapping: &Mapping| ways.iter().find(|way| way.family() == mapping.family()).cloned();
    let mappings = portmap.mappings(pod)?;
    Ok(mappings.into_iter().filter_map(|mapping| Some((mapping, way(&mapping)?))).collect())
}

/// What makes mappings work beyond the table.
fn finish(portmap: &PortmapConfig, pod: &[PodAddress], mappings: &[(Mapping, Way)]) -> Result<(), CniError> {
    let mut host = pod::open_host()?;
    // Flows that are tracked already never ask for a mapping again: those of UDP would go on elsewhere. It is no reason to
    // fail when they can't be looked up.
    let _ = conntrack::forget_stale(&mut host, mappings);
    let v4 = pod.iter().find(|pod| Family::of(pod.address) == Family::V4);
    match v4 {
        Some(pod) if portmap.snat => enable_localnet_routing(&mut host, pod.address),
        _ => Ok(()),
    }
}

/// Lets packets from 127.0.0.0/8 be routed to the pod; they are masqueraded before they leave.
fn enable_localnet_routing(host: &mut hopwise_kernel::rtnl::Rtnl, pod: IpAddr) -> Result<(), CniError> {
    let failed = |error| CniError::caused("unable to enable route_localnet", &error);
    // No route: there is nothing to enable it on, as the reference has it.
    let Ok(Some(route)) = host.route_to(pod) else { return Ok(()) };
    let Some(index) = route.link else { return Ok(()) };
    let Some(link) = host.link_by_index(index).map_err(failed)? else { return Ok(()) };
    sysctl::ensure(&format!("ipv4/conf/{}/route_localnet", link.name), "1")
        .map_err(|error| error.context("unable to enable route_localnet"))
}
