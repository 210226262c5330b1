//! The CNI specification: what goes in, what comes out. Nothing here touches the system.
//!
//! Versions 0.1.0 to 1.1.0, see <https://www.cni.dev/docs/spec/>. Where the specification is silent, the behaviour is
//! that of the reference library (`containernetworking/cni` v1.3).

mod args;
mod env;
mod error;
mod result;
mod result_json;
#[cfg(test)]
mod tests;
mod version;

pub use args::EnvArgs;
pub(crate) use env::is_name;
pub use env::{Command, Environment, Request};
pub use error::{CniError, Code};
pub use result::{AddResult, Dns, Interface, InterfaceAddress, IpConfig, Route};
pub(crate) use result_json::{read_dns, read_route};
pub use version::SpecVersion;
