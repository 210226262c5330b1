//! Debian's own readers of network configuration, which `hopwise l2 persist` writes for. Their packages are taken apart
//! into the cache folder and never installed: what they run after installation would take over this machine's network.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{peers, tools};

/// What tells tests where the packages' files are: a folder that stands for `/`.
pub const VARIABLE: &str = "HOPWISE_DEBIAN_PEERS";

/// The packages. Those that they depend on are taken too, unless they are installed here.
const PACKAGES: [&str; 4] = ["ifupdown", "netplan.io", "network-manager", "systemd"];

/// The folder with the packages' files, downloaded and taken apart if it isn't there.
///
/// # Errors
///
/// When there is no apt, or it can't download.
pub fn extracted() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    PACKAGES.hash(&mut hasher);
    let folder = peers::cache()?.join(format!("debian-{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    if !tools::works(Command::new("apt-get").arg("--version")) {
        bail!("there is no apt-get, and {} are Debian's packages", PACKAGES.join(", "));
    }
    println!("downloading Debian's packages {}, once", PACKAGES.join(", "));
    // Into a folder of another name first: one that was left half-done is never taken for a whole one.
    let partial = folder.with_extension(format!("{}.partial", std::process::id()));
    let outcome = extract(&partial).and_then(|()| {
        fs::rename(partial.join("root"), &folder)
            .or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
            .with_context(|| format!("can't make {}", folder.display()))
    });
    let _ = fs::remove_dir_all(&partial);
    outcome.map(|()| folder)
}

fn extract(partial: &Path) -> Result<()> {
    let archives = partial.join("archives");
    let made =
        fs::create_dir_all(archives.join("partial")).and_then(|()| fs::create_dir(partial.join("root")));
    made.with_context(|| format!("can't make {}", partial.display()))?;
    // A machine whose package lists were never read, or are old, needs them first; that is root's to do.
    if download(&archives).is_err() {
        tools::apt(&["update"]).and_then(|()| download(&archives))?;
    }
    let entries = fs::read_dir(&archives).with_context(|| format!("can't read {}", archives.display()))?;
    let packages = entries.flatten().map(|entry| entry.path());
    let mut packages: Vec<PathBuf> =
        packages.filter(|path| path.extension() == Some("deb".as_ref())).collect();
    packages.sort();
    for package in packages {
        tools::run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(partial.join("root")))?;
    }
    Ok(())
}

/// Downloads the packages, even those that are installed, and what they depend on. Installs nothing.
fn download(archives: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--download-only", "--reinstall", "--yes", "--quiet", "--no-install-recommends"]);
    apt.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
    // Anybody may download: only who installs needs the locks, and the cache folder is not for the user _apt.
    apt.args(["-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root"]).args(PACKAGES);
    tools::output(&mut apt).map(drop)
}
