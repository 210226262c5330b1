//! The kernel's answers to what Hopwise reads and writes over rtnetlink, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod converge;
mod dumps;
mod errors;
mod events;
mod foreign;
mod host;
mod quiet;
mod round_trip;
mod scale;
mod support;
