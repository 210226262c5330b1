//! Exit codes and the one place that prints errors. The codes are documented in `docs/cli.md` and don't change.

use std::fmt;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and all is as it should be.
    Good,
    /// 1: could not be done; the message says why and what to do.
    Failed,
    /// 2: done, and the answer is no: changes are pending, the node is not ready, a check failed.
    Attention,
    /// 3: there is no agent at the address asked.
    NoAgent,
    /// 64: the command line is wrong (`EX_USAGE` of `sysexits.h`).
    Usage,
    /// Whatever the command run by `lab exec` ended with.
    Of(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::Attention => 2,
            Exit::NoAgent => 3,
            Exit::Usage => 64,
            Exit::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command failed, with what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure with a hint and an exit code other than 1.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Failure {
        Failure { exit, error: error.into(), hint: Some(hint.into()) }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { exit: Exit::Failed, error: error.into(), hint: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        // Some libraries repeat their source in their own message: a part that was just said is not said again.
        let mut said = String::new();
        for part in self.error.chain().map(ToString::to_string) {
            if said.contains(&part) {
                continue;
            }
            if !said.is_empty() {
                f.write_str(": ")?;
            }
            f.write_str(&part)?;
            said = part;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Adds a hint to an error.
pub trait Hint<T> {
    /// Says what to do about the error, as a command where there is one.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(Exit::Failed, error, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_chain_says_nothing_twice() {
        let inner = std::io::Error::other("no route");
        let error = anyhow::Error::new(inner).context("can't reach it: no route").context("status");
        let failure = Failure::new(Exit::NoAgent, error, "start the agent");
        assert_eq!(failure.to_string(), "error: status: can't reach it: no route\n hint: start the agent");
        assert_eq!(failure.exit().code(), 3);
    }
}
