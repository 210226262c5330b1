//! The kernel of one network namespace: what is there ([`Kernel::observe`], [`Kernel::host_view`]), and making it what it
//! should be ([`Kernel::apply`]).
//!
//! Everything that it reads as ours carries our mark ([`hopwise_core::mark`]), and it writes or deletes nothing else.
//! Cleaning up needs nothing of its own: the difference between what is observed and an empty
//! [`hopwise_core::diff::Desired`] deletes all that is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::Changes;
use hopwise_core::family::PerFamily;
use hopwise_core::host::{Capabilities, HostView, IptablesChain, Lookup, NetfilterView, SysctlKey};
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::observed::{Observed, ObservedAccepts};
use hopwise_core::report::Report;

use crate::apply;
use crate::iptables::{self, IptablesError};
use crate::netlink::{Batch, NetlinkError, Socket};
use crate::nft;
use crate::observe::{self, Doubled, Failed};
use crate::rt;
use crate::sysctl;

/// Room for the answers to a whole datagram of requests, however the kernel counts them (`skb->truesize`).
const RECEIVE_BUFFER: usize = 1 << 20;

/// Sockets into one network namespace, that of the thread that opens them. Blocking; belongs to one thread, which has to
/// stay in that namespace: sysctls and iptables follow the thread, not the sockets.
#[derive(Debug)]
pub struct Kernel {
    route: Socket,
    /// `None` where the kernel has no netfilter netlink.
    netfilter: Option<Socket>,
    capabilities: Capabilities,
    /// As of the last observation.
    doubled: Doubled,
}

/// Why the kernel could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No routing socket.
    #[error("can't open a netlink socket")]
    Open(#[source] NetlinkError),
    /// A read failed.
    #[error("can't read {what} from the kernel")]
    Read {
        /// What was being read.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
    /// iptables could not be read.
    #[error("can't read iptables chains")]
    Iptables(#[source] IptablesError),
}

impl From<Failed> for KernelError {
    fn from((what, source): Failed) -> KernelError {
        KernelError::Read { what, source }
    }
}

impl Kernel {
    /// Opens the sockets and finds out what the kernel can do, without changing anything.
    pub fn open() -> Result<Kernel, KernelError> {
        let mut route = Socket::open(libc::NETLINK_ROUTE).map_err(KernelError::Open)?;
        route.set_receive_buffer(RECEIVE_BUFFER);
        let mut netfilter = Socket::open(libc::NETLINK_NETFILTER).ok();
        if let Some(socket) = &netfilter {
            socket.set_receive_buffer(RECEIVE_BUFFER);
        }
        let capabilities = Capabilities {
            nexthop_objects: has_nexthop_objects(&mut route),
            vxlan: has_vxlan(&mut route)?,
            nftables: netfilter.as_mut().is_some_and(has_nftables),
            families: PerFamily { v4: true, v6: sysctl::has_ipv6() },
        };
        Ok(Kernel { route, netfilter, capabilities, doubled: Doubled::new() })
    }

    /// What the kernel can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Reads everything that is ours, and the present values of some sysctls.
    pub fn observe(&mut self, sysctls: &[SysctlKey]) -> Result<Observed, KernelError> {
        let mut observed = self.observe_routing(sysctls)?;
        observed.table = self.observe_table()?;
        observed.forward_accepts = self.observe_accepts()?;
        Ok(observed)
    }

    /// [`Kernel::observe`] without netfilter.
    pub fn observe_routing(&mut self, sysctls: &[SysctlKey]) -> Result<Observed, KernelError> {
        let (observed, doubled) = observe::routing(&mut self.route, self.capabilities, sysctls)?;
        self.doubled = doubled;
        Ok(observed)
    }

    /// Reads our nftables table alone; `None` when it isn't there.
    pub fn observe_table(&mut self) -> Result<Option<ObservedTable>, KernelError> {
        match self.nftables() {
            Some(socket) => Ok(nft::observe(socket).map_err(|error| ("our nftables table", error))?),
            None => Ok(None),
        }
    }

    /// Reads our accepts in iptables chains alone.
    pub fn observe_accepts(&mut self) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, KernelError> {
        match &mut self.netfilter {
            Some(socket) => iptables::observe(socket).map_err(KernelError::Iptables),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Reads what planning needs to know of this host, all but [`HostView::netfilter`].
    ///
    /// Of foreign routes those that are default routes or overlap `pod_networks`; `lookups` are the addresses that
    /// [`hopwise_core::plan::lookup_targets`] names.
    pub fn host_view(
        &mut self,
        pod_networks: &[Cidr],
        lookups: &BTreeSet<IpAddr>,
    ) -> Result<HostView, KernelError> {
        Ok(observe::host::view(&mut self.route, self.capabilities, pod_networks, lookups)?)
    }

    /// Asks the kernel how it would reach each address, as [`Kernel::host_view`] does.
    pub fn lookups(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Lookup>, KernelError> {
        Ok(observe::host::look_up(&mut self.route, addresses)?)
    }

    /// Reads what foreign netfilter rules would do to forwarded packets.
    pub fn netfilter_view(&mut self) -> Result<NetfilterView, KernelError> {
        match self.nftables() {
            Some(socket) => Ok(nft::view(socket).map_err(|error| ("nftables rules", error))?),
            None => Ok(NetfilterView::default()),
        }
    }

    /// Executes changes, as far as the kernel lets us; what it refuses is in the report.
    pub fn apply(&mut self, changes: &Changes) -> Report {
        self.apply_with(changes, &mut || {})
    }

    /// [`Kernel::apply`] that calls `between` after every hundred requests: to read a
    /// [`crate::watch::Watch`], whose buffer would not hold the echoes of 60,000 routes.
    pub fn apply_with(&mut self, changes: &Changes, between: &mut dyn FnMut()) -> Report {
        let netfilter = if self.capabilities.nftables { self.netfilter.as_mut() } else { None };
        apply::apply(&mut self.route, netfilter, changes, &self.doubled, between)
    }

    fn nftables(&mut self) -> Option<&mut Socket> {
        if self.capabilities.nftables { self.netfilter.as_mut() } else { None }
    }
}

/// Kernels before 5.3 don't know the request.
fn has_nexthop_objects(socket: &mut Socket) -> bool {
    observe::dump(socket, "nexthop objects", rt::nexthop::get_all, |_| Some(())).is_ok()
}

/// See [`rt::link::probe_vxlan`]. Without the right to make links the answer is EPERM, which says nothing.
fn has_vxlan(socket: &mut Socket) -> Result<bool, KernelError> {
    let mut batch = Batch::new();
    rt::link::probe_vxlan(&mut batch);
    let verdicts = socket.execute(&mut batch).map_err(KernelError::Open)?;
    Ok(!verdicts.iter().any(|verdict| matches!(verdict, Err(error) if error.errno() == libc::EOPNOTSUPP)))
}

/// Asks for the generation of the rule set (`NFT_MSG_GETGEN`).
fn has_nftables(socket: &mut Socket) -> bool {
    const NFT_MSG_GETGEN: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | 16;
    let mut batch = Batch::new();
    batch.message(NFT_MSG_GETGEN, 0, &[0; 4]);
    let mut there = false;
    let asked = socket.ask(&mut batch, |_, answer| there = answer.is_ok());
    asked.is_ok() && there
}
