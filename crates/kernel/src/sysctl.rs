//! Sysctls below `/proc/sys/net/`: those of the network namespace of the calling thread.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use hopwise_core::host::SysctlKey;

/// Where network sysctls are.
const BASE: &str = "/proc/sys/net";

/// Whether this kernel has IPv6 switched on: it has no sysctls for it otherwise (`ipv6.disable=1`, or not built in).
pub(crate) fn has_ipv6() -> bool {
    PathBuf::from(BASE).join("ipv6/conf/all").exists()
}

/// Reads the values of sysctls. One that isn't there (no such link, family switched off) is left out.
pub fn read(keys: &[SysctlKey]) -> BTreeMap<SysctlKey, String> {
    keys.iter()
        .filter_map(|key| {
            let value = std::fs::read_to_string(path(key)).ok()?;
            Some((*key, value.trim_end().to_owned()))
        })
        .collect()
}

/// Writes one sysctl.
pub fn write(key: &SysctlKey, value: &str) -> io::Result<()> {
    std::fs::write(path(key), value)
}

fn path(key: &SysctlKey) -> PathBuf {
    PathBuf::from(BASE).join(key.path())
}

/// Reads a sysctl given by its path below `/proc/sys/net/`; `None` when it can't be read.
pub(crate) fn read_path(path: &str) -> Option<String> {
    std::fs::read_to_string(PathBuf::from(BASE).join(path)).ok().map(|value| value.trim_end().to_owned())
}

/// Writes a sysctl given by its path below `/proc/sys/net/`.
pub(crate) fn write_path(path: &str, value: &str) -> io::Result<()> {
    // Never made: a file of that name on something else than procfs would help nobody.
    let mut file = std::fs::File::options().write(true).open(PathBuf::from(BASE).join(path))?;
    io::Write::write_all(&mut file, value.as_bytes())
}
