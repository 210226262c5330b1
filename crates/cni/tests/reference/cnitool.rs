//! Our plugins as libcni calls them: through a conflist, with its cache, its `prevResult` and its valid attachments. In a
//! mount namespace, because libcni's cache is in /var/lib/cni.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::case::ranges;
use super::mount::MountNamespace;
use super::older::peer;
use super::place::{Place, Side, files};

/// cnitool on a host of its own.
struct Tool {
    place: Place,
    mounts: MountNamespace,
}

impl Tool {
    fn new(n_pods: usize, plugins: &Value) -> Tool {
        let place = Place::new(n_pods, false);
        let dir = place.dir.path().to_string_lossy().into_owned();
        let conflist = json!({"cniVersion": "1.1.0", "name": "net", "plugins": plugins}).to_string();
        place.write("conf/10-net.conflist", &conflist.replace("{dir}", &dir));
        fs::create_dir(place.dir.path().join("lib")).unwrap();
        let mounts = MountNamespace::new(&format!("mount --bind {dir}/lib /var/lib"));
        Tool { place, mounts }
    }

    /// Runs `cnitool VERB net NETNS`; its output, or what it says when it fails.
    fn run(&self, verb: &str, pod: usize) -> Result<Value, String> {
        let mut command = Command::new("nsenter");
        command
            .args(["--mount", "--target", &self.mounts.pid().to_string()])
            .arg(cnitool())
            .args([verb, "net", &self.place.paths[pod]])
            .env("CNI_PATH", self.place.plugins(Side::Ours))
            .env("NETCONFPATH", self.place.dir.path().join("conf"));
        let output = self.place.namespace.run(|| command.output().unwrap()).unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            return Ok(serde_json::from_str(&stdout).unwrap_or(Value::Null));
        }
        Err(format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Addresses that are reserved.
    fn reserved(&self) -> Vec<String> {
        let files = files(&self.place.dir.path().join("data/net"));
        files.into_keys().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
    }
}

fn cnitool() -> PathBuf {
    let tool = peer().folder.join("cnitool");
    assert!(tool.is_file(), "there is no {}: cnitool is built with Go (`cargo xtask peers`)", tool.display());
    tool
}

fn goes_through_its_life(plugins: &Value) {
    let tool = Tool::new(2, plugins);
    tool.run("status", 0).unwrap();
    let first = tool.run("add", 0).unwrap();
    assert_eq!(
        (&first["cniVersion"], &first["ips"][0]["address"]),
        (&json!("1.1.0"), &json!("10.77.0.2/29"))
    );
    tool.run("add", 1).unwrap();
    tool.run("check", 0).unwrap();
    assert_eq!(tool.reserved(), ["10.77.0.2", "10.77.0.3", "fd00:77::2", "fd00:77::3"]);
    tool.place.run(&tool.place.pod(0).namespace, "ip addr del 10.77.0.2/29 dev eth0");
    let error = tool.run("check", 0).unwrap_err();
    assert!(error.contains("Failed to match addr 10.77.0.2/29"), "{error}");
    tool.run("del", 0).unwrap();
    tool.run("del", 0).unwrap();
    assert_eq!(tool.reserved(), ["10.77.0.3", "fd00:77::3"]);
    // cnitool's gc takes all attachments for stale.
    tool.run("gc", 1).unwrap();
    assert_eq!(tool.reserved(), [""; 0]);
    assert!(tool.run("check", 1).is_err());
}

#[test]
fn bridge_goes_through_its_life() {
    let ipam = ranges(&["10.77.0.0/29", "fd00:77::/64"]);
    goes_through_its_life(&json!([
        {"type": "bridge", "isDefaultGateway": true, "ipMasq": true, "ipam": ipam}, {"type": "loopback"},
    ]));
}

#[test]
fn ptp_goes_through_its_life() {
    goes_through_its_life(&json!([{"type": "ptp", "ipam": ranges(&["10.77.0.0/29", "fd00:77::/64"])}]));
}

#[test]
fn status_is_libcnis_answer() {
    let tool = Tool::new(2, &json!([{"type": "bridge", "ipam": ranges(&["10.77.0.0/30"])}]));
    tool.run("add", 0).unwrap();
    let error = tool.run("status", 0).unwrap_err();
    assert!(error.contains("no IP addresses available in range set"), "{error}");
    let error = tool.run("add", 1).unwrap_err();
    assert!(error.contains("no IP addresses available in range set"), "{error}");
    tool.run("del", 0).unwrap();
    tool.run("status", 0).unwrap();
}
