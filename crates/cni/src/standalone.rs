//! `host-local` called as a plugin of its own, by somebody else's main plugin.

use crate::ipam::host_local::{HostLocal, no_steps};
use crate::plugin::{Invocation, Plugin};
use crate::spec::{AddResult, CniError};

/// The `host-local` plugin.
pub struct HostLocalPlugin;

fn load(invocation: &Invocation) -> Result<HostLocal<'_>, CniError> {
    HostLocal::load(&invocation.config, &invocation.request, &no_steps)
}

impl Plugin for HostLocalPlugin {
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError> {
        load(invocation)?.add(&invocation.request)
    }

    fn del(&self, invocation: &Invocation) -> Result<(), CniError> {
        HostLocal::load_for_release(&invocation.config, &no_steps)?.del(&invocation.request)
    }

    fn check(&self, invocation: &Invocation) -> Result<(), CniError> {
        load(invocation)?.check(&invocation.request)
    }

    fn status(&self, invocation: &Invocation) -> Result<(), CniError> {
        load(invocation)?.status()
    }

    fn gc(&self, invocation: &Invocation) -> Result<(), CniError> {
        let valid = invocation.config.valid_attachments()?.into_iter().collect();
        load(invocation)?.gc(&valid).map(drop)
    }
}
