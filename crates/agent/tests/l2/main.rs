//! The uplink on the bridge, in a LAN of network namespaces with a router and another host, in both families.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

mod attach;
mod crash;
mod guard;
mod kinds;
mod support;
