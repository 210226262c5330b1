//! What is applied is what is observed, and nothing is left of it.

use std::collections::BTreeMap;

use hopwise_core::diff::{Changes, RouteChange, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::host::{SysctlKey, SysctlLink};
use hopwise_core::mark::vxlan_link;
use hopwise_core::name::Mtu;
use hopwise_core::object::Route;
use hopwise_core::observed::{ObservedFdb, ObservedNextHop, ObservedTarget};

use crate::support::*;

#[test]
fn every_kind_of_object_comes_back() {
    on_host(|kernel| {
        let changes = everything();
        let report = apply(kernel, &changes);
        assert_eq!(report.applied, 2 * (1 + 1 + 2 + 2 + 2 + 1 + 1));
        let observed = observe(kernel);
        for link in &changes.links_add {
            let found = &observed.links[&link.name];
            assert_eq!((found.kind.as_str(), found.up, found.mtu), ("vxlan", true, link.mtu.bytes()));
            assert_eq!((found.mac, found.vni, found.port), (Some(link.mac), link.vni, link.port));
            assert_eq!((found.local, found.learning), (Some(link.local), false));
            assert!(found.uplink.is_some());
        }
        assert_eq!(observed.addresses.iter().copied().collect::<Vec<_>>(), changes.addresses_add);
        for (id, next_hop) in &changes.nexthops_add {
            assert_eq!(observed.nexthops.get(id), Some(&ObservedNextHop::Known(*next_hop)));
        }
        assert_eq!(observed.routes.len(), changes.routes_set.len());
        for change in &changes.routes_set {
            let RouteTarget::Object(id) = change.target else { panic!("by object") };
            let found = observed.routes.get(&change.route.key).unwrap();
            assert_eq!((found.target, found.mtu), (ObservedTarget::Object(id), None));
        }
        let neighbours: BTreeMap<_, _> = changes.neighbours_set.iter().map(|n| (n.key, n.mac)).collect();
        assert_eq!(observed.neighbours, neighbours);
        let fdb: BTreeMap<_, _> =
            changes.fdb_set.iter().map(|entry| (entry.key, ObservedFdb::Known(entry.dst))).collect();
        assert_eq!(observed.fdb, fdb);
        let rules: Vec<_> = observed.rules.iter().map(|rule| (rule.rule, rule.altered)).collect();
        assert_eq!(rules, changes.rules_add.iter().map(|rule| (*rule, false)).collect::<Vec<_>>());
    });
}

#[test]
fn vxlan_devices_have_no_address_of_the_kernels_own() {
    on_host(|kernel| {
        apply(kernel, &everything());
        assert!(!shown("-6 addr show dev hopwise-vx4").contains("fe80"));
        assert!(!shown("-6 addr show dev hopwise-vx6").contains("fe80"));
        assert!(shown("link show dev hopwise-vx6").contains("alias hopwise:"));
    });
}

#[test]
fn deleting_what_is_observed_leaves_nothing() {
    on_host(|kernel| {
        let before = [shown("route show table all"), shown("-6 route show table all"), shown("rule")];
        apply(kernel, &everything());
        let observed = observe(kernel);
        apply(kernel, &nothing(&observed));
        let left = observe(kernel);
        assert_eq!(nothing(&left), Changes::default());
        assert_eq!([shown("route show table all"), shown("-6 route show table all"), shown("rule")], before);
        assert_eq!(shown("nexthop"), "");
        assert_eq!(shown("neigh show nud permanent"), "");
        // Once more: what has gone already is no error.
        apply(kernel, &nothing(&observed));
    });
}

#[test]
fn routes_carry_gateways_where_there_are_no_objects() {
    on_host(|kernel| {
        let mut changes = Changes { links_add: Family::BOTH.map(vxlan).to_vec(), ..Changes::default() };
        for family in Family::BOTH {
            direct(&mut changes, family, 1);
            tunnelled(&mut changes, family, 2);
        }
        // An IPv4 route through an IPv6 gateway, as on a fabric without IPv4 addresses.
        let next_hop = via_uplink(Family::V6, 9);
        changes.routes_set.push(RouteChange {
            route: Route { key: pods(Family::V4, 3), next_hop },
            target: RouteTarget::Gateway,
            replace: false,
        });
        changes.nexthops_add.clear();
        for change in &mut changes.routes_set {
            change.target = RouteTarget::Gateway;
            change.route.key.metric += 7;
        }
        apply(kernel, &changes);
        let observed = observe(kernel);
        assert_eq!(observed.routes.len(), 5);
        for change in &changes.routes_set {
            let found = observed.routes.get(&change.route.key).unwrap();
            assert_eq!(found.target, ObservedTarget::Gateway(change.route.next_hop));
        }
        apply(kernel, &nothing(&observed));
        assert!(observe(kernel).routes.is_empty());
    });
}

#[test]
fn routes_of_other_tables_are_found_and_deleted() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        for family in Family::BOTH {
            direct(&mut changes, family, 1);
        }
        for (change, table) in changes.routes_set.iter_mut().zip([72, 100_000]) {
            change.route.key.table = table;
        }
        apply(kernel, &changes);
        let observed = observe(kernel);
        assert_eq!(observed.routes.keys().map(|key| key.table).collect::<Vec<_>>(), [72, 100_000]);
        apply(kernel, &nothing(&observed));
        assert!(observe(kernel).routes.is_empty());
    });
}

#[test]
fn replacing_a_route_leaves_no_moment_without() {
    on_host(|kernel| {
        for family in Family::BOTH {
            let mut changes = Changes::default();
            direct(&mut changes, family, 1);
            changes.nexthops_add.push((nexthop_id(family, 2), via_uplink(family, 2)));
            apply(kernel, &changes);
            let mut watch = hopwise_kernel::watch::Watch::open().unwrap();
            let replaced = RouteChange {
                route: Route { key: pods(family, 1), next_hop: via_uplink(family, 2) },
                target: RouteTarget::Object(nexthop_id(family, 2)),
                replace: true,
            };
            let nexthops_delete = vec![nexthop_id(family, 1)];
            apply(kernel, &Changes { routes_set: vec![replaced], nexthops_delete, ..Changes::default() });
            let observed = observe(kernel);
            let found = observed.routes.get(&pods(family, 1)).unwrap();
            assert_eq!(found.target, ObservedTarget::Object(nexthop_id(family, 2)));
            let events = read(&mut watch);
            let gone = |event: &_| matches!(event, hopwise_core::observed::Event::Route { key, now: None } if *key == pods(family, 1));
            assert!(!events.iter().any(gone), "{events:?}");
        }
    });
}

/// From gateway to object and back, also where a person changed a route to something else altogether.
#[test]
fn any_form_of_a_route_is_replaced_by_any_other() {
    on_host(|kernel| {
        for family in Family::BOTH {
            let mut changes = Changes::default();
            direct(&mut changes, family, 1);
            apply(kernel, &changes);
            let key = pods(family, 1);
            let dst = key.dst;
            let other = peer(family, 5);
            let metric = key.metric;
            let forms = [
                format!("route replace {dst} via {other} dev up0 proto 72 metric {metric}"),
                format!("route replace {dst} via {other} dev up0 proto 72 metric {metric} mtu 1000"),
                format!(
                    "route replace {dst} proto 72 metric {metric} nexthop via {other} dev up0 nexthop via {} dev up0",
                    peer(family, 6)
                ),
                format!("route replace blackhole {dst} proto 72 metric {metric}"),
            ];
            for form in forms {
                ip(&form);
                let altered = observe(kernel);
                let found = altered.routes.get(&key).unwrap_or_else(|| panic!("{form}"));
                assert_ne!(found.target, ObservedTarget::Object(nexthop_id(family, 1)), "{form}");
                for target in [RouteTarget::Object(nexthop_id(family, 1)), RouteTarget::Gateway] {
                    let mut change = changes.routes_set[0];
                    change.replace = true;
                    change.target = target;
                    apply(kernel, &Changes { routes_set: vec![change], ..Changes::default() });
                    let observed = observe(kernel);
                    let found = observed.routes.get(&key).unwrap();
                    let wanted = match target {
                        RouteTarget::Object(id) => ObservedTarget::Object(id),
                        RouteTarget::Gateway => ObservedTarget::Gateway(change.route.next_hop),
                    };
                    assert_eq!((found.target, found.mtu), (wanted, None), "{form}, {target:?}");
                }
            }
            assert_eq!(observe(kernel).routes.len(), 1);
            let observed = observe(kernel);
            apply(kernel, &nothing(&observed));
        }
    });
}

#[test]
fn links_are_brought_in_line_in_place_or_made_anew() {
    on_host(|kernel| {
        apply(kernel, &everything());
        let index = observe(kernel).links[&vxlan_link(Family::V4)].index;
        ip("link set hopwise-vx4 down");
        let mut link = vxlan(Family::V4);
        link.mtu = Mtu::new(1300).unwrap();
        link.mac = mac(201);
        apply(kernel, &Changes { links_set: vec![link], ..Changes::default() });
        let found = observe(kernel).links[&link.name].clone();
        assert_eq!((found.index, found.mtu, found.mac, found.up), (index, 1300, Some(mac(201)), true));
        link.vni = 7;
        let anew = Changes { links_recreate: vec![link.name], links_add: vec![link], ..Changes::default() };
        apply(kernel, &anew);
        let found = observe(kernel).links[&link.name].clone();
        assert_eq!((found.vni, found.mac, found.up), (7, Some(mac(201)), true));
        assert_ne!(found.index, index);
    });
}

#[test]
fn altered_entries_are_seen_and_put_right() {
    on_host(|kernel| {
        let changes = everything();
        apply(kernel, &changes);
        let good = observe(kernel);
        ip(&format!("neigh replace {} lladdr 02:00:00:00:99:99 dev up0", peer(Family::V4, 1)));
        ip(&format!("neigh replace {} lladdr 02:00:00:00:01:01 nud reachable dev up0", peer(Family::V6, 1)));
        bridge("fdb replace 02:00:00:00:01:02 dev hopwise-vx4 dst 192.0.2.99 self permanent");
        bridge("fdb replace 02:00:00:00:01:02 dev hopwise-vx6 dst fd00::2:3 port 99 self permanent");
        ip("rule add from 192.0.2.7 iif up0 lookup 72 priority 32000 protocol 72");
        let altered = observe(kernel);
        let differ = altered.neighbours.iter().filter(|(key, mac)| good.neighbours[*key] != **mac);
        assert_eq!(differ.count(), 2);
        assert_eq!(altered.fdb.iter().filter(|(key, entry)| good.fdb[*key] != **entry).count(), 2);
        assert_eq!(altered.rules.iter().filter(|rule| rule.altered).count(), 1);
        let mut repair = Changes {
            neighbours_set: changes.neighbours_set.clone(),
            fdb_set: changes.fdb_set.clone(),
            ..Changes::default()
        };
        repair.rules_delete.extend(altered.rules.iter().filter(|rule| rule.altered).map(|rule| rule.rule));
        apply(kernel, &repair);
        let repaired = observe(kernel);
        assert_eq!((&repaired.neighbours, &repaired.fdb), (&good.neighbours, &good.fdb));
        assert_eq!(repaired.rules, good.rules);
    });
}

#[test]
fn sysctls_are_written_in_order_also_those_of_new_links() {
    on_host(|kernel| {
        let forwarding = SysctlKey::Forwarding(Family::V4);
        let redirects = SysctlKey::SendRedirects(SysctlLink::Link(UPLINK));
        let rp_filter = SysctlKey::RpFilter(SysctlLink::Link(vxlan_link(Family::V4)));
        let gone = SysctlKey::RpFilter(SysctlLink::Link("gone0".parse().unwrap()));
        let changes = Changes {
            sysctls: vec![
                (redirects, "1".into()),
                (forwarding, "1".into()),
                (redirects, "0".into()),
                (gone, "2".into()),
            ],
            links_add: vec![vxlan(Family::V4)],
            link_sysctls: vec![(rp_filter, "2".into())],
            ..Changes::default()
        };
        let report = kernel.apply(&changes);
        assert_eq!((report.applied, report.errors.len()), (5, 1));
        assert_eq!(report.errors[0].errno, libc::ENOENT);
        let keys = [forwarding, redirects, rp_filter, gone];
        let read = kernel.observe_routing(&keys).unwrap().sysctls;
        let wanted = [(forwarding, "1".into()), (redirects, "0".into()), (rp_filter, "2".into())];
        assert_eq!(read, BTreeMap::from(wanted));
    });
}
