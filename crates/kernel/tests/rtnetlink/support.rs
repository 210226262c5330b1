//! A host with an uplink, and the objects that an agent on it would have.

use std::net::IpAddr;
use std::process::Command;

use hopwise_core::diff::{Changes, RouteChange, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::mark::{NEXTHOP_ID_BASE, vxlan_link};
use hopwise_core::name::{LinkName, MacAddr, Mtu};
use hopwise_core::object::{
    Address, FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, Route, RouteKey, Rule, VxlanLink,
};
use hopwise_core::observed::{Event, Observed};
use hopwise_core::report::Report;
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::watch::Watch;

pub const UPLINK: LinkName = LinkName::new_static("up0");

/// Runs a body in a namespace with an uplink `up0` that has addresses of both families, and its other end `far0`.
pub fn on_host<T: Send>(body: impl FnOnce(&mut Kernel) -> T + Send) -> T {
    in_new_namespace(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        ip("link add up0 address 02:00:00:00:00:01 type veth peer name far0");
        ip("link set up0 up");
        ip("link set far0 up");
        ip("addr add 192.0.2.1/16 dev up0");
        ip("addr add fd00::1/48 dev up0 nodad");
        settle();
        body(&mut Kernel::open().unwrap())
    })
}

/// Runs `ip` with these words, which must succeed.
pub fn ip(words: &str) {
    let (ok, text) = try_ip(words);
    assert!(ok, "ip {words}: {text}");
}

/// Runs `ip` with these words.
pub fn try_ip(words: &str) -> (bool, String) {
    run("ip", words)
}

/// Runs `bridge` with these words, which must succeed.
pub fn bridge(words: &str) {
    let (ok, text) = run("bridge", words);
    assert!(ok, "bridge {words}: {text}");
}

/// What `ip` prints for these words.
pub fn shown(words: &str) -> String {
    let (ok, text) = try_ip(words);
    assert!(ok, "ip {words}: {text}");
    text
}

fn run(program: &str, words: &str) -> (bool, String) {
    let output = Command::new(program).args(words.split_whitespace()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits until both ends have their link-local addresses, which the kernel sees to in its own time.
fn settle() {
    let started = std::time::Instant::now();
    while shown("-6 -o addr show scope link -tentative").lines().count() < 2 {
        assert!(started.elapsed().as_secs() < 10, "no link-local addresses");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

pub fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, last])
}

/// The node address of peer `n`, on the uplink's network.
pub fn peer(family: Family, n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match family {
        Family::V4 => IpAddr::from([192, 0, high.wrapping_add(3), low]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 1, n]),
    }
}

/// The key of the route to pods of peer `n`.
pub fn pods(family: Family, n: u16) -> RouteKey {
    let [high, low] = n.to_be_bytes();
    let (dst, metric) = match family {
        Family::V4 => (format!("10.{}.{low}.0/24", 100 + u16::from(high)), 0),
        Family::V6 => (format!("fd00:244:0:{n:x}::/64"), 1024),
    };
    RouteKey { table: 254, dst: dst.parse().unwrap(), metric }
}

pub fn via_uplink(family: Family, n: u16) -> NextHop {
    NextHop { gateway: peer(family, n), link: UPLINK, onlink: false }
}

/// What makes peer `n` reachable directly: nexthop object, route, neighbour.
pub fn direct(changes: &mut Changes, family: Family, n: u16) {
    let id = nexthop_id(family, n);
    let next_hop = via_uplink(family, n);
    changes.nexthops_add.push((id, next_hop));
    changes.routes_set.push(RouteChange {
        route: Route { key: pods(family, n), next_hop },
        target: RouteTarget::Object(id),
        replace: false,
    });
    changes
        .neighbours_set
        .push(Neighbour { key: NeighbourKey { link: UPLINK, address: next_hop.gateway }, mac: mac(n as u8) });
}

pub fn nexthop_id(family: Family, n: u16) -> u32 {
    NEXTHOP_ID_BASE + u32::from(n) * 2 + u32::from(family == Family::V6)
}

/// A VXLAN device over the uplink.
pub fn vxlan(family: Family) -> VxlanLink {
    let (local, overhead): (IpAddr, _) = match family {
        Family::V4 => ("192.0.2.1".parse().unwrap(), 50),
        Family::V6 => ("fd00::1".parse().unwrap(), 70),
    };
    VxlanLink {
        name: vxlan_link(family),
        vni: 4857,
        port: 4789,
        local,
        uplink: UPLINK,
        mac: mac(200),
        mtu: Mtu::new(1500 - overhead).unwrap(),
    }
}

/// What makes peer `n` reachable through VXLAN, without the device.
pub fn tunnelled(changes: &mut Changes, family: Family, n: u16) {
    let link = vxlan_link(family);
    let gateway = match family {
        Family::V4 => peer(family, n),
        // IPv6 takes a gateway for on-link only when no other link leads to it.
        Family::V6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 1, n]),
    };
    let next_hop = NextHop { gateway, link, onlink: family == Family::V4 };
    let id = nexthop_id(family, n);
    changes.nexthops_add.push((id, next_hop));
    changes.routes_set.push(RouteChange {
        route: Route { key: pods(family, n), next_hop },
        target: RouteTarget::Object(id),
        replace: false,
    });
    changes
        .neighbours_set
        .push(Neighbour { key: NeighbourKey { link, address: next_hop.gateway }, mac: mac(n as u8) });
    changes.fdb_set.push(FdbEntry { key: FdbKey { link, mac: mac(n as u8) }, dst: peer(family, n) });
}

/// One of everything, of both families: a direct peer 1, a tunnelled peer 2, a rule.
pub fn everything() -> Changes {
    let mut changes = Changes::default();
    for family in Family::BOTH {
        changes.links_add.push(vxlan(family));
        let (address, prefix_len): (IpAddr, _) = match family {
            Family::V4 => ("10.99.0.0".parse().unwrap(), 32),
            Family::V6 => ("fd00:99::".parse().unwrap(), 128),
        };
        changes.addresses_add.push(Address { link: vxlan_link(family), address, prefix_len });
        direct(&mut changes, family, 1);
        tunnelled(&mut changes, family, 2);
        changes.rules_add.push(Rule { family, priority: 32_000, table: 72 });
    }
    changes
}

/// The changes that take everything away.
pub fn nothing(observed: &Observed) -> Changes {
    Changes {
        rules_delete: observed.rules.iter().map(|rule| rule.rule).collect(),
        routes_delete: observed.routes.keys().copied().collect(),
        nexthops_delete: observed.nexthops.iter().map(|(id, _)| *id).collect(),
        fdb_delete: observed.fdb.keys().copied().collect(),
        neighbours_delete: observed.neighbours.keys().copied().collect(),
        addresses_delete: observed.addresses.iter().copied().collect(),
        links_delete: observed.links.keys().copied().collect(),
        ..Changes::default()
    }
}

/// Applies changes, none of which may be refused.
pub fn apply(kernel: &mut Kernel, changes: &Changes) -> Report {
    let report = kernel.apply(changes);
    assert_eq!(report.errors, []);
    report
}

pub fn observe(kernel: &mut Kernel) -> Observed {
    kernel.observe_routing(&[]).unwrap()
}

/// Everything that the watch has to say.
pub fn read(watch: &mut Watch) -> Vec<Event> {
    let mut events = Vec::new();
    watch.read(&mut events).unwrap();
    events
}
