//! Logs go to standard error: standard output is for answers.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// What to log, as in `info` or `hopwise_agent=debug,warn` [default: info for `agent`, warn otherwise]
    #[arg(long, global = true, env = "RUST_LOG", hide_env_values = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log: human, json, or auto, which is human with colours on a terminal
    #[arg(
        long,
        global = true,
        env = "HOPWISE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people, with colours on a terminal.
    Auto,
    /// Lines for people, without colours.
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. Call once.
pub fn start(args: &LogArgs, default: &str) -> anyhow::Result<()> {
    let filter = args.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!("--log {filter:?} is not a log filter ({error}); try --log debug")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match args.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Human => log.with_ansi(false).init(),
        LogFormat::Auto => log.with_ansi(io::stderr().is_terminal()).init(),
    }
    Ok(())
}
