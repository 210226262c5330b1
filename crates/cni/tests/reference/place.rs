//! A host and its pods as network namespaces, and the plugins of both sides to be called there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hopwise_kernel::netns::Namespace;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::older::peer;

/// Whose plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Reference,
    Ours,
}

/// A pod's namespace, held by a process, so that its path is really gone when it is.
pub struct Pod {
    pub namespace: Namespace,
    holder: Child,
}

impl Pod {
    /// Without duplicate address detection unless asked for, which costs the reference seconds.
    pub fn new(dad: bool) -> Pod {
        let namespace = Namespace::new().unwrap();
        let holder = namespace.run(|| {
            if !dad {
                fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
            }
            // It ends with our end of the pipe, however this process ends.
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        });
        Pod { holder: holder.unwrap(), namespace }
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A host: a namespace, a folder with data and with our plugins by name, pods.
pub struct Place {
    pub namespace: Namespace,
    pub dir: TempDir,
    pub pods: Vec<Option<Pod>>,
    /// The paths of all pods there ever were.
    pub paths: Vec<String>,
    reference: PathBuf,
}

/// One call of a plugin.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub plugin: String,
    pub env: BTreeMap<String, String>,
    pub stdin: String,
}

impl Place {
    pub fn new(n_pods: usize, dad: bool) -> Place {
        let dir = TempDir::new().unwrap();
        let ours = dir.path().join("bin");
        fs::create_dir(&ours).unwrap();
        for name in hopwise_cni::plugin::NAMES {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hopwise-cni"), ours.join(name)).unwrap();
        }
        let pods: Vec<Pod> = (0..n_pods).map(|_| Pod::new(dad)).collect();
        let paths = pods.iter().map(Pod::path).collect();
        let namespace = Namespace::new().unwrap();
        if !dad {
            let write = || fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
            namespace.run(write).unwrap();
        }
        let pods = pods.into_iter().map(Some).collect();
        Place { namespace, dir, pods, paths, reference: peer().folder.clone() }
    }

    /// Where a side's plugins are.
    pub fn plugins(&self, side: Side) -> PathBuf {
        match side {
            Side::Reference => self.reference.clone(),
            Side::Ours => self.dir.path().join("bin"),
        }
    }

    /// Runs a plugin of one side, its IPAM plugin looked for among those of another, and returns what it said as JSON.
    pub fn call(&self, side: Side, ipam: Side, call: &Call) -> Value {
        let mut command = Command::new(self.plugins(side).join(&call.plugin));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(&call.env);
        if !call.env.contains_key("CNI_PATH") {
            command.env("CNI_PATH", self.plugins(ipam));
        }
        let spawn = || {
            let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            piped.spawn().unwrap()
        };
        let mut child = self.namespace.run(spawn).unwrap();
        // A plugin that needs no configuration may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(call.stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        if side == Side::Ours && call.env.contains_key("CNI_COMMAND") {
            assert!(output.stderr.is_empty(), "{call:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        said(call.env.get("CNI_COMMAND").map_or("nothing", String::as_str), &output)
    }

    /// Runs a command in a namespace of this place.
    pub fn run(&self, namespace: &Namespace, words: &str) {
        let text = words.replace("{dir}", &self.dir.path().to_string_lossy());
        let mut words = text.split_whitespace();
        let output =
            namespace.run(|| Command::new(words.next().unwrap()).args(words).output().unwrap()).unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The pod of this number.
    pub fn pod(&self, number: usize) -> &Pod {
        self.pods[number].as_ref().expect("the case still has this pod")
    }

    /// Writes a file below the place's folder.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Exit code and output. What an error says is each side's own affair; that it says something is not.
fn said(command: &str, output: &Output) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let mut parsed = if stdout.trim().is_empty() {
        json!("")
    } else {
        serde_json::from_str(&stdout).unwrap_or_else(|_| json!({"not JSON": stdout}))
    };
    let mut message = String::new();
    if let Some(object) = parsed.as_object_mut().filter(|object| object.contains_key("code")) {
        let msg = object.remove("msg").and_then(|msg| Some(msg.as_str()?.to_owned())).unwrap_or_default();
        assert!(!msg.is_empty(), "an error without a message: {stdout}");
        message = format!("{msg} {}", object.remove("details").unwrap_or_default());
    }
    json!({format!("exit of {command}"): output.status.code(), "stdout": parsed, "message": message})
}

/// Every file below a folder, by its path there: mode and content.
pub fn files(folder: &Path) -> BTreeMap<String, String> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.map(Result::unwrap) {
        let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            found.insert(format!("{name}/"), format!("{mode:o}"));
            found.extend(
                files(&path).into_iter().map(|(below, content)| (format!("{name}/{below}"), content)),
            );
        } else {
            let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.insert(name, format!("{mode:o} {content:?}"));
        }
    }
    found
}
