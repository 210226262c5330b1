//! Sysctls below `/proc/sys/net`, of the network namespace of the calling thread.

use std::fs;

use crate::spec::CniError;

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

/// Writes a value that makes things better but must not make an ADD fail: its folder is missing where the kernel has no
/// IPv6, and /proc/sys may be read-only.
pub fn try_write(key: &str, value: &str) {
    let _ = fs::write(path(key), value);
}

/// Writes a value unless it is there already.
///
/// # Errors
///
/// When it can't be written.
pub fn ensure(key: &str, value: &str) -> Result<(), CniError> {
    let path = path(key);
    if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value)
        .map_err(|error| CniError::caused(format!("can't write {value} to {path}"), &error))
}
