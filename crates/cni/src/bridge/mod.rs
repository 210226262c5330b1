//! The `bridge` plugin: a veth pair between the pod and a bridge of the host, with or without addresses.
//!
//! The order of an ADD: everything is read and checked, addresses are reserved, the bridge and its gateway addresses are
//! seen to, the veth pair is made (one message), the pod's end is configured (one send), the port is waited for. Whatever
//! fails, the pair and the reservation are taken back. The bridge and its gateway address stay: another ADD at the same
//! time may already count on them.

mod config;
mod conflict;
mod gateway;
mod macspoof;
#[cfg(test)]
mod tests;
mod vlan;

use std::time::Duration;

use hopwise_core::name::{LinkName, MacAddr};
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{BridgeSpec, LinkInfo, PortSpec, Requests, Rtnl};

pub use config::BridgeConfig;

use self::macspoof::MacCheck;
use crate::agent;
use crate::check;
use crate::config::Attachment;
use crate::ipam::Ipam;
use crate::masquerade::Masquerade;
use crate::nft;
use crate::plugin::{Invocation, Plugin};
use crate::pod::{self, PairSpec, PodEnd, PodLink};
use crate::reference::Leftovers;
use crate::spec::{AddResult, CniError, Interface, Request};
use crate::sysctl;

/// The `bridge` plugin.
pub struct Bridge;

impl Plugin for Bridge {
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        let Invocation { request, config } = invocation;
        let bridge = BridgeConfig::load(config, request)?;
        let mut ipam = Ipam::load(config, request)?;
        let netns = pod::open_namespace(request)?;
        let mut host = pod::open_host()?;
        vlan::require(&mut host, &bridge)?;
        // Opened before anything is changed: the kernel may have no nf_tables.
        let masquerade = bridge.ip_masq.then(|| Masquerade::open(&config.name)).transpose()?;
        let mac_check = bridge.check_mac.then(|| MacCheck::open(&config.name)).transpose()?;
        let mut result = match bridge.conflicts.filter(|_| ipam.is_some()) {
            None => ipam.add(request)?,
            Some(detection) => {
                ipam.avoid_conflicts(detection.retry_after);
                let link = ensure_bridge(&mut host, &bridge)?;
                conflict::add(&mut host, &link, &ipam, request, detection)?
            }
        };
        let (netns, host) = (&netns, &mut host);
        let mut attaching = Attaching { invocation, bridge: &bridge, netns, host, masquerade, mac_check };
        attaching.attach(&mut result).inspect_err(|_| {
            let _ = ipam.del(request);
        })?;
        if let Some(dns) = bridge.dns {
            result.dns = dns;
        }
        Ok(result)
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        let detached = pod::detach(invocation);
        let unchecked = if invocation.config.root().bool("macspoofchk").unwrap_or(false) {
            end_mac_check(invocation)
        } else {
            Ok(())
        };
        CniError::collect([detached, unchecked].into_iter().filter_map(Result::err).collect())
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        let Invocation { request, config } = invocation;
        let bridge = BridgeConfig::load(config, request)?;
        let netns = pod::open_namespace(request)?;
        Ipam::load(config, request)?.check(request)?;
        let result = check::prev_result(invocation)?;
        let pod_end = check::pod_interface(invocation, &result)?;
        let mut host = pod::open_host()?;
        let link = check_bridge(&mut host, &bridge, &result)?;
        let pod_link = check::pod(&netns, pod_end, &result)?;
        let port = check_port(&mut host, &link, &pod_link, &result)?;
        if bridge.ip_masq {
            pod::check_masquerade(invocation, &result)?;
        }
        match pod_link.mac.filter(|_| bridge.check_mac) {
            Some(mac) => check_mac(invocation, port.name, mac),
            None => Ok(()),
        }
    }

    fn status(&self, invocation: &Invocation) -> Result<(), CniError> {
        let Invocation { request, config } = invocation;
        let bridge = BridgeConfig::load(config, request)?;
        agent::status(config)?;
        let mut ipam = Ipam::load(config, request)?;
        if let Some(detection) = bridge.conflicts {
            ipam.avoid_conflicts(detection.retry_after);
        }
        ipam.status(request)
    }

    fn gc(&self, invocation: &Invocation) -> Result<(), CniError> {
        let config = &invocation.config;
        let collected = pod::collect_garbage(invocation);
        let ended = if config.root().bool("macspoofchk")? {
            let valid = config.valid_attachments()?.into_iter().collect();
            MacCheck::open(&config.name).and_then(|mut table| table.retain(&valid))
        } else {
            Ok(())
        };
        CniError::collect([collected, nft::release(ended)].into_iter().filter_map(Result::err).collect())
    }
}

fn attachment(request: &Request) -> Attachment {
    Attachment { container_id: request.container_id.clone(), ifname: request.ifname.clone() }
}

/// Whether the pod's MAC address is checked, by whichever plugin.
fn check_mac(invocation: &Invocation, link: LinkName, mac: MacAddr) -> Result<(), CniError> {
    let Invocation { request, config } = invocation;
    let checked = MacCheck::open(&config.name)?.check(&attachment(request), link, mac);
    let theirs = || Leftovers::of(&config.name, &request.container_id, &request.ifname)?.has_mac_check();
    if checked.is_err() && theirs()? { Ok(()) } else { checked }
}

/// Ends the checking of the pod's MAC address, by whichever plugin it was begun.
fn end_mac_check(Invocation { request, config }: &Invocation) -> Result<(), CniError> {
    let ended = MacCheck::open(&config.name).and_then(|mut table| table.remove(&attachment(request)));
    let leftovers = Leftovers::of(&config.name, &request.container_id, &request.ifname);
    let released = leftovers.and_then(|mut leftovers| leftovers.release_mac_check());
    CniError::collect([ended, released].into_iter().filter_map(|said| nft::release(said).err()).collect())
}

fn check_bridge(host: &mut Rtnl, bridge: &BridgeConfig, result: &AddResult) -> Result<LinkInfo, CniError> {
    let name = bridge.bridge.as_str();
    let on_host = |link: &&Interface| link.name == name && link.sandbox.is_empty();
    let expected = result.interfaces.iter().find(on_host);
    let expected = expected.ok_or_else(|| CniError::failed(format!("prevResult has no bridge {name:?}")))?;
    let link = check::link(host, expected)?;
    if link.kind != "bridge" {
        return Err(CniError::failed(format!("Interface {name} does not have link type of bridge")));
    }
    if link.promiscuous != bridge.promiscuous {
        let msg = format!(
            "Bridge interface {name} configured Promisc Mode {} doesn't match current state: {}",
            bridge.promiscuous, link.promiscuous
        );
        return Err(CniError::failed(msg));
    }
    Ok(link)
}

/// The host's end: a port of the bridge, and the other end of the pod's. Returns it.
fn check_port(
    host: &mut Rtnl,
    bridge: &LinkInfo,
    pod_link: &LinkInfo,
    result: &AddResult,
) -> Result<LinkInfo, CniError> {
    let others = |link: &&Interface| link.sandbox.is_empty() && link.name != bridge.name.as_str();
    for expected in result.interfaces.iter().filter(others) {
        let found = check::link(host, expected)?;
        let pair = pod_link.peer == Some(found.index) && found.peer == Some(pod_link.index);
        if found.kind == "veth" && pair && found.master == Some(bridge.index) {
            return Ok(found);
        }
    }
    Err(CniError::failed(format!("CNI veth created for bridge {} was not found", bridge.name)))
}

/// An attachment in the making.
struct Attaching<'a> {
    invocation: &'a Invocation,
    bridge: &'a BridgeConfig,
    netns: &'a Namespace,
    host: &'a mut Rtnl,
    masquerade: Option<Masquerade<'a>>,
    mac_check: Option<MacCheck<'a>>,
}

impl Attaching<'_> {
    /// Makes the pod's link a port of the bridge, with what is in the result, and writes the links into that.
    fn attach(&mut self, result: &mut AddResult) -> Result<(), CniError> {
        let Attaching { bridge, netns, .. } = *self;
        let request = &self.invocation.request;
        let link = ensure_bridge(self.host, bridge)?;
        let vlan_gateway = self.gateways(&link, result)?;
        let spec =
            PairSpec { master: Some(link.index), mtu: bridge.mtu, queues: bridge.queues, mac: bridge.mac };
        let (name, macs) = pod::make_pair(self.host, netns, &request.ifname, &spec)?;
        let bridge_mac = self.connect(&link, name, macs.pod, result).inspect_err(|_| {
            let _ = self.host.delete_link(name);
            if bridge.check_mac {
                let _ = end_mac_check(self.invocation);
            }
        })?;
        let interface = |name: LinkName, mac: Option<MacAddr>| Interface {
            name: name.to_string(),
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            ..Interface::default()
        };
        result.interfaces = vec![
            interface(bridge.bridge, bridge_mac),
            interface(name, Some(macs.host)),
            Interface {
                name: request.ifname.clone(),
                mac: macs.pod.to_string(),
                sandbox: request.netns.clone(),
                ..Interface::default()
            },
        ];
        result.interfaces.extend(vlan_gateway.map(|link| interface(link.name, link.mac)));
        Ok(())
    }

    /// Puts the gateways' addresses where they belong; returns the link that has them in a VLAN.
    fn gateways(&mut self, link: &LinkInfo, result: &mut AddResult) -> Result<Option<LinkInfo>, CniError> {
        if result.ips.is_empty() {
            return Ok(None);
        }
        let gateways = gateway::complete(result, self.bridge);
        let in_vlan = self.bridge.vlan_gateway;
        let in_vlan = in_vlan.map(|name| vlan::ensure_gateway_link(self.host, &self.bridge.vlan, link, name));
        let in_vlan = in_vlan.transpose()?;
        gateway::ensure(self.host, in_vlan.as_ref().unwrap_or(link), &gateways, self.bridge.force_address)?;
        Ok(in_vlan)
    }

    /// Has the port pass on what it is to, and gives the pod's end its addresses. Returns the bridge's MAC address.
    fn connect(
        &mut self,
        link: &LinkInfo,
        name: LinkName,
        mac: MacAddr,
        result: &AddResult,
    ) -> Result<Option<MacAddr>, CniError> {
        vlan::join(self.host, &self.bridge.vlan, link, name)?;
        let request = &self.invocation.request;
        if let Some(table) = &mut self.mac_check {
            // Before the pod can send anything.
            table.add(&attachment(request), name, mac)?;
        }
        self.configure_port(name)?;
        if !self.bridge.disable_interface {
            self.configure_pod(name, mac, result)?;
        }
        // A bridge without a MAC address of its own may have got another one from the port.
        let bridge_mac = pod::link(self.host, self.bridge.bridge)?.mac;
        if let Some(table) = &mut self.masquerade {
            pod::masquerade(table, request, result)?;
        }
        Ok(bridge_mac)
    }

    fn configure_port(&mut self, name: LinkName) -> Result<(), CniError> {
        // We want to own the routes of this link.
        sysctl::try_write(&format!("ipv6/conf/{name}/accept_ra"), "0");
        let BridgeConfig { hairpin, isolated, .. } = *self.bridge;
        if !hairpin && !isolated {
            return Ok(());
        }
        let index = pod::index(self.host, name)?;
        let mut requests = Requests::new();
        requests.set_port(index, PortSpec { hairpin: Some(hairpin), isolated: Some(isolated) });
        self.host.execute_all(&mut requests).map_err(|error| {
            CniError::caused(format!("can't set hairpinMode or portIsolation of {name}"), &error)
        })
    }

    /// Configures the pod's end, waits for the port, and tells the network.
    fn configure_pod(&mut self, name: LinkName, mac: MacAddr, result: &AddResult) -> Result<(), CniError> {
        let ifname = &self.invocation.request.ifname;
        let mut end = PodEnd::from_result(result, self.bridge.enable_dad)?;
        if !result.ips.is_empty() {
            end.announces = true;
            end.sysctls = sysctls(ifname, self.bridge.enable_dad);
        }
        pod::inside(self.netns, || {
            let mut link = PodLink::open(ifname)?;
            link.configure(&end)?;
            // The socket is the host's wherever the thread is.
            wait_for_port(self.host, name)?;
            if end.announces {
                link.announce(mac);
            }
            Ok(())
        })
    }
}

/// Duplicate address detection as asked for.
fn sysctls(ifname: &str, dad: bool) -> Vec<(String, &'static str)> {
    let mut sysctls = Vec::new();
    if dad {
        sysctls.push((format!("ipv6/conf/{ifname}/enhanced_dad"), "1"));
    }
    sysctls.push((format!("ipv6/conf/{ifname}/accept_dad"), if dad { "1" } else { "0" }));
    sysctls
}

/// The bridge, made if there is none, up, and promiscuous where asked for.
fn ensure_bridge(host: &mut Rtnl, bridge: &BridgeConfig) -> Result<LinkInfo, CniError> {
    let name = bridge.bridge;
    let mut spec = BridgeSpec::new(name);
    spec.mtu = bridge.mtu;
    spec.vlan_filtering = bridge.vlan.filtering.then_some(true);
    // With a MAC address of its own from the start a bridge keeps it; else it takes the lowest of its ports'.
    spec.mac = Some(pod::random_mac()?);
    let link = host
        .ensure_bridge(&spec)
        .map_err(|error| CniError::caused(format!("failed to create bridge {:?}", name.as_str()), &error))?;
    if link.kind != "bridge" {
        let msg =
            format!("failed to create bridge {0:?}: {0:?} already exists but is not a bridge", name.as_str());
        return Err(CniError::failed(msg).details(format!("it is a link of kind {:?}", link.kind)));
    }
    if link.mac == spec.mac {
        // We want to own the routes of this link. One that was there may be the node's way to the LAN, and its routers.
        sysctl::try_write(&format!("ipv6/conf/{name}/accept_ra"), "0");
        // We made it, so nobody else can have its link-local address, from which neighbour discovery asks for pods.
        sysctl::try_write(&format!("ipv6/conf/{name}/accept_dad"), "0");
    }
    let mut requests = Requests::new();
    if !link.up {
        requests.set_up(link.index);
    }
    if bridge.promiscuous && !link.promiscuous {
        requests.set_promiscuous(link.index, true);
    }
    host.execute_all(&mut requests)
        .map_err(|error| CniError::caused(format!("can't set bridge {name} up"), &error))?;
    Ok(link)
}

/// Waits until the bridge port can carry traffic. The kernel's link watch works apart from us: it takes some 0.1 ms.
fn wait_for_port(host: &mut Rtnl, name: LinkName) -> Result<(), CniError> {
    let mut pause = Duration::from_micros(50);
    let mut waited = Duration::ZERO;
    loop {
        let port = pod::link(host, name)?;
        if port.operstate == LinkInfo::OPER_UP {
            return Ok(());
        }
        if waited > Duration::from_millis(2500) {
            return Err(CniError::failed(format!("bridge port in error state: {}", port.operstate)));
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
