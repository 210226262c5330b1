//! The guard: attaches what the setting names, and heals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hopwise_agent::l2::{Guard, Mailbox};
use hopwise_core::l2::value::Wanted;
use hopwise_core::note::Note;

use crate::support::{Lan, WANTED, ip, sysctl, until};

/// A guard that runs in the node; ends when dropped.
pub struct Running {
    mailbox: Arc<Mailbox>,
    notes: Arc<Mutex<BTreeMap<&'static str, Note>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub fn start(lan: &Lan, wanted: Option<Wanted>) -> Running {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        mailbox.want(wanted);
        let notes: Arc<Mutex<BTreeMap<&'static str, Note>>> = Arc::default();
        let namespace = lan.node.try_clone().unwrap();
        let (dir, mail, shown) = (lan.state().to_owned(), mailbox.clone(), notes.clone());
        let tell = Box::new(move |slot, note| {
            let mut shown = shown.lock().unwrap();
            match note {
                Some(note) => shown.insert(slot, note),
                None => shown.remove(slot),
            };
        });
        let thread = std::thread::spawn(move || {
            namespace.enter().unwrap();
            Guard::new(dir, mail, tell).unwrap().run();
        });
        Running { mailbox, notes, thread: Some(thread) }
    }

    pub fn note(&self, id: &str) -> Option<String> {
        let notes = self.notes.lock().unwrap();
        notes.values().find(|note| note.id == id).map(|note| note.evidence.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.mailbox.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the guard panicked");
    }
}

/// Runs `ip` in the node, whether it works or not.
fn try_ip(lan: &Lan, args: &str) {
    lan.in_node(|| std::process::Command::new("ip").args(args.split(' ')).output().unwrap());
}

/// Attached, and seen to work.
pub fn attached(lan: &Lan) -> bool {
    let journal = std::fs::read_to_string(lan.state().join("l2.json")).unwrap_or_default();
    if !journal.contains(r#""phase": "attached""#) {
        return false;
    }
    let links = ip(&lan.node, "link show dev eth1");
    links.contains("master cni0") && ip(&lan.node, "route show default").contains("dev cni0")
}

/// Nothing on the uplink, and what the node needs on the bridge.
fn sound(lan: &Lan) -> bool {
    let on_uplink = ip(&lan.node, "address show dev eth1");
    let routes = ip(&lan.node, "route show") + &ip(&lan.node, "-6 route show");
    !on_uplink.contains("inet")
        && !routes.contains("dev eth1")
        && attached(lan)
        && ip(&lan.node, "address show dev cni0").contains("192.168.7.5/24")
}

#[test]
fn the_setting_attaches_and_what_a_dhcp_client_puts_back_is_moved() {
    let lan = Lan::new();
    let before = lan.shown();
    let guard = Running::start(&lan, Some(WANTED));
    until("attached", || attached(&lan));
    lan.assert_reachable();
    // What dhclient-script does when a lease is renewed; `onlink`, since the address may have moved by then.
    ip(&lan.node, "address add 192.168.7.5/24 dev eth1 valid_lft 3600 preferred_lft 3600");
    until("both", || {
        let routes = ip(&lan.node, "route show default");
        // With the last address of the link the kernel takes its routes away: then a client has to try again.
        if !routes.contains("proto dhcp") {
            try_ip(&lan, "route add default via 192.168.7.1 dev eth1 onlink proto dhcp metric 50");
        }
        routes.contains("proto dhcp") && routes.contains("proto static") && sound(&lan)
    });
    assert!(guard.note("l2-healed").is_some());
    assert!(ip(&lan.node, "address show dev cni0").contains("valid_lft 3"), "the lease's lifetime");
    lan.assert_reachable();
    drop(guard);
    // It needs no guard to stay up.
    assert!(sound(&lan));
    lan.assert_reachable();
    ip(&lan.node, "address change 192.168.7.5/24 dev cni0 valid_lft forever preferred_lft forever");
    lan.detach();
    ip(&lan.node, "route del default proto dhcp");
    lan.assert_shown(&before, "in the end");
}

#[test]
fn who_did_it_is_said_when_the_route_tells() {
    let lan = Lan::new();
    let guard = Running::start(&lan, Some(WANTED));
    until("attached", || attached(&lan));
    ip(&lan.node, "route add 10.9.0.0/16 dev eth1 proto dhcp");
    until("told", || guard.note("l2-healed").is_some());
    let told = guard.note("l2-healed").unwrap();
    assert!(
        told.contains("route 10.9.0.0/16 (proto dhcp) came to the uplink")
            && told.contains("(by a DHCP client (routes with proto dhcp)"),
        "{told}"
    );
    until("moved", || ip(&lan.node, "route show 10.9.0.0/16").contains("dev cni0"));
}

#[test]
fn what_is_torn_down_is_put_up_again() {
    let lan = Lan::new();
    let guard = Running::start(&lan, Some(WANTED));
    until("attached", || attached(&lan));
    for damage in [
        "link set eth1 nomaster",
        "address del 192.168.7.5/24 dev cni0",
        "route del default",
        "link set cni0 down",
        "link set cni0 address 02:00:00:00:00:aa",
        "link set eth1 down",
        "link del cni0",
    ] {
        ip(&lan.node, damage);
        until(damage, || {
            sound(&lan)
                && ip(&lan.node, "link show dev cni0").contains("02:00:00:00:00:05")
                && ip(&lan.node, "address show dev cni0").contains("fd07::5/64")
        });
        lan.assert_reachable();
    }
    assert!(guard.note("l2-healed").is_some());
}

#[test]
fn an_uplink_that_is_plugged_in_again_is_attached_again() {
    let lan = Lan::new();
    let guard = Running::start(&lan, Some(WANTED));
    until("attached", || attached(&lan));
    ip(&lan.node, "link del eth1");
    until("missed", || guard.note("l2-unhealed").is_some_and(|note| note.contains("link eth1 is gone")));
    lan.plug("p9", &lan.node, "eth1", 5);
    until("attached again", || sound(&lan) && guard.note("l2-unhealed").is_none());
    lan.assert_reachable();
}

#[test]
fn what_cannot_be_attached_is_a_note_until_it_can() {
    let lan = Lan::new();
    ip(&lan.node, "link set eth1 down");
    let guard = Running::start(&lan, Some(WANTED));
    until("noted", || guard.note("l2-failed").is_some_and(|note| note == "eth1 is down"));
    ip(&lan.node, "link set eth1 up");
    ip(&lan.node, "address replace fe80::5/64 dev eth1 nodad");
    ip(&lan.node, "address replace fd07::5/64 dev eth1 nodad");
    until("attached", || {
        // It may be attached by now, and with the last address of the link the kernel takes its routes away.
        if ip(&lan.node, "route show default").is_empty() {
            try_ip(&lan, "route replace default via 192.168.7.1 dev eth1 onlink proto static metric 100");
        }
        attached(&lan) && guard.note("l2-failed").is_none()
    });
    // Another setting does not tear down what the node lives on.
    guard.mailbox.want(None);
    until("noted", || guard.note("l2-setting-differs").is_some());
    assert!(attached(&lan));
    // What hangs on IPv6 being off needs none of it.
    sysctl(&lan.node, "ipv6/conf/cni0/accept_dad", "0");
}
