//! The `host-local` IPAM plugin: addresses from ranges, kept in files.
//!
//! Same configuration, same files, same lock as the reference; see [`store`] for what is better. One lock is held for all
//! ranges, so a dual-stack ADD reserves both addresses or none.

mod config;
mod conflicts;
mod index;
mod resolv_conf;
mod steps;
mod store;
#[cfg(test)]
mod tests;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use conflicts::Conflicts;
use hopwise_core::ipam::{Range, RangeSet};
use hopwise_kernel::probe::Conflict;

pub use config::{Config, Gateways};
pub use index::Entry;
pub use steps::{Step, Steps, no_steps};
pub use store::{Owner, Store, StoreError, is_namespace};

use crate::config::{Attachment, NetworkConfig};
use crate::spec::{AddResult, CniError, Code, InterfaceAddress, IpConfig, Request};

/// How many addresses are tried one by one before the folder is read to find a free one.
const PROBES: usize = 8;

/// host-local for one network.
pub struct HostLocal<'a> {
    config: Config,
    network: &'a str,
    boot_id: String,
    steps: Steps<'a>,
    /// How long addresses that other hosts have are left alone, where that is looked at.
    retry_after: Option<Duration>,
}

impl<'a> HostLocal<'a> {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// When it is wrong; see [`Config::load`].
    pub fn load(
        config: &'a NetworkConfig,
        request: &Request,
        steps: Steps<'a>,
    ) -> Result<HostLocal<'a>, CniError> {
        HostLocal::load_with(config, request, &Gateways::default(), steps)
    }

    /// The same, with gateways for ranges that name none.
    ///
    /// # Errors
    ///
    /// When the configuration is wrong; see [`Config::load`].
    pub fn load_with(
        config: &'a NetworkConfig,
        request: &Request,
        gateways: &Gateways,
        steps: Steps<'a>,
    ) -> Result<HostLocal<'a>, CniError> {
        Ok(HostLocal::new(Config::load(config, request, gateways)?, &config.name, steps))
    }

    /// For DEL: reads no more than it takes to release addresses.
    ///
    /// # Errors
    ///
    /// When the folder can't be told.
    pub fn load_for_release(config: &'a NetworkConfig, steps: Steps<'a>) -> Result<HostLocal<'a>, CniError> {
        Ok(HostLocal::new(Config::load_for_release(config)?, &config.name, steps))
    }

    fn new(config: Config, network: &'a str, steps: Steps<'a>) -> HostLocal<'a> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        HostLocal { config, network, boot_id: boot_id.trim().to_owned(), steps, retry_after: None }
    }

    /// Leaves addresses alone that [`HostLocal::decline`] was told of less than `retry_after` ago.
    pub fn avoid_conflicts(&mut self, retry_after: Duration) {
        self.retry_after = Some(retry_after);
    }

    /// Whether just this address is asked for.
    pub fn is_requested(&self, address: IpAddr) -> bool {
        self.config.requested.contains(&address)
    }

    /// The addresses that other hosts have, as far as that is looked at and known.
    fn conflicts(&self) -> Conflicts {
        self.retry_after.map(|retry_after| self.noted(retry_after)).unwrap_or_default()
    }

    fn noted(&self, retry_after: Duration) -> Conflicts {
        Conflicts::load(&self.config.data_dir, self.network, retry_after, conflicts::now())
    }

    /// Releases the attachment's addresses, and notes those that another host has.
    ///
    /// # Errors
    ///
    /// When a file can't be removed or written.
    pub fn decline(&self, request: &Request, conflicts: &[Conflict]) -> Result<(), CniError> {
        let mut store = self.open()?;
        let mut notes = self.noted(self.retry_after.unwrap_or_default());
        for conflict in conflicts {
            notes.add(conflict.address, conflict.holder, conflicts::now());
        }
        let noted = notes.save().map_err(|error| {
            CniError::caused(format!("host-local: can't write {}", notes.path().display()), &error)
        });
        // Released even if that failed: what is never released runs out.
        let released = store.release(owner(request));
        store.close();
        released?;
        noted
    }

    fn open(&self) -> Result<Store<'a>, CniError> {
        Ok(Store::open(&self.config.data_dir, self.network, &self.boot_id, self.steps)?)
    }

    /// Reserves an address from each range set.
    ///
    /// # Errors
    ///
    /// When a set is full, a requested address can't be had, or the attachment has addresses already and its namespace
    /// still exists. Nothing is reserved then.
    pub fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        let dns = self.config.resolv_conf.as_deref().map(resolv_conf::read).transpose()?.unwrap_or_default();
        let mut store = self.open()?;
        let mut reserved = Vec::new();
        let outcome = self.reserve_all(&mut store, request, &mut reserved);
        if outcome.is_err() {
            for (address, _) in &reserved {
                let _ = store.release_address(*address);
            }
        }
        store.close();
        outcome?;
        let ips = reserved
            .into_iter()
            .map(|(address, range)| IpConfig {
                address: InterfaceAddress { address, prefix_len: range.subnet().prefix_len() },
                gateway: Some(range.gateway()),
                interface: None,
            })
            .collect();
        Ok(AddResult { interfaces: Vec::new(), ips, routes: self.config.routes.clone(), dns })
    }

    fn reserve_all(
        &self,
        store: &mut Store<'_>,
        request: &Request,
        reserved: &mut Vec<(IpAddr, Range)>,
    ) -> Result<(), CniError> {
        let mut requested = self.config.requested.clone();
        for (index, set) in self.config.sets.iter().enumerate() {
            let wanted = requested.iter().position(|address| set.range_for(*address).is_some());
            let taken = match wanted.map(|position| requested.remove(position)) {
                Some(address) => reserve_requested(store, request, set, address),
                None => self.reserve_any(store, request, set, index),
            };
            let (address, range) =
                taken.map_err(|error| error.context(format!("failed to allocate for range {index}")))?;
            reserved.push((address, range));
            store.set_last_reserved(index, address)?;
        }
        if requested.is_empty() {
            return Ok(());
        }
        let addresses: Vec<String> = requested.iter().map(IpAddr::to_string).collect();
        let msg = format!("failed to allocate all requested IPs: {}", addresses.join(" "));
        Err(CniError::failed(msg))
    }

    fn reserve_any(
        &self,
        store: &mut Store<'_>,
        request: &Request,
        set: &RangeSet,
        index: usize,
    ) -> Result<(IpAddr, Range), CniError> {
        let owner = owner(request);
        for entry in store.addresses_of(owner)? {
            if set.range_for(entry.address).is_none() {
                continue;
            }
            // A runtime that crashed between ADD and DEL and starts the same container again (nerdctl, podman).
            if entry.netns.is_empty() || is_namespace(entry.netns.as_ref()) {
                let msg = format!(
                    "{} has been allocated to {}, duplicate allocation is not allowed",
                    entry.address, request.container_id
                );
                return Err(CniError::failed(msg));
            }
            store.release_address(entry.address)?;
        }
        if let Some(taken) = self.first_free(store, request, set, index)? {
            return Ok(taken);
        }
        let reclaimed = store.reclaim()?;
        if reclaimed.iter().any(|entry| set.range_for(entry.address).is_some())
            && let Some(taken) = self.first_free(store, request, set, index)?
        {
            return Ok(taken);
        }
        let error = CniError::failed(format!("no IP addresses available in range set: {set}"));
        let conflicts = self.conflicts();
        let held = conflicts.iter().filter(|(address, _)| set.range_for(*address).is_some());
        let held: Vec<String> = held.map(|(address, holder)| format!("{address} by {holder}")).collect();
        if held.is_empty() {
            return Err(error);
        }
        Err(error.details(format!("other hosts hold {}", held.join(", "))))
    }

    fn first_free(
        &self,
        store: &mut Store<'_>,
        request: &Request,
        set: &RangeSet,
        index: usize,
    ) -> Result<Option<(IpAddr, Range)>, CniError> {
        let conflicts = self.conflicts();
        let mut candidates =
            set.candidates(store.last_reserved(index)).filter(|(address, _)| !conflicts.has(*address));
        let reserve = |store: &mut Store<'_>, address| store.reserve(owner(request), &request.netns, address);
        for (address, range) in candidates.by_ref().take(PROBES) {
            if reserve(store, address)? {
                return Ok(Some((address, *range)));
            }
        }
        let taken = store.taken()?;
        for (address, range) in candidates.filter(|(address, _)| !taken.contains(address)) {
            if reserve(store, address)? {
                return Ok(Some((address, *range)));
            }
        }
        Ok(None)
    }

    /// Releases the attachment's addresses; none is no error.
    ///
    /// # Errors
    ///
    /// When a file can't be removed.
    pub fn del(&self, request: &Request) -> Result<(), CniError> {
        let mut store = self.open()?;
        let released = store.release(owner(request));
        store.close();
        Ok(released.map(drop)?)
    }

    /// The attachment's addresses.
    ///
    /// # Errors
    ///
    /// When files can't be read.
    pub fn held(&self, request: &Request) -> Result<Vec<Entry>, CniError> {
        let mut store = self.open()?;
        let found = store.addresses_of(owner(request))?;
        store.close();
        Ok(found)
    }

    /// Looks for any address of the attachment.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub fn check(&self, request: &Request) -> Result<(), CniError> {
        if self.held(request)?.is_empty() {
            let msg =
                format!("host-local: Failed to find address added by container {}", request.container_id);
            return Err(CniError::failed(msg));
        }
        Ok(())
    }

    /// Releases what belongs to none of the valid attachments, and returns it.
    ///
    /// # Errors
    ///
    /// When a file can't be read or removed.
    pub fn gc(&self, valid: &BTreeSet<Attachment>) -> Result<Vec<Entry>, CniError> {
        let mut store = self.open()?;
        let released = store.retain(valid);
        store.close();
        Ok(released?)
    }

    /// Whether each range set has an address left, or one that the next ADD would take back. Takes no lock, and reads no
    /// file while there are some left: runtimes ask twice a second.
    ///
    /// # Errors
    ///
    /// [`Code::NotAvailable`] when a set is full or the folder can't be read, or not written to.
    pub fn status(&self) -> Result<(), CniError> {
        let folder = self.config.data_dir.join(self.network);
        let taken = match store::taken(&folder) {
            Ok(taken) => taken,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(CniError { code: Code::NotAvailable, ..error.into() }),
        };
        // The first ADD makes the folder in the next one above that is there.
        let writable = folder
            .ancestors()
            .map(|folder| (folder, nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)));
        let first_there = writable.into_iter().find(|(_, access)| *access != Err(nix::errno::Errno::ENOENT));
        if let Some((folder, Err(errno))) = first_there {
            let msg = format!("host-local: can't write to {}: {}", folder.display(), errno.desc());
            return Err(CniError::new(Code::NotAvailable, msg));
        }
        let conflicts = self.conflicts();
        let elsewhere = conflicts.iter().map(|(address, _)| address);
        let taken: BTreeSet<IpAddr> = taken.into_iter().chain(elsewhere).collect();
        let in_set = |set: &RangeSet, addresses: &BTreeSet<IpAddr>| {
            let counts =
                |address: &IpAddr| set.range_for(*address).is_some_and(|range| range.gateway() != *address);
            addresses.iter().copied().filter(counts).count() as u128
        };
        let data_dir = &self.config.data_dir;
        let reclaimable = LazyCell::new(|| store::reclaimable(data_dir, self.network, &self.boot_id));
        for set in &self.config.sets {
            let held = in_set(set, &taken);
            // A full node that were not ready would get no pod, and so no ADD that takes anything back.
            if held >= set.capacity() && in_set(set, &reclaimable) == 0 {
                let msg = format!("no IP addresses available in range set: {set}");
                let details = format!("all {held} are taken in {}", folder.display());
                return Err(CniError::new(Code::NotAvailable, msg).details(details));
            }
        }
        Ok(())
    }
}

fn reserve_requested(
    store: &mut Store<'_>,
    request: &Request,
    set: &RangeSet,
    address: IpAddr,
) -> Result<(IpAddr, Range), CniError> {
    let range = *set.range_for(address).expect("the caller has found it in the set");
    if address == range.gateway() {
        return Err(CniError::failed(format!("requested ip {address} is subnet's gateway")));
    }
    if store.reserve(owner(request), &request.netns, address)? {
        return Ok((address, range));
    }
    let msg = format!("requested IP address {address} is not available in range set {set}");
    Err(CniError::failed(msg))
}

fn owner(request: &Request) -> Owner<'_> {
    Owner { container_id: &request.container_id, ifname: &request.ifname }
}

impl From<StoreError> for CniError {
    fn from(error: StoreError) -> CniError {
        CniError::caused("host-local", &error)
    }
}
