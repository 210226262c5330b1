//! Another kernel: a guest that boots Debian's kernel in QEMU and runs commands of this machine in it as root, for what
//! this machine's own kernel lacks, and to see the product on the kernel that its users have.
//!
//! The guest is emulated, has no network device and no disk, and ends with its last command. Its root file system is made
//! for each run: busybox, the kernel's modules, the programs that the tests use, and the commands' own files, all at the
//! paths that they have here. The kernel loads modules by itself when something asks for them, as it does for users.

mod archive;
mod debian;
mod jobs;
mod machine;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tools;
use archive::Tree;
use debian::Kernel;
pub use jobs::Job;
use machine::{Heard, Machine};

/// Programs that the guest gets if this machine has them, each with its libraries. Everything else is busybox's.
const PROGRAMS: [&str; 10] = [
    "arping",
    "bridge",
    "conntrack",
    "ip",
    "nft",
    "nsenter",
    "ping",
    // Busybox's own shell takes busybox's `ip`, wherever it stands in the search path.
    "sh",
    "tc",
    "unshare",
];

/// How the names of iptables' programs start, all of which it gets too: `iptables-nft-restore` and so on.
const IPTABLES: [&str; 2] = ["iptables", "ip6tables"];

/// Where iptables has its extensions, below the folder of libraries.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// A guest that can be booted.
#[derive(Clone, Debug)]
pub struct Guest {
    kernel: Kernel,
}

impl Guest {
    /// Gets what the guest is made of.
    ///
    /// # Errors
    ///
    /// When this machine can't have it: another processor, no apt, or packages that can't be fetched.
    pub fn prepare() -> Result<Guest> {
        Ok(Guest { kernel: debian::prepare()? })
    }

    /// The version of the guest's kernel, such as `6.1.0-57-cloud-amd64`.
    pub fn version(&self) -> String {
        let name = self.kernel.modules.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Boots, runs the jobs one after the other, and ends. Each line that a job prints is given to `on_line` with the
    /// job's position. None may take longer than `limit`, which ends the guest.
    ///
    /// # Errors
    ///
    /// When the guest can't be made.
    pub fn run(&self, jobs: &[Job], limit: Duration, on_line: impl FnMut(usize, &str)) -> Result<Ran> {
        let target = tools::target_dir()?;
        remove_stale(&target);
        let folder = target.join(folder_name(std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let archive = folder.join("root.cpio");
        let machine = self.tree(jobs).and_then(|tree| {
            let mut file = BufWriter::new(File::create(&archive)?);
            tree.write(&mut file)?;
            file.flush()?;
            Machine::start(&self.kernel, &archive)
        });
        let ran = machine.map(|machine| listen(machine, jobs, limit, on_line));
        let _ = fs::remove_dir_all(&folder);
        ran
    }

    /// The guest's root file system.
    fn tree(&self, jobs: &[Job]) -> Result<Tree> {
        let mut tree = Tree::default();
        tree.script(Path::new("/init"), include_str!("init.sh"));
        tree.script(Path::new("/jobs"), &jobs::script(jobs));
        tree.copy(Path::new("/bin/busybox"), &self.kernel.busybox)?;
        tree.link(Path::new("/sbin/modprobe"), Path::new("/bin/busybox"));
        let shell = tools::find_program("sh").context("this machine has no sh")?;
        tree.link(Path::new("/bin/sh"), &shell.canonicalize()?);
        // Last in the search path, so that this machine's own programs go before.
        for applet in tools::output(Command::new(&self.kernel.busybox).arg("--list"))?.lines() {
            tree.link(&Path::new("/busybox").join(applet), Path::new("/bin/busybox"));
        }
        tree.copy_folder(&Path::new("/lib/modules").join(self.version()), &self.kernel.modules)?;
        let mut programs = programs();
        for path in jobs.iter().flat_map(files) {
            if path.is_dir() {
                tree.copy_folder(&path, &path)?;
            } else {
                programs.insert(path);
            }
        }
        for job in jobs {
            tree.folder(&job.folder);
        }
        for path in &programs {
            // Programs of many names look at the one they were called by.
            let real = path.canonicalize().with_context(|| format!("can't read {}", path.display()))?;
            if real != *path {
                tree.link(path, &real);
            }
            tree.copy(&real, &real)?;
            for library in libraries(path)? {
                tree.copy(&library, &library)?;
            }
        }
        if Path::new(EXTENSIONS).is_dir() {
            tree.copy_folder(Path::new(EXTENSIONS), Path::new(EXTENSIONS))?;
        }
        Ok(tree)
    }
}

/// What came of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit codes of those that ended; 128 and above are signals, as in a shell.
    pub codes: Vec<i32>,
    /// Why the next one did not, and so the guest did; `None` when there was none.
    pub broken: Option<String>,
}

/// Follows a machine to its end, or until a job takes too long.
fn listen(mut machine: Machine, jobs: &[Job], limit: Duration, mut on_line: impl FnMut(usize, &str)) -> Ran {
    let (mut codes, mut last) = (Vec::new(), String::new());
    let mut deadline = Instant::now() + limit;
    let how = loop {
        match machine.hear(deadline) {
            Heard::Line(line) => {
                let (text, code) = jobs::parse(&line);
                if !text.is_empty() || code.is_none() {
                    on_line(codes.len(), &text);
                }
                if !text.trim().is_empty() {
                    last = text;
                }
                if let Some(code) = code {
                    codes.push(code);
                    last.clear();
                    deadline = Instant::now() + limit;
                }
            }
            Heard::End => break "ended".to_owned(),
            Heard::Silence(begun) => {
                if !begun.is_empty() {
                    last = String::from_utf8_lossy(&begun).into_owned();
                }
                break format!("was ended after {} s", limit.as_secs());
            }
        }
    };
    let broken = jobs.get(codes.len()).map(|job| {
        let command = job.words.join(" ");
        let console = machine.console();
        let last = if last.is_empty() { "nothing" } else { &last };
        format!("the guest {how} while it ran {command}, which said last: {last}\nthe kernel said last:\n{console}")
    });
    Ran { codes, broken }
}

/// How the folder of a process's guest is called.
fn folder_name(process: u32) -> String {
    format!("vm-{process}")
}

/// Removes the folders of processes that were killed.
fn remove_stale(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("vm-").and_then(|process| process.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The programs of this machine that the guest gets whatever it runs.
fn programs() -> BTreeSet<PathBuf> {
    let mut programs: BTreeSet<PathBuf> =
        PROGRAMS.iter().filter_map(|name| tools::find_program(name)).collect();
    let iptables = tools::find_program("iptables");
    let folder = iptables.as_deref().and_then(Path::parent).and_then(|folder| fs::read_dir(folder).ok());
    programs.extend(folder.into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        IPTABLES.iter().any(|start| name.starts_with(start)) && path.is_file()
    }));
    programs
}

/// What of this machine's files and folders a job needs in the guest: files named by its words, files and folders named by
/// variables set for it, and, for a test binary, the programs of its package, which it calls by their paths beside cargo's
/// folder `deps`.
fn files(job: &Job) -> Vec<PathBuf> {
    let words: Vec<PathBuf> = job.words.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
    let deps = words.iter().filter_map(|path| path.parent()).filter(|folder| folder.ends_with("deps"));
    let beside = deps.filter_map(|folder| fs::read_dir(folder.parent()?).ok());
    let programs = beside.flatten().flatten().map(|entry| entry.path());
    let programs: Vec<PathBuf> =
        programs.filter(|path| path.is_file() && path.extension().is_none()).collect();
    let values = job.environment.iter().map(|(_, value)| PathBuf::from(value));
    let values = values.filter(|path| path.is_file() || path.is_dir());
    let named = words.into_iter().chain(programs).chain(values);
    named.filter(|path| path.is_absolute()).collect()
}

/// The libraries that a program loads, its loader included; none for one that is linked statically or is a script.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("can't run ldd")?;
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// The paths in what `ldd` prints: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn listed(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().filter_map(|line| line.trim().rsplit_once(" (0x"));
    let paths = lines.map(|(line, _)| line.rsplit_once(" => ").map_or(line, |(_, path)| path));
    paths.filter(|path| path.starts_with('/')).map(PathBuf::from).collect()
}

/// `cargo xtask vm -- COMMAND…`: runs one command in the guest, and ends with its exit code.
pub fn command(words: &[&str]) -> Result<u8> {
    let guest = Guest::prepare()?;
    let mut command =
        Command::new(words.first().context("no command given; such as: cargo xtask vm -- uname -a")?);
    command.args(&words[1..]);
    let variables = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOPWISE_"));
    command.envs(variables);
    let mut stdout = std::io::stdout();
    let ran = guest.run(&[Job::of(&command)?], BY_HAND, |_, line| {
        let _ = writeln!(stdout, "{line}");
    })?;
    if let Some(why) = ran.broken {
        bail!("{why}");
    }
    Ok(ran.codes.first().and_then(|code| u8::try_from(*code).ok()).unwrap_or(1))
}

/// How long a command run by hand may take.
const BY_HAND: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let text = "\tlinux-vdso.so.1 (0x00007efccd439000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007efcccc1e000)\n\
                    \tlibgone.so => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007efccd43b000)\n";
        assert_eq!(
            listed(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert_eq!(listed("\tstatically linked\n"), Vec::<PathBuf>::new());
    }
    #[test]
    fn what_a_killed_process_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let own = folder_name(std::process::id());
        // More than there can be.
        let gone = folder_name(u32::MAX);
        for name in [own.as_str(), &gone, "vm-x", "debug"] {
            fs::create_dir_all(dir.path().join(name).join("below")).unwrap();
        }
        remove_stale(dir.path());
        let there = |name: &str| dir.path().join(name).exists();
        assert_eq!([own.as_str(), &gone, "vm-x", "debug"].map(there), [true, false, true, true]);
    }
}
