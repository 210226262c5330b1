//! VLANs of the bridge plugin, in network namespaces. Needs root, `bridge` and `ip`.
//!
//! Whether the kernel's bridges know VLANs decides what these tests test: on a kernel that has them
//! (`CONFIG_BRIDGE_VLAN_FILTERING`) what is made, beside what the reference makes of the same configuration; on one that has
//! not, that every such configuration is refused with a clear error and nothing is changed.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../attach/harness.rs"]
mod harness;
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../shaping/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use hopwise_core::name::LinkName;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::rtnl::{BridgeSpec, Rtnl};
use serde_json::{Value, json};

use harness::{Call, Host, Pod};
use support::{call, reference, shown};

const BRIDGE: LinkName = LinkName::new_static("cni0");
const V4: &str = "10.77.0.0/24";
const V6: &str = "fd00:77::/64";

/// Whether the kernel's bridges know VLANs.
fn kernel_filters() -> bool {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.ensure_bridge(&BridgeSpec::new(BRIDGE)).unwrap().default_pvid.is_some()
    })
}

/// What a configuration of these tests has to come to on a kernel without VLANs, with and without a bridge beforehand.
fn assert_refused(ranges: &[&str], keys: &Value) {
    for bridge_first in [false, true] {
        let host = Host::new();
        let pod = Pod::new();
        if bridge_first {
            let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
            rtnl.ensure_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
        }
        let before = (host.links(), pod.links());
        let config = host.config("1.0.0", ranges, keys.clone());
        host.add("pod", &pod, &config).err(2, "not supported by this kernel: its bridges don't filter VLANs");
        assert_eq!((host.links(), pod.links()), before);
        host.assert_empty();
        host.del("pod", &pod.path(), &config).ok();
    }
}

/// A configuration for both kinds of kernel: `behaviour` where there are VLANs, else the refusal.
fn on_either_kernel(ranges: &[&str], keys: &Value, behaviour: impl FnOnce()) {
    if kernel_filters() { behaviour() } else { assert_refused(ranges, keys) }
}

/// A host with one pod, attached by the plugins of a folder.
struct Attached {
    host: Host,
    pod: Pod,
    config: Value,
    result: Value,
}

impl Attached {
    fn new(plugins: Option<&Path>, ranges: &[&str], keys: &Value, prepare: &dyn Fn(&Host)) -> Attached {
        let host = Host::new();
        let pod = Pod::new();
        prepare(&host);
        let config = host.config("1.0.0", ranges, keys.clone());
        let folder = plugins.unwrap_or(host.dir.path());
        let result = call(&host, folder, &Call::new("ADD", "pod", &pod.path()), &config).ok();
        Attached { host, pod, config, result }
    }

    fn call(&self, plugins: Option<&Path>, command: &str) {
        let mut config = self.config.clone();
        config["prevResult"] = self.result.clone();
        let folder = plugins.unwrap_or(self.host.dir.path());
        call(&self.host, folder, &Call::new(command, "pod", &self.pod.path()), &config).ok();
    }

    /// Names that are chosen by chance, and what to call them.
    fn names(&self) -> BTreeMap<String, String> {
        let port = self.result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        let others = self.host.links().into_iter().filter(|(name, _)| *name != port);
        let others = others.filter(|(name, link)| name.starts_with("veth") && link.kind == "veth");
        let mut names: BTreeMap<String, String> =
            others.map(|(name, _)| (name, "GATEWAY-PORT".to_owned())).collect();
        names.insert(port, "POD-PORT".to_owned());
        names
    }

    /// VLANs of every port, the bridge's filtering, addresses, and the result's links, in comparable form.
    fn state(&self) -> Value {
        let names = self.names();
        let named = |name: &Value| {
            let name = name.as_str().unwrap_or_default();
            names.get(name).map_or_else(|| name.to_owned(), Clone::clone)
        };
        let vlans = shown(&self.host, "bridge", &["-j", "vlan", "show"]);
        let vlans: BTreeMap<String, Value> = vlans
            .as_array()
            .unwrap()
            .iter()
            .map(|port| (named(&port["ifname"]), port["vlans"].clone()))
            .collect();
        let bridge = shown(&self.host, "ip", &["-j", "-d", "link", "show", "cni0"]);
        let addresses = shown(&self.host, "ip", &["-j", "address", "show"]);
        let global = |link: &Value| -> Vec<String> {
            let infos = link["addr_info"].as_array().unwrap().iter().filter(|info| info["scope"] == "global");
            infos.map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"])).collect()
        };
        let addresses: BTreeMap<String, (Vec<String>, Value, Value)> = addresses
            .as_array()
            .unwrap()
            .iter()
            .filter(|link| link["ifname"] != "lo")
            .map(|link| (named(&link["ifname"]), (global(link), link["master"].clone(), link["mtu"].clone())))
            .collect();
        let links: Vec<String> =
            self.result["interfaces"].as_array().unwrap().iter().map(|link| named(&link["name"])).collect();
        json!({
            "vlans": vlans,
            "filtering": bridge[0]["linkinfo"]["info_data"]["vlan_filtering"],
            "addresses": addresses,
            "links": links,
            "ips": self.result["ips"],
        })
    }

    /// Whether every link of the result is there with the MAC address that the result names.
    #[track_caller]
    fn assert_macs(&self) {
        let (host, pod) = (self.host.links(), self.pod.links());
        for link in self.result["interfaces"].as_array().unwrap() {
            let side = if link["sandbox"].is_null() { &host } else { &pod };
            let found = &side[link["name"].as_str().unwrap()];
            assert_eq!(link["mac"], found.mac.unwrap().to_string(), "{link}");
        }
    }
}

/// Ours beside the reference's, and each checked and deleted by the other.
fn assert_same(ranges: &[&str], keys: &Value, prepare: &dyn Fn(&Host)) -> Attached {
    let theirs = Attached::new(Some(&reference()), ranges, keys, prepare);
    let ours = Attached::new(None, ranges, keys, prepare);
    let (state, expected) = (ours.state(), theirs.state());
    assert_eq!(state, expected, "{keys}\nours: {state:#}\nreference: {expected:#}");
    ours.assert_macs();
    ours.call(None, "CHECK");
    theirs.call(None, "CHECK");
    if !ranges.is_empty() {
        // The reference's CHECK wants an IPAM plugin.
        ours.call(Some(&reference()), "CHECK");
    }
    theirs.call(None, "DEL");
    assert!(!theirs.pod.links().contains_key("eth0"));
    assert_eq!(theirs.host.reserved(), [""; 0]);
    ours
}

const NOTHING: &dyn Fn(&Host) = &|_| {};

#[test]
fn a_port_is_a_member_of_what_the_reference_makes_it_a_member_of() {
    for keys in [
        json!({"vlan": 100}),
        json!({"vlan": 4094}),
        json!({"vlan": 100, "preserveDefaultVlan": true}),
        json!({"vlanTrunk": [{"minID": 100, "maxID": 105}, {"id": 200}]}),
        json!({"vlanTrunk": [{"id": 1}]}),
        json!({"vlanTrunk": [{"id": 200}], "preserveDefaultVlan": true}),
        json!({"vlan": 100, "vlanTrunk": [{"minID": 200, "maxID": 210}]}),
        // The trunk wins over the untagged VLAN where both name it.
        json!({"vlan": 100, "vlanTrunk": [{"minID": 90, "maxID": 110}]}),
        json!({"vlanTrunk": [{"minID": 1, "maxID": 99}, {"minID": 4000, "maxID": 4094}]}),
        json!({"vlanTrunk": []}),
        json!({"vlan": 100, "mtu": 1400, "hairpinMode": true, "portIsolation": true}),
    ] {
        on_either_kernel(&[], &keys, || {
            let ours = assert_same(&[], &keys, NOTHING);
            ours.call(Some(&reference()), "DEL");
            assert_eq!(ours.host.n_veths(), 0);
        });
    }
}

#[test]
fn a_gateway_in_a_vlan_has_a_link_of_its_own() {
    for (ranges, keys) in [
        (&[V4][..], json!({"vlan": 100, "isGateway": true})),
        (&[V4, V6], json!({"vlan": 100, "isDefaultGateway": true, "mtu": 1400})),
        (&[V6], json!({"vlan": 7, "isGateway": true, "preserveDefaultVlan": true})),
        (&[V4], json!({"vlan": 100, "isGateway": true, "vlanTrunk": [{"id": 300}]})),
        (&[V4], json!({"vlan": 100})),
        (&[V4], json!({"isGateway": true, "vlanTrunk": [{"id": 300}]})),
    ] {
        on_either_kernel(ranges, &keys, || {
            let ours = assert_same(ranges, &keys, NOTHING);
            // The next pod finds the link.
            let next = Pod::new();
            let result = ours.host.add("next", &next, &ours.config).ok();
            assert_eq!(result["interfaces"][3], ours.result["interfaces"][3]);
            let veths = ours.host.n_veths();
            ours.host.del("next", &next.path(), &ours.config).ok();
            ours.call(Some(&reference()), "DEL");
            // The bridge and what holds the gateway's addresses stay.
            assert_eq!(ours.host.n_veths(), veths - 2);
        });
    }
}

#[test]
fn a_bridge_that_is_there_keeps_its_filtering() {
    let keys = json!({"vlan": 100});
    on_either_kernel(&[], &keys, || {
        for filtering in [None, Some(true)] {
            let prepare = |host: &Host| {
                let mut bridge = BridgeSpec::new(BRIDGE);
                bridge.vlan_filtering = filtering;
                Rtnl::open_in(host.namespace.as_fd()).unwrap().add_bridge(&bridge).unwrap();
            };
            let ours = assert_same(&[], &keys, &prepare);
            assert_eq!(ours.state()["filtering"], u8::from(filtering.is_some()));
        }
    });
}

/// Whether a TCP connection comes about.
fn reaches(from: &Pod, to: &Pod, address: &str, patience: Duration) -> bool {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    let listener = to.namespace.run(|| TcpListener::bind(address).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    from.namespace.run(|| TcpStream::connect_timeout(&target, patience).is_ok()).unwrap()
}

#[test]
fn pods_reach_their_own_vlan_and_no_other() {
    let keys = json!({"vlan": 100, "isGateway": true});
    on_either_kernel(&[V4], &keys, || {
        let host = Host::new();
        let (one, two, other) = (Pod::new(), Pod::new(), Pod::new());
        let config = host.config("1.0.0", &[V4], keys.clone());
        let first = host.add("one", &one, &config).addresses();
        let second = host.add("two", &two, &config).addresses();
        let third = host.add("other", &other, &host.config("1.0.0", &[V4], json!({"vlan": 200}))).addresses();
        let host_pod = Pod { namespace: host.namespace.try_clone().unwrap() };
        assert!(reaches(&one, &two, &second[0], Duration::from_secs(30)));
        assert!(reaches(&one, &host_pod, "10.77.0.1", Duration::from_secs(30)));
        assert!(!reaches(&one, &other, &third[0], Duration::from_millis(300)));
        assert!(!reaches(&other, &one, &first[0], Duration::from_millis(300)));
    });
}

#[test]
fn many_first_pods_of_a_vlan_share_its_gateway() {
    let keys = json!({"vlan": 100, "isGateway": true});
    on_either_kernel(&[V4], &keys, || {
        let host = Host::new();
        let config = host.config("1.0.0", &[V4], keys.clone());
        let pods: Vec<Pod> = (0..16).map(|_| Pod::new()).collect();
        std::thread::scope(|scope| {
            for (index, pod) in pods.iter().enumerate() {
                let (host, config) = (&host, &config);
                scope.spawn(move || host.add(&format!("pod{index}"), pod, config).ok());
            }
        });
        assert_eq!(host.n_veths(), pods.len() + 2);
        for (index, pod) in pods.iter().enumerate() {
            host.del(&format!("pod{index}"), &pod.path(), &config).ok();
        }
        assert_eq!(host.n_veths(), 2);
    });
}

#[test]
fn wrong_vlans_are_refused_on_every_kernel() {
    let host = Host::new();
    let pod = Pod::new();
    for (keys, expected) in [
        (json!({"vlan": 4095}), "invalid VLAN ID 4095"),
        (json!({"vlanTrunk": [{"minID": 5}]}), "vlanTrunk[0].maxID: minID and maxID should be configured"),
        (json!({"bridge": "bridge-name", "vlan": 1000, "isGateway": true}), "longer than 15 characters"),
    ] {
        host.add("pod", &pod, &host.config("1.0.0", &[V4], keys)).err(999, expected);
        host.assert_empty();
        assert_eq!(host.links().len(), 1, "only loopback");
    }
}
