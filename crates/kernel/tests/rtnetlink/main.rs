//! The kernel's answers to what Hopwise reads and writes over rtnetlink, each test in a network namespace of its own.

mod round_trip;
mod support;
