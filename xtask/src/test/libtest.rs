//! Reading what a test binary of Rust's standard harness prints.

/// Counts of one or more test binaries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that were skipped by `#[ignore]`.
    pub ignored: usize,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// The counts of a line `test result: ok. 5 passed; 0 failed; 0 ignored; …`; `None` for any other line.
pub fn totals(line: &str) -> Option<Totals> {
    let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_result_lines_count() {
        let line = "test result: FAILED. 5 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(totals(line), Some(Totals { passed: 5, failed: 1, ignored: 2 }));
        assert_eq!(totals("test result of mine ... ok"), None);
        assert_eq!(totals("running 5 tests"), None);
        assert_eq!(totals("test result: ok. five passed"), None);
    }
}
