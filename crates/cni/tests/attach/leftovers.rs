//! Pods that are gone, or that nobody knows the way to: DEL and STATUS. And what is no IPAM plugin.

use serde_json::json;

use crate::harness::{Call, Host, Pod};
use crate::{V4, V6};

#[test]
fn del_succeeds_with_whatever_is_left_of_a_namespace() {
    let host = Host::new();
    let config = host.config("1.1.0", &[V4], json!({"isGateway": true}));
    for (id, netns) in [("a", ""), ("b", "/nowhere"), ("c", "/proc/version")] {
        let pod = Pod::new();
        host.add(id, &pod, &config).ok();
        drop(pod);
        host.del(id, netns, &config).ok();
    }
    assert_eq!(host.reserved(), [""; 0]);
}

#[test]
fn del_without_a_namespace_finds_the_pod_that_is_there_all_the_same() {
    let host = Host::new();
    for kind in ["bridge", "ptp"] {
        let config = host.config("1.1.0", &[V4, V6], json!({"type": kind, "ipMasq": true}));
        let (one, other) = (Pod::new(), Pod::new());
        host.add("one", &one, &config).ok();
        host.add("other", &other, &config).ok();
        host.del("one", "", &config).ok();
        // The address would be given out again while it is in use.
        assert_eq!((one.links().contains_key("eth0"), other.links().contains_key("eth0")), (false, true));
        assert_eq!((host.n_veths(), host.reserved().len()), (1, 2));
        host.del("one", "", &config).ok();
        host.del("other", "", &config).ok();
        host.assert_empty();
    }
}

#[test]
fn status_tells_when_addresses_have_run_out() {
    let host = Host::new();
    let config = host.config("1.1.0", &["10.77.0.0/30"], json!({"isGateway": true}));
    let status = || host.call(&Call { command: "STATUS", id: "", netns: "", ifname: "", args: "" }, &config);
    status().ok();
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    status().err(50, "no IP addresses available in range set: 10.77.0.1-10.77.0.2");
    host.del("pod", &pod.path(), &config).ok();
    status().ok();
}

#[test]
fn a_full_range_counts_as_free_where_the_next_add_would_take_an_address_back() {
    let host = Host::new();
    let config = host.config("1.1.0", &["10.77.0.0/30"], json!({}));
    let status = || host.call(&Call { command: "STATUS", id: "", netns: "", ifname: "", args: "" }, &config);
    // A file that is no namespace is what is left of one.
    let mount = host.dir.path().join("netns");
    let pod = Pod::new();
    std::os::unix::fs::symlink(pod.path(), &mount).unwrap();
    host.call(&Call::new("ADD", "pod", mount.to_str().unwrap()), &config).ok();
    status().err(50, "no IP addresses available");
    std::fs::remove_file(&mount).unwrap();
    std::fs::write(&mount, "").unwrap();
    status().ok();
    host.add("next", &Pod::new(), &config).ok();
    // Full by a pod that lives as far as anybody can tell, of this boot; then by one from before it.
    let config = host.config("1.1.0", &["10.77.0.0/30"], json!({"name": "rebooted"}));
    let status = || host.call(&Call { command: "STATUS", id: "", netns: "", ifname: "", args: "" }, &config);
    let pod = Pod::new();
    host.add("pod", &pod, &config).ok();
    status().err(50, "no IP addresses available");
    let index = host.data_dir().join(".hopwise/rebooted.index");
    let text = std::fs::read_to_string(&index).unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&index, text.replace(boot_id.trim(), &"0".repeat(36))).unwrap();
    status().ok();
}

#[test]
fn a_plugin_that_gives_no_addresses_is_no_ipam() {
    let host = Host::new();
    let pod = Pod::new();
    for plugin in ["bridge", "ptp", "portmap", "hopwise"] {
        let mut config = host.config("1.0.0", &[V4], json!({}));
        config["ipam"]["type"] = json!(plugin);
        host.add("pod", &pod, &config).err(999, &format!("ipam.type: {plugin:?} is no plugin for addresses"));
        host.assert_empty();
    }
}
