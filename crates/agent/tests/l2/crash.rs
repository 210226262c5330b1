//! Killed between any two changes, of kernel or disk: the next one to come puts it right.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hopwise_agent::l2::{Point, Uplink};
use hopwise_core::l2::step::Step;

use crate::support::{Lan, ip};

/// How a process that is killed ends: at once, and nothing of it runs any more.
struct Killed;

/// Calls with a kill at the `n`th point; whether there was one.
fn killed_at(n: usize, work: impl FnOnce(&mut dyn FnMut(Point<'_>))) -> bool {
    let mut points = 0;
    let mut count = |_: Point<'_>| {
        points += 1;
        if points > n {
            resume_unwind(Box::new(Killed));
        }
    };
    match catch_unwind(AssertUnwindSafe(|| work(&mut count))) {
        Ok(()) => false,
        Err(end) if end.is::<Killed>() => true,
        Err(end) => resume_unwind(end),
    }
}

#[test]
fn attaching_that_was_killed_is_undone_by_the_next_command() {
    kill_attaching(&Lan::new());
}

/// Attaches with a kill at each point.
pub fn kill_attaching(lan: &Lan) {
    ip(&lan.node, "neighbour add 192.168.7.99 lladdr 02:00:00:00:00:99 dev eth1 nud permanent");
    let before = lan.shown();
    let killed = (0..)
        .take_while(|n| {
            let killed = lan.in_node(|| killed_at(*n, |points| lan.attach_stepwise(points).unwrap()));
            if killed {
                lan.in_node(|| drop(Uplink::open(lan.state()).unwrap()));
                lan.assert_shown(&before, &format!("killed at point {n}"));
                assert!(!lan.state().join("l2.json").exists(), "killed at point {n}");
            }
            killed
        })
        .count();
    assert!(killed > 20, "so many steps there are: {killed}");
    lan.assert_reachable();
    lan.detach();
    lan.assert_shown(&before, "in the end");
}

#[test]
fn detaching_that_was_killed_is_finished_by_the_next_command() {
    kill_detaching(&Lan::new());
}

/// Detaches with a kill at each point.
pub fn kill_detaching(lan: &Lan) {
    let before = lan.shown();
    let mut n = 0;
    loop {
        lan.attach();
        let killed = lan.in_node(|| {
            killed_at(n, |points| {
                drop(Uplink::open_stepwise(lan.state()).unwrap().detach(false, points).unwrap());
            })
        });
        lan.in_node(|| drop(Uplink::open(lan.state()).unwrap()));
        lan.assert_shown(&before, &format!("killed at point {n}"));
        assert!(!lan.state().join("l2.json").exists(), "killed at point {n}");
        if !killed {
            break;
        }
        n += 1;
    }
    assert!(n > 10, "so many steps there are: {n}");
    lan.assert_reachable();
}

#[test]
fn the_undoing_itself_can_be_killed() {
    let lan = Lan::new();
    let before = lan.shown();
    // Half attached, then killed at each point of putting it back, each time a little later.
    for n in 0.. {
        let mut kill = |point: Point<'_>| {
            if matches!(point, Point::Before(Step::DeleteAddress(..))) {
                resume_unwind(Box::new(Killed));
            }
        };
        let attach = || catch_unwind(AssertUnwindSafe(|| lan.attach_stepwise(&mut kill)));
        assert!(lan.in_node(attach).is_err_and(|end| end.is::<Killed>()));
        let killed = lan
            .in_node(|| killed_at(n, |points| drop(Uplink::recover_stepwise(lan.state(), points).unwrap())));
        lan.in_node(|| drop(Uplink::open(lan.state()).unwrap()));
        lan.assert_shown(&before, &format!("killed at point {n}"));
        if !killed {
            assert!(n > 3, "so many steps there are: {n}");
            return;
        }
    }
}

#[test]
fn a_journal_of_another_boot_or_namespace_is_void_and_a_damaged_one_is_named() {
    let lan = Lan::new();
    lan.attach();
    // The same state directory in another namespace: nothing of it is there.
    lan.host.run(|| assert_eq!(Uplink::open(lan.state()).unwrap().attached().unwrap(), None)).unwrap();
    let path = lan.state().join("l2.json");
    let journal = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(&path, journal.replace(boot.trim(), "another")).unwrap();
    lan.in_node(|| assert_eq!(Uplink::open(lan.state()).unwrap().attached().unwrap(), None));
    std::fs::write(&path, &journal[..journal.len() / 2]).unwrap();
    let error = lan.in_node(|| Uplink::open(lan.state()).unwrap_err().to_string());
    assert!(error.starts_with(&format!("the journal {} can't be used", path.display())), "{error}");
    std::fs::write(&path, journal).unwrap();
    lan.detach();
}
