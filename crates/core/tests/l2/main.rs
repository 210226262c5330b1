//! Attaching an uplink, undoing it from wherever it got to, and healing, on values.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

mod arbitrary;
mod model;
mod properties;
mod tables;
