//! The seam's real side: the kernel of this thread's network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::Changes;
use hopwise_core::host::{HostView, IptablesChain, Lookup, NetfilterView, SysctlKey};
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::observed::{Event, Observed, ObservedAccepts};
use hopwise_core::report::Report;
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::sysctl;
use hopwise_kernel::watch::{Interest, Watch, WatchError};

use super::network::{Network, NetworkError};

/// The kernel of one network namespace.
#[derive(Debug)]
pub struct LinuxNetwork {
    // In this order: what happens between opening the two is seen by both.
    watch: Watch,
    kernel: Kernel,
    /// Read in the middle of a large change.
    early: Vec<Event>,
    early_failure: Option<WatchError>,
}

impl LinuxNetwork {
    /// Opens the network namespace of the calling thread.
    pub fn open() -> Result<LinuxNetwork, NetworkError> {
        let watch = Watch::open().map_err(|error| NetworkError::read("notifications", error))?;
        let kernel = Kernel::open().map_err(|error| NetworkError::read("capabilities", error))?;
        Ok(LinuxNetwork { watch, kernel, early: Vec::new(), early_failure: None })
    }
}

impl Network for LinuxNetwork {
    fn observe(&mut self, sysctls: &[SysctlKey]) -> Result<Observed, NetworkError> {
        self.kernel.observe(sysctls).map_err(|error| NetworkError::read("what is ours", error))
    }

    fn observe_table(&mut self) -> Result<Option<ObservedTable>, NetworkError> {
        self.kernel.observe_table().map_err(|error| NetworkError::read("our nftables table", error))
    }

    fn observe_accepts(&mut self) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, NetworkError> {
        self.kernel.observe_accepts().map_err(|error| NetworkError::read("our accepts in iptables", error))
    }

    fn observe_sysctls(&mut self, keys: &[SysctlKey]) -> BTreeMap<SysctlKey, String> {
        sysctl::read(keys)
    }

    fn host(&mut self, pods: &[Cidr], lookups: &BTreeSet<IpAddr>) -> Result<HostView, NetworkError> {
        self.kernel
            .host_view(pods, lookups)
            .map_err(|error| NetworkError::read("links, addresses and routes", error))
    }

    fn lookups(&mut self, targets: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Lookup>, NetworkError> {
        self.kernel.lookups(targets).map_err(|error| NetworkError::read("route lookups", error))
    }

    fn netfilter(&mut self) -> Result<NetfilterView, NetworkError> {
        self.kernel.netfilter_view().map_err(|error| NetworkError::read("foreign netfilter rules", error))
    }

    fn apply(&mut self, changes: &Changes) -> Report {
        let LinuxNetwork { watch, kernel, early, early_failure } = self;
        kernel.apply_with(changes, &mut || {
            if let Err(error) = watch.read(early) {
                *early_failure = Some(error);
            }
        })
    }

    fn set_interest(&mut self, interest: Interest) {
        self.watch.set_interest(interest);
    }

    fn events(&mut self, events: &mut Vec<Event>) -> Result<(), NetworkError> {
        events.append(&mut std::mem::take(&mut self.early));
        match self.early_failure.take().map_or_else(|| self.watch.read(events), Err) {
            Err(WatchError::Overrun) => Err(NetworkError::Lost),
            Err(error) => Err(NetworkError::read("notifications", error)),
            Ok(()) => Ok(()),
        }
    }

    fn notification_fds(&self) -> [BorrowedFd<'_>; 2] {
        self.watch.fds()
    }
}
