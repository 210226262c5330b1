//! Peers: the programs that tests and benches compare with or run beside. They are tools of the Go modules in `peers/`,
//! built once into a cache folder outside the checkout; tests find them by environment variables.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::debian::{self, Dependencies};
use crate::tools;

/// A Go module below `peers/`, all of whose tools are built.
struct Module {
    /// The folder's name.
    name: &'static str,
    /// What tells tests where the programs are.
    variable: &'static str,
    /// Build tags.
    tags: &'static str,
    /// Whether programs are linked with the C library.
    cgo: bool,
}

/// The module of the reference plugins.
const CNI: &str = "cni";

const MODULES: [Module; 3] = [
    Module { name: CNI, variable: "HOPWISE_REFERENCE_CNI", tags: "", cgo: false },
    Module {
        name: "containerd",
        variable: "HOPWISE_CONTAINERD",
        tags: "no_btrfs no_zfs no_devmapper",
        cgo: true,
    },
    Module { name: "crictl", variable: "HOPWISE_CRICTL", tags: "", cgo: false },
];

/// Debian's own readers of network configuration, which `hopwise l2 persist` writes for.
const CONFIGURATION_READERS: [&str; 4] = ["ifupdown", "netplan.io", "network-manager", "systemd"];

/// Where the peers are, and which could not be had.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    found: Vec<(&'static str, PathBuf)>,
    /// The names of those that could not be had, each with the reason. Tests that need them fail.
    pub missing: Vec<(&'static str, String)>,
}

impl Peers {
    /// Tells a command where the peers are, in the way that tests and benches read it.
    pub fn export(&self, command: &mut Command) {
        command.envs(self.found.iter().map(|(variable, folder)| (variable, folder)));
    }

    /// Takes what came of one peer into account.
    fn note(&mut self, name: &'static str, variable: &'static str, folder: Result<PathBuf>) {
        match folder {
            Ok(folder) => self.found.push((variable, folder)),
            Err(error) => self.missing.push((name, format!("{error:#}"))),
        }
    }
}

/// Builds what isn't built yet. What can't be had is named in the result, and stops nothing.
pub fn prepare() -> Peers {
    let mut peers = Peers::default();
    for module in &MODULES {
        peers.note(module.name, module.variable, built(module));
    }
    if peers.missing.iter().any(|(name, _)| *name == CNI) {
        // What the suite of differences compares with then, and says of each case that it leaves out.
        let older = debian::unpacked(CNI, &["containernetworking-plugins"], Dependencies::Left);
        let older = older.map(|folder| folder.join("usr/lib/cni"));
        peers.note("Debian's CNI plugins", "HOPWISE_DEBIAN_CNI", older);
    }
    let older = debian::unpacked("containerd", &["containerd"], Dependencies::Left);
    let older = older.map(|folder| folder.join("usr/bin"));
    peers.note("Debian's containerd", "HOPWISE_CONTAINERD_DEBIAN", older);
    let readers = debian::unpacked("readers", &CONFIGURATION_READERS, Dependencies::Taken);
    peers.note("Debian's network configuration", "HOPWISE_DEBIAN_PEERS", readers);
    peers
}

/// `cargo xtask peers`: builds them and prints what to export.
pub fn run() -> Result<()> {
    let peers = prepare();
    for (variable, folder) in &peers.found {
        println!("export {variable}={}", folder.display());
    }
    match peers.missing.as_slice() {
        [] => Ok(()),
        [(name, why), ..] => bail!("{name}: {why}"),
    }
}

/// The cache folder of all peers.
///
/// # Errors
///
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let folder = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(folder.join("hopwise/peers"))
}

/// The folder with a module's programs, built if it isn't there.
fn built(module: &Module) -> Result<PathBuf> {
    let source = tools::workspace().join("peers").join(module.name);
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        fs::read(&path).with_context(|| format!("can't read {}", path.display()))?.hash(&mut hasher);
    }
    (module.tags, module.cgo).hash(&mut hasher);
    let folder = cache()?.join(format!("{}-{:016x}", module.name, hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    if !tools::works(Command::new("go").arg("version")) {
        bail!(
            "Go is not installed, and peers/{} is built with it; see https://go.dev/doc/install",
            module.name
        );
    }
    let start = Instant::now();
    println!("building the peers of peers/{} with Go, once", module.name);
    tools::make_whole(&folder, |partial| {
        let mut go = Command::new("go");
        go.current_dir(&source).env("CGO_ENABLED", if module.cgo { "1" } else { "0" });
        go.args(["build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-tags", module.tags, "-o"]);
        tools::run(go.arg(partial).arg("tool"))
    })?;
    println!("built the peers of peers/{} in {:.0} s", module.name, start.elapsed().as_secs_f64());
    Ok(folder)
}
