//! What the guest is made of, from Debian's archive: QEMU is installed; the kernel and busybox are only unpacked, into the
//! cache folder, since an installed kernel would change how this machine boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian::Dependencies;
use crate::{peers, tools};

/// The kernel that Debian's virtual machines run. It has every kind of link, which kernels made for small virtual machines
/// lack, and boots quicker than the one for real hardware, whose drivers it leaves out.
const KERNEL: &str = "linux-image-cloud-amd64";

/// The folders of the kernel's modules that are kept: the network's, and what they need.
const MODULES: [&str; 5] = ["arch", "crypto", "drivers/net", "lib", "net"];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The image.
    pub image: PathBuf,
    /// The folder of its modules, indexed by `depmod`; named by the version.
    pub modules: PathBuf,
    /// A static busybox.
    pub busybox: PathBuf,
}

/// Installs QEMU and unpacks the kernel, if they aren't there.
pub fn prepare() -> Result<Kernel> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the guest runs this machine's binaries on {KERNEL}, and this machine is {}",
            std::env::consts::ARCH
        );
    }
    if !tools::works(Command::new("apt-cache").arg("--version")) {
        bail!("the guest is made from Debian's packages, and apt is not there");
    }
    tools::install_missing(&[("qemu-system-x86_64", "qemu-system-x86")])?;
    let package = current_kernel().or_else(|_| {
        tools::apt(&["update"]).context("apt can't read Debian's lists of packages")?;
        current_kernel()
    })?;
    let folder = peers::cache()?.with_file_name("vm").join(&package);
    if !folder.is_dir() {
        println!("unpacking {package} and busybox-static from Debian's archive, once");
        tools::make_whole(&folder, |partial| unpack(partial, &package))?;
    }
    Ok(Kernel {
        image: only_file(&folder.join("boot"), "vmlinuz-")?,
        modules: only_file(&folder.join("lib/modules"), "")?,
        busybox: folder.join("bin/busybox"),
    })
}

/// The kernel's package, such as `linux-image-6.1.0-57-cloud-amd64`: what [`KERNEL`] depends on.
fn current_kernel() -> Result<String> {
    let text = tools::output(Command::new("apt-cache").args(["depends", "--important", KERNEL]))?;
    dependency(&text).with_context(|| format!("apt knows no kernel by the name {KERNEL}"))
}

/// The first dependency that `apt-cache depends` tells.
fn dependency(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
    Some(line.to_owned()).filter(|name| name.starts_with("linux-image-"))
}

fn unpack(folder: &Path, package: &str) -> Result<()> {
    crate::debian::fetch(folder, &[package, "busybox-static"], Dependencies::Left)?;
    let modules = only_file(&folder.join("lib/modules"), "")?;
    let (all, kept) = (modules.join("all"), modules.join("kernel"));
    fs::rename(&kept, &all).with_context(|| format!("{package} has no modules"))?;
    for name in MODULES {
        let to = kept.join(name);
        fs::create_dir_all(to.parent().unwrap_or(&kept))?;
        fs::rename(all.join(name), &to).with_context(|| format!("{package} has no modules {name}"))?;
    }
    fs::remove_dir_all(&all)?;
    let version = modules.file_name().unwrap_or_default();
    let mut depmod = Command::new(folder.join("bin/busybox"));
    tools::run(depmod.arg("depmod").arg("-b").arg(folder).arg(version))
}

/// The only entry of a folder whose name starts so.
fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    let found = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.with_context(|| format!("{} has nothing whose name starts with {prefix:?}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_its_newest_name_stands_for() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-57-cloud-amd64\n";
        assert_eq!(dependency(text).unwrap(), "linux-image-6.1.0-57-cloud-amd64");
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
        assert_eq!(dependency(""), None);
    }
}
