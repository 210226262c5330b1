//! A mount namespace for a test: what is mounted in it is nowhere else, and goes with its process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The namespace, held by a process.
pub struct MountNamespace {
    holder: Child,
}

impl MountNamespace {
    /// Makes a namespace and mounts something in it, by a shell command.
    pub fn new(mount: &str) -> MountNamespace {
        let script = format!("{mount} && echo mounted && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux's unshare");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "{mount} in a mount namespace; this test needs root");
        MountNamespace { holder }
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
