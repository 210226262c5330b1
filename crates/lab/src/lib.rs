//! Labs: whole networks on one machine, made from network namespaces, with the real agents and the real plugin in them.
//!
//! ```text
//! topology ──Layout::resolve()──▶ Layout ──up()──▶ Lab ──check()──▶ CheckReport
//!   YAML          pure            a value          namespaces, links, agents, pods
//! ```
//!
//! - [`topology`]: the file, and those that are built in. [`layout`]: every name, address, MTU and route of it.
//! - [`up()`], [`down()`], [`Lab`]: make, remove, look at and change a lab. Agents, links and the inventory can be stopped, cut
//!   and edited: the lab is the project's harness for whole-behaviour tests too.
//! - [`check`]: sends traffic between all of it and compares with what the layout calls for. [`ping`]: a stream of echo requests
//!   that counts what is lost while something is done to the lab.
//! - [`rootless`]: labs for users who aren't root.
//!
//! What it refuses to do: it changes nothing in the host's own network namespace, keeps no process of its own but the
//! holder of a lab without root, and kills only processes that it started or that run inside its namespaces.

mod agent;
pub mod check;
mod down;
mod error;
mod exec;
mod expect;
mod http;
mod icmp;
mod interrupt;
mod inventory;
mod lab;
pub mod layout;
mod name;
mod network;
pub mod ping;
mod pod;
mod process;
pub mod rootless;
mod state;
mod status;
pub mod topology;
mod up;

pub use down::down;
pub use error::LabError;
pub use http::{Response, get};
pub use interrupt::Interrupt;
pub use inventory::{Inventory, InventoryNetworks, InventoryNode};
pub use lab::Lab;
pub use name::{LabName, LabNameError};
pub use process::ProcessId;
pub use state::{Binaries, StateDir};
pub use status::{LabHost, LabNode, LabStatus, labs};
pub use up::{Progress, UpOptions, up};
