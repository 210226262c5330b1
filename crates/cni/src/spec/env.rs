//! The environment variables that carry a request.

use super::{CniError, Code};

/// What a runtime asks of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Is it as ADD made it?
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Could an ADD succeed now?
    Status,
    /// Which versions are supported?
    Version,
}

impl Command {
    /// Whether the command is about one attachment.
    fn attaches(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// Where variables are looked up: the process's environment, or a test's table.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A request as the environment states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for commands without an attachment.
    pub container_id: String,
    /// `CNI_NETNS`, the path of the pod's network namespace; may be empty for DEL.
    pub netns: String,
    /// `CNI_IFNAME`, the link's name in the pod.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`, where other plugins are.
    pub path: String,
    /// `CNI_NETNS_OVERRIDE`: the plugin's own namespace may be attached.
    pub netns_override: bool,
}

impl Request {
    /// Reads and checks the variables. `Ok(None)` when there is no `CNI_COMMAND` at all: somebody typed the plugin's
    /// name into a shell.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidEnvironment`] for missing and wrong ones; an unknown command too.
    pub fn from_environment(lookup: Environment<'_>) -> Result<Option<Request>, CniError> {
        let get = |name: &str| lookup(name).unwrap_or_default();
        let command = match get("CNI_COMMAND").as_str() {
            "" => return Ok(None),
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => {
                let msg = format!("unknown CNI_COMMAND: {other}");
                return Err(CniError::new(Code::InvalidEnvironment, msg));
            }
        };
        let netns_override = get("CNI_NETNS_OVERRIDE");
        let request = Request {
            command,
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            args: get("CNI_ARGS"),
            path: get("CNI_PATH"),
            netns_override: netns_override == "1" || netns_override.eq_ignore_ascii_case("true"),
        };
        request.check()?;
        Ok(Some(request))
    }

    fn check(&self) -> Result<(), CniError> {
        if self.command.attaches() {
            if !self.container_id.is_empty() && !is_name(&self.container_id) {
                return Err(CniError::new(Code::InvalidEnvironment, "invalid characters in containerID")
                    .details(self.container_id.clone()));
            }
            if !self.ifname.is_empty() {
                check_ifname(&self.ifname)?;
            }
        }
        let required = [
            ("CNI_CONTAINERID", &self.container_id, self.command.attaches()),
            ("CNI_NETNS", &self.netns, matches!(self.command, Command::Add | Command::Check)),
            ("CNI_IFNAME", &self.ifname, self.command.attaches()),
            ("CNI_PATH", &self.path, self.command != Command::Version),
        ];
        let missing: Vec<&str> = required
            .into_iter()
            .filter(|(_, value, required)| *required && value.is_empty())
            .map(|(name, ..)| name)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let msg = format!("required env variables [{}] missing", missing.join(","));
        Err(CniError::new(Code::InvalidEnvironment, msg))
    }
}

/// Whether a container id or network name is made of what the specification allows.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn check_ifname(name: &str) -> Result<(), CniError> {
    let invalid = |msg: &str| Err(CniError::new(Code::InvalidEnvironment, msg));
    if name.len() > 15 {
        return invalid("interface name is too long")
            .map_err(|error: CniError| error.details("interface name should be less than 16 characters"));
    }
    if name == "." || name == ".." {
        return invalid("interface name is . or ..");
    }
    if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return invalid("interface name contains / or : or whitespace characters");
    }
    // The kernel takes `eth%d` for a wish, and the link would have another name.
    if name.contains('%') {
        return invalid("interface name contains %, which the kernel replaces by a number");
    }
    Ok(())
}
