//! The kernel's answers to what Hopwise reads and writes over rtnetlink, each test in a network namespace of its own.

mod dumps;
mod errors;
mod events;
mod foreign;
mod host;
mod quiet;
mod round_trip;
mod scale;
mod support;
