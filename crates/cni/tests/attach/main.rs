//! The real binary in network namespaces: what it makes, what it leaves, what it says. Needs root.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod concurrent;
mod disk;
mod harness;
mod kill;
mod lan;
mod leftovers;
#[path = "../common/mount.rs"]
mod mount;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use hopwise_core::name::LinkName;
use hopwise_kernel::rtnl::{AddressSpec, BridgeSpec, RouteSpec, Rtnl, VethSpec};
use serde_json::{Value, json};

use harness::{Call, Host, Pod, Said, sysctl};

const V4: &str = "10.77.0.0/24";
const V6: &str = "fd00:77::/64";
const BRIDGE: LinkName = LinkName::new_static("cni0");
const ETH0: LinkName = LinkName::new_static("eth0");

/// A byte over TCP from one pod to an address of another, with the source that the other sees.
#[track_caller]
fn assert_reaches(from: &Pod, to: &Pod, address: &str, source: &str) {
    let address: IpAddr = address.parse().unwrap();
    let listener = to.namespace.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let mut stream =
        from.namespace.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(60)).unwrap()).unwrap();
    let (mut accepted, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip().to_string(), source);
    stream.write_all(b"x").unwrap();
    let mut byte = [0];
    accepted.read_exact(&mut byte).unwrap();
}

#[test]
fn two_pods_reach_each_other_and_nothing_is_left() {
    for ranges in [&[V4][..], &[V6], &[V4, V6]] {
        let host = Host::new();
        let config = host.config("1.1.0", ranges, json!({"isDefaultGateway": true}));
        let (one, two) = (Pod::new(), Pod::new());
        let first = host.add("one", &one, &config).addresses();
        let second = host.add("two", &two, &config).addresses();
        for (first, second) in first.iter().zip(&second) {
            assert_reaches(&one, &two, second, first);
            assert_reaches(&two, &one, first, second);
        }
        // The gateway is on the bridge, and answers at once.
        let gateways = ranges.iter().map(|range| if *range == V4 { "10.77.0.1" } else { "fd00:77::1" });
        for (gateway, own) in gateways.zip(&first) {
            let host_pod = Pod { namespace: host.namespace.try_clone().unwrap() };
            assert_reaches(&one, &host_pod, gateway, own);
        }
        host.del("one", &one.path(), &config).ok();
        host.del("two", &two.path(), &config).ok();
        host.del("two", &two.path(), &config).ok();
        host.assert_empty();
        assert!(!one.links().contains_key("eth0"));
    }
}

#[test]
fn results_have_the_shape_of_every_version() {
    let host = Host::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", ""] {
        let pod = Pod::new();
        let config = host.config(version, &[V4, V6], json!({"isGateway": true}));
        let result = host.add("pod", &pod, &config).ok();
        let expected = if version.is_empty() { "0.1.0" } else { version };
        assert_eq!(result["cniVersion"], expected);
        if expected < "0.3.0" {
            assert!(result["ip4"]["ip"].is_string() && result["ip6"]["gateway"] == "fd00:77::1");
        } else {
            let interfaces = result["interfaces"].as_array().unwrap();
            let links = (host.links(), pod.links());
            let mac = |link: &hopwise_kernel::rtnl::LinkInfo| link.mac.unwrap().to_string();
            assert_eq!(interfaces[0], json!({"name": "cni0", "mac": mac(&links.0["cni0"])}));
            let veth = interfaces[1]["name"].as_str().unwrap();
            assert_eq!(interfaces[1]["mac"], mac(&links.0[veth]));
            let pod_end = json!({"name": "eth0", "mac": mac(&links.1["eth0"]), "sandbox": pod.path()});
            assert_eq!(interfaces[2], pod_end);
            assert_eq!(result["ips"][0]["version"].is_null(), expected >= "1.0.0");
            assert_eq!(result["ips"][1]["interface"], 2);
        }
        host.del("pod", &pod.path(), &config).ok();
    }
    host.assert_empty();
    let pod = Pod::new();
    host.add("pod", &pod, &host.config("1.2.0", &[V4], Value::Null)).err(1, "incompatible CNI versions");
    let l2 = host.config("0.2.0", &[], Value::Null);
    host.add("pod", &pod, &l2).err(999, "cannot convert: no valid IP addresses");
    host.assert_empty();
}

#[test]
fn commands_and_environments_are_checked() {
    let host = Host::new();
    let pod = Pod::new();
    let config = host.config("1.0.0", &[V4], Value::Null);
    let say = |command: &str, config: &Value| host.call(&Call::new(command, "pod", &pod.path()), config);
    assert_eq!(say("VERSION", &config).ok()["supportedVersions"].as_array().unwrap().len(), 7);
    say("STATUS", &config).err(1, "config version does not allow STATUS");
    say("GC", &config).err(1, "config version does not allow GC");
    say("CHECK", &host.config("0.3.1", &[V4], Value::Null)).err(1, "config version does not allow CHECK");
    say("EAT", &config).err(4, "unknown CNI_COMMAND");
    say("ADD", &json!({"type": "bridge", "cniVersion": "1.0.0"})).err(7, "missing network name");
    say("ADD", &json!({"type": "bridge", "name": "a/b"})).err(7, "invalid characters");
    host.call(&Call::new("ADD", "", &pod.path()), &config).err(4, "[CNI_CONTAINERID] missing");
    let own = host.namespace.try_clone().unwrap();
    let own = Pod { namespace: own };
    host.add("pod", &own, &config).err(8, "should not be the same");
    host.add("pod", &pod, &host.config("1.0.0", &[V4], json!({"vlan": 4095})))
        .err(999, "invalid VLAN ID 4095");
    host.assert_empty();
    assert!(!host.links().contains_key("cni0"), "nothing was changed");
}

#[test]
fn a_failed_add_leaves_nothing() {
    let host = Host::new();
    let pod = Pod::new();
    let config = host.config("1.1.0", &[V4, V6], json!({"isGateway": true}));

    // The name is taken in the pod.
    let mut inside = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
    inside.add_veth(&VethSpec::new(ETH0, LinkName::new_static("other"), None)).unwrap();
    host.add("pod", &pod, &config).err(999, "already exists");
    inside.delete_link(ETH0).unwrap();
    host.assert_empty();

    // A route that the kernel refuses, after the link is there.
    let mut bad = config.clone();
    bad["ipam"]["routes"] = json!([{"dst": "10.200.0.0/16", "gw": "10.99.99.99"}]);
    host.add("pod", &pod, &bad).err(999, "failed to add route '10.200.0.0/16 via 10.99.99.99 dev eth0'");
    host.assert_empty();
    bad["ipam"]["routes"] = json!([{"dst": "10.200.1.0/16"}]);
    host.add("pod", &pod, &bad).err(999, "did you mean 10.200.0.0/16?");
    host.assert_empty();

    // The bridge has another address.
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    let bridge = rtnl.link_by_name(BRIDGE).unwrap().unwrap();
    let ours = AddressSpec::new("10.77.0.1".parse().unwrap(), 24);
    rtnl.delete_address(bridge.index, &ours).unwrap();
    let other = AddressSpec::new("10.78.0.1".parse().unwrap(), 24);
    rtnl.add_address(bridge.index, &other).unwrap();
    host.add("pod", &pod, &config).err(999, "\"cni0\" already has an IP address different from 10.77.0.1/24");
    host.assert_empty();
    let held: Vec<String> =
        rtnl.addresses(bridge.index).unwrap().iter().map(|held| held.address.to_string()).collect();
    assert!(held.contains(&"10.78.0.1".to_owned()) && !held.contains(&"10.77.0.1".to_owned()), "{held:?}");

    // Unless it may be replaced.
    let force = host.config("1.1.0", &[V4, V6], json!({"isGateway": true, "forceAddress": true}));
    host.add("pod", &pod, &force).ok();
    let held: Vec<String> =
        rtnl.addresses(bridge.index).unwrap().iter().map(|held| held.address.to_string()).collect();
    assert!(held.contains(&"10.77.0.1".to_owned()) && !held.contains(&"10.78.0.1".to_owned()), "{held:?}");
    host.del("pod", &pod.path(), &force).ok();

    // The bridge is no bridge.
    rtnl.delete_link(BRIDGE).unwrap();
    rtnl.add_veth(&VethSpec::new(BRIDGE, LinkName::new_static("x"), None)).unwrap();
    host.add("pod", &pod, &config).err(999, "\"cni0\" already exists but is not a bridge");
    assert_eq!(host.reserved(), [""; 0]);
}

#[test]
fn many_pods_at_once_on_a_fresh_bridge() {
    let host = Host::new();
    let config = host.config("1.1.0", &[V4, V6], json!({"isDefaultGateway": true}));
    let pods: Vec<(String, Pod)> = (0..32).map(|index| (format!("pod{index}"), Pod::new())).collect();
    let spawned: Vec<_> =
        pods.iter().map(|(id, pod)| host.spawn(&Call::new("ADD", id, &pod.path()), &config)).collect();
    let mut addresses = BTreeSet::new();
    for child in spawned {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        let value: Value = serde_json::from_str(&said).unwrap();
        for ip in value["ips"].as_array().unwrap() {
            assert!(addresses.insert(ip["address"].as_str().unwrap().to_owned()), "given out twice: {ip}");
        }
    }
    assert_eq!((addresses.len(), host.n_veths()), (64, 32));
    assert_reaches(&pods[0].1, &pods[31].1, &own_address(&pods[31].1), &own_address(&pods[0].1));
    let spawned: Vec<_> =
        pods.iter().map(|(id, pod)| host.spawn(&Call::new("DEL", id, &pod.path()), &config)).collect();
    for child in spawned {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    host.assert_empty();
}

fn own_address(pod: &Pod) -> String {
    let mut inside = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
    let eth0 = inside.link_by_name(ETH0).unwrap().unwrap();
    let addresses = inside.addresses(eth0.index).unwrap();
    addresses.iter().find(|address| address.address.is_ipv4()).unwrap().address.to_string()
}

#[test]
fn keys_of_the_bridge_have_their_effect() {
    let host = Host::new();
    let keys = json!({
        "isGateway": true, "mtu": 1400, "hairpinMode": true,
        "runtimeConfig": {"mac": "02:00:00:00:77:01"}, "dns": {"nameservers": ["10.77.0.53"]},
    });
    let config = host.config("1.0.0", &[V4, V6], keys);
    let pod = Pod::new();
    let result = host.add("pod", &pod, &config).ok();
    assert_eq!(result["dns"], json!({"nameservers": ["10.77.0.53"]}));
    let veth = result["interfaces"][1]["name"].as_str().unwrap();
    let links = host.links();
    assert_eq!((links[veth].mtu, links["cni0"].mtu), (1400, 1400));
    let inside = pod.links();
    assert_eq!(
        (inside["eth0"].mtu, inside["eth0"].mac.unwrap().to_string().as_str()),
        (1400, "02:00:00:00:77:01")
    );
    let port = host.namespace.run(|| {
        let output = std::process::Command::new("bridge").args(["-d", "link", "show", "dev", veth]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    assert!(port.unwrap().contains("hairpin on"));
    assert_eq!(host.sysctl("ipv4/ip_forward"), "1");
    assert_eq!(host.sysctl("ipv6/conf/all/forwarding"), "1");
    assert_eq!(host.sysctl("ipv6/conf/cni0/accept_ra"), "0");
    assert_eq!(sysctl(&pod.namespace, "ipv4/conf/eth0/arp_notify"), "1");
    assert_eq!(sysctl(&pod.namespace, "ipv6/conf/eth0/accept_dad"), "0");
    assert_eq!(sysctl(&pod.namespace, "ipv6/conf/eth0/keep_addr_on_down"), "1");
    host.del("pod", &pod.path(), &config).ok();

    let l2 = host.config("1.0.0", &[], json!({"bridge": "br7", "promiscMode": true, "portIsolation": true}));
    let result = host.add("pod", &pod, &l2).ok();
    assert!(result["ips"].is_null() && host.links()["br7"].promiscuous);
    assert!(pod.links()["eth0"].up);
    host.del("pod", &pod.path(), &l2).ok();

    let down = host.config("1.0.0", &[], json!({"disableContainerInterface": true}));
    host.add("pod", &pod, &down).ok();
    assert!(!pod.links()["eth0"].up);
    host.del("pod", &pod.path(), &down).ok();
    host.assert_empty();
}

#[test]
fn duplicate_address_detection_is_waited_for_where_asked() {
    let host = Host::new();
    let config = host.config("1.0.0", &[V6], json!({"isGateway": true, "enabledad": true}));
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    assert_eq!(sysctl(&pod.namespace, "ipv6/conf/eth0/accept_dad"), "1");
    host.del("pod", &pod.path(), &config).ok();
}

#[test]
fn a_bridge_of_others_keeps_its_mac_address() {
    let host = Host::new();
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    let made = rtnl.ensure_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
    let config = host.config("1.0.0", &[V4], json!({"isGateway": true}));
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    for (index, pod) in pods.iter().enumerate() {
        let result = host.add(&format!("pod{index}"), pod, &config).ok();
        assert_eq!(result["interfaces"][0]["mac"], made.mac.unwrap().to_string());
    }
    assert_eq!(rtnl.link_by_name(BRIDGE).unwrap().unwrap().mac, made.mac);
}

#[test]
fn killed_at_any_time_nothing_is_left_after_del() {
    let host = Host::new();
    let config = host.config("1.1.0", &[V4, V6], json!({"isDefaultGateway": true}));
    // Delays that cover the whole run, which is a few milliseconds.
    for round in 0..40_u64 {
        let pod = Pod::new();
        let mut child = host.spawn(&Call::new("ADD", "pod", &pod.path()), &config);
        std::thread::sleep(Duration::from_micros(round * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut child = host.spawn(&Call::new("DEL", "pod", &pod.path()), &config);
        std::thread::sleep(Duration::from_micros(round * 300));
        child.kill().unwrap();
        child.wait().unwrap();
        host.del("pod", &pod.path(), &config).ok();
        host.assert_empty();
    }
}

#[test]
fn the_binary_goes_by_type_where_its_name_says_nothing() {
    let host = Host::new();
    let pod = Pod::new();
    std::fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), host.dir.path().join("hopwise")).unwrap();
    let mut config = host.config("1.0.0", &[V4], json!({"type": "hopwise", "bridge": "br5"}));
    let said: Said = host.add("pod", &pod, &config);
    assert_eq!(said.addresses(), ["10.77.0.2"]);
    assert!(host.links().contains_key("br5"));
    host.del("pod", &pod.path(), &config).ok();
    config["attach"] = "rope".into();
    host.add("pod", &pod, &config).err(7, "unknown plugin \"rope\"");
    host.assert_empty();
}

fn with_prev(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

#[test]
fn check_names_what_differs() {
    let host = Host::new();
    let pod = Pod::new();
    let keys = json!({"isDefaultGateway": true});
    let mut config = host.config("1.0.0", &[V4, V6], keys);
    config["ipam"]["routes"] = json!([{"dst": "10.90.0.0/16"}]);
    let result = host.add("pod", &pod, &config).ok();
    let config = with_prev(&config, &result);
    let check = |config: &Value| host.call(&Call::new("CHECK", "pod", &pod.path()), config);
    check(&config).ok();
    let mut without = config.clone();
    without.as_object_mut().unwrap().remove("prevResult");
    check(&without).err(999, "prevResult missing");
    let mut moved = config.clone();
    moved["prevResult"]["interfaces"][2]["sandbox"] = "/elsewhere".into();
    check(&moved).err(999, "doesn't match configured netns");
    let mut promiscuous = config.clone();
    promiscuous["promiscMode"] = true.into();
    check(&promiscuous).err(999, "Promisc Mode true doesn't match current state: false");
    let mut other_mac = config.clone();
    other_mac["prevResult"]["interfaces"][0]["mac"] = "02:00:00:00:00:01".into();
    check(&other_mac).err(999, "Interface cni0 Mac doesn't match");

    let mut inside = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
    let eth0 = inside.link_by_name(ETH0).unwrap().unwrap();
    let route = RouteSpec::new("10.90.0.0/16".parse().unwrap());
    inside.delete_route(&route).unwrap();
    check(&config).err(999, "Expected Route 10.90.0.0/16 not found");
    inside.add_route(&route.via("10.77.0.1".parse().unwrap())).unwrap();
    check(&config).ok();
    let connected = RouteSpec { protocol: libc::RTPROT_KERNEL, ..RouteSpec::new(V4.parse().unwrap()) };
    inside.delete_route(&connected).unwrap();
    check(&config).err(999, "Failed to find Gateway 10.77.0.1 for interface eth0");
    inside.add_route(&connected.dev(eth0.index)).unwrap();
    check(&config).ok();
    let mut host_side = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    host_side.set_master(eth0.peer.unwrap(), None).unwrap();
    check(&config).err(999, "CNI veth created for bridge cni0 was not found");
    host_side.set_master(eth0.peer.unwrap(), Some(host.links()["cni0"].index)).unwrap();
    check(&config).ok();
    inside.delete_address(eth0.index, &AddressSpec::new("fd00:77::2".parse().unwrap(), 64)).unwrap();
    check(&config).err(999, "Failed to match addr fd00:77::2/64 on interface eth0");
    inside.delete_link(ETH0).unwrap();
    check(&config).err(999, "Interface name eth0 not found");
    host.del("pod", &pod.path(), &config).ok();
    check(&config).err(999, "Failed to find address added by container pod");

    let l2 = host.config("0.4.0", &[], Value::Null);
    let l2 = with_prev(&l2, &host.add("pod", &pod, &l2).ok());
    check(&l2).ok();
}

#[test]
fn gc_takes_back_what_is_not_valid() {
    let host = Host::new();
    let pods = [Pod::new(), Pod::new(), Pod::new()];
    let config = host.config("1.1.0", &[V4, V6], json!({"isGateway": true}));
    for (index, pod) in pods.iter().enumerate() {
        host.add(&format!("pod{index}"), pod, &config).ok();
    }
    let call = Call { command: "GC", id: "", netns: "", ifname: "", args: "" };
    // Nothing is told, and nothing taken for stale.
    host.call(&call, &config).ok();
    assert_eq!(
        (host.n_veths(), host.reserved().len()),
        (3, 6),
        "without a list nothing is known to be stale"
    );
    let mut gc = config.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "pod1", "ifname": "eth0"}]);
    host.call(&call, &gc).ok();
    assert_eq!((host.n_veths(), host.reserved().len()), (1, 2));
    assert!(pods[1].links().contains_key("eth0"));
    // As libcni writes an empty list.
    gc["cni.dev/valid-attachments"] = Value::Null;
    host.call(&call, &gc).ok();
    host.assert_empty();
}

#[test]
fn ptp_has_the_shape_of_the_reference() {
    let host = Host::new();
    let mut config = host.config("1.0.0", &[V4, V6], json!({"type": "ptp", "mtu": 1400}));
    config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let (one, two) = (Pod::new(), Pod::new());
    let first = host.add("one", &one, &config);
    let second = host.add("two", &two, &config).addresses();
    assert_eq!(first.value["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(first.value["ips"][0]["address"], "10.77.0.2/24");
    assert_eq!(first.value["ips"][1]["interface"], 1);
    let routes = |pod: &Pod| {
        let mut inside = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
        let routes = inside.routes().unwrap();
        let main = routes.iter().filter(|route| route.table == 254 && route.dst.address().is_ipv4());
        let text = |gateway: Option<IpAddr>| gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        let mut lines: Vec<String> =
            main.map(|route| format!("{} {}", route.dst, text(route.gateway))).collect();
        lines.sort();
        lines
    };
    assert_eq!(routes(&one), ["0.0.0.0/0 10.77.0.1", "10.77.0.0/24 10.77.0.1", "10.77.0.1/32 "]);
    for (first, second) in first.addresses().iter().zip(&second) {
        assert_reaches(&one, &two, second, first);
    }
    let host_pod = Pod { namespace: host.namespace.try_clone().unwrap() };
    assert_reaches(&one, &host_pod, "10.77.0.1", "10.77.0.2");
    assert_reaches(&one, &host_pod, "fd00:77::1", "fd00:77::2");
    let config = with_prev(&config, &first.ok());
    host.call(&Call::new("CHECK", "one", &one.path()), &config).ok();
    host.del("one", &one.path(), &config).ok();
    host.del("two", &two.path(), &config).ok();
    host.assert_empty();
}

#[test]
fn ptp_with_link_local_next_hops_spends_no_address() {
    let host = Host::new();
    let config = host.config("1.0.0", &["10.77.0.0/30", "fd00:77::/126"], json!({"type": "hopwise"}));
    std::fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), host.dir.path().join("hopwise")).unwrap();
    let (one, two) = (Pod::new(), Pod::new());
    let first = host.add("one", &one, &config);
    let second = host.add("two", &two, &config).addresses();
    assert_eq!(first.addresses(), ["10.77.0.1", "fd00:77::1"], "no address is the gateway's");
    assert_eq!(second, ["10.77.0.2", "fd00:77::2"]);
    assert_eq!(first.value["ips"][0]["gateway"], "169.254.1.1");
    assert_eq!(first.value["routes"][1], json!({"dst": "::/0", "gw": "fe80::1"}));
    for (first, second) in first.addresses().iter().zip(&second) {
        assert_reaches(&one, &two, second, first);
        assert_reaches(&two, &one, first, second);
    }
    // The host reaches the pod from its own address, and the other way round, without a default route anywhere.
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    rtnl.add_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
    let node = rtnl.link_by_name(BRIDGE).unwrap().unwrap();
    for (address, prefix_len) in [("192.0.2.7", 24), ("2001:db8::7", 64)] {
        rtnl.add_address(node.index, &AddressSpec::new(address.parse().unwrap(), prefix_len)).unwrap();
    }
    let host_pod = Pod { namespace: host.namespace.try_clone().unwrap() };
    assert_reaches(&one, &host_pod, "192.0.2.7", "10.77.0.1");
    assert_reaches(&one, &host_pod, "2001:db8::7", "fd00:77::1");
    assert_reaches(&host_pod, &two, "10.77.0.2", "192.0.2.7");
    assert_reaches(&host_pod, &two, "fd00:77::2", "2001:db8::7");
    let checked = with_prev(&config, &first.ok());
    host.call(&Call::new("CHECK", "one", &one.path()), &checked).ok();
    host.del("one", &one.path(), &config).ok();
    host.del("two", &two.path(), &config).ok();
    host.assert_empty();
}

#[test]
fn a_failed_ptp_add_leaves_nothing() {
    let host = Host::new();
    let pod = Pod::new();
    let mut config = host.config("1.0.0", &[V4], json!({"type": "ptp"}));
    config["ipam"]["routes"] = json!([{"dst": "10.1.0.0/16", "gw": "10.99.99.99"}]);
    host.add("pod", &pod, &config).err(999, "failed to add route '10.1.0.0/16 via 10.99.99.99 dev eth0'");
    host.assert_empty();
    let masquerade =
        host.config("1.0.0", &[V4], json!({"type": "ptp", "ipMasq": true, "ipMasqBackend": "magic"}));
    host.add("pod", &pod, &masquerade).err(999, "unknown ipmasq backend \"magic\"");
    host.add("pod", &pod, &host.config("1.0.0", &[], json!({"type": "ptp"}))).err(999, "ipam.type: missing");
    host.assert_empty();
}

#[test]
fn loopback_goes_up_and_down() {
    let host = Host::new();
    let pod = Pod::new();
    let mut inside = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
    inside.set_down(LinkName::new_static("lo")).unwrap();
    let config = json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"});
    let check = || host.call(&Call::new("CHECK", "pod", &pod.path()), &config);
    check().err(999, "loopback interface is down");
    let result = host.add("pod", &pod, &config).ok();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    assert_eq!(
        (&result["ips"][0]["address"], &result["ips"][1]["address"]),
        (&json!("127.0.0.1/8"), &json!("::1/128"))
    );
    check().ok();
    let before = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth9"}]});
    assert_eq!(host.add("pod", &pod, &with_prev(&config, &before)).ok(), before);
    host.del("pod", &pod.path(), &config).ok();
    check().err(999, "loopback interface is down");
    host.del("pod", "/nowhere", &config).ok();
}

/// A host beyond the node, with a route to the node only.
fn outside(host: &Host) -> Pod {
    let outside = Pod::new();
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    rtnl.add_veth(&VethSpec::new(LinkName::new_static("up0"), ETH0, Some(outside.namespace.as_fd())))
        .unwrap();
    let mut beyond = Rtnl::open_in(outside.namespace.as_fd()).unwrap();
    let ends = [
        (&mut rtnl, LinkName::new_static("up0"), ["198.51.100.1", "2001:db8:1::1"]),
        (&mut beyond, ETH0, ["198.51.100.2", "2001:db8:1::2"]),
    ];
    for (rtnl, name, addresses) in ends {
        rtnl.set_up(name).unwrap();
        let index = rtnl.link_by_name(name).unwrap().unwrap().index;
        for (address, prefix_len) in addresses.iter().zip([24, 64]) {
            rtnl.add_address(index, &AddressSpec::new(address.parse().unwrap(), prefix_len)).unwrap();
        }
    }
    outside
}

#[test]
fn ip_masq_hides_pods_behind_the_host() {
    for keys in [
        json!({"isDefaultGateway": true, "ipMasq": true}),
        json!({"type": "hopwise", "ipMasq": true, "ipMasqBackend": "nftables"}),
    ] {
        let host = Host::new();
        std::fs::copy(env!("CARGO_BIN_EXE_hopwise-cni"), host.dir.path().join("hopwise")).unwrap();
        let config = host.config("1.1.0", &[V4, V6], keys);
        let beyond = outside(&host);
        let (one, two) = (Pod::new(), Pod::new());
        let first = host.add("one", &one, &config).addresses();
        let second = host.add("two", &two, &config).addresses();
        assert_reaches(&one, &beyond, "198.51.100.2", "198.51.100.1");
        assert_reaches(&one, &beyond, "2001:db8:1::2", "2001:db8:1::1");
        for (first, second) in first.iter().zip(&second) {
            assert_reaches(&one, &two, second, first);
        }
        // The namespace is gone when DEL comes.
        drop(one);
        host.del("one", "/nowhere", &config).ok();
        let mut gc = config.clone();
        gc["cni.dev/valid-attachments"] = json!([]);
        host.call(&Call { command: "GC", id: "", netns: "", ifname: "", args: "" }, &gc).ok();
        let listed = host.namespace.run(|| {
            let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        let listed = listed.unwrap();
        assert!(listed.contains("masquerade") && !listed.contains("elements"), "{listed}");
        assert_eq!(host.reserved().len(), 0);
        // The kernel takes a namespace's links away some time after the namespace.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while host.n_veths() > 1 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(host.n_veths(), 1, "only the way out");
    }
}
