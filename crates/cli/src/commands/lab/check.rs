//! `hopwise lab check`.

use std::io::{self, IsTerminal};

use hopwise_lab::check::{CheckOptions, CheckReport, TableOptions};
use hopwise_lab::{Lab, LabName};

use super::progress;
use crate::exit::{Exit, Failure};
use crate::output::Format;

/// Checks a lab and prints what was found.
pub fn run(name: &LabName, format: Format) -> Result<Exit, Failure> {
    let lab = Lab::open(name)?;
    let report = progress::shown(|progress| lab.check(&CheckOptions::default(), progress))?;
    format.print(&report, for_people)?;
    Ok(if report.ok { Exit::Good } else { Exit::Attention })
}

/// The report as a matrix: in colour and as wide as the terminal, if it is one.
pub fn for_people(report: &CheckReport) -> String {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    report.table(TableOptions { colour, width: width.unwrap_or(TableOptions::default().width) })
}
