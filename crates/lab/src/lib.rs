//! Labs: whole networks in network namespaces.

pub mod error;
pub mod layout;
pub mod name;
pub mod process;
pub mod rootless;
pub mod topology;
