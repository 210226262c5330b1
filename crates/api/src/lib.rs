//! File and wire schemas of Hopwise, converted to and from the core types.
//!
//! serde lives here and not in the core: what stands in a file or goes over a wire has its own types, with their own
//! names and versions, and becomes a core value by an explicit conversion that checks every field. What is wrong comes
//! back as a value that names the field, what is wrong with it, and what to do.
#![forbid(unsafe_code)]

pub mod field;
pub mod inventory;
pub mod l2;
pub mod node_data;
pub mod saved;
pub mod settings;
pub mod slices;
pub mod status;
mod text;

#[cfg(test)]
mod arbitrary;
