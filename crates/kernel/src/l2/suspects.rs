//! Which programs that configure links run on this node.

use std::fs;
use std::path::Path;

use hopwise_core::l2::heal::{MANAGERS, Suspect};
use hopwise_core::name::LinkName;

/// The programs of [`MANAGERS`] that run in the calling thread's network namespace. What can't be read is left out: a process
/// may end while it is looked at.
pub fn suspects(uplink: LinkName) -> Vec<Suspect> {
    let here = fs::read_link("/proc/thread-self/ns/net").ok();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let path = entry.path();
        let Some(name) = name_of(&path) else { continue };
        if here.is_none() || fs::read_link(path.join("ns/net")).ok() != here {
            continue;
        }
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        let names_uplink = arguments.split(|byte| *byte == 0).any(|arg| names(arg, uplink.as_str()));
        found.push(Suspect { name, pid, names_uplink });
    }
    found.sort();
    found
}

/// The name of a process, if it is one of those; busybox is called by its first argument.
fn name_of(process: &Path) -> Option<String> {
    let name = fs::read_to_string(process.join("comm")).ok()?;
    let name = name.trim_end();
    MANAGERS.contains(&name).then(|| name.to_owned())
}

/// Whether an argument is the link's name, or an option with it stuck on, as in `-ieth1`.
fn names(argument: &[u8], link: &str) -> bool {
    argument == link.as_bytes()
        || (argument.starts_with(b"-")
            && argument.strip_suffix(link.as_bytes()).is_some_and(|o| o.len() <= 2))
        || argument.strip_suffix(link.as_bytes()).is_some_and(|option| option.ends_with(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_in_an_argument_of_its_own_or_stuck_to_an_option() {
        for argument in ["eth1", "-ieth1", "--interface=eth1"] {
            assert!(names(argument.as_bytes(), "eth1"), "{argument}");
        }
        for argument in ["eth10", "veth1", "/run/dhclient.eth1", "-pf/run/eth1"] {
            assert!(!names(argument.as_bytes(), "eth1"), "{argument}");
        }
    }
}
