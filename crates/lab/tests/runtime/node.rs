//! A node: network, mount, pid, uts, ipc and cgroup namespaces around a process that is their first. When that one ends the
//! kernel ends every other in them, and it ends with the test, however that ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hopwise_lab::ProcessId;
use nix::sys::signal::Signal;

use super::PATIENCE;
use super::support::eventually_within;

/// How the names of our control groups begin, followed by the test process's number.
pub const CGROUP_PREFIX: &str = "hopwise-runtime-";

/// What the first process does inside: `dir` is the node's disk, `name` its name.
///
/// The control group hierarchies are mounted again, so that they show the node's own part only. Where programs are goes
/// first: they may lie where the node's own folders are mounted over.
const SETUP: &str = r#"
set -e
dir=$1 name=$2; shift 2
mount --make-rslave /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while IFS=: read -r _ names _; do
    [ -n "$names" ] || continue
    case $names in name=*) options=none,$names ;; *) options=$names ;; esac
    mkdir -p "/sys/fs/cgroup/${names#name=}"
    mount -t cgroup -o "$options" cgroup "/sys/fs/cgroup/${names#name=}"
done < /proc/self/cgroup
for tool in "$@"; do mount --bind "${tool#*=}" "$dir/tools/${tool%%=*}"; done
mount -t tmpfs tmpfs /run
for part in etc opt var/lib; do mount --bind "$dir/$part" "/$part"; done
mount --make-rshared /
hostname "$name"
ip link set lo up
echo up > "$dir/up"
while :; do sleep 1000 & wait; done
"#;

/// How a program gets into all of a node's control groups.
const JOIN_CGROUPS: &str = "for file in /sys/fs/cgroup/*/cgroup.procs; do echo $$ > $file; done; ";

/// A node that runs.
pub struct Node {
    pub name: String,
    /// Its disk, which outlives it.
    dir: PathBuf,
    tools: Vec<(String, PathBuf)>,
    cgroups: Vec<PathBuf>,
    /// The first process's parent, outside.
    holder: Child,
    /// The first process.
    pub first: ProcessId,
}

/// What a program said.
pub type Said = Result<String, String>;

impl Node {
    /// Starts a node; `tools` are folders that it finds below [`Node::tool`].
    pub fn start(name: &str, dir: &Path, tools: &[(String, PathBuf)]) -> Node {
        for part in ["etc", "opt", "var/lib"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        for (tool, _) in tools {
            fs::create_dir_all(dir.join("tools").join(tool)).unwrap();
        }
        for file in ["passwd", "group", "hosts", "nsswitch.conf", "resolv.conf"] {
            // What there isn't here a node does without.
            let _ = fs::copy(Path::new("/etc").join(file), dir.join("etc").join(file));
        }
        let _ = fs::remove_file(dir.join("up"));
        let cgroups = make_cgroups(&format!("{CGROUP_PREFIX}{}-{name}", std::process::id()));
        let log = File::create(dir.join("node.log")).unwrap();
        let enter = format!(
            "for group in {}; do echo $$ > $group/cgroup.procs; done; exec unshare --mount --net --pid --uts --ipc --cgroup \
             --fork --kill-child sh -c \"$@\"",
            cgroups.iter().map(|group| format!("'{}'", group.display())).collect::<Vec<_>>().join(" ")
        );
        let mut command = Command::new("sh");
        command.args(["-ec", &enter, "sh", SETUP, "sh"]).arg(dir).arg(name);
        command.args(tools.iter().map(|(tool, folder)| format!("{tool}={}", folder.display())));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        // SAFETY: one system call, which is safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // With the test's thread this ends too, and with it (--kill-child) the whole node.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        let mut holder = command.spawn().unwrap();
        let mut first = None;
        eventually_within(PATIENCE, &format!("{name} is up"), || {
            if let Some(status) = holder.try_wait().unwrap() {
                return Err(format!("{status}: {}", read(&dir.join("node.log"))));
            }
            first = child_of(holder.id() as i32).filter(|_| dir.join("up").exists());
            first.map(drop).ok_or_else(|| read(&dir.join("node.log")))
        });
        let first = first.unwrap();
        Node { name: name.to_owned(), dir: dir.to_owned(), tools: tools.to_vec(), cgroups, holder, first }
    }

    /// Everything that isn't on disk is lost, as by a reboot, but for the kernel, which is the machine's.
    pub fn restart(&mut self) {
        let (name, dir, tools) = (self.name.clone(), self.dir.clone(), self.tools.clone());
        self.end();
        *self = Node::start(&name, &dir, &tools);
    }

    /// A path on the node's disk, from outside.
    pub fn disk(&self, path: &str) -> PathBuf {
        self.dir.join(path)
    }

    /// A program of a tool's folder, from inside.
    pub fn tool(&self, tool: &str, program: &str) -> String {
        self.dir.join("tools").join(tool).join(program).to_str().unwrap().to_owned()
    }

    /// The file of its network namespace.
    pub fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.first.pid).into()
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.pid.to_string(), "--all"]).args(program);
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy().into_owned();
            if key.starts_with("HOPWISE_") || key.starts_with("RUST_") || key.starts_with("CONTAINER") {
                command.env_remove(key);
            }
        }
        let tools = self.dir.join("tools");
        let path = format!("{}/containerd:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", tools.display());
        command.env("PATH", path).stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Runs a program inside, for a minute at most.
    pub fn run(&self, program: &[&str]) -> Said {
        self.run_with(&[], program)
    }

    /// The same with more in its environment.
    pub fn run_with(&self, environment: &[(&str, &str)], program: &[&str]) -> Said {
        let bounded = [&["timeout", "--kill-after=5", "60"], program].concat();
        let output = self.command(&bounded).envs(environment.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!(
                "{program:?}: {}: {}{}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            )),
        }
    }

    /// The same; it has to end well.
    #[track_caller]
    pub fn ok(&self, program: &[&str]) -> String {
        self.run(program).unwrap_or_else(|said| panic!("{}: {said}", self.name))
    }

    /// Starts a daemon inside, in the node's control groups. Its log is appended to.
    pub fn spawn(&self, name: &str, program: &[&str]) -> Daemon {
        let log = File::options().create(true).append(true).open(self.log(name)).unwrap();
        let script = format!("{JOIN_CGROUPS}echo $$ > /run/{name}.pid; exec \"$@\"");
        let program = [&["sh", "-c", &script, "sh"], program].concat();
        let mut command = self.command(&program);
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Daemon { name: name.to_owned(), child: command.spawn().unwrap() }
    }

    /// Where a daemon's log is.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.dir.join(format!("{daemon}.log"))
    }

    /// The end of a daemon's log, for messages.
    pub fn log_tail(&self, daemon: &str) -> String {
        let log = read(&self.log(daemon));
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Sends a signal to a daemon and waits until it has ended.
    pub fn signal(&self, daemon: &mut Daemon, signal: &str) {
        let kill = format!("kill -{signal} $(cat /run/{}.pid)", daemon.name);
        self.ok(&["sh", "-c", &kill]);
        eventually_within(PATIENCE, &format!("{} ends", daemon.name), || {
            daemon.child.try_wait().unwrap().map(drop).ok_or_else(|| self.log_tail(&daemon.name))
        });
    }

    /// Ends all that runs in the node and takes its control groups away.
    fn end(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        let _ = self.first.kill();
        // Once: the node that starts again has groups of the same names.
        for group in self.cgroups.drain(..) {
            remove_cgroup(&group);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program that goes on running in a node, and ends with it.
pub struct Daemon {
    name: String,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The node ends what runs in it; this is nsenter, which waits for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file's text, empty when there is none.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The process whose parent has this number.
fn child_of(parent: i32) -> Option<ProcessId> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = read(Path::new(&format!("/proc/{pid}/stat")));
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_ascii_whitespace().nth(1) == Some(parent.to_string().as_str())
    };
    pids.into_iter().find(is_child).and_then(ProcessId::of)
}

/// Our own folders in all control group hierarchies.
fn own_cgroups() -> Vec<PathBuf> {
    let text = read(Path::new("/proc/self/cgroup"));
    let folders: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let folder = names.strip_prefix("name=").unwrap_or(names);
            let root = Path::new("/sys/fs/cgroup").join(folder).join(path.trim_start_matches('/'));
            (!names.is_empty()).then_some(root)
        })
        .collect();
    assert!(
        !folders.is_empty(),
        "this test needs control groups version 1, with a hierarchy for each controller: {text}"
    );
    folders
}

/// Control groups, a process in them, and a folder, as a test process leaves them that is killed. There is no process of
/// that number: it is beyond the kernel's largest.
#[test]
fn what_a_killed_test_left_is_taken_away() {
    let name = format!("{CGROUP_PREFIX}{}-left", 1 << 30);
    let groups = make_cgroups(&name);
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let left = ProcessId::of(child.id() as i32).unwrap();
    for group in &groups {
        fs::create_dir(group.join("pods")).unwrap();
        fs::write(group.join("cgroup.procs"), left.pid.to_string()).unwrap();
    }
    let folder = std::env::temp_dir().join(&name);
    fs::create_dir_all(folder.join("node1")).unwrap();
    clean_leftovers();
    assert!(!left.alive(), "it is killed");
    // Who killed it may have waited for it too.
    let _ = child.wait();
    for path in groups.iter().chain([&folder]) {
        assert!(!path.exists(), "{}", path.display());
    }
}

fn make_cgroups(name: &str) -> Vec<PathBuf> {
    let make = |parent: PathBuf| {
        let group = parent.join(name);
        fs::create_dir_all(&group)
            .unwrap_or_else(|error| panic!("{}: {error}; run as root", group.display()));
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A group without processors or memory takes no process.
            if let Ok(value) = fs::read_to_string(parent.join(file)) {
                fs::write(group.join(file), value).unwrap();
            }
        }
        group
    };
    own_cgroups().into_iter().map(make).collect()
}

/// Kills what still runs in a group and takes it away with all below it.
fn remove_cgroup(group: &Path) {
    fn below(group: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
            }
        }
        found.push(group.to_owned());
    }
    let mut groups = Vec::new();
    below(group, &mut groups);
    let deadline = std::time::Instant::now() + PATIENCE;
    for group in groups {
        while group.exists() && fs::remove_dir(&group).is_err() {
            for pid in read(&group.join("cgroup.procs")).lines().filter_map(|pid| pid.parse().ok()) {
                let _ = ProcessId::of(pid).map(ProcessId::kill);
            }
            if std::time::Instant::now() > deadline {
                eprintln!("{} can't be removed", group.display());
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Takes away what a test process that was killed has left: its nodes ended with it.
pub fn clean_leftovers() {
    let left_by_dead = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid =
            name.strip_prefix(CGROUP_PREFIX).and_then(|rest| rest.split('-').next()?.parse::<i32>().ok());
        pid.is_some_and(|pid| !ProcessId::of(pid).is_some_and(ProcessId::alive))
    };
    let entries =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in own_cgroups().into_iter().flat_map(entries).filter(|path| left_by_dead(path)) {
        remove_cgroup(&group);
    }
    for folder in entries(std::env::temp_dir()).filter(|path| left_by_dead(path)) {
        let _ = fs::remove_dir_all(folder);
    }
}
