//! Where addresses come from: host-local in this process, any other IPAM plugin by running it.

mod delegate;
pub mod host_local;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hopwise_kernel::probe::Conflict;
use host_local::{Entry, Gateways, HostLocal, no_steps};

use crate::config::{Attachment, NetworkConfig};
use crate::json::FieldError;
use crate::plugin::gives_no_addresses;
use crate::spec::{AddResult, CniError, Request};

/// The source of addresses that `ipam.type` names.
pub enum Ipam<'a> {
    /// None: the network is layer 2 only.
    None,
    /// In this process, whatever binary of that name is installed: the files are the same.
    HostLocal(HostLocal<'a>),
    /// A plugin to be found in `CNI_PATH`.
    Delegate {
        /// Its name.
        plugin: String,
        /// What it reads from stdin.
        config: &'a NetworkConfig,
    },
}

impl<'a> Ipam<'a> {
    /// The source for a configuration.
    ///
    /// # Errors
    ///
    /// When the `ipam` part is wrong.
    pub fn load(config: &'a NetworkConfig, request: &Request) -> Result<Ipam<'a>, CniError> {
        Ipam::load_with(config, request, &Gateways::default())
    }

    /// The source for a configuration, with gateways for ranges that name none, in place of their first address: that
    /// one can then be allocated.
    ///
    /// # Errors
    ///
    /// When the `ipam` part is wrong.
    pub fn load_with(
        config: &'a NetworkConfig,
        request: &Request,
        gateways: &Gateways,
    ) -> Result<Ipam<'a>, CniError> {
        match config.ipam_type()?.as_str() {
            "" => Ok(Ipam::None),
            "host-local" => Ok(Ipam::HostLocal(HostLocal::load_with(config, request, gateways, &no_steps)?)),
            plugin => Ipam::other(plugin, config),
        }
    }

    /// The source for a DEL, which can do with less of the configuration.
    ///
    /// # Errors
    ///
    /// When the `ipam` part doesn't tell where addresses are kept.
    pub fn load_for_release(config: &'a NetworkConfig) -> Result<Ipam<'a>, CniError> {
        match config.ipam_type()?.as_str() {
            "" => Ok(Ipam::None),
            "host-local" => Ok(Ipam::HostLocal(HostLocal::load_for_release(config, &no_steps)?)),
            plugin => Ipam::other(plugin, config),
        }
    }

    fn other(plugin: &str, config: &'a NetworkConfig) -> Result<Ipam<'a>, CniError> {
        if gives_no_addresses(plugin) {
            return Err(FieldError {
                field: "ipam.type".to_owned(),
                problem: format!("{plugin:?} is no plugin for addresses; use \"host-local\", for example"),
            }
            .into());
        }
        Ok(Ipam::Delegate { plugin: plugin.to_owned(), config })
    }

    /// Whether the network has addresses at all.
    pub fn is_some(&self) -> bool {
        !matches!(self, Ipam::None)
    }

    /// Takes addresses.
    ///
    /// # Errors
    ///
    /// When there are none to be had; nothing is taken then.
    pub fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        let result = match self {
            Ipam::None => return Ok(AddResult::default()),
            Ipam::HostLocal(host_local) => host_local.add(request)?,
            Ipam::Delegate { plugin, config } => delegate::add(plugin, config, request)?,
        };
        if result.ips.is_empty() {
            let _ = self.del(request);
            return Err(CniError::failed("IPAM plugin returned missing IP config"));
        }
        Ok(result)
    }

    /// Leaves addresses alone that [`Ipam::decline`] was told of less than `retry_after` ago. Other plugins know nothing
    /// of it.
    pub fn avoid_conflicts(&mut self, retry_after: Duration) {
        if let Ipam::HostLocal(host_local) = self {
            host_local.avoid_conflicts(retry_after);
        }
    }

    /// Gives the attachment's addresses back, and notes those that another host has.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn decline(&self, request: &Request, conflicts: &[Conflict]) -> Result<(), CniError> {
        match self {
            Ipam::HostLocal(host_local) => host_local.decline(request, conflicts),
            Ipam::None | Ipam::Delegate { .. } => self.del(request),
        }
    }

    /// Whether another address could be had in place of this one.
    pub fn has_choice(&self, address: IpAddr) -> bool {
        matches!(self, Ipam::HostLocal(host_local) if !host_local.is_requested(address))
    }

    /// Gives the attachment's addresses back; none is no error.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn del(&self, request: &Request) -> Result<(), CniError> {
        match self {
            Ipam::None => Ok(()),
            Ipam::HostLocal(host_local) => host_local.del(request),
            Ipam::Delegate { plugin, config } => delegate::run(plugin, config, request, "DEL"),
        }
    }

    /// The addresses that the attachment has, and where; none where only another plugin knows.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn held(&self, request: &Request) -> Result<Vec<Entry>, CniError> {
        match self {
            Ipam::None | Ipam::Delegate { .. } => Ok(Vec::new()),
            Ipam::HostLocal(host_local) => host_local.held(request),
        }
    }

    /// Whether the attachment still has its addresses.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn check(&self, request: &Request) -> Result<(), CniError> {
        match self {
            Ipam::None => Ok(()),
            Ipam::HostLocal(host_local) => host_local.check(request),
            Ipam::Delegate { plugin, config } => delegate::run(plugin, config, request, "CHECK"),
        }
    }

    /// Whether an ADD could get addresses now.
    ///
    /// # Errors
    ///
    /// When it could not.
    pub fn status(&self, request: &Request) -> Result<(), CniError> {
        match self {
            Ipam::None => Ok(()),
            Ipam::HostLocal(host_local) => host_local.status(),
            Ipam::Delegate { plugin, config } => delegate::run(plugin, config, request, "STATUS"),
        }
    }

    /// Gives back what belongs to none of the valid attachments, and returns it where that is known.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn gc(&self, request: &Request, valid: &BTreeSet<Attachment>) -> Result<Vec<Entry>, CniError> {
        match self {
            Ipam::None => Ok(Vec::new()),
            Ipam::HostLocal(host_local) => host_local.gc(valid),
            Ipam::Delegate { plugin, config } => {
                delegate::run(plugin, config, request, "GC").map(|()| Vec::new())
            }
        }
    }
}
