//! The seam between the reconciler and the kernel.
//!
//! One implementation is the kernel itself; tests drive the same loop with one that lives in memory, and check with the same
//! scenarios against a real namespace that it doesn't lie.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::Changes;
use hopwise_core::host::{HostView, IptablesChain, Lookup, NetfilterView, SysctlKey};
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::observed::{Event, Observed, ObservedAccepts};
use hopwise_core::report::Report;
use hopwise_kernel::watch::Interest;

/// Why something could not be read from the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Notifications were lost: everything has to be read again.
    #[error("kernel notifications were lost")]
    Lost,
    /// Reading failed.
    #[error("can't read {what} from the kernel")]
    Read {
        /// What was to be read.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl NetworkError {
    /// A failure to read `what`.
    pub fn read(what: &'static str, source: impl Error + Send + Sync + 'static) -> NetworkError {
        NetworkError::Read { what, source: Box::new(source) }
    }
}

/// The network of this host: read, changed, watched. Watching begins before the first reading.
pub trait Network {
    /// Reads everything that is ours.
    fn observe(&mut self, sysctls: &[SysctlKey]) -> Result<Observed, NetworkError>;
    /// Reads our nftables table alone.
    fn observe_table(&mut self) -> Result<Option<ObservedTable>, NetworkError>;
    /// Reads our accepts in iptables chains alone.
    fn observe_accepts(&mut self) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, NetworkError>;
    /// Reads sysctls alone; those that don't exist are left out.
    fn observe_sysctls(&mut self, keys: &[SysctlKey]) -> BTreeMap<SysctlKey, String>;
    /// Reads what is not ours and planning needs, foreign netfilter rules excepted.
    fn host(&mut self, pods: &[Cidr], lookups: &BTreeSet<IpAddr>) -> Result<HostView, NetworkError>;
    /// Asks where packets to some addresses would go.
    fn lookups(&mut self, targets: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Lookup>, NetworkError>;
    /// Reads what foreign netfilter rules do to forwarded packets.
    fn netfilter(&mut self) -> Result<NetfilterView, NetworkError>;
    /// Makes changes.
    fn apply(&mut self, changes: &Changes) -> Report;
    /// Says what planning reads of the host, so that notifications about the rest can be dropped.
    fn set_interest(&mut self, interest: Interest);
    /// Takes the notifications that are there, without waiting. [`NetworkError::Lost`] when some are not.
    fn events(&mut self, events: &mut Vec<Event>) -> Result<(), NetworkError>;
    /// What becomes readable when there are notifications.
    fn notification_fds(&self) -> [BorrowedFd<'_>; 2];
}
