//! `lab exec`: a command inside one of the lab's namespaces.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::error::LabError;
use crate::lab::Lab;

impl Lab {
    /// Becomes a command inside a namespace, as `ip netns exec` does: signals, terminal and exit code are the command's
    /// own. Without a command it is a shell. Returns only if that fails.
    pub fn exec(&self, target: &str, command: &[OsString]) -> LabError {
        let namespace = match self.namespace(target) {
            Ok(namespace) => namespace,
            Err(error) => return error,
        };
        if let Err(error) = namespace.enter() {
            return LabError::step(format!("entering the namespace of {target}"))(error);
        }
        let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        let program = command.first().cloned().unwrap_or_else(shell);
        let error =
            Command::new(&program).args(command.iter().skip(1)).env("PATH", self.search_path()).exec();
        LabError::step(format!("running {}", program.display()))(error)
    }

    /// `PATH` with the lab's own binaries first, so that `lab exec node1 -- hopwise routes` is of one version.
    fn search_path(&self) -> OsString {
        let own = self.binaries.hopwise.parent().map(Path::to_owned);
        let inherited = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        std::env::join_paths(own.into_iter().chain(std::env::split_paths(&inherited))).unwrap_or(inherited)
    }

    /// Runs a command inside a namespace and returns what it said.
    pub fn output(&self, target: &str, program: &str, arguments: &[&str]) -> Result<Output, LabError> {
        self.inside(target, || Command::new(program).args(arguments).output())?
            .map_err(LabError::step(format!("running {program} in {target}")))
    }
}
