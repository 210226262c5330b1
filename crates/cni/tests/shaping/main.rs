//! The bandwidth plugin beside the reference's, in network namespaces: the same in the kernel, either undoes and checks
//! what the other made, and rates are held. Needs root, `tc` and `ip`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[allow(dead_code, reason = "shared with tests that use other parts of it")]
#[path = "../attach/harness.rs"]
mod harness;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{Requests, Rtnl, Tbf};
use serde_json::{Value, json};

use harness::{Call, Host, Pod};
use support::{attach, bandwidth, call, reference, shaping};

fn both(rate: u64, burst: u64) -> Value {
    json!({"ingressRate": rate, "ingressBurst": burst, "egressRate": 2 * rate, "egressBurst": burst})
}

fn veth(result: &Value) -> String {
    result["interfaces"][1]["name"].as_str().unwrap().to_owned()
}

#[test]
fn the_kernel_shows_what_the_reference_makes() {
    let unlimited_burst = u64::from(u32::MAX);
    for keys in [
        both(8_000_000, 800_000),
        // What containerd sends.
        json!({"runtimeConfig": {"bandwidth": both(10_000_000, unlimited_burst)}}),
        json!({"runtimeConfig": {"bandwidth": both(1_000_000, unlimited_burst)}}),
        both(8, unlimited_burst),
        both(100_000_000_000, 8_000_000),
        json!({"ingressRate": 123_457, "ingressBurst": 7777}),
        json!({"egressRate": 123_457, "egressBurst": 7777}),
    ] {
        let (ours, theirs) = (Host::new(), Host::new());
        let (our_pod, their_pod) = (Pod::new(), Pod::new());
        let made = attach(&ours, ours.dir.path(), "pod", &our_pod);
        let reference_made = attach(&theirs, &reference(), "pod", &their_pod);
        let config = bandwidth(&keys, &made);
        let reference_config = bandwidth(&keys, &reference_made);
        let result = ours.call(&Call::new("ADD", "pod", &our_pod.path()), &config).ok();
        let netns = their_pod.path();
        let add = Call::new("ADD", "pod", &netns);
        let expected = call(&theirs, &reference(), &add, &reference_config).ok();
        let (state, expected_state) = (shaping(&ours, &veth(&result)), shaping(&theirs, &veth(&expected)));
        assert_eq!(state, expected_state, "{keys}: {state:#} {expected_state:#}");
        assert_ne!(state["qdiscs"], json!([]));
        let names = |result: &Value| {
            let links = result["interfaces"].as_array().unwrap().iter().skip(3);
            links.map(|link| link["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&result), names(&expected));
        if let Some(ifb) = result["interfaces"].get(3) {
            let link = &ours.links()[ifb["name"].as_str().unwrap()];
            assert_eq!(ifb["mac"], link.mac.unwrap().to_string());
        }
        // Either checks and undoes what the other made.
        let check = |host: &Host, plugins: &Path, pod: &Pod, result: &Value| {
            let config = bandwidth(&keys, result);
            call(host, plugins, &Call::new("CHECK", "pod", &pod.path()), &config).ok();
        };
        check(&ours, ours.dir.path(), &our_pod, &result);
        check(&ours, &reference(), &our_pod, &result);
        check(&theirs, ours.dir.path(), &their_pod, &expected);
        call(&ours, &reference(), &Call::new("DEL", "pod", ""), &config).ok();
        call(&theirs, ours.dir.path(), &Call::new("DEL", "pod", ""), &reference_config).ok();
        for host in [&ours, &theirs] {
            assert!(host.links().values().all(|link| link.kind != "ifb"));
        }
    }
}

/// Sends bytes from one namespace to an address in another; returns how long they took, from the first to the last.
fn transfer(from: &Namespace, to: &Namespace, address: &str, bytes: usize) -> Duration {
    let listener = to.run(|| TcpListener::bind((address, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    let mut sender = from.run(|| TcpStream::connect(target).unwrap()).unwrap();
    let sending = std::thread::spawn(move || {
        sender.set_write_timeout(Some(Duration::from_secs(120))).unwrap();
        sender.write_all(&vec![0; bytes]).unwrap();
    });
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut buffer = vec![0; bytes];
    receiver.read_exact(&mut buffer[..1]).unwrap();
    let started = Instant::now();
    receiver.read_exact(&mut buffer[1..]).unwrap();
    let took = started.elapsed();
    sending.join().unwrap();
    took
}

#[test]
fn rates_are_held_in_both_directions() {
    let host = Host::new();
    let pod = Pod::new();
    let made = attach(&host, host.dir.path(), "pod", &pod);
    // 200 kB a second to the pod, twice as much from it.
    let config = bandwidth(&both(1_600_000, 160_000), &made);
    host.call(&Call::new("ADD", "pod", &pod.path()), &config).ok();
    // What is in the bucket goes at once; the rest can't be faster than the rate, however idle or busy the machine is.
    let at_least = |bytes: usize, rate: usize| Duration::from_secs_f64((bytes - 60_000) as f64 / rate as f64);
    let bytes = 260_000;
    let to_pod = transfer(&host.namespace, &pod.namespace, "10.77.0.2", bytes);
    assert!(to_pod >= at_least(bytes, 200_000).mul_f64(0.9), "{to_pod:?}");
    let from_pod = transfer(&pod.namespace, &host.namespace, "10.77.0.1", 2 * bytes);
    assert!(from_pod >= at_least(2 * bytes, 400_000).mul_f64(0.9), "{from_pod:?}");
    host.call(&Call::new("DEL", "pod", &pod.path()), &config).ok();
    host.del("pod", &pod.path(), &host.config("1.0.0", &["10.77.0.0/24"], json!({}))).ok();
    host.assert_empty();
}

#[test]
fn nothing_to_shape_passes_the_result_on() {
    let host = Host::new();
    let pod = Pod::new();
    let before = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "x"}], "dns": {"domain": "a"}});
    for keys in [json!({}), json!({"ingressRate": 0, "ingressBurst": 0}), json!({"runtimeConfig": {}})] {
        let config = bandwidth(&keys, &before);
        assert_eq!(host.call(&Call::new("ADD", "pod", &pod.path()), &config).ok(), before);
    }
    assert_eq!(host.links().len(), 1, "only loopback");
}

#[test]
fn wrong_calls_change_nothing() {
    let host = Host::new();
    let pod = Pod::new();
    let made = attach(&host, host.dir.path(), "pod", &pod);
    let links = host.links().len();
    let keys = both(8_000_000, 800_000);
    let add = |config: &Value| host.call(&Call::new("ADD", "pod", &pod.path()), config);
    let mut config = bandwidth(&keys, &made);
    config.as_object_mut().unwrap().remove("prevResult");
    add(&config).err(999, "must be called as chained plugin");
    add(&bandwidth(&keys, &json!({"cniVersion": "1.0.0"}))).err(999, "no interfaces provided");
    let other = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "veth1"}]});
    add(&bandwidth(&keys, &other)).err(999, "no veth peer of container interface found in host ns");
    let netns = pod.path();
    let call = Call { ifname: "lo", ..Call::new("ADD", "pod", &netns) };
    host.call(&call, &bandwidth(&keys, &made)).err(999, "container interface lo has no veth peer");
    add(&bandwidth(&json!({"ingressRate": 1000}), &made)).err(999, "if rate is set, burst must also be set");
    let mut old = bandwidth(&keys, &made);
    old["cniVersion"] = "0.2.0".into();
    add(&old).err(1, "incompatible CNI versions");
    let versions = host.call(&Call::new("VERSION", "", ""), &old).ok();
    assert_eq!(versions["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    assert_eq!(host.links().len(), links);
    assert!(
        support::shown(&host, "tc", &["-j", "qdisc", "show", "dev", &veth(&made)])
            .to_string()
            .contains("noqueue")
    );
}

#[test]
fn a_failed_add_leaves_nothing() {
    let host = Host::new();
    let pod = Pod::new();
    let made = attach(&host, host.dir.path(), "pod", &pod);
    let config = bandwidth(&both(8_000_000, 800_000), &made);
    let add = || host.call(&Call::new("ADD", "pod", &pod.path()), &config);
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    let link = host.links()[&veth(&made)].index;
    let state = || support::shown(&host, "tc", &["-j", "qdisc", "show"]);
    let n_links = host.links().len();
    let tbf = Tbf { rate: 1_000_000, limit: 50_000, buffer: 500_000 };

    // Something stands where the redirection would go.
    let mut requests = Requests::new();
    rtnl.execute_all(requests.add_ingress(link)).unwrap();
    let before = state();
    add().err(999, "create ingress qdisc");
    assert_eq!((state(), host.links().len()), (before, n_links));
    rtnl.execute_all(Requests::new().delete_ingress(link)).unwrap();
    // Or at the root.
    rtnl.execute_all(Requests::new().add_tbf(link, &tbf)).unwrap();
    let before = state();
    add().err(999, "create qdisc");
    assert_eq!((state(), host.links().len()), (before, n_links));
    rtnl.execute_all(Requests::new().delete_root(link)).unwrap();
    // Or has the device's name.
    let result = add().ok();
    let ifb: LinkName = result["interfaces"][3]["name"].as_str().unwrap().parse().unwrap();
    rtnl.execute_all(Requests::new().delete_root(link).delete_ingress(link)).unwrap();
    let before = state();
    add().err(999, "adding link bwp");
    assert_eq!((state(), host.links().len()), (before, n_links + 1));
    rtnl.delete_link(ifb).unwrap();
    add().ok();
}

#[test]
fn check_names_what_differs() {
    let host = Host::new();
    let pod = Pod::new();
    let made = attach(&host, host.dir.path(), "pod", &pod);
    let keys = both(8_000_000, 800_000);
    let result = host.call(&Call::new("ADD", "pod", &pod.path()), &bandwidth(&keys, &made)).ok();
    let check = |keys: &Value| host.call(&Call::new("CHECK", "pod", &pod.path()), &bandwidth(keys, &result));
    check(&keys).ok();
    check(&both(16_000_000, 800_000)).err(999, "Rate doesn't match");
    check(&both(8_000_000, 1_600_000)).err(999, "Limit doesn't match");
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    let link = host.links()[&veth(&made)].index;
    rtnl.execute_all(Requests::new().delete_ingress(link)).unwrap();
    check(&keys).err(999, "Failed to find the ingress qdisc");
    rtnl.execute_all(Requests::new().delete_root(link)).unwrap();
    check(&keys).err(999, "Failed to find qdisc");
    let ifb: LinkName = result["interfaces"][3]["name"].as_str().unwrap().parse().unwrap();
    rtnl.delete_link(ifb).unwrap();
    check(&json!({"egressRate": 16_000_000, "egressBurst": 800_000})).err(999, "get ifb device");
}

#[test]
fn gc_deletes_the_devices_of_this_network_that_are_not_valid() {
    let host = Host::new();
    let pods = [Pod::new(), Pod::new()];
    let keys = json!({"egressRate": 8_000_000, "egressBurst": 800_000});
    for (index, pod) in pods.iter().enumerate() {
        let id = format!("pod{index}");
        let made = attach(&host, host.dir.path(), &id, pod);
        host.call(&Call::new("ADD", &id, &pod.path()), &bandwidth(&keys, &made)).ok();
    }
    // The reference's can't be told apart from those of other networks.
    let foreign: LinkName = "bwp000000000000".parse().unwrap();
    let mut rtnl = Rtnl::open_in(host.namespace.as_fd()).unwrap();
    rtnl.add_ifb(foreign, "02:00:00:00:00:01".parse().unwrap(), 1500).unwrap();
    let n_ifbs = || host.links().values().filter(|link| link.kind == "ifb").count();
    let gc = |network: &str, valid: Value| {
        let config = json!({"cniVersion": "1.1.0", "name": network, "type": "bandwidth", "cni.dev/valid-attachments": valid});
        host.call(&Call { command: "GC", id: "", netns: "", ifname: "", args: "" }, &config).ok();
    };
    gc("other", json!([]));
    assert_eq!(n_ifbs(), 3);
    gc("net", json!([{"containerID": "pod1", "ifname": "eth0"}]));
    assert_eq!(n_ifbs(), 2);
    gc("net", json!([]));
    assert_eq!(n_ifbs(), 1);
}
