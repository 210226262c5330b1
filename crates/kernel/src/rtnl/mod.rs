//! Small imperative rtnetlink operations: what the CNI plugin and the lab do, one object at a time.
//!
//! The agent does not use this: it applies a whole [`hopwise_core::diff::Changes`]. Here every operation says what it
//! does and returns the kernel's error number, so that callers can take `EEXIST` or `ENODEV` for an answer. Several
//! requests go to the kernel in one send through [`Requests`].

mod discard;
mod info;
mod request;
mod spec;
mod tc;
#[cfg(test)]
mod tests;
mod vlan;

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use hopwise_core::name::{IfIndex, LinkName, MacAddr};

pub use info::{AddressInfo, LinkInfo, RouteInfo};
pub use request::Requests;
pub(crate) use request::ifinfomsg;
pub use spec::{AddressSpec, BridgeSpec, LinkRef, PortSpec, RouteSpec, VethPeer, VethSpec};
pub use tc::{QdiscInfo, Tbf};
pub use vlan::PortVlans;

use crate::netlink::{Batch, NetlinkError, Socket};

/// `RTEXT_FILTER_SKIP_STATS`: without the counters of each address family, which are half of the answer.
const SKIP_STATS: u32 = 8;

/// A blocking rtnetlink socket into one network namespace.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// Opens a socket into the calling thread's network namespace.
    pub fn open() -> Result<Rtnl, NetlinkError> {
        Ok(Rtnl { socket: Socket::open(libc::NETLINK_ROUTE)? })
    }

    /// Opens a socket into another network namespace, given by a descriptor of its file. The calling thread stays where
    /// it is: a short-lived one goes there, as a thread can't be sure to come back.
    pub fn open_in(namespace: BorrowedFd<'_>) -> Result<Rtnl, NetlinkError> {
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                    .map_err(std::io::Error::from)?;
                Rtnl::open()
            });
            opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends requests and returns the kernel's verdict on each, in order.
    pub fn execute(
        &mut self,
        requests: &mut Requests,
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        self.socket.execute(&mut requests.batch)
    }

    /// Sends requests and returns the first refusal.
    pub fn execute_all(&mut self, requests: &mut Requests) -> Result<(), NetlinkError> {
        self.execute(requests)?.into_iter().collect()
    }

    fn one(&mut self, add: impl FnOnce(&mut Requests) -> &mut Requests) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        add(&mut requests);
        self.execute_all(&mut requests)
    }

    /// The link of that name, or `None`. No dump: one question, one answer.
    pub fn link_by_name(&mut self, name: LinkName) -> Result<Option<LinkInfo>, NetlinkError> {
        self.link(name.into())
    }

    /// The link of that index, or `None`.
    pub fn link_by_index(&mut self, index: IfIndex) -> Result<Option<LinkInfo>, NetlinkError> {
        self.link(index.into())
    }

    /// The index of the link of that name, or `None`. By the ioctl of netdevice(7), which answers at once;
    /// [`Rtnl::link_by_name`] waits for whoever is changing links, in whichever namespace.
    pub fn index_by_name(&self, name: LinkName) -> Result<Option<IfIndex>, NetlinkError> {
        // SAFETY: all zeros is a valid request.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // A name is shorter than the field, which stays terminated.
        for (place, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *place = byte as libc::c_char;
        }
        // SAFETY: the pointer is to a request that outlives the call; every socket answers it.
        let status = unsafe {
            libc::ioctl(self.socket.as_fd().as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request)
        };
        if status < 0 {
            let error = std::io::Error::last_os_error();
            let none = error.raw_os_error() == Some(libc::ENODEV);
            return if none { Ok(None) } else { Err(error.into()) };
        }
        // SAFETY: the kernel has filled in this field of the union.
        let index = unsafe { request.ifr_ifru.ifru_ifindex };
        Ok(Some(IfIndex(index as u32)))
    }

    fn link(&mut self, link: LinkRef) -> Result<Option<LinkInfo>, NetlinkError> {
        let mut batch = Batch::new();
        let index = if let LinkRef::Index(index) = link { index.0 } else { 0 };
        let mut message = batch.message(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, index, 0, 0));
        if let LinkRef::Name(name) = link {
            message.str(libc::IFLA_IFNAME, name.as_str());
        }
        message.u32(libc::IFLA_EXT_MASK, SKIP_STATS);
        drop(message);
        let mut found = Ok(None);
        self.socket.ask(&mut batch, |_, answer| {
            found = match answer {
                Ok(message) => Ok(LinkInfo::from_message(&message)),
                Err(error) if error.errno() == libc::ENODEV => Ok(None),
                Err(error) => Err(error),
            };
        })?;
        found
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<LinkInfo>, NetlinkError> {
        let mut batch = Batch::new();
        batch
            .message(libc::RTM_GETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0))
            .u32(libc::IFLA_EXT_MASK, SKIP_STATS);
        let mut links = Vec::new();
        self.socket.dump(&mut batch, &mut links, Vec::clear, |links, message| {
            links.extend(LinkInfo::from_message(&message));
        })?;
        Ok(links)
    }

    /// The addresses of a link, both families.
    pub fn addresses(&mut self, link: IfIndex) -> Result<Vec<AddressInfo>, NetlinkError> {
        let mut fixed = [0; 8];
        fixed[4..].copy_from_slice(&link.0.to_ne_bytes());
        let mut batch = Batch::new();
        drop(batch.message(libc::RTM_GETADDR, 0, &fixed));
        let mut addresses = Vec::new();
        let dumped = self.socket.dump(&mut batch, &mut addresses, Vec::clear, |addresses, message| {
            // Kernels before 4.20 do not filter by link.
            addresses.extend(AddressInfo::from_message(&message).filter(|address| address.link == link));
        });
        match dumped {
            Ok(()) => Ok(addresses),
            // A family that the kernel was built or booted without.
            Err(error) if error.errno() == libc::EOPNOTSUPP => Ok(addresses),
            Err(error) => Err(error),
        }
    }

    /// All routes of the namespace, of all tables, of both families.
    pub fn routes(&mut self) -> Result<Vec<RouteInfo>, NetlinkError> {
        let mut batch = Batch::new();
        drop(batch.message(libc::RTM_GETROUTE, 0, &[0; 12]));
        let mut routes = Vec::new();
        self.socket.dump(&mut batch, &mut routes, Vec::clear, |routes, message| {
            routes.extend(RouteInfo::from_message(&message));
        })?;
        Ok(routes)
    }

    /// The route that the kernel would choose for a packet from this host; `None` when there is none. No dump.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<RouteInfo>, NetlinkError> {
        let mut rtmsg = [0; 12];
        (rtmsg[0], rtmsg[1]) = match destination {
            IpAddr::V4(_) => (libc::AF_INET as u8, 32),
            IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
        };
        let mut batch = Batch::new();
        batch.message(libc::RTM_GETROUTE, 0, &rtmsg).ip(libc::RTA_DST, destination);
        let mut found = Ok(None);
        self.socket.ask(&mut batch, |_, answer| {
            found = match answer {
                Ok(message) => Ok(RouteInfo::from_message(&message)),
                Err(error) if error.errno() == libc::ENETUNREACH => Ok(None),
                Err(error) => Err(error),
            };
        })?;
        found
    }

    /// Whether an address is one of this host's own, on whichever link. No dump: one question, one answer.
    pub fn is_own(&mut self, address: IpAddr) -> Result<bool, NetlinkError> {
        // Without any route to it, it isn't ours either.
        Ok(self.route_to(address)?.is_some_and(|route| route.kind == libc::RTN_LOCAL))
    }

    /// Makes a bridge; `EEXIST` when any link has the name.
    pub fn add_bridge(&mut self, bridge: &BridgeSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_bridge(bridge))
    }

    /// The bridge of that name, made if there is none. Many may do this at once: one makes it, the others find it.
    ///
    /// Returns whatever link has the name: the caller looks at its kind.
    pub fn ensure_bridge(&mut self, bridge: &BridgeSpec) -> Result<LinkInfo, NetlinkError> {
        loop {
            if let Some(link) = self.link_by_name(bridge.name)? {
                return Ok(link);
            }
            match self.add_bridge(bridge) {
                Err(error) if error.errno() != libc::EEXIST => return Err(error),
                _ => {}
            }
        }
    }

    /// Makes a veth pair, with its alias; on an error there is none of it.
    pub fn add_veth(&mut self, veth: &VethSpec<'_>) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_veth(veth))?;
        let Some(alias) = veth.alias else { return Ok(()) };
        self.set_alias(veth.name, alias).inspect_err(|_| {
            let _ = self.delete_link(veth.name);
        })
    }

    /// Raises a link.
    pub fn set_up(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_up(link))
    }

    /// Takes a link down.
    pub fn set_down(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_down(link))
    }

    /// Sets a link's MTU in bytes.
    pub fn set_mtu(&mut self, link: impl Into<LinkRef>, mtu: u32) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_mtu(link, mtu))
    }

    /// Sets a link's MAC address.
    pub fn set_mac(&mut self, link: impl Into<LinkRef>, mac: MacAddr) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_mac(link, mac))
    }

    /// Makes a link a port of a bridge, or of nothing.
    pub fn set_master(
        &mut self,
        link: impl Into<LinkRef>,
        master: Option<IfIndex>,
    ) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_master(link, master))
    }

    /// Sets a link's alias.
    pub fn set_alias(&mut self, link: impl Into<LinkRef>, alias: &str) -> Result<(), NetlinkError> {
        self.one(|requests| requests.set_alias(link, alias))
    }

    /// Renames a link; it must be down before Linux 6.2.
    pub fn rename(&mut self, link: IfIndex, name: LinkName) -> Result<(), NetlinkError> {
        self.one(|requests| requests.rename(link, name))
    }

    /// Deletes a link; `ENODEV` when there is none.
    pub fn delete_link(&mut self, link: impl Into<LinkRef>) -> Result<(), NetlinkError> {
        self.one(|requests| requests.delete_link(link))
    }

    /// Puts an address on a link; `EEXIST` when it is there.
    pub fn add_address(&mut self, link: IfIndex, address: &AddressSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_address(link, address))
    }

    /// Takes an address from a link; `EADDRNOTAVAIL` when it isn't there.
    pub fn delete_address(&mut self, link: IfIndex, address: &AddressSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.delete_address(link, address))
    }

    /// Adds a route; `EEXIST` when one with the same destination, metric and table is there.
    pub fn add_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_route(route))
    }

    /// Adds a route, in place of one with the same destination, metric and table if there is one.
    pub fn replace_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.replace_route(route))
    }

    /// Deletes a route; `ESRCH` when there is none.
    pub fn delete_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(|requests| requests.delete_route(route))
    }

    /// Adds a permanent neighbour entry, in place of one for the same address.
    pub fn add_neighbour(
        &mut self,
        link: IfIndex,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_neighbour(link, address, mac))
    }

    /// Deletes a neighbour entry; `ENOENT` when there is none.
    pub fn delete_neighbour(&mut self, link: IfIndex, address: IpAddr) -> Result<(), NetlinkError> {
        self.one(|requests| requests.delete_neighbour(link, address))
    }
}
