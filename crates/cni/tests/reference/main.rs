//! The reference plugins (containernetworking/plugins v1.9.1) and ours side by side: the same configuration, the same
//! steps, and then what they said, what the kernel has and what is on disk, on the host and in the pods. Whatever differs
//! is a row of the table in docs/cni.md or a failure. Every case is also done crosswise: pods added by one side are checked
//! and deleted by the other. Needs root, `ip`, and the reference plugins
//! (`HOPWISE_REFERENCE_CNI`; else older ones, `HOPWISE_DEBIAN_CNI`).
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod bridge;
mod case;
mod cnitool;
mod compare;
mod differences;
mod errors;
mod host_local;
#[path = "../common/mount.rs"]
mod mount;
mod older;
mod place;
mod ptp;
mod snapshot;
