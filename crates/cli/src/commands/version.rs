//! `hopwise version`.

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise version
  hopwise version -o json";

/// Arguments of `hopwise version`.
#[derive(Args, Debug)]
pub struct VersionCommand {
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

/// What there is to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    /// The version of this program and of the agent inside.
    version: &'static str,
    /// The version of the status format that it writes and reads.
    status_format: u32,
    /// The operating system that it was built for.
    os: &'static str,
    /// The processor architecture.
    arch: &'static str,
}

impl VersionCommand {
    /// Prints it.
    pub fn run(&self) -> Result<Exit, Failure> {
        let version = Version {
            version: env!("CARGO_PKG_VERSION"),
            status_format: hopwise_api::status::VERSION,
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        };
        self.output.print(&version, |v| format!("hopwise {} ({}/{})\n", v.version, v.os, v.arch))?;
        Ok(Exit::Good)
    }
}
