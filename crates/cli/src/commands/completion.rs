//! `hopwise completion`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output::print_text;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  source <(hopwise completion bash)
  hopwise completion zsh > \"${fpath[1]}/_hopwise\"
  hopwise completion fish > ~/.config/fish/completions/hopwise.fish";

/// Arguments of `hopwise completion`.
#[derive(Args, Debug)]
pub struct CompletionCommand {
    /// The shell
    shell: Shell,
}

impl CompletionCommand {
    /// Prints the script.
    pub fn run(&self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hopwise", &mut script);
        print_text(&String::from_utf8(script)?)?;
        Ok(Exit::Good)
    }
}
