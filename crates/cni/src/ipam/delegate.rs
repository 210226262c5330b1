//! Running another plugin for addresses: `dhcp`, `static`, or one from elsewhere.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::config::NetworkConfig;
use crate::json::{self, Object};
use crate::spec::{AddResult, CniError, Code, Request};

/// Runs an IPAM plugin's ADD and reads its result.
pub fn add(plugin: &str, config: &NetworkConfig, request: &Request) -> Result<AddResult, CniError> {
    let output = execute(plugin, config, request, "ADD")?;
    let context = |error: &dyn std::fmt::Display| {
        CniError::failed(format!("IPAM plugin {plugin:?} printed what is not a result: {error}"))
    };
    let value = json::parse(&output).map_err(|error| context(&error))?;
    let root = Object::root(&value).map_err(|error| context(&error))?;
    AddResult::from_json(&root).map_err(|error| context(&error))
}

/// Runs an IPAM plugin's other commands.
pub fn run(plugin: &str, config: &NetworkConfig, request: &Request, command: &str) -> Result<(), CniError> {
    execute(plugin, config, request, command).map(drop)
}

fn find(plugin: &str, path: &str) -> Result<PathBuf, CniError> {
    if plugin.contains('/') {
        return Err(CniError::failed(format!("ipam.type: invalid plugin name: {plugin}")));
    }
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| PathBuf::from(folder).join(plugin))
        .find(|file| file.is_file())
        .ok_or_else(|| CniError::failed(format!("failed to find plugin {plugin:?} in path [{path}]")))
}

fn execute(
    plugin: &str,
    config: &NetworkConfig,
    request: &Request,
    command: &str,
) -> Result<Vec<u8>, CniError> {
    let file = find(plugin, &request.path)?;
    let failed = |error: std::io::Error| CniError::caused(format!("can't run {}", file.display()), &error);
    let mut child = Command::new(&file)
        .env("CNI_COMMAND", command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that doesn't read its configuration tells by its exit code what it thinks.
        let _ = stdin.write_all(&config.raw);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let value = json::parse(&output.stdout).ok();
    let told = value.as_ref().and_then(|value| {
        let root = Object::root(value).ok()?;
        let details = root.string("details").ok()?.unwrap_or_default();
        let code = Code::Other(root.number("code").ok()??);
        Some(CniError::new(code, root.string("msg").ok()??).details(details))
    });
    let silent = || CniError::failed(format!("IPAM plugin {plugin:?} failed: {}", output.status));
    Err(told.unwrap_or_else(silent))
}
