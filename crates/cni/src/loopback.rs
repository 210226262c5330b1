//! The `loopback` plugin: raises the pod's `lo`.

use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::rtnl::LinkInfo;

use crate::plugin::{Invocation, Plugin};
use crate::pod;
use crate::spec::{AddResult, CniError, Interface, InterfaceAddress, IpConfig};

/// `CNI_IFNAME` is ignored, as in the reference: there is only one.
const LO: LinkName = LinkName::new_static("lo");

/// The `loopback` plugin.
pub struct Loopback;

impl Plugin for Loopback {
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        let netns = pod::open_namespace(&invocation.request)?;
        let addresses = pod::inside(&netns, || {
            let mut rtnl = pod::open_host()?;
            rtnl.set_up(LO).map_err(|error| failed(&error))?;
            let lo = pod::link(&mut rtnl, LO)?;
            rtnl.addresses(lo.index).map_err(|error| failed(&error))
        })?;
        if let Some(other) = addresses.iter().find(|held| !held.address.is_loopback()) {
            let msg =
                format!("loopback interface found with non-loopback address {:?}", other.address.to_string());
            return Err(CniError::failed(msg));
        }
        // What an earlier plugin of the list made goes through unchanged.
        if let Some(result) = invocation.config.prev_result()? {
            return Ok(result);
        }
        let first = |is_ipv4: bool| addresses.iter().find(move |held| held.address.is_ipv4() == is_ipv4);
        let ips = [first(true), first(false)].into_iter().flatten().map(|held| IpConfig {
            address: InterfaceAddress { address: held.address, prefix_len: held.prefix_len },
            gateway: None,
            interface: Some(0),
        });
        let interface = Interface {
            name: LO.to_string(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: invocation.request.netns.clone(),
            ..Interface::default()
        };
        Ok(AddResult { interfaces: vec![interface], ips: ips.collect(), ..AddResult::default() })
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        match pod::open_what_is_left(&invocation.request)? {
            Some(netns) => pod::open_in(&netns)?.set_down(LO).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        let netns = pod::open_namespace(&invocation.request)?;
        let lo: LinkInfo = pod::link(&mut pod::open_in(&netns)?, LO)?;
        if lo.up { Ok(()) } else { Err(CniError::failed("loopback interface is down")) }
    }
}

fn failed(error: &NetlinkError) -> CniError {
    CniError::caused("can't configure the pod's loopback link", error)
}
