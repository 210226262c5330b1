//! The fuzz targets, a little while each: libFuzzer with this compiler, so that nothing else has to be installed. By hand
//! `cargo +nightly fuzz run TARGET` looks for longer, and with the address sanitizer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use super::libtest::Totals;
use super::suites::single;
use super::summary::{Outcome, Summary};
use crate::{artifacts, tools};

/// How long each target runs, in seconds. CI is to notice a parser that panics at once.
const SECONDS: u32 = 20;
/// What `cargo fuzz` gives the compiler, but for the sanitizer, which a stable compiler does not have: what has been
/// reached is counted, and what is compared with what is told.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Builds and runs every target.
pub fn run(summary: &mut Summary) {
    let start = Instant::now();
    match build() {
        Ok(targets) => {
            for target in targets {
                let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
                single(summary, &format!("fuzz {name}"), &mut fuzzing(&target, &name));
            }
        }
        Err(error) => summary.add(Outcome {
            name: "fuzz".to_owned(),
            totals: Totals { failed: 1, ..Totals::default() },
            remark: Some(format!("{error:#}")),
            elapsed: start.elapsed(),
        }),
    }
}

fn build() -> Result<Vec<PathBuf>> {
    let host = artifacts::host()?;
    let folder = tools::workspace().join("fuzz");
    let target_dir = folder.join("target");
    let mut command = tools::cargo();
    // With an explicit target the flags do not reach build scripts and procedural macros.
    command
        .current_dir(&folder)
        .env("RUSTFLAGS", FLAGS)
        .args(["build", "--release", "--target", &host, "--target-dir"])
        .arg(&target_dir);
    println!("\n== building fuzz targets: {}", tools::shown(&command));
    tools::run(&mut command)?;
    let built = target_dir.join(&host).join("release");
    let names = tools::source_names(&folder.join("fuzz_targets"))?;
    Ok(names.into_iter().map(|name| built.join(name)).collect())
}

/// One run: from what earlier runs here have found on, and with what panics kept as a file.
fn fuzzing(target: &Path, name: &str) -> Command {
    let folder = |kind: &str| tools::workspace().join("fuzz").join(kind).join(name);
    let (corpus, artifacts) = (folder("corpus"), folder("artifacts"));
    for folder in [&corpus, &artifacts] {
        // libFuzzer says so if it isn't there.
        let _ = fs::create_dir_all(folder);
    }
    let mut command = Command::new(target);
    command
        .arg(format!("-max_total_time={SECONDS}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-verbosity=0", "-print_final_stats=1"])
        .arg(&corpus);
    command
}
