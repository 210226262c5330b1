//! Errors as the specification wants them: a number, a sentence, details.

use std::fmt;

use serde_json::{Value, json};

use super::SpecVersion;

/// The specification's error numbers. 100 and more are a plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: a `cniVersion` that is not supported, or too old for the command.
    IncompatibleVersion,
    /// 2: a field of the configuration that is not supported; the message names it and its value.
    UnsupportedField,
    /// 4: environment variables missing or wrong.
    InvalidEnvironment,
    /// 5: input or output failed.
    Io,
    /// 6: the configuration is not JSON, or not of the right shape.
    Decode,
    /// 7: the configuration is invalid.
    InvalidConfig,
    /// 8: the network namespace is wrong.
    InvalidNamespace,
    /// 11: try again later.
    TryAgainLater,
    /// 50: STATUS: no ADD can succeed now.
    NotAvailable,
    /// 51: STATUS: ADD can succeed, but existing attachments may be impaired.
    LimitedConnectivity,
    /// 999: what the reference returns for every failure without a number of its own.
    Internal,
    /// The number that another plugin gave.
    Other(u32),
}

impl Code {
    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNamespace => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Internal => 999,
            Code::Other(number) => number,
        }
    }
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// One sentence.
    pub msg: String,
    /// More, or empty.
    pub details: String,
}

impl CniError {
    /// An error with a number of its own.
    pub fn new(code: Code, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// An error without one: 999.
    pub fn failed(msg: impl Into<String>) -> CniError {
        CniError::new(Code::Internal, msg)
    }

    /// An error from a cause, `WHAT: CAUSE: ITS CAUSE`.
    pub fn caused(what: impl fmt::Display, cause: &dyn std::error::Error) -> CniError {
        let mut msg = format!("{what}: {cause}");
        let mut source = cause.source();
        while let Some(cause) = source {
            msg.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        CniError::failed(msg)
    }

    /// The same with details.
    #[must_use]
    pub fn details(self, details: impl Into<String>) -> CniError {
        CniError { details: details.into(), ..self }
    }

    /// The same, its sentence after `what: `.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> CniError {
        CniError { msg: format!("{what}: {}", self.msg), ..self }
    }

    /// One error of several, so that cleaning up can go on after the first. The first one's number counts.
    pub fn collect(errors: Vec<CniError>) -> Result<(), CniError> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        for error in errors {
            first.msg = format!("{}; {}", first.msg, error.msg);
        }
        Err(first)
    }

    /// What goes to stdout.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut value = json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.msg,
        });
        if !self.details.is_empty() {
            value["details"] = self.details.clone().into();
        }
        value
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

impl std::error::Error for CniError {}
