//! The project's own commands, the same for people and for CI: `cargo xtask demo|test|bench|peers|vm|ci`.
//!
//! Arguments are read by hand and there is no async: this crate is built before anything else happens, by everybody.

mod artifacts;
mod bench;
mod debian;
mod demo;
mod peers;
mod test;
mod tools;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo               Builds, then shows three nodes with two pods each reach each other, and heal
  test [--no-fuzz]   Runs everything that CI runs: format, lints, docs, all tests, fuzz targets, the demo
  bench [NAME...] [-- ARGUMENT...]
                     Runs the benches that need network namespaces, all or those named; --quick is for a first look
  peers              Builds the programs that tests compare with, and prints what to export to run single tests
  vm                 Runs only the tests that also run in a guest with Debian's kernel
  vm -- COMMAND...   Runs a command as root in that guest, for what this machine's kernel lacks
  ci                 What .ci/run calls: the same as test
  help               Shows this text

CONTRIBUTING.md tells what each needs and how long it takes.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<ExitCode> {
    match args {
        ["vm", "--", words @ ..] => return Ok(ExitCode::from(vm::command(words)?)),
        ["demo"] => demo::run()?,
        ["test"] | ["ci"] => test::run(&test::Options { fuzz: true })?,
        ["test", "--no-fuzz"] => test::run(&test::Options { fuzz: false })?,
        ["bench", names @ ..] => bench::run(names)?,
        ["vm"] => test::guest()?,
        ["peers"] => peers::run()?,
        ["help" | "--help" | "-h"] => print!("{USAGE}"),
        [] => bail!("no command given\n\n{USAGE}"),
        unknown => bail!("unknown command {:?}\n\n{USAGE}", unknown.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}
