//! What became of each suite, and the table at the end.

use std::fmt::Write as _;
use std::time::Duration;

use super::libtest::Totals;

/// What became of one suite.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The suite.
    pub name: String,
    /// What it counted.
    pub totals: Totals,
    /// Why it counts as failed even if no test failed, or what was not run here.
    pub remark: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What became of all suites, in the order of running.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    outcomes: Vec<Outcome>,
}

impl Summary {
    /// Adds a suite. One that ran nothing, or skipped anything, has failed: a suite that can't run says so with a failure.
    pub fn add(&mut self, mut outcome: Outcome) {
        if outcome.totals.passed + outcome.totals.failed == 0 {
            outcome.totals.failed = 1;
            outcome.remark.get_or_insert_with(|| "ran nothing".to_owned());
        }
        if outcome.totals.ignored > 0 {
            outcome.totals.failed += outcome.totals.ignored;
            outcome.remark = Some(format!("{} ignored: run them or remove them", outcome.totals.ignored));
        }
        println!("-- {}: {} passed, {} failed", outcome.name, outcome.totals.passed, outcome.totals.failed);
        self.outcomes.push(outcome);
    }

    /// Adds a suite that this machine has no tool for. It counts neither way, but stands in the table.
    pub fn not_run(&mut self, name: &str, why: &str) {
        println!("-- {name}: NOT RUN: {why}");
        let remark = Some(format!("NOT RUN: {why}"));
        self.outcomes.push(Outcome {
            name: name.to_owned(),
            totals: Totals::default(),
            remark,
            elapsed: Duration::ZERO,
        });
    }

    /// The sum of all suites.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for outcome in &self.outcomes {
            sum += outcome.totals;
        }
        sum
    }

    /// The table, with `N passed, N failed` as its last line.
    pub fn render(&self) -> String {
        let width = self.outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0).max(5);
        let mut text = format!("{:<width$}  passed  failed  seconds\n", "suite");
        for Outcome { name, totals, remark, elapsed } in &self.outcomes {
            let (passed, failed, seconds) = (totals.passed, totals.failed, elapsed.as_secs_f64());
            let _ = write!(text, "{name:<width$}  {passed:>6}  {failed:>6}  {seconds:>7.1}");
            let _ = match remark {
                Some(remark) => writeln!(text, "  {remark}"),
                None => writeln!(text),
            };
        }
        let sum = self.totals();
        let _ = writeln!(text, "\n{} passed, {} failed", sum.passed, sum.failed);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, passed: usize, failed: usize, ignored: usize) -> Outcome {
        let totals = Totals { passed, failed, ignored };
        Outcome { name: name.to_owned(), totals, remark: None, elapsed: Duration::from_millis(1500) }
    }

    #[test]
    fn a_suite_that_ran_nothing_or_skipped_has_failed() {
        let mut summary = Summary::default();
        summary.add(outcome("core", 5, 0, 0));
        summary.add(outcome("empty", 0, 0, 0));
        summary.add(outcome("shy", 3, 0, 2));
        summary.not_run("fuzz", "no nightly");
        assert_eq!(
            summary.render(),
            "suite  passed  failed  seconds\n\
             core        5       0      1.5\n\
             empty       0       1      1.5  ran nothing\n\
             shy         3       2      1.5  2 ignored: run them or remove them\n\
             fuzz        0       0      0.0  NOT RUN: no nightly\n\
             \n\
             8 passed, 3 failed\n"
        );
    }
}
