//! Making a lab's namespaces, links, addresses and routes.
//!
//! Every link is made from inside the switch namespace with its other end straight in its member's namespace, so that
//! the host's own namespace never sees a link of ours, not for a moment.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hopwise_core::cidr::Cidr;
use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, BridgeSpec, Requests, RouteSpec, Rtnl, VethSpec};

use crate::error::LabError;
use crate::lab::Lab;
use crate::layout::{Interface, Layout, Member, Role, SWITCH};

/// Runs a job for each item on a few threads and gives the first error.
pub(crate) fn each_in_parallel<T: Sync>(
    items: &[T],
    job: impl Fn(&T) -> Result<(), LabError> + Sync,
) -> Result<(), LabError> {
    const N_THREADS: usize = 8;
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..N_THREADS.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = job(item) {
                        next.store(items.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
}

/// Makes all namespaces, empty.
pub(crate) fn make_namespaces(layout: &Layout) -> Result<(), LabError> {
    each_in_parallel(&layout.targets(), |target| {
        let name = layout.lab.namespace(target);
        let namespace =
            Namespace::named(&name).map_err(LabError::step(format!("making namespace {name}")))?;
        namespace
            .run(|| write_sysctls(&sysctls_of(layout, target)))
            .map_err(LabError::step(format!("entering namespace {name}")))?
    })
}

/// Values for a new namespace, in the order of writing.
///
/// IPv4's would otherwise be whatever the host has (`net.core.devconf_inherit_init_net`), and a lab must not depend on
/// that. Duplicate address detection is off: it holds back forwarded IPv6 for 1 to 2 s while a router's link-local
/// address is tentative, and there are no duplicates here.
fn sysctls_of(layout: &Layout, target: &str) -> Vec<(&'static str, &'static str)> {
    if target == SWITCH {
        return vec![("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")];
    }
    let router = layout.member(target).is_some_and(|member| member.role == Role::Router);
    let forwarding = if router { "1" } else { "0" };
    vec![
        ("ipv4/ip_forward", forwarding),
        ("ipv6/conf/all/forwarding", forwarding),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "1"),
        ("ipv4/conf/default/send_redirects", "1"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
    ]
}

fn write_sysctls(values: &[(&str, &str)]) -> Result<(), LabError> {
    for (key, value) in values {
        let path = std::path::Path::new("/proc/sys/net").join(key);
        match std::fs::write(&path, value) {
            // A kernel without IPv6 has no such folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result.map_err(LabError::file(&path))?,
        }
    }
    Ok(())
}

impl Lab {
    /// Makes the bridges and connects all members.
    pub(crate) fn connect_all(&self) -> Result<(), LabError> {
        let failed = LabError::step("making the switches");
        let mut switch = self.switch()?;
        let mut requests = Requests::new();
        for segment in &self.layout.topology.segments {
            let mut bridge = BridgeSpec::new(link_name(&segment.name)?);
            bridge.mtu = Some(segment.mtu);
            requests.add_bridge(&bridge);
        }
        switch.execute_all(&mut requests).map_err(failed)?;
        for member in &self.layout.members {
            for link in &member.interfaces {
                self.plug(&mut switch, member, link)?;
            }
        }
        each_in_parallel(&self.layout.members, |member| self.configure(member))
    }

    fn switch(&self) -> Result<Rtnl, LabError> {
        let namespace = self.namespace(SWITCH)?;
        Rtnl::open_in(namespace.as_fd()).map_err(LabError::step("opening the switch namespace"))
    }

    /// Makes a link from a segment's bridge into a member's namespace.
    fn plug(&self, switch: &mut Rtnl, member: &Member, link: &Interface) -> Result<(), LabError> {
        let failed = |error: NetlinkError| {
            LabError::step(format!("connecting {} to {}", member.name, link.segment))(error)
        };
        let bridge = switch.link_by_name(link_name(&link.segment)?).map_err(failed)?;
        let namespace = self.namespace(&member.name)?;
        let mut veth = VethSpec::new(link_name(&link.port)?, link_name(&link.name)?, Some(namespace.as_fd()));
        veth.master = bridge.map(|bridge| bridge.index);
        veth.mtu = Some(self.layout.segment_mtu(&link.segment));
        veth.peer.mtu = Some(link.mtu);
        switch.add_veth(&veth).map_err(failed)
    }

    /// Gives a member's interfaces their addresses, raises them, and adds the routes.
    fn configure(&self, member: &Member) -> Result<(), LabError> {
        let doing = || format!("setting up {}", member.name);
        let namespace = self.namespace(&member.name)?;
        let mut rtnl = Rtnl::open_in(namespace.as_fd()).map_err(LabError::step(doing()))?;
        let mut requests = Requests::new();
        for link in &member.interfaces {
            let name = link_name(&link.name)?;
            let found = rtnl.link_by_name(name).map_err(LabError::step(doing()))?;
            let index = found.ok_or_else(|| no_link(member, link))?.index;
            requests.set_up(index);
            for (address, prefix_len) in &link.addresses {
                requests.add_address(index, &AddressSpec::new(*address, *prefix_len));
            }
        }
        for route in &member.routes {
            requests.add_route(&RouteSpec::new(route.to).via(route.via));
        }
        rtnl.execute_all(&mut requests).map_err(LabError::step(doing()))
    }

    /// Deletes the uplink of a member: its addresses and routes go with it.
    pub fn delete_uplink(&self, member: &str) -> Result<(), LabError> {
        let (member, link) = self.uplink(member)?;
        let doing = format!("deleting the uplink of {}", member.name);
        self.switch()?.delete_link(link_name(&link.port)?).map_err(LabError::step(doing))
    }

    /// Makes the uplink of a member again, with another index and MAC address, the same addresses and routes.
    pub fn create_uplink(&self, member: &str) -> Result<(), LabError> {
        let (member, link) = self.uplink(member)?;
        self.plug(&mut self.switch()?, member, link)?;
        self.configure(member)
    }

    /// Sets the uplink of a member down or up; up adds the static routes that the kernel dropped with it.
    pub fn set_uplink(&self, member: &str, up: bool) -> Result<(), LabError> {
        let (member, link) = self.uplink(member)?;
        let doing = || format!("setting the uplink of {} {}", member.name, if up { "up" } else { "down" });
        let mut rtnl = self.rtnl(&member.name)?;
        let name = link_name(&link.name)?;
        if !up {
            return rtnl.set_down(name).map_err(LabError::step(doing()));
        }
        let mut requests = Requests::new();
        requests.set_up(name);
        // IPv6 addresses went with the link (keep_addr_on_down is 0), IPv4 ones and what is there already stay.
        if let Some(index) = rtnl.link_by_name(name).map_err(LabError::step(doing()))?.map(|link| link.index)
        {
            for (address, prefix_len) in &link.addresses {
                requests.add_address(index, &AddressSpec::new(*address, *prefix_len));
            }
        }
        for route in &member.routes {
            requests.replace_route(&RouteSpec::new(route.to).via(route.via));
        }
        let verdicts = rtnl.execute(&mut requests).map_err(LabError::step(doing()))?;
        let refused =
            verdicts.into_iter().filter_map(Result::err).find(|error| error.errno() != libc::EEXIST);
        refused.map_or(Ok(()), |error| Err(LabError::step(doing())(error)))
    }

    /// Gives the uplink of a member another MTU, at both ends.
    pub fn set_uplink_mtu(&self, member: &str, mtu: u32) -> Result<(), LabError> {
        let (member, link) = self.uplink(member)?;
        let doing = || format!("changing the MTU of {}", member.name);
        let name = link_name(&link.name)?;
        self.rtnl(&member.name)?.set_mtu(name, mtu).map_err(LabError::step(doing()))
    }

    /// Gives the uplink of a member another address in place of one that it has. The address's prefix length stays; the
    /// static routes are added again, as the kernel may drop them with the address.
    pub fn change_address(
        &self,
        member: &str,
        from: std::net::IpAddr,
        to: std::net::IpAddr,
    ) -> Result<(), LabError> {
        let (member, link) = self.uplink(member)?;
        let doing = || format!("changing {from} of {} to {to}", member.name);
        let mut rtnl = self.rtnl(&member.name)?;
        let found = rtnl.link_by_name(link_name(&link.name)?).map_err(LabError::step(doing()))?;
        let index = found.ok_or_else(|| no_link(member, link))?.index;
        let known = link.addresses.iter().find(|(address, _)| address.is_ipv4() == to.is_ipv4());
        let prefix_len = known.map_or(24, |(_, len)| *len);
        rtnl.add_address(index, &AddressSpec::new(to, prefix_len)).map_err(LabError::step(doing()))?;
        rtnl.delete_address(index, &AddressSpec::new(from, prefix_len)).map_err(LabError::step(doing()))?;
        // Deleting the primary IPv4 address takes its secondaries along, the new one with them.
        let added = rtnl.add_address(index, &AddressSpec::new(to, prefix_len));
        added.or_else(ignore(libc::EEXIST)).map_err(LabError::step(doing()))?;
        for route in &member.routes {
            rtnl.replace_route(&RouteSpec::new(route.to).via(route.via)).map_err(LabError::step(doing()))?;
        }
        Ok(())
    }

    /// Makes a router forget or learn a route to a CIDR.
    pub fn set_route(&self, member: &str, to: Cidr, via: Option<std::net::IpAddr>) -> Result<(), LabError> {
        let mut rtnl = self.rtnl(member)?;
        let result = match via {
            Some(via) => rtnl.replace_route(&RouteSpec::new(to).via(via)),
            None => rtnl.delete_route(&RouteSpec::new(to)).or_else(ignore(libc::ESRCH)),
        };
        result.map_err(LabError::step(format!("changing the route to {to} in {member}")))
    }

    /// Requests to the kernel in a member's namespace.
    pub fn rtnl(&self, target: &str) -> Result<Rtnl, LabError> {
        let namespace = self.namespace(target)?;
        Rtnl::open_in(namespace.as_fd()).map_err(LabError::step(format!("entering {target}")))
    }

    fn uplink(&self, name: &str) -> Result<(&Member, &Interface), LabError> {
        let member = self.layout.member(name).filter(|member| !member.interfaces.is_empty());
        let member = match member {
            Some(member) => member,
            None => self.node(name)?,
        };
        Ok((member, &member.interfaces[0]))
    }
}

fn ignore(errno: i32) -> impl FnOnce(NetlinkError) -> Result<(), NetlinkError> {
    move |error| if error.errno() == errno { Ok(()) } else { Err(error) }
}

fn link_name(name: &str) -> Result<LinkName, LabError> {
    name.parse().map_err(LabError::step("naming a link"))
}

fn no_link(member: &Member, link: &Interface) -> LabError {
    LabError::step(format!("looking for {} of {}", link.name, member.name))("there is no such link")
}
