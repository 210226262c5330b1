//! Netlink: a codec that neither copies nor allocates per attribute, and a blocking socket.
//!
//! Why our own codec: the hot paths are one pod attachment and 5,000 routes, `netlink-packet-route` has no nexthop object
//! messages (as of 0.34), breaks its API several times a year, and allocates per attribute. The socket is `netlink-sys`'s.
//!
//! Formats: RFC 3549, `linux/netlink.h`; everything is in host byte order unless a field says otherwise.

mod decode;
mod encode;
mod socket;

pub use decode::{Attribute, Attributes, Message, Messages};
pub use encode::{Batch, MessageWriter, Nested};
pub use socket::{NetlinkError, Socket};

#[cfg(test)]
mod tests;
