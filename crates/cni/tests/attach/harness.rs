//! A host and its pods as network namespaces, and the real binary between them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{LinkInfo, Rtnl};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A host: a namespace, a folder with the plugins by name, a data folder.
pub struct Host {
    pub namespace: Namespace,
    pub dir: TempDir,
}

/// A pod's namespace.
pub struct Pod {
    pub namespace: Namespace,
}

impl Pod {
    pub fn new() -> Pod {
        Pod { namespace: Namespace::new().unwrap() }
    }

    /// A path by which other processes can open it, for as long as this lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_fd().as_raw_fd())
    }

    pub fn links(&self) -> BTreeMap<String, LinkInfo> {
        links(&self.namespace)
    }
}

pub fn links(namespace: &Namespace) -> BTreeMap<String, LinkInfo> {
    let mut rtnl = Rtnl::open_in(namespace.as_fd()).unwrap();
    rtnl.links().unwrap().into_iter().map(|link| (link.name.to_string(), link)).collect()
}

/// What a plugin said.
pub struct Said {
    pub success: bool,
    pub value: Value,
}

impl Said {
    pub fn from_output(output: &Output) -> Said {
        let value = if output.stdout.is_empty() {
            Value::Null
        } else {
            let text = String::from_utf8_lossy(&output.stdout);
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        };
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Said { success: output.status.success(), value }
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.success, "{:#}", self.value);
        self.value
    }

    #[track_caller]
    pub fn err(self, code: u64, part: &str) {
        assert!(!self.success, "{:#}", self.value);
        assert_eq!(self.value["code"], code, "{:#}", self.value);
        assert!(self.value["msg"].as_str().unwrap().contains(part), "{:#}", self.value);
    }

    /// The addresses of a result, without their prefix lengths.
    #[track_caller]
    pub fn addresses(&self) -> Vec<String> {
        assert!(self.success, "{:#}", self.value);
        let ips = self.value["ips"].as_array().unwrap();
        let text = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        ips.iter().map(text).collect()
    }
}

/// One call of a plugin.
pub struct Call<'a> {
    pub command: &'a str,
    pub id: &'a str,
    pub netns: &'a str,
    pub ifname: &'a str,
    pub args: &'a str,
}

impl<'a> Call<'a> {
    pub fn new(command: &'a str, id: &'a str, netns: &'a str) -> Call<'a> {
        Call { command, id, netns, ifname: "eth0", args: "" }
    }
}

impl Host {
    pub fn new() -> Host {
        let dir = TempDir::new().unwrap();
        for name in hopwise_cni::plugin::NAMES {
            fs::hard_link(env!("CARGO_BIN_EXE_hopwise-cni"), dir.path().join(name))
                .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), dir.path().join(name)).map(drop))
                .unwrap();
        }
        Host { namespace: Namespace::new().unwrap(), dir }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A configuration for the bridge plugin with host-local; `ranges` empty for none.
    pub fn config(&self, version: &str, ranges: &[&str], more: Value) -> Value {
        let mut config = json!({"cniVersion": version, "name": "net", "type": "bridge"});
        if !ranges.is_empty() {
            let ranges: Vec<Value> = ranges.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
            config["ipam"] = json!({"type": "host-local", "dataDir": self.data_dir(), "ranges": ranges});
        }
        if let Value::Object(more) = more {
            config.as_object_mut().unwrap().extend(more);
        }
        config
    }

    /// The command for a call, its pipes open and its environment set.
    pub fn command(&self, call: &Call<'_>, config: &Value) -> Command {
        let plugin = config["type"].as_str().unwrap();
        let mut command = Command::new(self.dir.path().join(plugin));
        command
            .env_clear()
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.id)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", call.ifname)
            .env("CNI_ARGS", call.args)
            .env("CNI_PATH", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn spawn(&self, call: &Call<'_>, config: &Value) -> Child {
        let spawn = || {
            let mut child = self.command(call, config).spawn().unwrap();
            // A plugin that needs no configuration may be gone by now.
            let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
            child
        };
        self.namespace.run(spawn).unwrap()
    }

    pub fn call(&self, call: &Call<'_>, config: &Value) -> Said {
        Said::from_output(&self.spawn(call, config).wait_with_output().unwrap())
    }

    pub fn add(&self, id: &str, pod: &Pod, config: &Value) -> Said {
        self.call(&Call::new("ADD", id, &pod.path()), config)
    }

    pub fn del(&self, id: &str, netns: &str, config: &Value) -> Said {
        self.call(&Call::new("DEL", id, netns), config)
    }

    pub fn links(&self) -> BTreeMap<String, LinkInfo> {
        links(&self.namespace)
    }

    /// Veth ends on the host.
    pub fn n_veths(&self) -> usize {
        self.links().values().filter(|link| link.kind == "veth").count()
    }

    /// Reserved addresses of the network.
    pub fn reserved(&self) -> Vec<String> {
        reserved(&self.data_dir().join("net"))
    }

    pub fn sysctl(&self, key: &str) -> String {
        sysctl(&self.namespace, key)
    }

    #[track_caller]
    pub fn assert_empty(&self) {
        assert_eq!(self.n_veths(), 0, "{:?}", self.links());
        assert_eq!(self.reserved(), [""; 0]);
    }
}

pub fn sysctl(namespace: &Namespace, key: &str) -> String {
    let path = format!("/proc/sys/net/{key}");
    namespace.run(|| fs::read_to_string(&path).unwrap()).unwrap().trim().to_owned()
}

fn reserved(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}
