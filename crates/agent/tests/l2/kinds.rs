//! Bonds and VLAN devices as uplinks.

use hopwise_agent::l2::{AttachOptions, Uplink, no_points};
use hopwise_core::l2::attach;
use hopwise_kernel::l2::L2;

use crate::support::{Lan, WANTED, ip, options, ping};

/// Makes a link, or says that this kernel has none of the kind: no module, or not built in.
fn has_kind(lan: &Lan, command: &str) -> bool {
    let make = || std::process::Command::new("ip").args(command.split(' ')).output().unwrap();
    let output = lan.in_node(make);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return true;
    }
    assert!(said.contains("Unknown device type") || said.contains("not supported"), "{command}: {said}");
    false
}

/// What a kernel without the kind can show: that one which looks the same is planned for.
fn is_planned(lan: &Lan, kind: &str) {
    lan.in_node(|| {
        let mut observed = L2::open().unwrap().observe(WANTED).unwrap();
        observed.links.get_mut(&WANTED.uplink).unwrap().kind = kind.to_owned();
        attach::plan(&observed, WANTED).unwrap();
    });
}

fn there_and_back(lan: &Lan, name: &str, peer: &str) {
    let options = AttachOptions {
        wanted: hopwise_core::l2::value::Wanted { uplink: name.parse().unwrap(), ..WANTED },
        verify: vec![peer.parse().unwrap()],
        ..options()
    };
    let before = lan.shown();
    let attached =
        lan.in_node(|| Uplink::open(lan.state()).unwrap().attach(&options, &mut no_points)).unwrap();
    assert_eq!(attached.answered, options.verify);
    ping(&lan.node, peer);
    lan.detach();
    lan.assert_shown(&before, "in the end");
    ping(&lan.node, peer);
}

#[test]
fn a_bond_is_an_uplink() {
    let lan = Lan::new();
    if !has_kind(&lan, "link add bond0 type bond mode active-backup miimon 100") {
        return is_planned(&lan, "bond");
    }
    ip(&lan.node, "link set bond0 addrgenmode none");
    ip(&lan.node, "link set eth1 down");
    ip(&lan.node, "link set eth1 master bond0");
    ip(&lan.node, "link set bond0 up");
    ip(&lan.node, "address flush dev eth1");
    ip(&lan.node, "address add 192.168.7.5/24 dev bond0");
    ping(&lan.node, "192.168.7.20");
    there_and_back(&lan, "bond0", "192.168.7.1");
}

#[test]
fn a_vlan_device_is_an_uplink() {
    let lan = Lan::new();
    if !has_kind(&lan, "link add link eth1 name eth1.5 addrgenmode none type vlan id 5") {
        return is_planned(&lan, "vlan");
    }
    ip(&lan.host, "link add link eth0 name eth0.5 addrgenmode none type vlan id 5");
    for (namespace, link, n) in [(&lan.host, "eth0.5", 20), (&lan.node, "eth1.5", 5)] {
        ip(namespace, &format!("link set {link} up"));
        ip(namespace, &format!("address add 192.168.8.{n}/24 dev {link}"));
    }
    ping(&lan.node, "192.168.8.20");
    there_and_back(&lan, "eth1.5", "192.168.8.20");
}
