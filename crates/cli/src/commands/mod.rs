//! One module for each subcommand: its arguments, its examples, what it does and how it shows it.

pub mod agent;
pub mod cleanup;
pub mod cni;
pub mod completion;
#[cfg(test)]
mod example;
pub mod l2;
pub mod lab;
pub mod plan;
pub mod routes;
pub mod status;
pub mod version;
