//! What holds for every node.

use hopwise_core::l2::value::Observed;
use hopwise_core::l2::{attach, detach, heal};
use proptest::prelude::*;

use crate::arbitrary::{BRIDGE, UPLINK, WANTED, node};
use crate::model::{apply, normal};

/// A bridge that was there and down is left up: nobody can tell whether somebody else has raised it meanwhile.
fn ignoring_bridge_state(observed: &Observed) -> Observed {
    let mut normal = normal(observed);
    if let Some(bridge) = normal.links.get_mut(&BRIDGE) {
        bridge.up = true;
    }
    normal
}

/// IPv4 routes with one key are told apart by their order. Undoing halfway gives back all of them, but those that had been
/// deleted already come behind those that had not.
fn ignoring_order_of_equals(observed: &Observed) -> Observed {
    let mut normal = ignoring_bridge_state(observed);
    normal.routes.sort_by_key(|route| format!("{route:?}"));
    normal
}

fn attached(before: &Observed) -> (attach::AttachPlan, Observed) {
    let plan = attach::plan(before, WANTED).unwrap();
    let mut after = before.clone();
    plan.steps.iter().for_each(|step| apply(&mut after, step));
    (plan, after)
}

proptest! {
    #[test]
    fn attaching_moves_all_and_leaves_nothing(before in node()) {
        let (plan, after) = attached(&before);
        prop_assert_eq!(after.links[&UPLINK].master, Some(BRIDGE));
        prop_assert_eq!(after.links[&BRIDGE].mac, after.links[&UPLINK].mac);
        prop_assert!(after.addresses_of(UPLINK).is_empty());
        prop_assert!(!after.routes.iter().any(|route| route.uses(UPLINK)));
        prop_assert!(after.neighbours_of(UPLINK).is_empty());
        let expected: Vec<_> =
            plan.record.held.addresses.iter().map(|address| address.on_link(UPLINK, BRIDGE)).collect();
        prop_assert_eq!(after.addresses_of(BRIDGE), expected.as_slice());
    }

    #[test]
    fn detaching_gives_back_what_was(before in node()) {
        let (plan, mut after) = attached(&before);
        for step in detach::plan(&after, &plan.record) {
            apply(&mut after, &step);
        }
        prop_assert_eq!(ignoring_bridge_state(&after), ignoring_bridge_state(&before));
        prop_assert_eq!(detach::plan(&after, &plan.record), vec![]);
    }

    #[test]
    fn undoing_after_any_step_gives_back_what_was(before in node(), done in 0.0f64..1.0) {
        let plan = attach::plan(&before, WANTED).unwrap();
        let mut after = before.clone();
        let steps = (plan.steps.len() as f64 * done) as usize;
        plan.steps[..steps].iter().for_each(|step| apply(&mut after, step));
        for step in detach::plan(&after, &plan.record) {
            apply(&mut after, &step);
        }
        prop_assert_eq!(ignoring_order_of_equals(&after), ignoring_order_of_equals(&before));
    }

    #[test]
    fn detaching_goes_on_after_any_step(before in node(), done in 0.0f64..1.0) {
        let (plan, mut after) = attached(&before);
        let steps = detach::plan(&after, &plan.record);
        steps[..(steps.len() as f64 * done) as usize].iter().for_each(|step| apply(&mut after, step));
        for step in detach::plan(&after, &plan.record) {
            apply(&mut after, &step);
        }
        prop_assert_eq!(ignoring_order_of_equals(&after), ignoring_order_of_equals(&before));
    }

    #[test]
    fn nothing_is_healed_where_nothing_is_wrong(before in node()) {
        let (plan, after) = attached(&before);
        let healing = heal::plan(&after, &plan.record, 0);
        prop_assert_eq!((healing.findings, healing.steps), (vec![], vec![]));
        prop_assert_eq!(healing.record.held.addresses, plan.record.held.addresses);
    }

    #[test]
    fn what_comes_back_is_moved_over_and_nothing_is_left_to_heal(before in node(), released: bool) {
        let (plan, mut after) = attached(&before);
        if released {
            after.links.get_mut(&UPLINK).unwrap().master = None;
        }
        // A program puts all back on the uplink that it had.
        after.addresses.insert(UPLINK, before.addresses_of(UPLINK).to_vec());
        let back: Vec<_> = before.routes.iter().filter(|route| route.uses(UPLINK)).cloned().collect();
        let alone = |route: &_| !after.routes.iter().any(|there| there.same_key(route) && !there.uses(BRIDGE));
        let back: Vec<_> = back.into_iter().filter(alone).collect();
        after.routes.extend(back);
        let healing = heal::plan(&after, &plan.record, 0);
        for step in &healing.steps {
            apply(&mut after, step);
        }
        prop_assert!(after.addresses_of(UPLINK).is_empty());
        prop_assert!(!after.routes.iter().any(|route| route.uses(UPLINK)), "{:?}", after.routes);
        let again = heal::plan(&after, &healing.record, 0);
        prop_assert_eq!((again.findings, again.steps), (vec![], vec![]));
    }

    #[test]
    fn a_deleted_bridge_is_made_again(before in node()) {
        let (plan, mut after) = attached(&before);
        let wanted = normal(&after);
        apply(&mut after, &hopwise_core::l2::step::Step::DeleteBridge(BRIDGE));
        let healing = heal::plan(&after, &plan.record, 0);
        for step in &healing.steps {
            apply(&mut after, step);
        }
        prop_assert_eq!(&normal(&after).addresses, &wanted.addresses);
        prop_assert_eq!(&normal(&after).neighbours, &wanted.neighbours);
        prop_assert_eq!(after.links[&UPLINK].master, Some(BRIDGE));
        let again = heal::plan(&after, &healing.record, 0);
        prop_assert_eq!((again.findings, again.steps), (vec![], vec![]));
    }
}
