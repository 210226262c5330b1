//! What a plugin is, and how one is chosen and run.

use std::io::{Read, Write};

use hopwise_core::mark;
use serde_json::Value;

use crate::bandwidth::Bandwidth;
use crate::bridge::Bridge;
use crate::config::NetworkConfig;
use crate::loopback::Loopback;
use crate::portmap::Portmap;
use crate::ptp::Ptp;
use crate::spec::{AddResult, CniError, Code, Command, Environment, Request, SpecVersion};
use crate::standalone::HostLocalPlugin;

/// One call: what the environment and stdin say.
pub struct Invocation {
    /// From the environment.
    pub request: Request,
    /// From stdin.
    pub config: NetworkConfig,
}

/// A plugin's commands. Those that a plugin has nothing to do for succeed, as in the reference.
pub trait Plugin {
    /// The oldest version of the specification that it speaks.
    fn oldest(&self) -> SpecVersion {
        SpecVersion::V0_1_0
    }

    /// Attaches; takes everything back when it fails.
    ///
    /// # Errors
    ///
    /// When the pod could not be attached.
    fn add(&self, invocation: &Invocation) -> Result<AddResult, CniError>;

    /// Detaches; succeeds when there is nothing left, goes on after errors.
    ///
    /// # Errors
    ///
    /// When something is left.
    fn del(&self, invocation: &Invocation) -> Result<(), CniError>;

    /// Whether all is as ADD made it.
    ///
    /// # Errors
    ///
    /// When it isn't; the message says what.
    fn check(&self, _invocation: &Invocation) -> Result<(), CniError> {
        Ok(())
    }

    /// Whether an ADD could succeed now. Called twice a second by some runtimes.
    ///
    /// # Errors
    ///
    /// [`Code::NotAvailable`] when it could not.
    fn status(&self, _invocation: &Invocation) -> Result<(), CniError> {
        Ok(())
    }

    /// Removes what belongs to no valid attachment.
    ///
    /// # Errors
    ///
    /// When something is left.
    fn gc(&self, _invocation: &Invocation) -> Result<(), CniError> {
        Ok(())
    }
}

/// The plugin of a name; `None` for an unknown one.
fn named(name: &str) -> Option<&'static dyn Plugin> {
    match name {
        "bridge" => Some(&Bridge),
        "ptp" => Some(&Ptp),
        "loopback" => Some(&Loopback),
        "host-local" => Some(&HostLocalPlugin),
        "portmap" => Some(&Portmap),
        "bandwidth" => Some(&Bandwidth),
        _ => None,
    }
}

/// The names under which this binary can be installed.
pub const NAMES: [&str; 6] = ["bridge", "ptp", "loopback", "host-local", "portmap", "bandwidth"];

/// Whether a plugin of this binary's is meant by a name, other than `host-local`: none of them gives addresses, and those
/// that ask for some would start themselves again and again.
pub fn gives_no_addresses(name: &str) -> bool {
    WHOLE.contains(&name) || (name != "host-local" && named(name).is_some())
}

/// Names of the whole, which leave the choice to the configuration.
pub const WHOLE: [&str; 2] = ["hopwise", "hopwise-cni"];

/// The plugin for a call: by the name that the binary was called by, else by `type` of the configuration. Where that is
/// `hopwise`, `attach` chooses; without it a `bridge` key asks for a bridge, and all else is routed without one.
fn choose(called: &str, config: &NetworkConfig) -> Result<&'static dyn Plugin, CniError> {
    if let Some(plugin) = named(called) {
        return Ok(plugin);
    }
    let root = config.root();
    let attach = match config.plugin.as_str() {
        whole if WHOLE.contains(&whole) => {
            let default = if root.get("bridge").is_some() { "bridge" } else { "ptp" };
            root.string("attach")?.unwrap_or_else(|| default.to_owned())
        }
        other => other.to_owned(),
    };
    named(&attach).ok_or_else(|| {
        let msg = format!("unknown plugin {attach:?}; use one of {}", NAMES.join(", "));
        CniError::new(Code::InvalidConfig, msg)
    })
}

/// Runs one call: reads the environment and stdin, prints a result or an error to stdout. Returns the exit code.
///
/// `called` is the name of the binary, without its folder.
pub fn run(
    called: &str,
    environment: Environment<'_>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    let mut version = SpecVersion::V1_1_0;
    let printed = match answer(called, environment, stdin, &mut version) {
        Ok(Answer::Nothing) => Ok(0),
        Ok(Answer::Json(value)) => print(stdout, &value).map(|()| 0),
        Ok(Answer::About) => about(called, stderr).map(|()| 0),
        Err(error) => print(stdout, &error.to_json(version)).map(|()| 1),
    };
    // Nobody to tell if stdout is closed.
    printed.unwrap_or(1)
}

enum Answer {
    Nothing,
    Json(Value),
    About,
}

fn print(stdout: &mut dyn Write, value: &Value) -> std::io::Result<()> {
    // One write: a runtime that reads while we write never sees half of it.
    stdout.write_all(format!("{value:#}\n").as_bytes())?;
    stdout.flush()
}

fn about(called: &str, stderr: &mut dyn Write) -> std::io::Result<()> {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
    let version = env!("CARGO_PKG_VERSION");
    writeln!(stderr, "CNI plugin {called}, Hopwise v{version}")?;
    writeln!(stderr, "CNI protocol versions supported: {versions}")?;
    // `hopwise cni install` knows the binary, and reads what it can be installed as, by this line.
    writeln!(stderr, "{}{}", mark::PLUGIN_BINARY, NAMES.join(", "))
}

fn answer(
    called: &str,
    environment: Environment<'_>,
    stdin: &mut dyn Read,
    version: &mut SpecVersion,
) -> Result<Answer, CniError> {
    let Some(request) = Request::from_environment(environment)? else { return Ok(Answer::About) };
    if request.command == Command::Version {
        let oldest = named(called).map_or(SpecVersion::V0_1_0, Plugin::oldest);
        return Ok(Answer::Json(SpecVersion::report(oldest)));
    }
    let mut raw = Vec::new();
    stdin
        .read_to_end(&mut raw)
        .map_err(|error| CniError::new(Code::Io, format!("error reading from stdin: {error}")))?;
    let config = NetworkConfig::from_json(raw)?;
    *version = config.version;
    let since = match request.command {
        Command::Check => Some((SpecVersion::V0_4_0, "CHECK")),
        Command::Gc => Some((SpecVersion::V1_1_0, "GC")),
        Command::Status => Some((SpecVersion::V1_1_0, "STATUS")),
        Command::Add | Command::Del | Command::Version => None,
    };
    if let Some((_, command)) = since.filter(|(since, _)| config.version < *since) {
        let msg = format!("config version does not allow {command}");
        return Err(CniError::new(Code::IncompatibleVersion, msg));
    }
    let plugin = choose(called, &config)?;
    if config.version < plugin.oldest() {
        return Err(SpecVersion::incompatible(config.version.as_str(), plugin.oldest()));
    }
    let invocation = Invocation { request, config };
    match invocation.request.command {
        Command::Add => {
            let printable = plugin.add(&invocation)?.to_json(invocation.config.version);
            // Versions before 0.3.0 have no words for a link without an address.
            printable.map(Answer::Json).inspect_err(|_| drop(plugin.del(&invocation)))
        }
        Command::Del => plugin.del(&invocation).map(|()| Answer::Nothing),
        Command::Check => plugin.check(&invocation).map(|()| Answer::Nothing),
        Command::Status => plugin.status(&invocation).map(|()| Answer::Nothing),
        // Nothing is known to be stale. libcni calls like this when it has not been told either (`cnitool gc`), after it has
        // deleted what it knew of.
        Command::Gc if !invocation.config.tells_attachments() => Ok(Answer::Nothing),
        Command::Gc => plugin.gc(&invocation).map(|()| Answer::Nothing),
        Command::Version => Ok(Answer::Nothing),
    }
}
