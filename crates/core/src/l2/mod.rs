//! Pods on the plain L2 network: the node's uplink becomes a port of the pods' bridge, and what the node had on the uplink
//! moves to the bridge.
//!
//! - [`value`]: what is observed of the two links, and what of it moves.
//! - [`step`]: one reversible change of it, and the command that one would type for it.
//! - [`transfer`]: the steps that move addresses, routes and neighbours from one link to another.
//! - [`attach`], [`detach`], [`heal`]: what to do, from what is observed.
//! - [`refusal`]: why an uplink is not attached.
//!
//! Nothing here trusts a count of steps done: undoing, healing and going on after a crash all start from what is observed
//! now and from the [`value::Record`] written before the first change.

pub mod attach;
pub mod detach;
pub mod heal;
pub mod refusal;
pub mod step;
pub mod transfer;
pub mod value;
