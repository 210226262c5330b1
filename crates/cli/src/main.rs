//! `hopwise`: the node agent, and everything that a person does with it.

mod agent_client;
mod args;
mod commands;
mod exit;
mod install;
mod logging;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|failure| {
            eprintln!("{failure}");
            failure.exit()
        }),
        Err(answer) => {
            // Help and completion are answers too, not errors.
            let _ = answer.print();
            if answer.use_stderr() { Exit::Usage } else { Exit::Good }
        }
    };
    exit.into()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let default = if matches!(cli.command, Command::Agent(_)) { "info" } else { "warn" };
    logging::start(&cli.log, default)?;
    cli.command.run()
}
