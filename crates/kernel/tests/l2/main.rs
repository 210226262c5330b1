//! The uplink on the bridge, on the real kernel: what is read, and that moving it there and back changes nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

mod advertised;
mod back_and_forth;
mod support;
