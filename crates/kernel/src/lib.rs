//! Hopwise's hands: the Linux kernel, read and written synchronously.
//!
//! - [`netlink`]: message codec and socket, shared by the agent and the CNI plugin.
//! - [`kernel`]: everything of ours, read and written; what planning needs to know of the host.
//! - [`watch`]: what the kernel tells by itself.
//! - [`rt`]: the routing messages that they exchange with it.
//! - [`nft`]: our nftables table, and what foreign ones do to forwarded packets.
//! - [`iptables`]: accepts in an iptables `FORWARD` chain whose policy is `DROP`.
//! - [`l2`]: the uplink on the bridge.
//! - [`probe`]: asking a link whether an address is taken.
//! - [`readiness`]: how the agent tells other processes that it is ready.
//! - [`rtnl`]: small imperative operations over it, for the plugin and the lab.
//!
//! Nothing here decides anything: it observes values of `hopwise-core`, and applies them.

mod apply;
pub mod iptables;
pub mod kernel;
pub mod l2;
pub mod netlink;
pub mod netns;
pub mod nft;
mod observe;
pub mod probe;
pub mod readiness;
pub mod rt;
pub mod rtnl;
pub mod sysctl;
pub mod watch;
