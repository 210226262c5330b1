//! Labs for tests: each with a name of its own, taken down whatever happens.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hopwise_lab::check::{CheckOptions, CheckReport, TableOptions};
use hopwise_lab::layout::Numbers;
use hopwise_lab::{Lab, LabName, UpOptions};

/// A binary that the test runs, named by the environment.
pub fn binary(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!(
            "{variable} is not set: these tests run the real binaries; use `cargo xtask test`, or build them and set \
             HOPWISE_BIN and HOPWISE_CNI_BIN"
        ),
    }
}

/// A lab name that no other test has.
pub fn fresh_name() -> LabName {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("t{}x{number}", std::process::id()).parse().unwrap()
}

/// Options for a lab with the binaries of the environment.
pub fn options(topology: &str, numbers: Numbers) -> UpOptions {
    UpOptions {
        name: fresh_name(),
        topology: topology.to_owned(),
        numbers,
        hopwise: Some(binary("HOPWISE_BIN")),
        cni: Some(binary("HOPWISE_CNI_BIN")),
        ready_timeout: Duration::from_secs(30),
    }
}

/// A lab that is taken down when it is dropped.
pub struct TestLab {
    pub lab: Lab,
}

impl TestLab {
    pub fn up(topology: &str, numbers: Numbers) -> TestLab {
        let options = options(topology, numbers);
        match hopwise_lab::up(&options, &mut |_| {}) {
            Ok(lab) => TestLab { lab },
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }

    /// A lab of a topology that is written here.
    pub fn up_text(text: &str) -> TestLab {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        TestLab::up(file.path().to_str().unwrap(), Numbers::default())
    }

    pub fn check(&self) -> CheckReport {
        self.lab.check(&CheckOptions::default(), &mut |_| {}).unwrap()
    }

    pub fn assert_all_green(&self) {
        let report = self.check();
        assert!(report.ok, "\n{}", report.table(TableOptions::default()));
    }
}

impl std::ops::Deref for TestLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let removed = hopwise_lab::down(self.lab.name());
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Takes a lab down when it is dropped, whatever there is of it.
pub struct Cleanup(pub LabName);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let _ = hopwise_lab::down(&self.0);
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything of a lab that can be found: namespaces, processes, files.
pub fn traces(name: &LabName) -> Vec<String> {
    let mut traces = Vec::new();
    let prefix = name.prefix();
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            traces.push(format!("namespace {}", entry.path().display()));
        }
    }
    for base in ["/run/hopwise-lab", "/tmp/hopwise-lab-65534"] {
        let dir = Path::new(base).join(name.as_str());
        if dir.exists() {
            traces.push(format!("files in {}", dir.display()));
        }
    }
    let mark = format!("HOPWISE_LAB={name}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let dead = read("stat").rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        let what = match read("comm").trim() == format!("hw-{name}") {
            true => "holder",
            false if read("environ").split('\0').any(|known| known == mark) => "agent",
            false => continue,
        };
        if !dead {
            traces.push(format!("{what} process {}", entry.path().display()));
        }
    }
    traces
}

/// The host's own network, as far as anybody could change it: links, addresses, routes, rules, nftables, sysctls.
pub fn host_network() -> Vec<String> {
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut parts = vec![
        run("ip", &["-o", "link"]),
        run("ip", &["-o", "address"]),
        run("ip", &["-4", "route", "show", "table", "all"]),
        run("ip", &["-6", "route", "show", "table", "all"]),
        run("ip", &["rule"]),
        run("nft", &["-s", "list", "ruleset"]),
    ];
    for tree in ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6"] {
        read_tree(Path::new(tree), &mut parts);
    }
    // Lifetimes that count down.
    parts.iter().map(|part| part.split(" expires").next().unwrap_or_default().to_owned()).collect()
}

fn read_tree(dir: &Path, parts: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_tree(&path, parts);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            parts.push(format!("{} = {}", path.display(), text.trim()));
        }
    }
}
