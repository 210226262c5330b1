//! The suites, one function each. A suite never stops the others: what went wrong is in its outcome.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::libtest::{self, Totals};
use super::summary::{Outcome, Summary};
use crate::artifacts::Artifacts;
use crate::peers::Peers;
use crate::tools;

/// How tests that make network namespaces get to do so.
#[derive(Clone, Copy, Debug)]
pub enum Privileges {
    /// We are root.
    Root,
    /// By `sudo` without a password.
    Sudo,
    /// In a user namespace.
    UserNamespace,
}

impl Privileges {
    /// Finds the way that works here; an error when there is none, since tests that can't run must not pass silently.
    pub fn find() -> Result<Privileges> {
        if tools::is_root() {
            Ok(Privileges::Root)
        } else if tools::sudo_works() {
            println!("not root: tests that make network namespaces run by sudo");
            Ok(Privileges::Sudo)
        } else if tools::user_namespaces_work() {
            println!("not root: tests that make network namespaces run in a user namespace");
            Ok(Privileges::UserNamespace)
        } else {
            bail!(
                "the tests make network namespaces: this user may not make any here, has no sudo without a password, \
                 and user namespaces are off; try: sudo --preserve-env=PATH cargo xtask test"
            )
        }
    }

    /// A command that runs a program with these privileges.
    fn command(self, program: &Path) -> Command {
        match self {
            Privileges::Root => Command::new(program),
            Privileges::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", "--preserve-env"]).arg(program);
                command
            }
            Privileges::UserNamespace => {
                let mut command = Command::new("unshare");
                // A mount namespace with its own /run: names of network namespaces and agents' files go there.
                let setup = "mount -t tmpfs tmpfs /run && exec \"$@\"";
                command
                    .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", setup, "sh"])
                    .arg(program);
                command
            }
        }
    }
}

/// `cargo fmt --check`.
pub fn format(summary: &mut Summary) {
    let mut command = tools::cargo();
    command.args(["fmt", "--all", "--", "--check"]);
    single(summary, "format", &mut command);
}

/// `cargo clippy`, warnings are errors.
pub fn clippy(summary: &mut Summary) {
    let mut command = tools::cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    single(summary, "clippy", &mut command);
}

/// `cargo doc`, warnings are errors. Private items too: the documentation is for those who work on this.
pub fn docs(summary: &mut Summary) {
    let mut command = tools::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ]);
    single(summary, "docs", &mut command);
}

/// What test binaries get beside themselves.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Our own binaries.
    pub built: &'a Artifacts,
    /// Others' binaries.
    pub peers: &'a Peers,
    /// The right to make network namespaces.
    pub privileges: Privileges,
}

/// Unit, property and namespace tests of every package, and the lab's tests of whole networks: a suite for each package,
/// and one for each of its test files that runs real binaries. Returns the test binaries by suite.
pub fn tests(summary: &mut Summary, beside: &Beside<'_>) -> BTreeMap<String, Vec<TestBinary>> {
    let start = Instant::now();
    let binaries = match build_tests() {
        Ok(binaries) => binaries,
        Err(error) => {
            let remark = Some(format!("{error:#}"));
            let totals = Totals { failed: 1, ..Totals::default() };
            let name = "tests".to_owned();
            summary.add(Outcome { name, totals, remark, elapsed: start.elapsed() });
            return BTreeMap::new();
        }
    };
    for (suite, binaries) in &binaries {
        println!("\n== {suite}");
        let start = Instant::now();
        let mut totals = Totals::default();
        let mut remark = None;
        for binary in binaries {
            let mut command = beside.privileges.command(&binary.executable);
            binary.prepare(&mut command, beside);
            match run_libtest(&mut command) {
                Ok(counted) => totals += counted,
                Err(error) => {
                    totals.failed += 1;
                    remark = Some(format!("{}: {error:#}", binary.name));
                }
            }
        }
        summary.add(Outcome { name: suite.clone(), totals, remark, elapsed: start.elapsed() });
    }
    binaries
}

/// Examples in documentation. A workspace may well have none, so they are no suite that must run something.
pub fn doc_tests(summary: &mut Summary, built: &Artifacts) {
    let start = Instant::now();
    println!("\n== doc tests");
    let mut command = tools::cargo();
    built.export(&mut command);
    let outcome = run_libtest(command.args(["test", "--workspace", "--doc", "--quiet"]));
    let (mut totals, remark) = match outcome {
        Ok(totals) => (totals, None),
        Err(error) => (Totals { failed: 1, ..Totals::default() }, Some(format!("{error:#}"))),
    };
    // `ignore` on a code block is a statement about the text, and ```text is what we write where code isn't meant.
    totals.ignored = 0;
    if totals.passed + totals.failed > 0 {
        summary.add(Outcome { name: "doc tests".to_owned(), totals, remark, elapsed: start.elapsed() });
    }
}

/// The README's first command, as a newcomer runs it; under 10 s once built.
pub fn demo(summary: &mut Summary, built: &Artifacts) {
    let mut command = Command::new(&built.hopwise);
    built.export(&mut command);
    single(summary, "demo", command.args(["lab", "demo"]));
}

/// `cargo deny`: licences, bans, sources. Not advisories: what is published today must not break yesterday's commit.
pub fn dependencies(summary: &mut Summary) {
    if !tools::works(tools::cargo().args(["deny", "--version"])) {
        return summary.not_run("cargo deny", "cargo-deny is not installed; cargo install cargo-deny");
    }
    let mut command = tools::cargo();
    command.args(["deny", "--log-level", "error", "check", "bans", "licenses", "sources"]);
    single(summary, "cargo deny", &mut command);
}

/// Runs a command that is one test in itself.
pub fn single(summary: &mut Summary, name: &str, command: &mut Command) {
    println!("\n== {name}: {}", tools::shown(command));
    let start = Instant::now();
    let result = tools::run(command);
    let passed = usize::from(result.is_ok());
    let totals = Totals { passed, failed: 1 - passed, ignored: 0 };
    let remark = result.err().map(|error| format!("{error:#}"));
    summary.add(Outcome { name: name.to_owned(), totals, remark, elapsed: start.elapsed() });
}

/// A built test binary.
#[derive(Clone, Debug)]
pub struct TestBinary {
    name: String,
    /// The file.
    pub executable: PathBuf,
    package_dir: PathBuf,
}

impl TestBinary {
    /// Gives the command that runs it the folder and the variables that tests rely on.
    pub fn prepare(&self, command: &mut Command, beside: &Beside<'_>) {
        beside.built.export(command);
        beside.peers.export(command);
        command.current_dir(&self.package_dir).env("CARGO_MANIFEST_DIR", &self.package_dir);
    }
}

/// Builds all test binaries; the result is by suite.
pub fn build_tests() -> Result<BTreeMap<String, Vec<TestBinary>>> {
    let mut command = tools::cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    println!("\n== building tests: {}", tools::shown(&command));
    let messages = tools::output(&mut command)?;
    // Every package is a suite, so that one whose tests have all gone is noticed.
    let mut suites = BTreeMap::new();
    for package in tools::metadata()?["packages"].as_array().context("cargo metadata lists no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        suites.insert(name.to_owned(), Vec::new());
    }
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo printed no JSON")?;
        let is_test = message["profile"]["test"].as_bool() == Some(true);
        let Some(executable) = message["executable"].as_str().filter(|_| is_test) else { continue };
        let manifest = message["manifest_path"].as_str().context("an artifact without a manifest")?;
        let package_dir = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
        let package = package_name(message["package_id"].as_str().unwrap_or_default());
        let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
        let is_file = message["target"]["kind"][0].as_str() == Some("test");
        let suite = if is_file { format!("{package}: {name}") } else { package };
        let binary = TestBinary { name, executable: executable.into(), package_dir };
        suites.entry(suite).or_default().push(binary);
    }
    Ok(suites)
}

/// The name in a package id such as `path+file:///x/crates/core#hopwise-core@0.1.0` or `path+file:///x/xtask#0.1.0`.
fn package_name(id: &str) -> String {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.rsplit_once('@') {
        Some((name, _version)) => name.to_owned(),
        None => url.rsplit('/').next().unwrap_or(url).to_owned(),
    }
}

/// Runs a test binary, passes on what it prints, and counts.
fn run_libtest(command: &mut Command) -> Result<Totals> {
    let shown = tools::shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("can't run {shown}"))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let text = String::from_utf8_lossy(&line);
        if let Some(counted) = libtest::totals(&text) {
            totals += counted;
        }
        writeln!(std::io::stdout(), "{text}")?;
    }
    let status = child.wait()?;
    if !status.success() && totals.failed == 0 {
        bail!("{shown} ended with {status} and no failed test");
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_by_their_ids() {
        assert_eq!(package_name("path+file:///x/crates/core#hopwise-core@0.1.0"), "hopwise-core");
        assert_eq!(package_name("path+file:///x/xtask#0.1.0"), "xtask");
    }
}
