//! Waiting, and where programs are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Waits until something is so; its last no is what a failure shows.
#[track_caller]
pub fn eventually_within(patience: Duration, what: &str, mut is_so: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(why) = is_so() {
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}: {why}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder named by the environment, in which a program is.
pub fn folder(variable: &str, program: &str) -> PathBuf {
    let fix = "run `cargo xtask test`, or `cargo xtask peers` for what to export";
    let Some(folder) = std::env::var_os(variable).map(PathBuf::from) else {
        panic!("{variable} is not set; it names the folder of {program}; {fix}");
    };
    assert!(folder.join(program).is_file(), "{variable}: no {program} in {}; {fix}", folder.display());
    folder
}

/// A binary of ours, named by the environment: its folder and its name.
pub fn binary(variable: &str) -> (PathBuf, String) {
    let path = std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} is not set: these tests run the real binaries; use `cargo xtask test`")
    });
    let path = path.canonicalize().unwrap_or_else(|error| panic!("{variable}: {}: {error}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (path.parent().unwrap_or(Path::new("/")).to_owned(), name)
}
