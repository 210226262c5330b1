//! Which reference is compared with. Where v1.9.1 can't be had (it is built with Go), an older one that is packaged does for
//! most: Debian 12 has 1.1.1. What it lacks is left out, and each time it is said.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::case::Case;
use super::differences::{Difference, everywhere, matches};

/// The reference that is compared with.
pub struct Peer {
    /// The folder of its plugins.
    pub folder: PathBuf,
    /// The versions of the specification that it speaks.
    versions: Vec<String>,
}

/// What every release before 1.3 does in another way.
pub const OLDER: &[Difference] = &[
    everywhere("files are readable by all", &[("files.net/*", "644 *", "600 *")]),
    everywhere("the pod's end of the link has no queue", &[("pod*.link.*.txqlen", "nothing", "1000")]),
    everywhere("an empty dns is printed", &[("said.stdout.dns", "{}", "nothing")]),
    everywhere("CHECK looks for routes without a gateway in vain", &[("said.exit of CHECK", "1", "0")]),
    everywhere(
        "addresses of IPv6 go when the link goes down",
        &[("pod*.sysctl.ipv6/conf/eth0/keep_addr_on_down", "0", "1")],
    ),
];

/// Cases that show what later releases changed, and what that is.
const LATER: &[(&str, &str)] = &[
    ("* STATUS*", "specification 1.1.0"),
    ("* VERSION*", "specification 1.1.0"),
    ("* type that is a number", "specification 1.1.0"),
    ("loopback after a plugin", "specification 1.1.0"),
    ("host-local routes", "specification 1.1.0's keys of a route"),
    ("host-local a number too many", "specification 1.1.0's keys of a route"),
    ("host-local route priority as text", "specification 1.1.0's keys of a route"),
    ("ptp route with priority", "specification 1.1.0's keys of a route"),
    ("bridge route with everything", "specification 1.1.0's keys of a route"),
    ("bridge route with mtu", "specification 1.1.0's keys of a route"),
    ("bridge route on the link", "specification 1.1.0's keys of a route"),
    ("bridge resolv.conf*", "resolvConf of the IPAM plugin is in the bridge plugin's result"),
    ("bridge isolated*", "portIsolation"),
    ("bridge no container interface*", "disableContainerInterface"),
    ("bridge mac bare", "MAC addresses without colons"),
    ("* masquerade by *", "ipMasqBackend, and a DEL with ipMasq that finds no rules"),
    ("host-local*/0", "ranges of /0"),
];

/// The reference to compare with.
pub fn peer() -> &'static Peer {
    static PEER: OnceLock<Peer> = OnceLock::new();
    PEER.get_or_init(|| {
        let named = |variable| std::env::var_os(variable).map(PathBuf::from);
        let folders = ["HOPWISE_REFERENCE_CNI", "HOPWISE_DEBIAN_CNI"].into_iter().filter_map(named);
        let mut folders = folders.filter(|folder| folder.join("bridge").is_file());
        let folder = folders.next().unwrap_or_else(|| {
            panic!(
                "HOPWISE_REFERENCE_CNI names the reference plugins' folder; run `cargo xtask test`, or `cargo xtask \
                 peers` for what to export"
            )
        });
        let output = Command::new(folder.join("bridge")).env("CNI_COMMAND", "VERSION").output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let versions = said["supportedVersions"].as_array().unwrap();
        Peer { versions: versions.iter().map(|version| version.as_str().unwrap().into()).collect(), folder }
    })
}

impl Peer {
    /// Whether it is older than what the table of differences is about.
    pub fn is_older(&self) -> bool {
        !self.versions.iter().any(|version| version == "1.1.0")
    }

    /// The versions to do a case in; none for one that is left out, which is said.
    pub fn versions_for(&self, case: &Case) -> Vec<String> {
        let asked: Vec<String> = case.versions.iter().map(|version| (*version).to_owned()).collect();
        if !self.is_older() {
            return asked;
        }
        let newest = self.versions.last().cloned().unwrap_or_default();
        if let Some((_, why)) = LATER.iter().find(|(name, _)| matches(name, &case.name)) {
            self.say(&format!("{:?} is not compared: {why} came later", case.name));
            return Vec::new();
        }
        let known: Vec<String> =
            asked.iter().filter(|version| self.versions.contains(version)).cloned().collect();
        let left = asked.len() - known.len();
        if known.is_empty() {
            self.say(&format!("{:?} is compared in {newest} instead of 1.1.0", case.name));
            return vec![newest];
        }
        if left > 0 {
            self.say(&format!("{:?} is not compared in 1.1.0", case.name));
        }
        known
    }

    /// Past what the test runner keeps to itself of tests that pass.
    fn say(&self, what: &str) {
        let newest = self.versions.last().map_or("", String::as_str);
        let line = format!("reference plugins up to {newest} only ({}): {what}\n", self.folder.display());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
