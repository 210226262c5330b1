//! Hopwise's functional core.
//!
//! A node's network is a value. This crate holds the values and the pure functions between them:
//!
//! ```text
//! ClusterView + HostView + NodeConfig ──plan()──▶ NodePlan ──▶ Desired ─┐
//!                                                          Observed ────┴─diff()──▶ Changes
//! ```
//!
//! It has no I/O, no clock, no async, no libc, and runs on any operating system. Nothing in it panics on any input:
//! what is wrong with the input becomes a [`note::Note`] and leaves everything else working.
#![forbid(unsafe_code)]

pub mod cidr;
pub mod cluster;
pub mod config;
pub mod diff;
pub mod family;
pub mod host;
pub mod ipam;
pub mod l2;
pub mod mark;
pub mod name;
pub mod netfilter;
pub mod note;
pub mod object;
pub mod observed;
pub mod persist;
pub mod plan;
pub mod report;
pub mod slices;
