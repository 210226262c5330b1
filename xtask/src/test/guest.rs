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
    /// The shell script that runs it, if it can't run as it is.
    by: Option<&'static str>,
}

impl Run {
    const fn of(suite: &'static str, filter: &'static [&'static str]) -> Run {
        Run { suite, filter, by: None }
    }
}

/// All that run there.
const RUNS: &[Run] = &[
    // Before others have the kernel load what it is to be without, or what is waited for.
    Run { suite: "hopwise-cni: without_nftables", filter: &[], by: Some(include_str!("no_modules.sh")) },
    Run { suite: "hopwise-cni: modules", filter: &[], by: Some(include_str!("slow_modules.sh")) },
    Run::of("hopwise-kernel: l2", &[]),
    Run::of("hopwise-kernel: nft_traffic", &[]),
    Run::of("hopwise-kernel: rtnetlink", &["--skip", "scale::"]),
    Run::of("hopwise-agent: l2", &[]),
    Run::of("hopwise-cni: attach", &["--skip", "kill::", "--skip", "concurrent::"]),
    Run::of("hopwise-cni: vlan", &[]),
];

/// How long one of them may take. On a busy machine the guest is slow: nothing else is meant by it.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// How long all of them may take together.
const LIMIT_OF_ALL: Duration = Duration::from_secs(25 * 60);

/// The variables that these tests read: what they name is copied into the guest.
const VARIABLES: [&str; 3] = ["CARGO_MANIFEST_DIR", "HOPWISE_CNI_BIN", "HOPWISE_REFERENCE_CNI"];

/// Looks which of the kernel's features there are that the tests are there for. It runs last: what the tests need the kernel
/// is to load when they ask for it, as on a user's machine.
const FEATURES: &str = include_str!("features.sh");

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

/// Boots the guest and runs all there, a suite for each. What it prints comes at the end, as it may run beside other suites:
/// at once only how far it is.
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
    let mut suites = Vec::new();
    for run in RUNS {
        match job(run, binaries, beside) {
            Some(job) => suites.push(Suite::new(run.suite, run.filter, job)),
            None => {
                report.fail(
                    suite_name(run.suite),
                    format!("no test binary of the suite {:?} was built", run.suite),
                );
            }
        }
    }
    suites.push(Suite { single: true, ..Suite::new("features", &[], features()) });
    run_all(&guest, &mut suites, &mut report);
    for suite in suites {
        report.outcomes.push(suite.outcome(&guest.version()));
    }
    report
}

/// One of the runs, and what came of it.
struct Suite {
    name: String,
    filter: &'static [&'static str],
    job: Job,
    /// Whether it is no test binary, but one test in itself.
    single: bool,
    totals: Totals,
    /// Its exit code, or why it has none.
    end: Result<i32, String>,
    elapsed: Duration,
}

impl Suite {
    fn new(name: &str, filter: &'static [&'static str], job: Job) -> Suite {
        let end = Err("there was no time left".to_owned());
        let (name, totals, elapsed) = (suite_name(name), Totals::default(), Duration::ZERO);
        Suite { name, filter, job, single: false, totals, end, elapsed }
    }

    /// What it comes to. A binary that ends badly has failed, whatever it has counted.
    fn outcome(self, version: &str) -> Outcome {
        let mut totals = self.totals;
        let bad = match self.end {
            Ok(0) => None,
            Ok(code) if totals.failed == 0 => Some(format!("ended with exit code {code} and no failed test")),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        totals.failed += usize::from(bad.is_some());
        totals.passed += usize::from(self.single && bad.is_none());
        let with = if self.filter.is_empty() { "" } else { ", with " };
        let remark = bad.unwrap_or_else(|| format!("on Linux {version}{with}{}", self.filter.join(" ")));
        Outcome { name: self.name, totals, remark: Some(remark), elapsed: self.elapsed }
    }
}

fn suite_name(suite: &str) -> String {
    format!("Debian kernel, {suite}")
}

/// Runs all; where one does not end, it is left out and the guest booted again for those that are left.
fn run_all(guest: &Guest, suites: &mut [Suite], report: &mut Report) {
    let deadline = Instant::now() + LIMIT_OF_ALL;
    let mut first = 0;
    while first < suites.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let rest = &mut suites[first..];
        let jobs: Vec<Job> = rest.iter().map(|suite| suite.job.clone()).collect();
        let mut since = Instant::now();
        let mut current = None;
        let ran = guest.run(&jobs, LIMIT.min(left), |at, line| {
            if let Some(suite) = rest.get_mut(at) {
                if current.replace(at) != Some(at) {
                    println!("== {} begins", suite.name);
                    since = Instant::now();
                }
                suite.totals += libtest::totals(line).unwrap_or_default();
                suite.elapsed = since.elapsed();
            }
            report.text += &format!("{line}\n");
        });
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return report.fail("Debian kernel".to_owned(), format!("{error:#}")),
        };
        first += ran.codes.len();
        for (suite, code) in rest.iter_mut().zip(&ran.codes) {
            suite.end = Ok(*code);
        }
        if let Some((suite, why)) = rest.get_mut(ran.codes.len()).zip(ran.broken) {
            suite.elapsed = since.elapsed();
            suite.end = Err(why);
            first += 1;
        }
    }
}

fn features() -> Job {
    let words = ["sh", "-c", FEATURES].map(str::to_owned).to_vec();
    Job { words, folder: "/".into(), environment: Vec::new() }
}

fn job(run: &Run, binaries: &BTreeMap<String, Vec<TestBinary>>, beside: &Beside<'_>) -> Option<Job> {
    let binary = binaries.get(run.suite)?.first()?;
    let mut command = Command::new(&binary.executable);
    binary.prepare(&mut command, beside);
    // It has one processor; and the test that hangs, if one does, is the last one that is named.
    command.arg("--test-threads=1").args(run.filter);
    let mut job = Job::of(&command).ok()?;
    if let Some(script) = run.by {
        let words = ["sh", "-c", script, "sh"].map(str::to_owned);
        job.words.splice(0..0, words);
    }
    job.environment.retain(|(name, _)| VARIABLES.contains(&name.as_str()));
    Some(job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools;

    #[test]
    fn what_ends_badly_has_failed() {
        let counted = |passed, failed| Totals { passed, failed, ignored: 0 };
        let of_kind = |single, totals, end: Result<i32, &str>| {
            let suite = Suite::new("a: b", &["--skip", "scale::"], features());
            let outcome = Suite { totals, end: end.map_err(str::to_owned), single, ..suite }.outcome("6.1");
            assert_eq!(outcome.name, "Debian kernel, a: b");
            (outcome.totals, outcome.remark.unwrap())
        };
        let of = |totals, end| of_kind(false, totals, end);
        let fine = "on Linux 6.1, with --skip scale::".to_owned();
        assert_eq!(of(counted(3, 0), Ok(0)), (counted(3, 0), fine.clone()));
        assert_eq!(of(counted(3, 1), Ok(101)), (counted(3, 1), fine.clone()));
        assert_eq!(of(counted(0, 0), Ok(0)), (counted(0, 0), fine.clone()));
        assert_eq!(of_kind(true, counted(0, 0), Ok(0)), (counted(1, 0), fine));
        assert_eq!(of_kind(true, counted(0, 0), Ok(1)).0, counted(0, 1));
        let killed = "ended with exit code 137 and no failed test".to_owned();
        assert_eq!(of(counted(3, 0), Ok(137)), (counted(3, 1), killed));
        assert_eq!(of(counted(3, 0), Err("hung")), (counted(3, 1), "hung".to_owned()));
        assert_eq!(of(counted(3, 2), Err("hung")), (counted(3, 3), "hung".to_owned()));
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
