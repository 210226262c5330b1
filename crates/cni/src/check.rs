//! CHECK: whether what ADD said is still so. Nothing is changed, and every difference is named.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{LinkInfo, Rtnl};

use crate::plugin::Invocation;
use crate::spec::{AddResult, CniError, Interface};

/// The result that the configuration carries.
///
/// # Errors
///
/// When it carries none.
pub fn prev_result(invocation: &Invocation) -> Result<AddResult, CniError> {
    let missing = || CniError::failed("Required prevResult missing");
    invocation.config.prev_result()?.ok_or_else(missing)
}

/// The pod's end among the interfaces of a result.
///
/// # Errors
///
/// When there is none for this namespace.
pub fn pod_interface<'a>(invocation: &Invocation, result: &'a AddResult) -> Result<&'a Interface, CniError> {
    let request = &invocation.request;
    let named = result.interfaces.iter().find(|link| link.name == request.ifname && !link.sandbox.is_empty());
    let found = named.ok_or_else(|| {
        CniError::failed(format!("prevResult has no interface {} in a sandbox", request.ifname))
    })?;
    if found.sandbox == request.netns {
        return Ok(found);
    }
    let msg =
        format!("Sandbox in prevResult {} doesn't match configured netns: {}", found.sandbox, request.netns);
    Err(CniError::failed(msg))
}

/// A link as the result names it.
///
/// # Errors
///
/// When it isn't there, or has another MAC address.
pub fn link(rtnl: &mut Rtnl, expected: &Interface) -> Result<LinkInfo, CniError> {
    let name = &expected.name;
    let parsed: LinkName = name.parse().map_err(|error| CniError::caused("prevResult", &error))?;
    let found = rtnl
        .link_by_name(parsed)
        .map_err(|error| CniError::caused(format!("failed to lookup {name:?}"), &error))?
        .ok_or_else(|| CniError::failed(format!("Interface name {name} not found")))?;
    let mac = found.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if expected.mac.is_empty() || expected.mac.eq_ignore_ascii_case(&mac) {
        return Ok(found);
    }
    Err(CniError::failed(format!("Interface {name} Mac doesn't match: it is {mac}, not {}", expected.mac)))
}

/// The pod's end: link, addresses, routes. Returns the link.
///
/// # Errors
///
/// When something differs.
pub fn pod(netns: &Namespace, expected: &Interface, result: &AddResult) -> Result<LinkInfo, CniError> {
    crate::pod::inside(netns, || {
        let mut rtnl = crate::pod::open_host()?;
        let found = link(&mut rtnl, expected)?;
        if found.kind != "veth" {
            return Err(CniError::failed(format!("Container interface {} not of type veth", found.name)));
        }
        addresses(&mut rtnl, &found, result)?;
        routes(&mut rtnl, &found, result)?;
        Ok(found)
    })
}

fn addresses(rtnl: &mut Rtnl, link: &LinkInfo, result: &AddResult) -> Result<(), CniError> {
    if result.ips.is_empty() {
        return Ok(());
    }
    let held = rtnl
        .addresses(link.index)
        .map_err(|error| CniError::caused("Cannot obtain List of IP Addresses", &error))?;
    for ip in &result.ips {
        let expected = ip.address;
        let same = |held: &(IpAddr, u8)| *held == (expected.address, expected.prefix_len);
        if !held.iter().map(|held| (held.address, held.prefix_len)).any(|held| same(&held)) {
            let msg = format!("Failed to match addr {expected} on interface {}", link.name);
            return Err(CniError::failed(msg));
        }
    }
    Ok(())
}

/// Each address's own network has a route, and each route of the result is there.
fn routes(rtnl: &mut Rtnl, link: &LinkInfo, result: &AddResult) -> Result<(), CniError> {
    if result.ips.is_empty() && result.routes.is_empty() {
        return Ok(());
    }
    let present = rtnl.routes().map_err(|error| CniError::caused("can't read the pod's routes", &error))?;
    for ip in &result.ips {
        let network = Cidr::containing(ip.address.address, ip.address.prefix_len);
        // An address alone (/32, /128) is no network.
        let alone = network == Some(Cidr::host(ip.address.address));
        if !alone && !present.iter().any(|present| Some(present.dst) == network) {
            let gateway = ip.gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string());
            let msg = format!("Failed to find Gateway {gateway} for interface {}", link.name);
            let details =
                network.map_or_else(String::new, |network| format!("there is no route to {network}"));
            return Err(CniError::failed(msg).details(details));
        }
    }
    for route in &result.routes {
        let dst = Cidr::containing(route.dst.address, route.dst.prefix_len);
        let found = present.iter().any(|present| {
            Some(present.dst) == dst
                && present.kind == libc::RTN_UNICAST
                && present.table == route.table.unwrap_or(u32::from(libc::RT_TABLE_MAIN))
                && (route.gw.is_none() || route.gw == present.gateway)
        });
        if !found {
            let via = route.gw.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let msg = format!("Expected Route {}{via} not found in routing table", route.dst);
            return Err(CniError::failed(msg));
        }
    }
    Ok(())
}
