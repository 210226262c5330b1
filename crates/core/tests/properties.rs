//! What must hold for every cluster, every host and every prior state of the kernel.

mod common;

use std::sync::Arc;

use common::{arbitrary, kernel};
use hopwise_core::cluster::{ClusterView, Node, ViewDelta};
use hopwise_core::config::NodeConfig;
use hopwise_core::diff::{Changes, Desired, diff, diff_touched};
use hopwise_core::host::HostView;
use hopwise_core::name::{IfIndex, LinkName, NodeName};
use hopwise_core::observed::Observed;
use hopwise_core::plan::{Planner, lookup_targets, plan, sysctl_keys};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn uplinks(host: &HostView) -> Vec<(LinkName, IfIndex)> {
    host.links.values().map(|link| (link.name, link.index)).collect()
}

/// One step of a planner's life.
#[derive(Clone, Debug)]
enum Step {
    View(Box<ClusterView>),
    Upsert(Vec<Node>),
    Remove(NodeName),
    Host(Box<HostView>),
    /// The same host with one thing as in another.
    HostPart(u8, Box<HostView>),
    Lookups(Box<HostView>),
    Config(Box<NodeConfig>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => arbitrary::cluster().prop_map(|view| Step::View(Box::new(view))),
        6 => vec(arbitrary::node(), 1..3).prop_map(Step::Upsert),
        3 => select(&["node1", "node2", "node3", "aaa"][..]).prop_map(|node| Step::Remove(common::name(node))),
        2 => arbitrary::host_view().prop_map(|host| Step::Host(Box::new(host))),
        6 => (0..7_u8, arbitrary::host_view()).prop_map(|(part, host)| Step::HostPart(part, Box::new(host))),
        1 => arbitrary::host_view().prop_map(|host| Step::Lookups(Box::new(host))),
        1 => arbitrary::config().prop_map(|config| Step::Config(Box::new(config))),
    ]
}

fn take(planner: &mut Planner, step: Step) -> hopwise_core::diff::Touched {
    match step {
        Step::View(view) => planner.set_view(*view),
        Step::Upsert(nodes) => {
            let upserted = nodes.into_iter().map(Arc::new).collect();
            planner.update(ViewDelta { upserted, removed: Vec::new() })
        }
        Step::Remove(node) => planner.update(ViewDelta { upserted: Vec::new(), removed: vec![node] }),
        Step::Host(host) => planner.set_host(*host),
        Step::HostPart(part, other) => {
            let mut host = planner.host().clone();
            match part {
                0 => host.routes = other.routes,
                1 => host.lookups = other.lookups,
                2 => host.foreign_neighbours = other.foreign_neighbours,
                3 => host.addresses = other.addresses,
                4 => host.links = other.links,
                5 => host.sysctls = other.sysctls,
                _ => host.netfilter = other.netfilter,
            }
            planner.set_host(host)
        }
        Step::Lookups(host) => planner.set_lookups(host.lookups),
        Step::Config(config) => planner.set_config(*config),
    }
}

/// Nothing foreign may be written or deleted.
fn assert_only_ours(changes: &Changes, host: &HostView, observed: &Observed) {
    for change in &changes.routes_set {
        let key = change.route.key;
        let foreign = host
            .routes
            .iter()
            .any(|route| (route.table, route.dst, route.metric) == (key.table, key.dst, key.metric));
        assert!(!foreign, "{key} is foreign");
    }
    for id in &changes.nexthops_delete {
        assert!(!observed.foreign_nexthop_ids.contains(id), "nexthop {id} is foreign");
    }
    for neighbour in &changes.neighbours_set {
        let link = host.links.values().find(|link| link.name == neighbour.key.link);
        let foreign = link
            .is_some_and(|link| host.foreign_neighbours.contains_key(&(link.index, neighbour.key.address)));
        assert!(!foreign, "{neighbour:?} is foreign");
    }
    let named = changes.links_recreate.iter().chain(&changes.links_delete);
    assert!(named.into_iter().all(|link| observed.links.contains_key(link)));
    assert!(changes.routes_delete.iter().all(|key| observed.routes.contains_key(key)));
    assert!(changes.neighbours_delete.iter().all(|key| observed.neighbours.contains_key(key)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_planner_that_follows_equals_one_that_starts(
        view in arbitrary::cluster(), host in arbitrary::host_view(), config in arbitrary::config(),
        steps in vec(step(), 0..8),
    ) {
        let mut planner = Planner::new(view, host, config);
        for step in steps {
            take(&mut planner, step);
            let fresh = plan(planner.view(), planner.host(), planner.config());
            prop_assert_eq!(planner.plan(), &fresh);
            prop_assert_eq!(planner.desired(), &Desired::of(&fresh, &planner.host().capabilities));
            let missing = lookup_targets(planner.view(), planner.config())
                .into_iter().filter(|address| !planner.host().lookups.contains_key(address));
            for address in missing {
                prop_assert!(planner.missing_lookups().contains(&address), "{} is missing", address);
            }
            sysctl_keys(planner.host());
        }
    }

    #[test]
    fn one_apply_converges_from_any_state(
        view in arbitrary::cluster(), host in arbitrary::host_view(), config in arbitrary::config(),
        mut observed in arbitrary::observed(),
    ) {
        let planner = Planner::new(view, host.clone(), config);
        let changes = diff(&observed, planner.desired());
        assert_only_ours(&changes, &host, &observed);
        let commands = changes.commands();
        prop_assert_eq!(commands.is_empty(), changes.is_empty());
        let refused = kernel::apply(&mut observed, &changes, &uplinks(&host));
        prop_assert!(refused.is_empty(), "{:?}\n{:#?}", refused, commands);
        let again = diff(&observed, planner.desired());
        prop_assert!(again.is_empty(), "{:#?}", again.commands());
    }

    #[test]
    fn what_is_touched_is_all_that_differs(
        view in arbitrary::cluster(), host in arbitrary::host_view(), config in arbitrary::config(),
        steps in vec(step(), 1..6),
    ) {
        let mut planner = Planner::new(view, host, config);
        let mut observed = Observed { sysctls: common::host().sysctls, ..Observed::default() };
        let changes = diff(&observed, planner.desired());
        kernel::apply(&mut observed, &changes, &uplinks(planner.host()));
        for step in steps {
            let touched = take(&mut planner, step);
            let changes = diff_touched(&observed, planner.desired(), &touched);
            assert_only_ours(&changes, planner.host(), &observed);
            let refused = kernel::apply(&mut observed, &changes, &uplinks(planner.host()));
            prop_assert!(refused.is_empty(), "{:?}\n{:#?}", refused, changes.commands());
            let rest = diff(&observed, planner.desired());
            prop_assert!(rest.is_empty(), "{:#?}", rest.commands());
        }
    }

    #[test]
    fn recorded_drift_is_repaired_without_a_full_comparison(
        view in arbitrary::cluster(), host in arbitrary::host_view(), config in arbitrary::config(),
        stir in arbitrary::observed(), picks in vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let planner = Planner::new(view, host.clone(), config);
        let mut observed = Observed { sysctls: common::host().sysctls, ..Observed::default() };
        let changes = diff(&observed, planner.desired());
        kernel::apply(&mut observed, &changes, &uplinks(&host));
        let mut touched = hopwise_core::diff::Touched::default();
        for pick in picks {
            let events = drift::events(&observed, &stir);
            if !events.is_empty() {
                observed.record(events[pick.index(events.len())].clone(), &mut touched);
            }
        }
        let changes = diff_touched(&observed, planner.desired(), &touched);
        let refused = kernel::apply(&mut observed, &changes, &uplinks(&host));
        prop_assert!(refused.is_empty(), "{:?}\n{:#?}", refused, changes.commands());
        let rest = diff(&observed, planner.desired());
        prop_assert!(rest.is_empty(), "{:#?}", rest.commands());
    }

    #[test]
    fn a_liar_hurts_nobody(
        liars in vec(arbitrary::node(), 1..4), host in arbitrary::host_view(), config in arbitrary::config(), fabric in any::<bool>(),
    ) {
        let mut honest = common::three_nodes();
        if fabric {
            honest.networks.fabric = honest.networks.pods.clone();
        }
        let mut lied_to = honest.clone();
        for (number, liar) in liars.into_iter().enumerate() {
            let mut liar = common::since(5, liar);
            liar.name = common::name(&format!("liar{number}"));
            lied_to.nodes.insert(liar.name.clone(), Arc::new(liar));
        }
        let before = plan(&honest, &host, &config);
        let after = plan(&lied_to, &host, &config);
        for (name, peer) in &before.peers {
            prop_assert_eq!(Some(peer), after.peers.get(name));
        }
        prop_assert_eq!(&before.node.pod_cidrs, &after.node.pod_cidrs);
        prop_assert_eq!(&before.node.uplink, &after.node.uplink);
        prop_assert_eq!(&before.node.publish, &after.node.publish);
    }
}

/// Events that a kernel in a given state can send when somebody meddles.
mod drift {
    use hopwise_core::observed::{Event, Observed, ObservedNextHop, ObservedTarget};

    /// `stir` is where new values come from.
    pub fn events(observed: &Observed, stir: &Observed) -> Vec<Event> {
        let mut events = Vec::new();
        let routes = observed.routes.iter().map(|(key, _)| Event::Route { key: *key, now: None });
        events.extend(routes);
        let possible = |target: ObservedTarget| match target {
            ObservedTarget::Object(id) => observed.nexthops.contains_key(&id),
            ObservedTarget::Gateway(next_hop) => {
                observed.links.contains_key(&next_hop.link) || !next_hop.link.as_str().starts_with("hopwise")
            }
            ObservedTarget::Other => true,
        };
        let written = stir.routes.iter().filter(|(_, route)| possible(route.target));
        events.extend(written.map(|(key, route)| Event::Route { key: *key, now: Some(*route) }));
        events.extend(observed.nexthops.iter().map(|(id, _)| Event::NextHop { id: *id, now: None }));
        let link_there = |object: &ObservedNextHop| match object {
            ObservedNextHop::Known(next_hop) => {
                observed.links.contains_key(&next_hop.link) || !next_hop.link.as_str().starts_with("hopwise")
            }
            ObservedNextHop::Other => true,
        };
        let objects = stir.nexthops.iter().filter(|(_, object)| link_there(object));
        events.extend(objects.map(|(id, object)| Event::NextHop { id: *id, now: Some(*object) }));
        // The same object once more, before or after the one in use.
        let copies = observed.nexthops.iter().flat_map(|(id, object)| {
            [id ^ 0x40, id.saturating_sub(0x10)].map(|copy| Event::NextHop { id: copy, now: Some(*object) })
        });
        let copies: Vec<Event> = copies
            .filter(|event| !matches!(event, Event::NextHop { id, .. } if observed.nexthops.contains_key(id)))
            .collect();
        events.extend(copies);
        events.extend(observed.neighbours.keys().map(|key| Event::Neighbour { key: *key, now: None }));
        events.extend(
            stir.neighbours
                .iter()
                .filter(|(key, _)| !key.link.as_str().starts_with("hopwise"))
                .map(|(key, mac)| Event::Neighbour { key: *key, now: Some(*mac) }),
        );
        events.extend(observed.fdb.keys().map(|key| Event::Fdb { key: *key, now: None }));
        events.extend(
            stir.fdb
                .iter()
                .filter(|(key, _)| observed.links.contains_key(&key.link))
                .map(|(key, entry)| Event::Fdb { key: *key, now: Some(*entry) }),
        );
        events.extend(
            observed.addresses.iter().map(|address| Event::Address { address: *address, present: false }),
        );
        events.extend(observed.rules.iter().map(|rule| Event::Rule { rule: *rule, present: false }));
        let sets = observed.table.iter().flat_map(|table| &table.sets).filter(|(set, _)| !set.is_interval());
        events.extend(sets.flat_map(|(set, elements)| {
            elements.iter().map(|element| Event::Element { set: *set, element: *element, present: false })
        }));
        events
    }
}
