//! What a step left behind, as text that can be compared: names and numbers that are chance are replaced by what they are.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv6Addr;
use std::process::{Command, Stdio};

use hopwise_kernel::netns::Namespace;
use serde_json::{Map, Value, json};

use super::place::{Place, files};

/// Everything, by its path: `host.route.{…}` is `present`, `host.link.cni0.mtu` is `1500`.
pub type Snapshot = BTreeMap<String, String>;

/// Differ from one link to the next, or with time.
const CHANCE: [&str; 26] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "addr_info",
    "bridge_id",
    "root_id",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "id",
    "no",
    "designated_port",
    "designated_bridge",
    "designated_root",
    "message_age_timer",
    "forward_delay_timer",
    "hold_timer",
    "promiscuity",
    "root_port",
    "state",
    "hash_elasticity",
    "expires",
    "metric_expires",
    // Carrier, and what a bridge derives from its ports, come up to a second late (linkwatch).
    "operstate",
    "tso_max_size",
];

/// What the kernel keeps of a namespace, raw.
struct Kernel {
    links: Vec<Value>,
    addresses: Vec<Value>,
    routes: Vec<Value>,
    rules: Vec<Value>,
    neighbours: Vec<Value>,
    sysctls: Map<String, Value>,
}

/// What `ip` answers to each line.
fn ip(batch: &str) -> Vec<Vec<Value>> {
    let mut command = Command::new("ip");
    let mut child = command
        .args(["-j", "-d", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("iproute2's ip");
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "ip: {batch}");
    serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect()
}

fn kernel(namespace: &Namespace) -> Kernel {
    let read = || {
        let batch = "link show\naddr show\nroute show table all\nrule show\nneigh show nud permanent\n";
        let mut answers = ip(batch).into_iter();
        let mut next = || answers.next().expect("an answer for each question");
        let (links, addresses, routes, rules, neighbours) = (next(), next(), next(), next(), next());
        let sysctls = sysctls(&links);
        Kernel { links, addresses, routes, rules, neighbours, sysctls }
    };
    namespace.run(read).unwrap()
}

fn sysctls(links: &[Value]) -> Map<String, Value> {
    let mut found = Map::new();
    let mut read = |key: &str| {
        let path = format!("/proc/sys/net/{key}");
        if let Ok(text) = fs::read_to_string(path) {
            found.insert(key.replace('.', "/"), text.trim().into());
        }
    };
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        read(key);
    }
    let names = links.iter().filter_map(|link| link["ifname"].as_str());
    for name in names.chain(["default"]) {
        for family in ["ipv4", "ipv6"] {
            let folder = format!("/proc/sys/net/{family}/conf/{name}");
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let key = entry.file_name().into_string().unwrap();
                // They count, or are a secret.
                if !["stable_secret", "mc_forwarding"].contains(&key.as_str()) {
                    read(&format!("{family}/conf/{name}/{key}"));
                }
            }
        }
    }
    found
}

/// The link-local address that the kernel makes of a MAC address (RFC 4291, appendix A).
fn link_local(mac: &str) -> Option<String> {
    let bytes: Vec<u16> =
        mac.split(':').map(|byte| u16::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    let [a, b, c, d, e, f] = bytes[..] else { return None };
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f);
    Some(address.to_string())
}

/// What stands for what, longest first.
struct Names(Vec<(String, String)>);

impl Names {
    fn new(place: &Place, kernels: &[(String, Kernel)], fixed: &str) -> Names {
        let mut names = vec![(place.dir.path().to_string_lossy().into_owned(), "DIR".to_owned())];
        for (number, path) in place.paths.iter().enumerate() {
            names.push((path.clone(), format!("NETNS{number}")));
        }
        for (owner, kernel) in kernels {
            let mut n_veths = 0;
            for link in &kernel.links {
                let name = link["ifname"].as_str().unwrap();
                let generated = name
                    .strip_prefix("veth")
                    .is_some_and(|rest| rest.len() == 8 && rest.chars().all(|c| c.is_ascii_hexdigit()));
                let known = if generated {
                    n_veths += 1;
                    names.push((name.to_owned(), format!("veth#{n_veths}")));
                    format!("veth#{n_veths}")
                } else {
                    name.to_owned()
                };
                let mac = link["address"].as_str().unwrap_or_default();
                let none = mac.is_empty() || mac == "00:00:00:00:00:00";
                if !none && !fixed.to_lowercase().contains(mac) {
                    names.extend(link_local(mac).map(|address| (address, format!("fe80:{owner}:{known}"))));
                    names.push((mac.to_owned(), format!("mac:{owner}:{known}")));
                }
            }
        }
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Names(names)
    }

    fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, stands)| text.replace(name, stands))
    }
}

/// Takes a snapshot: `said` by name, the kernel's state of the host and its pods, the files. MAC addresses that are in
/// `fixed` are no chance.
pub fn take(place: &Place, said: &Value, fixed: &str) -> Snapshot {
    let mut kernels = vec![("host".to_owned(), kernel(&place.namespace))];
    for (number, pod) in place.pods.iter().enumerate() {
        if let Some(pod) = pod {
            kernels.push((format!("pod{number}"), kernel(&pod.namespace)));
        }
    }
    let names = Names::new(place, &kernels, fixed);
    let mut root = json!({"said": said});
    for (owner, kernel) in &kernels {
        root[owner] = of_namespace(kernel);
    }
    root["files"] = json!(kept(files(&place.dir.path().join("data"))));
    let root: Value = serde_json::from_str(&names.apply(&root.to_string())).unwrap();
    let mut flat = Snapshot::new();
    flatten(String::new(), &root, &mut flat);
    flat
}

/// Our index is no file of host-local's.
fn kept(files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    files.into_iter().filter(|(name, _)| !name.starts_with(".hopwise")).collect()
}

fn of_namespace(kernel: &Kernel) -> Value {
    let by_name = |link: &Value| {
        let name = link["ifname"].as_str().unwrap().to_owned();
        (name, without_chance(link))
    };
    let addresses = |link: &Value| {
        let name = link["ifname"].as_str().unwrap().to_owned();
        let held = link["addr_info"].as_array().into_iter().flatten();
        (name, set(held.filter(|address| !is_kernels_own(&address["local"])).map(address)))
    };
    json!({
        "link": kernel.links.iter().map(by_name).collect::<Map<_, _>>(),
        "address": kernel.addresses.iter().map(addresses).collect::<Map<_, _>>(),
        "route": set(kernel.routes.iter().filter(|route| !is_kernels_own(&route["dst"])).map(without_chance)),
        "rule": set(kernel.rules.iter().cloned()),
        "neighbour": set(kernel.neighbours.iter().cloned()),
        "sysctl": kernel.sysctls,
    })
}

/// Link-local and multicast: comes with the link, sooner or later.
fn is_kernels_own(address: &Value) -> bool {
    let text = address.as_str().unwrap_or_default();
    ["fe80:", "ff00:", "multicast"].iter().any(|start| text.starts_with(start)) && text != "fe80::1"
}

/// Whether an address is tentative is a matter of moments.
fn address(held: &Value) -> Value {
    let mut held = held.clone();
    held.as_object_mut().unwrap().remove("tentative");
    held
}

fn set(items: impl Iterator<Item = Value>) -> Value {
    items.map(|item| (item.to_string(), Value::from("present"))).collect::<Map<_, _>>().into()
}

fn without_chance(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, _)| !CHANCE.contains(&key.as_str()));
            let read = |key: &str, value| if key == "flags" { flags(value) } else { without_chance(value) };
            kept.map(|(key, value)| (key.clone(), read(key, value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// All but what tells of a carrier.
fn flags(value: &Value) -> Value {
    let of_carrier = ["NO-CARRIER", "LOWER_UP", "linkdown"];
    let flags = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    flags.filter(|flag| !of_carrier.contains(flag)).collect::<Vec<_>>().join(" ").into()
}

fn flatten(path: String, value: &Value, flat: &mut Snapshot) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(below(key), value, flat);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                flatten(below(&index.to_string()), value, flat);
            }
        }
        Value::String(text) => {
            flat.insert(path, text.clone());
        }
        other => {
            flat.insert(path, other.to_string());
        }
    }
}
