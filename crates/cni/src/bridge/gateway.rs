//! Gateways: which addresses the bridge holds, and which default routes the pod gets.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::ipam::next_address;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::rtnl::{AddressInfo, AddressSpec, LinkInfo, Rtnl};

use super::BridgeConfig;
use crate::spec::{AddResult, CniError, InterfaceAddress, Route};
use crate::sysctl;

/// The pod's link is the third of the result's interfaces: bridge, host end, pod end.
const POD_INTERFACE: usize = 2;

/// Fills in what IPAM left open (gateways, default routes) and returns the addresses that the bridge must hold.
pub fn complete(result: &mut AddResult, bridge: &BridgeConfig) -> Vec<InterfaceAddress> {
    let mut gateways = Vec::new();
    for ip in &mut result.ips {
        ip.interface = Some(POD_INTERFACE);
        if !bridge.is_gateway {
            continue;
        }
        let gateway = *ip.gateway.get_or_insert_with(|| first_host(ip.address));
        gateways.push(InterfaceAddress { address: gateway, prefix_len: ip.address.prefix_len });
        if bridge.is_default_gateway {
            let default = default_route(gateway);
            let has_default = result.routes.iter().any(|route| route.gw.is_some() && route.dst == default);
            if !has_default {
                result.routes.push(Route::new(default, Some(gateway)));
            }
        }
    }
    gateways
}

fn default_route(gateway: IpAddr) -> InterfaceAddress {
    let address = match Family::of(gateway) {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    InterfaceAddress { address, prefix_len: 0 }
}

fn network(address: InterfaceAddress) -> Option<Cidr> {
    Cidr::containing(address.address, address.prefix_len)
}

fn first_host(address: InterfaceAddress) -> IpAddr {
    network(address).map_or(address.address, |network| next_address(network.address()))
}

/// Puts the gateways on the bridge, where they aren't, and lets the host forward.
///
/// # Errors
///
/// When the bridge holds another IPv4 address or one of an overlapping IPv6 network, unless `force`.
pub fn ensure(
    host: &mut Rtnl,
    bridge: &LinkInfo,
    gateways: &[InterfaceAddress],
    force: bool,
) -> Result<(), CniError> {
    let what = if bridge.kind == "bridge" {
        "failed to set bridge addr"
    } else {
        "failed to set vlan interface addr"
    };
    for gateway in gateways {
        ensure_address(host, bridge, *gateway, force).map_err(|error| error.context(what))?;
        let forwarding = match Family::of(gateway.address) {
            Family::V4 => "ipv4/ip_forward",
            Family::V6 => "ipv6/conf/all/forwarding",
        };
        sysctl::ensure(forwarding, "1").map_err(|error| error.context("failed to enable forwarding"))?;
    }
    Ok(())
}

/// The usual case costs one request and no dump: the kernel says that the address is there. Only when it was not, the
/// bridge's other addresses are looked at, and ours is taken back if one is in the way.
fn ensure_address(
    host: &mut Rtnl,
    bridge: &LinkInfo,
    gateway: InterfaceAddress,
    force: bool,
) -> Result<(), CniError> {
    let spec = AddressSpec::new(gateway.address, gateway.prefix_len);
    let name = bridge.name;
    let failed = |error: NetlinkError| {
        CniError::caused(format!("could not add IP address {gateway} to {:?}", name.as_str()), &error)
    };
    let added = match host.add_address(bridge.index, &spec) {
        Ok(()) => true,
        // The kernel compares IPv6 addresses without their prefix length, IPv4 ones with it.
        Err(error) if error.errno() == libc::EEXIST && gateway.address.is_ipv4() => return Ok(()),
        Err(error) if error.errno() == libc::EEXIST => false,
        Err(error) => return Err(failed(error)),
    };
    let held = host.addresses(bridge.index).map_err(failed)?;
    let same = |held: &AddressInfo| held.address == gateway.address && held.prefix_len == gateway.prefix_len;
    if !added && held.iter().any(same) {
        return Ok(());
    }
    for other in held.iter().filter(|held| !same(held) && conflicts(held, gateway)) {
        if !force {
            if added {
                let _ = host.delete_address(bridge.index, &spec);
            }
            let msg = format!("{:?} already has an IP address different from {gateway}", name.as_str());
            let details = format!(
                "it has {}/{}; take that away, use another bridge, or set forceAddress to replace it",
                other.address, other.prefix_len
            );
            return Err(CniError::failed(msg).details(details));
        }
        let other = AddressSpec::new(other.address, other.prefix_len);
        match host.delete_address(bridge.index, &other) {
            Err(error) if error.errno() != libc::EADDRNOTAVAIL => return Err(failed(error)),
            _ => {}
        }
    }
    // Where a conflicting primary address went, its secondaries went with it; ours may have been one.
    match host.add_address(bridge.index, &spec) {
        Err(error) if error.errno() != libc::EEXIST => return Err(failed(error)),
        _ => {}
    }
    // A bridge that others made may have no MAC address of its own and would follow its ports'.
    match bridge.mac {
        Some(mac) => host
            .set_mac(bridge.index, mac)
            .map_err(|error| CniError::caused("could not set bridge's mac", &error)),
        None => Ok(()),
    }
}

fn conflicts(held: &AddressInfo, gateway: InterfaceAddress) -> bool {
    if held.address.is_ipv4() != gateway.address.is_ipv4() {
        return false;
    }
    let theirs = Cidr::containing(held.address, held.prefix_len);
    gateway.address.is_ipv4()
        || theirs.is_some_and(|theirs| theirs.contains(gateway.address))
        || network(gateway).is_some_and(|ours| ours.contains(held.address))
}
