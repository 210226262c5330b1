//! The reference's plugins beside ours, and what `tc` shows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Call, Host, Pod, Said};

/// Where the plugins of the reference are.
pub fn reference() -> PathBuf {
    let folder = std::env::var_os("HOPWISE_REFERENCE_CNI");
    folder.map(PathBuf::from).expect(
        "HOPWISE_REFERENCE_CNI names the reference plugins' folder; run `cargo xtask test`, or `cargo xtask peers` for what \
         to export",
    )
}

/// Calls a plugin of a folder, as the host.
pub fn call(host: &Host, plugins: &Path, call: &Call<'_>, config: &Value) -> Said {
    let run = || {
        let mut child = Command::new(plugins.join(config["type"].as_str().unwrap()))
            .env_clear()
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.id)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", call.ifname)
            .env("CNI_ARGS", call.args)
            .env("CNI_PATH", plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin that needs no configuration may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        child.wait_with_output().unwrap()
    };
    Said::from_output(&host.namespace.run(run).unwrap())
}

/// A configuration of the bandwidth plugin that comes after a result.
pub fn bandwidth(keys: &Value, before: &Value) -> Value {
    let mut config = json!({"cniVersion": "1.0.0", "name": "net", "type": "bandwidth", "prevResult": before});
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config
}

/// Attaches a pod by the bridge plugin of a folder.
pub fn attach(host: &Host, plugins: &Path, id: &str, pod: &Pod) -> Value {
    let config = host.config("1.0.0", &["10.77.0.0/24"], json!({"isGateway": true}));
    call(host, plugins, &Call::new("ADD", id, &pod.path()), &config).ok()
}

/// What a tool prints as JSON in the host's namespace.
pub fn shown(host: &Host, tool: &str, arguments: &[&str]) -> Value {
    let run = || Command::new(tool).args(arguments).output();
    let output = host.namespace.run(run).unwrap().unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that shapes the traffic of one pod, with what is chosen by chance replaced. Of a filter's actions the first:
/// it takes the packet, and the second, which the reference makes too, never sees one.
pub fn shaping(host: &Host, veth: &str) -> Value {
    let pick = |value: &Value, keys: &[&str]| -> Value {
        keys.iter().map(|key| ((*key).to_owned(), value[*key].clone())).collect()
    };
    let links = shown(host, "ip", &["-j", "-d", "link", "show"]);
    let described = links.as_array().unwrap().iter().filter(|link| link["linkinfo"]["info_kind"] == "ifb");
    let keys = ["ifname", "flags", "mtu", "qdisc", "operstate", "txqlen"];
    let ifbs: Vec<Value> = described.map(|link| pick(link, &keys)).collect();
    let mut qdiscs = shown(host, "tc", &["-j", "-d", "qdisc", "show"]);
    let qdiscs = qdiscs.as_array_mut().unwrap();
    qdiscs.retain(|qdisc| qdisc["dev"] != "cni0" && qdisc["dev"] != "lo");
    for qdisc in &mut *qdiscs {
        // One for each queue of the link, which is another plugin's.
        qdisc.as_object_mut().unwrap().remove("refcnt");
    }
    let mut filters = shown(host, "tc", &["-j", "filter", "show", "dev", veth, "parent", "ffff:"]);
    for filter in filters.as_array_mut().unwrap() {
        if let Some(actions) = filter["options"]["actions"].as_array_mut() {
            actions.truncate(1);
            actions[0].as_object_mut().unwrap().remove("index");
        }
    }
    let text = json!({"ifb": ifbs, "qdiscs": qdiscs, "filters": filters}).to_string();
    serde_json::from_str(&text.replace(veth, "VETH")).unwrap()
}
