//! Debian's packages, taken apart into the cache folder and never installed: what some of them run after installation would
//! take over this machine's network, start a daemon, or change how the machine boots.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{peers, tools};

/// What to do about the packages that packages depend on.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Dependencies {
    /// Take them too, unless they are installed here.
    Taken,
    /// Leave them.
    Left,
}

/// The folder with the packages' files, which stands for `/`; downloaded and taken apart if it isn't there.
///
/// # Errors
///
/// When there is no apt, or it can't download.
pub fn unpacked(name: &str, packages: &[&str], dependencies: Dependencies) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (packages, dependencies).hash(&mut hasher);
    let folder = peers::cache()?.join(format!("debian-{name}-{:016x}", hasher.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    println!("downloading Debian's packages {}, once", packages.join(", "));
    tools::make_whole(&folder, |partial| fetch(partial, packages, dependencies))?;
    Ok(folder)
}

/// Downloads packages and takes them apart into a folder.
///
/// # Errors
///
/// When there is no apt, or it can't download.
pub fn fetch(folder: &Path, packages: &[&str], dependencies: Dependencies) -> Result<()> {
    if !tools::works(Command::new("apt-get").arg("--version")) {
        bail!("there is no apt-get, and {} are Debian's packages", packages.join(", "));
    }
    let archives = folder.join(".archives");
    let made = fs::create_dir_all(archives.join("partial"));
    made.with_context(|| format!("can't make {}", archives.display()))?;
    let download = || download(&archives, packages, dependencies);
    // A machine whose package lists were never read, or are old, needs them first; that is root's to do.
    if download().is_err() {
        tools::apt(&["update"]).and_then(|()| download())?;
    }
    let entries = fs::read_dir(&archives).with_context(|| format!("can't read {}", archives.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension() == Some("deb".as_ref())).collect();
    files.sort();
    for file in files {
        tools::run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(folder))?;
    }
    fs::remove_dir_all(&archives).with_context(|| format!("can't remove {}", archives.display()))
}

fn download(archives: &Path, packages: &[&str], dependencies: Dependencies) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.current_dir(archives);
    match dependencies {
        Dependencies::Taken => {
            // Even those that are installed. Anybody may download; only who installs needs the locks.
            apt.args(["install", "--download-only", "--reinstall", "--yes", "--no-install-recommends"]);
            apt.arg("-o").arg(format!("Dir::Cache::archives={}", archives.display()));
            apt.args(["-o", "Debug::NoLocking=true"]);
        }
        // The sandbox of apt's own user can't write into a home folder, and apt warns of it at length.
        Dependencies::Left => drop(apt.args(["download", "-o", "APT::Sandbox::User=root"])),
    }
    tools::output(apt.arg("--quiet=2").args(packages)).map(drop)
}
