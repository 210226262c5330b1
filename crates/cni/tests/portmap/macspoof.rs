//! `macspoofchk` of the bridge plugin, and CHECK of `ipMasq`.

use std::net::IpAddr;
use std::os::fd::AsFd;

use hopwise_core::name::{LinkName, MacAddr};
use hopwise_kernel::rtnl::Rtnl;
use serde_json::{Value, json};

use crate::net::{Call, Host, Pod};
use crate::traffic::{Protocol, Server, ask, connects};

const ETH0: LinkName = LinkName::new_static("eth0");

fn network(host: &Host) -> Value {
    let mut network = host.network("bridge");
    network["macspoofchk"] = true.into();
    network["cniVersion"] = "1.1.0".into();
    network
}

fn set_mac(pod: &Pod, mac: MacAddr) -> MacAddr {
    let mut rtnl = Rtnl::open_in(pod.namespace.as_fd()).unwrap();
    let before = rtnl.link_by_name(ETH0).unwrap().unwrap().mac.unwrap();
    rtnl.set_mac(ETH0, mac).unwrap();
    before
}

#[test]
fn a_pod_with_another_mac_address_can_not_send() {
    let host = Host::new();
    let network = network(&host);
    let (pod, free) = (host.attach_in(host.ours(), &network, "pod"), host.attach("bridge", "free"));
    let server = Server::new(&host.namespace, "host");
    let gateway: IpAddr = "10.77.0.1".parse().unwrap();
    let reaches = |pod: &Pod| {
        let answer = ask(&pod.namespace, Protocol::Tcp, gateway, server.tcp).unwrap();
        assert_eq!(answer, format!("host {}", pod.addresses()[0]));
    };
    reaches(&pod);
    let other = MacAddr([2, 0, 0, 0, 0, 7]);
    let own = set_mac(&pod, other);
    assert!(!connects(&pod.namespace, gateway, server.tcp), "{}", host.rules());
    assert!(!connects(&pod.namespace, free.addresses()[0], server.tcp));
    set_mac(&pod, own);
    reaches(&pod);
    // Who is not checked may.
    set_mac(&free, other);
    reaches(&free);
}

#[test]
fn the_check_goes_with_its_pod() {
    let host = Host::new();
    let network = network(&host);
    let say = |command: &str, pod: &Pod, netns: &str, more: Value| {
        let mut config = network.clone();
        config.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        host.call_in(host.ours(), &Call { command, id: &pod.id, netns }, &config)
    };
    let pods = ["one", "two", "three"].map(|id| host.attach_in(host.ours(), &network, id));
    let count = |id: &str| host.rules().matches(&format!("\"net {id} eth0\"")).count();
    assert_eq!(["one", "two", "three"].map(count), [2, 2, 2]);
    let check = || say("CHECK", &pods[0], &pods[0].path(), json!({"prevResult": pods[0].result}));
    check().ok();
    host.command("nft", &["flush", "chain", "bridge", "hopwise_cni", "prerouting"]);
    check().err(999, "macspoofchk: veth");
    // The rules come back with the next ADD.
    let four = host.attach_in(host.ours(), &network, "four");
    check().ok();
    say("DEL", &pods[0], &pods[0].path(), Value::Null).ok();
    check().err(999, "");
    // Without a namespace, and so without a link.
    say("DEL", &pods[1], "", Value::Null).ok();
    say("DEL", &pods[1], "/nowhere", Value::Null).ok();
    assert_eq!(["one", "two", "three", "four"].map(count), [0, 0, 2, 2]);
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "four", "ifname": "eth0"}]});
    say("GC", &four, "", valid).ok();
    assert_eq!(["three", "four"].map(count), [0, 2]);
}

#[test]
fn check_sees_what_is_not_masqueraded() {
    for kind in ["bridge", "ptp"] {
        let host = Host::new();
        let mut network = host.network(kind);
        network["ipMasq"] = true.into();
        let pod = host.attach_in(host.ours(), &network, "pod");
        network["prevResult"] = pod.result.clone();
        let call = Call { command: "CHECK", id: "pod", netns: &pod.path() };
        let check = || host.call_in(host.ours(), &call, &network);
        check().ok();
        let element = format!("delete element inet hopwise_cni pods_v6 {{ {} }}", pod.addresses()[1]);
        host.command("nft", &[&element]);
        check().err(999, &format!("ipMasq: {} is not masqueraded", pod.addresses()[1]));
        host.command("nft", &["flush", "ruleset"]);
        check().err(999, "is masqueraded: table inet hopwise_cni is missing");
    }
}

#[test]
fn a_failed_add_leaves_no_check() {
    let host = Host::new();
    let mut network = network(&host);
    // A route that the kernel refuses, after the link is there.
    network["ipam"]["routes"] = json!([{"dst": "10.200.0.0/16", "gw": "10.99.99.99"}]);
    let pod = host.attach("ptp", "pod");
    host.detach("ptp", &pod);
    let call = Call { command: "ADD", id: "pod", netns: &pod.path() };
    host.call_in(host.ours(), &call, &network).err(999, "failed to add route");
    assert!(!host.rules().contains("net pod"), "{}", host.rules());
}
