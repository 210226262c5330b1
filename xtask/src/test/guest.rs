//! Test binaries on Debian's kernel, in the guest of [`crate::vm`]: what this machine's kernel may lack, and whether what
//! works here works where users are.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use super::libtest::{self, Totals};
use super::suites::{Beside, TestBinary};
use super::summary::{Outcome, Summary};
use crate::vm::{Guest, Job};

/// A test binary that runs in the guest.
struct Run {
    /// Its suite, as it is called on this machine's own kernel.
    suite: &'static str,
    /// Which of its tests, in the words of the test harness; all if there are none. What is left out takes the emulated
    /// processor minutes and no other ways through the kernel.
    filter: &'static [&'static str],
}

/// All that run there.
const RUNS: &[Run] = &[
    Run { suite: "hopwise-kernel: l2", filter: &[] },
    Run { suite: "hopwise-kernel: nft_traffic", filter: &[] },
    Run { suite: "hopwise-kernel: rtnetlink", filter: &["--skip", "scale::"] },
    Run { suite: "hopwise-cni: vlan", filter: &[] },
];

/// How long the guest may take for all of it. On a busy machine it is slow: nothing else is meant by it.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// The variables that these tests read: what they name is copied into the guest.
const VARIABLES: [&str; 3] = ["CARGO_MANIFEST_DIR", "HOPWISE_CNI_BIN", "HOPWISE_REFERENCE_CNI"];

/// Looks which of the kernel's features there are that the tests are there for. It runs last: what the tests need the kernel
/// is to load when they ask for it, as on a user's machine.
const FEATURES: &str = include_str!("features.sh");

/// What was counted of one job.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    totals: Totals,
    /// When it last said something.
    until: Option<Instant>,
}

/// What came of the guest.
#[derive(Debug, Default)]
pub struct Report {
    /// What it printed.
    text: String,
    outcomes: Vec<Outcome>,
    /// Why it is not to be had here.
    not_run: Option<String>,
}

impl Report {
    /// Prints it and puts it into the summary.
    pub fn add_to(self, summary: &mut Summary) {
        print!("\n== Debian kernel\n{}", self.text);
        for outcome in self.outcomes {
            summary.add(outcome);
        }
        if let Some(why) = self.not_run {
            summary.not_run("Debian kernel", &why);
        }
    }

    /// The report of a thread that has panicked.
    pub fn panicked() -> Report {
        let mut report = Report::default();
        report.fail("Debian kernel".to_owned(), "panicked; see above".to_owned());
        report
    }

    fn fail(&mut self, name: String, why: String) {
        let totals = Totals { failed: 1, ..Totals::default() };
        self.outcomes.push(Outcome { name, totals, remark: Some(why), elapsed: Duration::ZERO });
    }
}

/// Boots the guest once and runs all there, a suite for each. Prints nothing: it may run beside other suites.
pub fn tests(binaries: &BTreeMap<String, Vec<TestBinary>>, beside: &Beside<'_>) -> Report {
    let mut report = Report::default();
    if binaries.is_empty() {
        report.not_run = Some("the tests were not built".to_owned());
        return report;
    }
    let guest = match Guest::prepare() {
        Ok(guest) => guest,
        Err(error) => {
            report.not_run = Some(format!("{error:#}"));
            return report;
        }
    };
    let (mut jobs, mut suites) = (Vec::new(), Vec::new());
    for run in RUNS {
        let name = format!("Debian kernel, {}", run.suite);
        match job(run, binaries, beside) {
            Some(job) => {
                suites.push((name, run));
                jobs.push(job);
            }
            None => report.fail(name, format!("no test binary of the suite {:?} was built", run.suite)),
        }
    }
    jobs.push(features());
    let mut since = Instant::now();
    let mut heard = vec![Heard::default(); jobs.len()];
    let codes = guest.run(&jobs, LIMIT, |job, line| {
        if let Some(heard) = heard.get_mut(job) {
            heard.totals += libtest::totals(line).unwrap_or_default();
            heard.until = Some(Instant::now());
        }
        report.text += &format!("{line}\n");
    });
    let codes = match codes {
        Ok(codes) => codes,
        Err(error) => {
            report.fail("Debian kernel".to_owned(), format!("{error:#}"));
            return report;
        }
    };
    for ((name, run), (heard, code)) in suites.into_iter().zip(heard.into_iter().zip(codes)) {
        let until = heard.until.unwrap_or(since);
        let (totals, remark) = verdict(run, heard.totals, code, &guest.version());
        report.outcomes.push(Outcome { name, totals, remark: Some(remark), elapsed: until - since });
        since = until;
    }
    report
}

/// What the counts and the exit code of a test binary come to. A binary that ends badly has failed, whatever it has counted.
fn verdict(run: &Run, mut totals: Totals, code: i32, version: &str) -> (Totals, String) {
    if code != 0 && totals.failed == 0 {
        totals.failed = 1;
        return (totals, format!("ended with exit code {code} and no failed test"));
    }
    let with = if run.filter.is_empty() { "" } else { ", with " };
    (totals, format!("on Linux {version}{with}{}", run.filter.join(" ")))
}

fn features() -> Job {
    let words = ["sh", "-c", FEATURES].map(str::to_owned).to_vec();
    Job { words, folder: "/".into(), environment: Vec::new() }
}

fn job(run: &Run, binaries: &BTreeMap<String, Vec<TestBinary>>, beside: &Beside<'_>) -> Option<Job> {
    let binary = binaries.get(run.suite)?.first()?;
    let mut command = Command::new(&binary.executable);
    binary.prepare(&mut command, beside);
    command.args(run.filter);
    let mut job = Job::of(&command).ok()?;
    job.environment.retain(|(name, _)| VARIABLES.contains(&name.as_str()));
    Some(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;

    #[test]
    fn what_ends_badly_has_failed() {
        let run = Run { suite: "a: b", filter: &["--skip", "scale::"] };
        let counted = |passed, failed| Totals { passed, failed, ignored: 0 };
        let of = |totals, code| verdict(&run, totals, code, "6.1");
        assert_eq!(of(counted(3, 0), 0), (counted(3, 0), "on Linux 6.1, with --skip scale::".to_owned()));
        assert_eq!(of(counted(3, 1), 101), (counted(3, 1), "on Linux 6.1, with --skip scale::".to_owned()));
        let killed = "ended with exit code 137 and no failed test".to_owned();
        assert_eq!(of(counted(3, 0), 137), (counted(3, 1), killed));
    }

    #[test]
    fn every_suite_that_runs_there_exists() {
        for run in RUNS {
            let (package, name) = run.suite.split_once(": ").unwrap();
            let package = package.strip_prefix("hopwise-").unwrap();
            let tests = tools::workspace().join("crates").join(package).join("tests");
            let exists =
                tests.join(name).join("main.rs").is_file() || tests.join(name).with_extension("rs").is_file();
            assert!(exists, "{}: no {name} in {}", run.suite, tests.display());
        }
    }
}
