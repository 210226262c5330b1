//! Refusals: the right change, the kernel's own words, and everything else done.

use hopwise_core::diff::Changes;
use hopwise_core::family::Family;
use hopwise_core::name::Mtu;
use hopwise_core::report::ObjectKind;

use crate::support::*;

#[test]
fn each_refusal_names_its_change_and_stops_nothing() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        for n in 1..=250 {
            direct(&mut changes, Family::V4, n);
        }
        // Off the link: the kernel refuses the object, and then the route that refers to it.
        let bad = [3_usize, 99, 100, 249];
        for index in bad {
            changes.nexthops_add[index].1.gateway = "198.51.100.1".parse().unwrap();
        }
        let report = kernel.apply(&changes);
        assert_eq!(report.applied, 3 * 250 - 2 * bad.len());
        let (next_hops, routes) = report.errors.split_at(bad.len());
        for (index, error) in bad.iter().zip(next_hops) {
            assert_eq!((error.kind, error.errno), (ObjectKind::NextHop, libc::ENETUNREACH));
            assert!(error.message.contains("Nexthop has invalid gateway"), "{error}");
            assert!(error.change.contains(&changes.nexthops_add[*index].0.to_string()), "{error}");
        }
        for (index, error) in bad.iter().zip(routes) {
            assert_eq!((error.kind, error.errno), (ObjectKind::Route, libc::EINVAL));
            assert_eq!(error.message, "Nexthop id does not exist (Invalid argument)");
            assert!(error.change.contains(&changes.routes_set[*index].route.key.dst.to_string()), "{error}");
        }
        assert_eq!(observe(kernel).routes.len(), 250 - bad.len());
    });
}

#[test]
fn a_link_that_is_not_there_is_named() {
    on_host(|kernel| {
        let mut changes = Changes::default();
        tunnelled(&mut changes, Family::V4, 1);
        direct(&mut changes, Family::V4, 2);
        let report = kernel.apply(&changes);
        assert_eq!(report.applied, 3);
        let kinds: Vec<_> = report.errors.iter().map(|error| (error.kind, error.errno)).collect();
        let wanted = [
            (ObjectKind::NextHop, libc::ENODEV),
            (ObjectKind::Neighbour, libc::ENODEV),
            (ObjectKind::Fdb, libc::ENODEV),
            (ObjectKind::Route, libc::EINVAL),
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(report.errors[0].message, "there is no link hopwise-vx4");
    });
}

#[test]
fn a_vxlan_device_that_is_refused_is_one_error() {
    on_host(|kernel| {
        let mut link = vxlan(Family::V4);
        link.mtu = Mtu::new(1500).unwrap();
        link.vni = 1 << 24;
        let report = kernel.apply(&Changes { links_add: vec![link], ..Changes::default() });
        assert_eq!((report.applied, report.errors.len()), (0, 1), "{report:?}");
        assert_eq!(report.errors[0].kind, ObjectKind::Link);
        assert!(observe(kernel).links.is_empty());
    });
}

#[test]
fn without_carrier_the_kernel_says_what_is_wrong() {
    on_host(|kernel| {
        ip("link set far0 down");
        let mut changes = Changes::default();
        direct(&mut changes, Family::V4, 1);
        let report = kernel.apply(&changes);
        assert!(report.errors[0].message.contains("Carrier for nexthop device is down"), "{report:?}");
    });
}
