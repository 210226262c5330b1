//! `cargo xtask test`: everything, with one table at the end. CI runs the same.

mod fuzz;
mod guest;
mod libtest;
mod suites;
mod summary;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::artifacts::Profile;
use crate::{artifacts, peers, tools};
use libtest::Totals;
use summary::{Outcome, Summary};

/// What to leave out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether fuzz targets run too.
    pub fuzz: bool,
}

/// Programs that the tests compare with or use, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ping", "iputils-ping"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    // libFuzzer is built from its source.
    ("c++", "g++"),
];

/// Runs only the suites of the guest.
pub fn guest() -> Result<()> {
    let start = Instant::now();
    tools::install_missing(&PROGRAMS)?;
    let built = artifacts::build(Profile::Lab)?;
    let peers = peers::prepare();
    let beside = suites::Beside { built: &built, peers: &peers, privileges: suites::Privileges::find()? };
    let mut summary = Summary::default();
    guest::tests(&suites::build_tests()?, &beside).add_to(&mut summary);
    end(&summary, start)
}

/// Runs every suite, then prints the summary; an error if anything failed or did not run.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    tools::install_missing(&PROGRAMS)?;
    let privileges = suites::Privileges::find()?;
    let mut summary = Summary::default();
    // Beside the lints, whose last crates keep one core idle.
    let peers = std::thread::spawn(peers::prepare);

    suites::format(&mut summary);
    suites::clippy(&mut summary);
    suites::docs(&mut summary);
    let built = artifacts::build(Profile::Lab);
    let peers = peers.join().unwrap_or_default();
    for (name, why) in &peers.missing {
        summary.not_run(&format!("peer {name}"), &format!("{why}; tests that need it fail"));
    }
    let rest = |summary: &mut Summary| {
        suites::dependencies(summary);
        if options.fuzz {
            fuzz::run(summary);
        } else {
            summary.not_run("fuzz", "--no-fuzz was given");
        }
    };
    match built {
        Ok(built) => {
            let beside = suites::Beside { built: &built, peers: &peers, privileges };
            let binaries = suites::tests(&mut summary, &beside);
            suites::doc_tests(&mut summary, &built);
            suites::demo(&mut summary, &built);
            // The guest keeps one core busy for minutes: beside what has no deadlines.
            let report = std::thread::scope(|scope| {
                let guest = scope.spawn(|| guest::tests(&binaries, &beside));
                rest(&mut summary);
                guest.join()
            });
            report.unwrap_or_else(|_| guest::Report::panicked()).add_to(&mut summary);
        }
        Err(error) => {
            rest(&mut summary);
            let remark = Some(format!("{error:#}"));
            let totals = Totals { failed: 1, ..Totals::default() };
            summary.add(Outcome { name: "build".to_owned(), totals, remark, elapsed: start.elapsed() });
        }
    }
    end(&summary, start)
}

/// Prints the summary; an error if anything failed.
fn end(summary: &Summary, start: Instant) -> Result<()> {
    println!("\n== summary, {:.0} s\n", start.elapsed().as_secs_f64());
    print!("{}", summary.render());
    match summary.totals().failed {
        0 => Ok(()),
        failed => bail!("{failed} failed"),
    }
}
