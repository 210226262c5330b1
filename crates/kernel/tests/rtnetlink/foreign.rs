//! What is not ours stays as it is.

use hopwise_core::diff::{Changes, RouteTarget};
use hopwise_core::family::Family;
use hopwise_core::report::ObjectKind;

use crate::support::*;

#[test]
fn foreign_objects_survive_and_are_never_observed() {
    on_host(|kernel| {
        ip("link add vx9 type vxlan id 9 dev up0 dstport 4790");
        ip("link set vx9 up");
        for command in [
            "addr add 10.98.0.1/24 dev vx9",
            "neigh add 10.98.0.2 lladdr 02:00:00:00:09:02 dev vx9",
            "neigh add 192.0.2.9 lladdr 02:00:00:00:09:09 dev up0",
            "nexthop add id 9 via 192.0.2.9 dev up0",
            "route add 10.101.0.0/24 nhid 9",
            "route add 10.102.0.0/24 via 192.0.2.9 proto 99",
            "route add fd00:244:9::/64 via fd00::9",
            "rule add lookup 99 priority 99",
        ] {
            ip(command);
        }
        bridge("fdb append 02:00:00:00:09:02 dev vx9 dst 192.0.2.9 self permanent");
        let shown = || {
            let words = ["nexthop", "route", "-6 route", "rule", "neigh show nud permanent", "addr show vx9"];
            words.map(shown).join("\n")
        };
        let before = shown();
        let observed = observe(kernel);
        assert_eq!(nothing(&observed), Changes::default());
        assert_eq!(observed.foreign_nexthop_ids.into_iter().collect::<Vec<_>>(), [9]);
        apply(kernel, &everything());
        let observed = observe(kernel);
        apply(kernel, &nothing(&observed));
        assert_eq!(shown(), before);
    });
}

#[test]
fn a_foreign_route_with_our_key_stands_and_is_told() {
    on_host(|kernel| {
        for family in Family::BOTH {
            let key = pods(family, 1);
            let (dst, metric, gateway) = (key.dst, key.metric, peer(family, 9));
            ip(&format!("route add {dst} via {gateway} dev up0 metric {metric} proto 99"));
            let mut changes = Changes::default();
            direct(&mut changes, family, 1);
            let report = kernel.apply(&changes);
            assert_eq!((report.applied, report.errors.len()), (2, 1), "{report:?}");
            let error = &report.errors[0];
            assert_eq!((error.kind, error.errno), (ObjectKind::Route, libc::EEXIST));
            assert!(error.message.contains("not ours"), "{error}");
            // Neither is it deleted in place of one of ours.
            apply(kernel, &Changes { routes_delete: vec![key], ..Changes::default() });
            let flag = if family == Family::V4 { "-4" } else { "-6" };
            let left = shown(&format!("{flag} route show {dst}"));
            assert!(left.contains(&gateway.to_string()), "{left}");
            changes.routes_set[0].target = RouteTarget::Gateway;
            let by_gateway = Changes { routes_set: changes.routes_set, ..Changes::default() };
            assert_eq!(kernel.apply(&by_gateway).errors[0].errno, libc::EEXIST);
        }
    });
}

#[test]
fn a_foreign_link_of_our_name_is_left_alone() {
    on_host(|kernel| {
        ip("link add hopwise-vx4 type vxlan id 9 dev up0 dstport 4790");
        let before = shown("link show hopwise-vx4");
        let link = vxlan(Family::V4);
        for changes in [
            Changes { links_add: vec![link], ..Changes::default() },
            Changes { links_set: vec![link], ..Changes::default() },
            Changes { links_recreate: vec![link.name], links_add: vec![link], ..Changes::default() },
        ] {
            let report = kernel.apply(&changes);
            assert_eq!(report.errors.len(), 1, "{report:?}");
            assert_eq!(report.errors[0].kind, ObjectKind::Link);
        }
        apply(kernel, &Changes { links_delete: vec![link.name], ..Changes::default() });
        assert_eq!(shown("link show hopwise-vx4"), before);
        assert!(observe(kernel).links.is_empty());
    });
}
