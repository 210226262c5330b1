//! A host with an address of each family outside, a client there, pods by plugins.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, RouteSpec, Rtnl, VethSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The host's addresses outside, and another one of each family.
pub const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const OTHER: [&str; 2] = ["192.0.2.9", "2001:db8:1::9"];
/// The client's.
pub const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// A host, its client, the plugins by name.
pub struct Host {
    pub namespace: Namespace,
    pub client: Namespace,
    pub dir: TempDir,
    /// `PATH` of plugins; that of the test without one.
    pub programs: Option<String>,
}

/// A pod that was attached.
pub struct Pod {
    pub namespace: Namespace,
    pub id: String,
    /// What the attaching plugin said.
    pub result: Value,
}

impl Pod {
    /// Its addresses, of IPv4 before that of IPv6.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result["ips"].as_array().unwrap();
        let address =
            |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
        ips.iter().map(address).collect()
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_fd().as_raw_fd())
    }
}

/// The folder of the reference's plugins.
pub fn reference() -> PathBuf {
    let folder = std::env::var_os("HOPWISE_REFERENCE_CNI").map(PathBuf::from);
    folder.expect(
        "HOPWISE_REFERENCE_CNI names the reference plugins' folder; run `cargo xtask test`, or `cargo xtask peers` for \
         what to export",
    )
}

/// What a plugin said.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub value: Value,
}

impl Said {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.success, "{:#}", self.value);
        self.value
    }

    #[track_caller]
    pub fn err(self, code: u64, part: &str) -> String {
        assert!(!self.success, "{:#}", self.value);
        assert_eq!(self.value["code"], code, "{:#}", self.value);
        let msg = self.value["msg"].as_str().unwrap().to_owned();
        assert!(msg.contains(part), "{msg}");
        msg
    }
}

/// One call of a plugin.
pub struct Call<'a> {
    pub command: &'a str,
    pub id: &'a str,
    pub netns: &'a str,
}

impl Host {
    pub fn new() -> Host {
        let dir = TempDir::new().unwrap();
        for name in hopwise_cni::plugin::NAMES {
            fs::hard_link(env!("CARGO_BIN_EXE_hopwise-cni"), dir.path().join(name))
                .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), dir.path().join(name)).map(drop))
                .unwrap();
        }
        let host = Host {
            namespace: Namespace::new().unwrap(),
            client: Namespace::new().unwrap(),
            dir,
            programs: None,
        };
        let mut inside = Rtnl::open_in(host.namespace.as_fd()).unwrap();
        let mut outside = Rtnl::open_in(host.client.as_fd()).unwrap();
        let (up0, eth0) = (LinkName::new_static("up0"), LinkName::new_static("eth0"));
        inside.add_veth(&VethSpec::new(up0, eth0, Some(host.client.as_fd()))).unwrap();
        let both = [(&mut inside, up0, [HOST, OTHER].concat()), (&mut outside, eth0, CLIENT.to_vec())];
        for (rtnl, name, addresses) in both {
            let link = rtnl.link_by_name(name).unwrap().unwrap().index;
            for address in addresses {
                let address: IpAddr = address.parse().unwrap();
                let len = if address.is_ipv4() { 24 } else { 64 };
                rtnl.add_address(link, &AddressSpec { no_dad: true, ..AddressSpec::new(address, len) })
                    .unwrap();
            }
            rtnl.set_up(link).unwrap();
        }
        // The client knows the way to pods, too, so that answers which should have come from the host would arrive.
        let link = outside.link_by_name(eth0).unwrap().unwrap().index;
        let ways = [("10.77.0.0/16", HOST[0]), ("fd00:77::/32", HOST[1]), ("2001:db8:1::/64", HOST[1])];
        for (cidr, via) in ways {
            outside
                .add_route(&RouteSpec::new(cidr.parse().unwrap()).via(via.parse().unwrap()).dev(link))
                .unwrap();
        }
        host
    }

    /// Both ends of the path, for as long as this lives.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(inside).unwrap()
    }

    /// A program in the host's namespace; what it printed.
    #[track_caller]
    pub fn command(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(|| Command::new(program).args(arguments).output());
        let output = output.unwrap_or_else(|error| panic!("can't run {program}: {error}"));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn rules(&self) -> String {
        self.command("nft", &["list", "ruleset"])
    }

    /// Calls the plugin `type` of a configuration in a folder of plugins.
    pub fn call_in(&self, folder: &Path, call: &Call<'_>, config: &Value) -> Said {
        let program = folder.join(config["type"].as_str().unwrap());
        let output = self.run(|| {
            let mut command = Command::new(&program);
            command
                .env("CNI_COMMAND", call.command)
                .env("CNI_CONTAINERID", call.id)
                .env("CNI_NETNS", call.netns)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_ARGS", "")
                .env("CNI_PATH", folder)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            if let Some(programs) = &self.programs {
                command.env("PATH", programs);
            }
            let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
            child.wait_with_output().unwrap()
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
        };
        Said { success: output.status.success(), value }
    }

    pub fn ours(&self) -> &Path {
        self.dir.path()
    }

    /// Attaches a pod by a plugin of a folder, with an address of each family.
    pub fn attach_in(&self, folder: &Path, network: &Value, id: &str) -> Pod {
        let namespace = Namespace::new().unwrap();
        let mut pod = Pod { namespace, id: id.to_owned(), result: Value::Null };
        let call = Call { command: "ADD", id, netns: &pod.path() };
        pod.result = self.call_in(folder, &call, network).ok();
        pod
    }

    pub fn attach(&self, kind: &str, id: &str) -> Pod {
        self.attach_in(self.ours(), &self.network(kind), id)
    }

    pub fn detach(&self, kind: &str, pod: &Pod) {
        let call = Call { command: "DEL", id: &pod.id, netns: &pod.path() };
        self.call_in(self.ours(), &call, &self.network(kind)).ok();
    }

    pub fn network(&self, kind: &str) -> Value {
        let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]);
        let ipam = json!({"type": "host-local", "dataDir": self.dir.path().join("data"), "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
        // Where frames of a bridge pass through netfilter, a pod that reaches itself goes out by the port it came in by.
        json!({"cniVersion": "1.0.0", "name": "net", "type": kind, "isGateway": true, "hairpinMode": true, "ipam": ipam})
    }

    /// A configuration of portmap after a pod was attached.
    pub fn portmap(&self, pod: &Pod, ports: &[Value], more: &Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "portmap",
            "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": ports},
            "prevResult": pod.result,
        });
        if let Value::Object(more) = more {
            config.as_object_mut().unwrap().extend(more.clone());
        }
        config
    }

    pub fn add(&self, pod: &Pod, ports: &[Value]) -> Said {
        self.add_with(pod, ports, &Value::Null)
    }

    pub fn add_with(&self, pod: &Pod, ports: &[Value], more: &Value) -> Said {
        let call = Call { command: "ADD", id: &pod.id, netns: &pod.path() };
        self.call_in(self.ours(), &call, &self.portmap(pod, ports, more))
    }

    /// DEL with nothing but names.
    pub fn del(&self, id: &str) {
        let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap"});
        self.call_in(self.ours(), &Call { command: "DEL", id, netns: "" }, &config).ok();
    }
}

/// An entry of `portMappings`.
pub fn port(host: u16, container: u16, protocol: &str) -> Value {
    json!({"hostPort": host, "containerPort": container, "protocol": protocol})
}
