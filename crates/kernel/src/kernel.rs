//! The kernel of one network namespace: observe, apply, watch.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::Changes;
use hopwise_core::host::{Capabilities, HostView, NetfilterView, SysctlKey};
use hopwise_core::observed::{Event, Observed};
use hopwise_core::report::Report;

use crate::netlink::{NetlinkError, Socket};

/// Sockets into one network namespace, that of the thread that opens them. Blocking; belongs to one thread.
#[derive(Debug)]
pub struct Kernel {
    route: Socket,
    capabilities: Capabilities,
}

impl Kernel {
    /// Opens the sockets and finds out what the kernel can do.
    pub fn open() -> Result<Kernel, NetlinkError> {
        let route = Socket::open(libc::NETLINK_ROUTE)?;
        Ok(Kernel { route, capabilities: Capabilities::default() })
    }

    /// What the kernel can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}
