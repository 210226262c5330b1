//! Hopwise's hands: the Linux kernel, read and written synchronously.
//!
//! - [`netlink`]: message codec and socket, shared by the agent and the CNI plugin.
//!
//! Nothing here decides anything: it observes values of `hopwise-core`, and applies them.

pub mod kernel;
pub mod netlink;
pub mod netns;
