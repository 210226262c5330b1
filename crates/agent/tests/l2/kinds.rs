//! Bonds and VLAN devices as uplinks.
//!
//! A kernel that has no such links can only show that one which looks the same is planned for. Debian's has them: there
//! these tests run in the guest of `cargo xtask vm`, which fails if it lacks them.

use hopwise_agent::l2::Uplink;
use hopwise_core::l2::attach;
use hopwise_kernel::l2::L2;
use hopwise_kernel::netns::Namespace;

use crate::crash::{kill_attaching, kill_detaching};
use crate::guard::Running;
use crate::support::{CABLES, Kind, Lan, WANTED, ip, until};

/// Whether the kernel has a kind of link: as a module, or built in.
fn has(kind: &str) -> bool {
    let namespace = Namespace::new().unwrap();
    // Loopback would carry no VLANs.
    ip(&namespace, "link add one type veth peer name other");
    let more = if kind == "vlan" { "link one name some type vlan id 100" } else { "some type bond" };
    let command = format!("link add {more}");
    let make = || std::process::Command::new("ip").args(command.split(' ')).output().unwrap();
    let output = namespace.run(make).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return true;
    }
    assert!(said.contains("Unknown device type"), "ip {command}: {said}");
    let in_guest = std::env::var_os("HOPWISE_GUEST").is_some();
    assert!(!in_guest, "the kernel of the guest, which is there for that, has no links of kind {kind}");
    false
}

/// The LAN with such an uplink. On a kernel that has none it is seen that one which looks the same is planned for, and
/// there is no LAN.
fn lan_of(kind: Kind) -> Option<Lan> {
    let needed: &[&str] = match kind {
        Kind::Veth => &[],
        Kind::ActiveBackup(_) | Kind::Lacp => &["bond"],
        Kind::Vlan => &["vlan"],
        Kind::VlanOnBond => &["bond", "vlan"],
    };
    let Some(missing) = needed.iter().find(|kind| !has(kind)) else { return Some(Lan::of(kind)) };
    let lan = Lan::new();
    lan.in_node(|| {
        let mut observed = L2::open().unwrap().observe(WANTED).unwrap();
        observed.links.get_mut(&WANTED.uplink).unwrap().kind = (*missing).to_owned();
        attach::plan(&observed, WANTED).unwrap();
    });
    None
}

/// The bridge's MAC address.
fn mac(lan: &Lan) -> String {
    let shown = ip(&lan.node, "-o link show dev cni0");
    let at = shown.find("link/ether ").unwrap() + "link/ether ".len();
    shown[at..at + 17].to_owned()
}

fn there_and_back(lan: &Lan) {
    let before = lan.shown();
    let attached = lan.attach();
    let answered: Vec<String> = attached.answered.iter().map(ToString::to_string).collect();
    assert_eq!(answered, ["192.168.7.1", "fe80::1"]);
    assert_eq!(mac(lan), "02:00:00:00:00:05");
    lan.assert_reachable();
    assert_sound(lan);
    lan.detach();
    lan.assert_shown(&before, "in the end");
    lan.assert_reachable();
}

/// Nothing is found to be healed.
#[track_caller]
fn assert_sound(lan: &Lan) {
    let (_, healing) =
        lan.in_node(|| Uplink::open(lan.state()).unwrap().check().unwrap()).expect("it is attached");
    assert_eq!((healing.findings, healing.steps), (Vec::new(), Vec::new()));
}

fn killed_at_any_point(lan: &Lan) {
    kill_attaching(lan);
    kill_detaching(lan);
}

#[test]
fn a_bond_is_an_uplink() {
    let Some(lan) = lan_of(Kind::ActiveBackup("none")) else { return };
    there_and_back(&lan);
}

#[test]
fn a_bond_by_lacp_is_an_uplink() {
    let Some(lan) = lan_of(Kind::Lacp) else { return };
    there_and_back(&lan);
    // One cable less.
    lan.attach();
    for (port, _) in CABLES {
        ip(&lan.switch, &format!("link set {port} down"));
        until("one cable", || lan.aggregated() == 1);
        lan.assert_reachable();
        assert_sound(&lan);
        ip(&lan.switch, &format!("link set {port} up"));
        until("both", || lan.aggregated() == 2);
    }
    lan.detach();
    lan.assert_reachable();
}

#[test]
fn a_vlan_device_is_an_uplink() {
    let Some(lan) = lan_of(Kind::Vlan) else { return };
    there_and_back(&lan);
}

#[test]
fn a_vlan_device_on_a_bond_is_an_uplink() {
    let Some(lan) = lan_of(Kind::VlanOnBond) else { return };
    there_and_back(&lan);
    lan.attach();
    fail_over(&lan, "trunk");
    lan.detach();
    lan.assert_reachable();
}

#[test]
fn a_bond_can_be_killed_at_any_point() {
    let Some(lan) = lan_of(Kind::ActiveBackup("none")) else { return };
    killed_at_any_point(&lan);
}

#[test]
fn a_vlan_device_on_a_bond_can_be_killed_at_any_point() {
    let Some(lan) = lan_of(Kind::VlanOnBond) else { return };
    killed_at_any_point(&lan);
}

/// Whichever cable is used next, the node is where and who it was; nothing is healed, as nothing is broken.
fn fail_over(lan: &Lan, bond: &str) {
    let uses = |link: &str| {
        let active = format!("active_slave {link} ");
        until(&active, || ip(&lan.node, &format!("-d link show {bond}")).contains(&active));
    };
    // It loses the cable that it uses.
    uses("slave1");
    ip(&lan.switch, "link set p3 down");
    uses("slave2");
    lan.assert_reachable();
    // Somebody chooses another. The switch would go on sending to the old one for minutes: the kernel tells it, through the
    // bridge, which has the address.
    ip(&lan.switch, "link set p3 up");
    until("p3", || ip(&lan.node, "-d link show slave1").contains("mii_status UP"));
    ip(&lan.node, &format!("link set {bond} type bond active_slave slave1"));
    uses("slave1");
    let port = if bond == "trunk" { "p3.100" } else { "p3" };
    until("the switch knows", || {
        let entries = crate::support::run(&lan.switch, "bridge", "fdb show br lan");
        entries.lines().any(|line| line.starts_with(&format!("02:00:00:00:00:05 dev {port} ")))
    });
    lan.assert_reachable();
    assert_eq!(mac(lan), "02:00:00:00:00:05");
    assert_sound(lan);
}

#[test]
fn a_bond_that_uses_another_cable_is_the_same_node() {
    for macs in ["none", "active"] {
        let Some(lan) = lan_of(Kind::ActiveBackup(macs)) else { return };
        let guard = Running::start(&lan, Some(WANTED));
        until("attached", || crate::guard::attached(&lan));
        fail_over(&lan, "eth1");
        for link in ["slave1", "slave2"] {
            // As a cable is replaced: taken out of the bond, which takes the other's place, and put in again.
            ip(&lan.node, &format!("link set {link} nomaster"));
            lan.assert_reachable();
            ip(&lan.node, &format!("link set {link} down"));
            ip(&lan.node, &format!("link set {link} master eth1"));
            until("taken", || ip(&lan.node, &format!("-d link show {link}")).contains("mii_status UP"));
        }
        lan.assert_reachable();
        assert_eq!(mac(&lan), "02:00:00:00:00:05", "fail_over_mac {macs}");
        assert_eq!(guard.note("l2-healed"), None, "fail_over_mac {macs}");
        drop(guard);
        lan.detach();
        lan.assert_reachable();
    }
}
