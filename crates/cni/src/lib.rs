//! Hopwise's CNI plugins in one small static binary: `bridge`, `ptp`, `loopback`, `host-local`, `portmap` and `bandwidth`.
//!
//! The binary is installed under each plugin's name, or called by `type: hopwise`. It takes the same configuration, prints
//! the same results and keeps the same files as the reference plugins (containernetworking/plugins v1.9), and needs about a
//! tenth of their time: one process, addresses allocated in it, the pod's link made by one message to the kernel, no dumps,
//! no threads that wait for each other.
//!
//! Layers, each using only those below it:
//!
//! - [`plugin`]: choosing a plugin and running a call.
//! - [`bridge`], [`ptp`], [`loopback`], [`standalone`], [`portmap`], [`bandwidth`]: the plugins.
//! - [`pod`], [`ipam`], [`masquerade`], [`check`], [`agent`]: what plugins share, the pod's link and addresses, whether the
//!   node's agent is ready.
//! - [`mod@reference`]: what the reference plugins left in netfilter.
//! - [`nft`]: nf_tables messages.
//! - [`config`], [`spec`], [`json`]: the specification, without a system.
//! - [`arena`]: the process's memory.

pub mod agent;
pub mod arena;
pub mod bandwidth;
pub mod bridge;
pub mod check;
pub mod config;
pub mod ipam;
pub mod json;
pub mod loopback;
pub mod masquerade;
pub mod nft;
pub mod plugin;
pub mod pod;
pub mod portmap;
pub mod ptp;
pub mod reference;
pub mod sha512;
pub mod spec;
pub mod standalone;
mod sysctl;
