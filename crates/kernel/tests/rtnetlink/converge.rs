//! From whatever state one apply leads to the desired one, and from there a cleanup to nothing.

use std::collections::{BTreeMap, BTreeSet};

use hopwise_core::diff::{Changes, Desired, diff};
use hopwise_core::family::Family;
use hopwise_core::host::{IptablesBackend, IptablesChain, SysctlKey, SysctlLink};
use hopwise_core::mark::vxlan_link;
use hopwise_core::netfilter::{Masquerade, SetName, SetRole, Table};
use hopwise_core::observed::{AcceptRule, Event};
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::watch::Watch;

use crate::support::*;

/// The state that [`everything`] leads to.
fn desired(kernel: &mut Kernel, nexthop_objects: bool) -> Desired {
    let changes = everything();
    let mut desired = Desired {
        links: changes.links_add.iter().map(|link| (link.name, *link)).collect(),
        addresses: changes.addresses_add.into_iter().collect(),
        nexthop_objects,
        neighbours: changes.neighbours_set.iter().map(|entry| (entry.key, entry.mac)).collect(),
        fdb: changes.fdb_set.iter().map(|entry| (entry.key, entry.dst)).collect(),
        rules: changes.rules_add.into_iter().collect(),
        sysctls: vec![
            (SysctlKey::Forwarding(Family::V4), "1".into()),
            (SysctlKey::RpFilter(SysctlLink::Link(vxlan_link(Family::V4))), "2".into()),
        ],
        ..Desired::default()
    };
    let host = kernel.host_view(&[], &BTreeSet::new()).unwrap();
    desired.uplinks = host.links.values().map(|link| (link.name, link.index)).collect();
    for (n, change) in changes.routes_set.iter().enumerate() {
        let mut key = change.route.key;
        if !nexthop_objects {
            key.metric = 100 + n as u32;
        }
        desired.routes.insert(key, change.route.next_hop);
        *desired.next_hops.entry(change.route.next_hop).or_default() += 1;
    }
    desired
}

fn changes(kernel: &mut Kernel, desired: &Desired) -> Changes {
    let keys: Vec<_> = desired.sysctls.iter().map(|(key, _)| *key).collect();
    diff(&kernel.observe(&keys).unwrap(), desired)
}

#[track_caller]
fn converge(kernel: &mut Kernel, desired: &Desired, after: &str) {
    let changes = changes(kernel, desired);
    let report = kernel.apply(&changes);
    assert_eq!(report.errors, [], "after {after}");
    assert_eq!(report.applied, changes.len(), "after {after}");
    let rest = self::changes(kernel, desired);
    assert_eq!(rest, Changes::default(), "after {after}");
}

/// What somebody, or the kernel, may do to us.
fn vandalism() -> Vec<String> {
    let mut commands = vec![
        "link del hopwise-vx4".to_owned(),
        "link set hopwise-vx6 down".to_owned(),
        "link set hopwise-vx4 mtu 1000".to_owned(),
        "link set hopwise-vx4 address 02:00:00:00:77:77".to_owned(),
        "addr flush dev hopwise-vx4".to_owned(),
        "addr add 10.99.0.5/24 dev hopwise-vx4".to_owned(),
        "rule del priority 32000".to_owned(),
        "rule add iif lo lookup 72 priority 32000 protocol 72".to_owned(),
        "rule add lookup 73 priority 32001 protocol 72".to_owned(),
        "route add 10.77.0.0/24 dev up0 proto 72 table 77".to_owned(),
        "nexthop add id 77 via 192.0.2.77 dev up0 proto 72".to_owned(),
        "nexthop add id 78 group 77 proto 72".to_owned(),
        "neigh add 192.0.2.77 lladdr 02:00:00:00:77:77 dev up0 nud permanent protocol 72".to_owned(),
        "nexthop flush".to_owned(),
        "neigh flush dev up0 nud permanent".to_owned(),
    ];
    for family in Family::BOTH {
        let key = pods(family, 1);
        let (dst, metric, gateway) = (key.dst, key.metric, peer(family, 7));
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        commands.extend([
            format!("{flag} route flush proto 72"),
            format!("route replace {dst} via {gateway} dev up0 proto 72 metric {metric}"),
            format!("route append {dst} via {gateway} dev up0 proto 72 metric {metric}"),
            format!("route prepend {dst} via {gateway} dev up0 proto 72 metric {metric}"),
            format!("route replace blackhole {dst} proto 72 metric {metric}"),
            format!("route replace {dst} nhid {} proto 72 metric {metric} mtu 1000", nexthop_id(family, 1)),
            format!("neigh replace {} lladdr 02:00:00:00:77:77 dev up0 nud stale", peer(family, 1)),
            format!("nexthop del id {}", nexthop_id(family, 1)),
        ]);
    }
    commands
}

#[test]
fn one_apply_puts_any_single_thing_right() {
    on_host(|kernel| {
        let desired = desired(kernel, true);
        converge(kernel, &desired, "nothing");
        for command in vandalism() {
            // Ids may have been given anew; a command that finds nothing to do does no harm.
            let _ = try_ip(&command);
            converge(kernel, &desired, &command);
        }
    });
}

#[test]
fn one_apply_puts_many_things_right_at_once() {
    on_host(|kernel| {
        let desired = desired(kernel, true);
        converge(kernel, &desired, "nothing");
        let commands = vandalism();
        for start in 0..commands.len() {
            let picked: Vec<_> = commands.iter().cycle().skip(start).step_by(5).take(7).cloned().collect();
            for command in &picked {
                let _ = try_ip(command);
            }
            converge(kernel, &desired, &picked.join("; "));
        }
    });
}

#[test]
fn a_route_beside_ours_calls_for_a_dump() {
    on_host(|kernel| {
        let desired = desired(kernel, true);
        converge(kernel, &desired, "nothing");
        let mut watch = Watch::open().unwrap();
        let dst = pods(Family::V4, 1).dst;
        for verb in ["append", "prepend"] {
            ip(&format!("route {verb} {dst} via {} dev up0 proto 72", peer(Family::V4, 7)));
            assert!(read(&mut watch).contains(&Event::Host { resync: true }), "{verb}");
            let count =
                || shown("route show proto 72").lines().filter(|line| line.starts_with("10.100.1.")).count();
            assert_eq!(count(), 2);
            converge(kernel, &desired, verb);
            assert_eq!(count(), 1);
            read(&mut watch);
        }
    });
}

#[test]
fn with_and_without_nexthop_objects_and_back() {
    on_host(|kernel| {
        for nexthop_objects in [true, false, true] {
            let desired = desired(kernel, nexthop_objects);
            converge(kernel, &desired, "a change of method");
        }
    });
}

#[test]
fn a_cleanup_is_the_difference_from_nothing() {
    on_host(|kernel| {
        let tables = || ["route", "-6 route", "rule", "-6 rule", "nexthop", "-d link"].map(shown);
        let before = tables();
        let mut desired = desired(kernel, true);
        let cidr = |text: &str| BTreeSet::from([text.parse().unwrap()]);
        let set = |role| SetName { role, family: Family::V4 };
        desired.table = Some(Table {
            masquerade: vec![Masquerade { family: Family::V4, fully_random: true }],
            sets: BTreeMap::from([
                (set(SetRole::LocalPods), cidr("10.99.0.0/24")),
                (set(SetRole::Exempt), cidr("10.96.0.0/11")),
                (set(SetRole::Nodes), cidr("192.0.3.1/32")),
            ]),
        });
        let chain = IptablesChain { backend: IptablesBackend::Nft, family: Family::V4 };
        let rules = [false, true]
            .map(|destination| AcceptRule { cidr: "10.96.0.0/11".parse().unwrap(), destination });
        desired.forward_accepts = BTreeMap::from([(chain, rules.to_vec())]);
        let iptables = |words: &str| {
            let output =
                std::process::Command::new("iptables-nft").args(words.split_whitespace()).output().unwrap();
            assert!(output.status.success(), "iptables-nft {words}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        iptables("-P FORWARD DROP");
        converge(kernel, &desired, "nothing");
        assert!(iptables("-S FORWARD").contains("hopwise"));
        let nothing = Desired::default();
        converge(kernel, &nothing, "everything");
        assert_eq!(tables(), before);
        assert_eq!(iptables("-S FORWARD").trim(), "-P FORWARD DROP");
        let observed = kernel.observe(&[]).unwrap();
        assert!(observed.table.is_none() && observed.links.is_empty() && observed.neighbours.is_empty());
    });
}
