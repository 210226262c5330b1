//! Building the two binaries that the demo, the lab's tests and the benches run: `hopwise`, and the static plugin in
//! profile `plugin`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// The built binaries.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// `hopwise`.
    pub hopwise: PathBuf,
    /// `hopwise-cni`.
    pub cni: PathBuf,
}

impl Artifacts {
    /// Tells a command where the binaries are, in the way that the lab and its tests read it.
    pub fn export(&self, command: &mut Command) {
        command.env("HOPWISE_BIN", &self.hopwise).env("HOPWISE_CNI_BIN", &self.cni);
    }
}

/// How `hopwise` is built.
#[derive(Clone, Copy, Debug)]
pub enum Profile {
    /// Quick to build, quick enough to run.
    Lab,
    /// As it is shipped.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Lab => "lab",
            Profile::Release => "release",
        }
    }
}

/// Builds both.
pub fn build(profile: Profile) -> Result<Artifacts> {
    let rustc = rustc();
    let host = host()?;
    let arch = host.split('-').next().unwrap_or("x86_64").to_owned();
    tools::run(tools::cargo().args(["build", "--package", "hopwise", "--profile", profile.name()]))?;

    let musl = format!("{arch}-unknown-linux-musl");
    let mut plugin = tools::cargo();
    plugin.args([
        "rustc",
        "--package",
        "hopwise-cni",
        "--bin",
        "hopwise-cni",
        "--profile",
        "plugin",
        "--target",
    ]);
    let triple = if has_target(&rustc, &musl)? || add_target(&musl) {
        plugin.arg(&musl);
        musl
    } else {
        println!(
            "the Rust target {musl} can't be had: building the plugin statically with the C library of this machine"
        );
        // With an explicit target the flag does not reach build scripts and procedural macros, which can't be static.
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        plugin.arg(&host).env("RUSTFLAGS", format!("{flags} -C target-feature=+crt-static"));
        host
    };
    // At a fixed address: what starts with every pod's network has no time to relocate itself.
    plugin.args(["--", "-C", "relocation-model=static"]);
    tools::run(&mut plugin)?;
    let target = tools::target_dir()?;
    Ok(Artifacts {
        hopwise: target.join(profile.name()).join("hopwise"),
        cni: target.join(triple).join("plugin/hopwise-cni"),
    })
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// The target triple of this machine.
pub fn host() -> Result<String> {
    host_triple(&tools::output(Command::new(rustc()).current_dir(tools::workspace()).arg("-vV"))?)
}

fn host_triple(version: &str) -> Result<String> {
    let line = version.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc -vV names no host")
}

fn has_target(rustc: &OsStr, triple: &str) -> Result<bool> {
    let mut command = Command::new(rustc);
    // Asked from the workspace's folder, where rust-toolchain.toml chooses the toolchain.
    let sysroot = tools::output(command.current_dir(tools::workspace()).args(["--print", "sysroot"]))?;
    if sysroot.is_empty() {
        bail!("rustc --print sysroot printed nothing");
    }
    Ok(PathBuf::from(sysroot).join("lib/rustlib").join(triple).join("lib").is_dir())
}

fn add_target(triple: &str) -> bool {
    println!("adding the Rust target {triple} with rustup");
    tools::run(Command::new("rustup").current_dir(tools::workspace()).args(["target", "add", triple]))
        .inspect_err(|error| println!("{error:#}"))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_read_from_the_verbose_version() {
        let version = "rustc 1.95.0 (abc 2026-03-21)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n";
        assert_eq!(host_triple(version).unwrap(), "x86_64-unknown-linux-gnu");
        assert!(host_triple("rustc 1.95.0").is_err());
    }
}
