//! What to do about one name in a folder.

use serde::Serialize;

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Absent,
    /// A file of ours; `current` when it is just what is wanted.
    Ours {
        /// Whether it is.
        current: bool,
    },
    /// Somebody else's file.
    Foreign,
}

/// A name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What stands there.
    pub standing: Standing,
    /// Whether a file that we displaced from there is kept.
    pub displaced: bool,
}

/// One step, atomic: a crash before it or after it leaves something that this module goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Keep somebody else's file, which stays where it is for now.
    Displace,
    /// Put ours there.
    Put,
    /// Put the kept file back, over ours.
    Restore,
    /// Take ours away.
    Remove,
    /// Drop the kept file: its owner has put another in its place since.
    Forget,
}

/// Makes ours stand there.
pub fn plan_presence(slot: &Slot) -> Vec<Change> {
    match slot.standing {
        Standing::Ours { current: true } => vec![],
        Standing::Absent | Standing::Ours { current: false } => vec![Change::Put],
        Standing::Foreign => vec![Change::Displace, Change::Put],
    }
}

/// Takes ours away and brings back what stood there.
pub fn plan_absence(slot: &Slot) -> Vec<Change> {
    match (slot.standing, slot.displaced) {
        (Standing::Ours { .. } | Standing::Absent, true) => vec![Change::Restore],
        (Standing::Ours { .. }, false) => vec![Change::Remove],
        (Standing::Foreign, true) => vec![Change::Forget],
        (Standing::Foreign | Standing::Absent, false) => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a change makes of a name.
    fn after(slot: Slot, change: Change) -> Slot {
        let ours = Standing::Ours { current: true };
        match change {
            Change::Displace => Slot { displaced: true, ..slot },
            Change::Put => Slot { standing: ours, ..slot },
            Change::Restore => Slot { standing: Standing::Foreign, displaced: false },
            Change::Remove => Slot { standing: Standing::Absent, ..slot },
            Change::Forget => Slot { displaced: false, ..slot },
        }
    }

    fn all() -> impl Iterator<Item = Slot> {
        let standings = [
            Standing::Absent,
            Standing::Ours { current: true },
            Standing::Ours { current: false },
            Standing::Foreign,
        ];
        standings.into_iter().flat_map(|standing| [false, true].map(|displaced| Slot { standing, displaced }))
    }

    #[test]
    fn whatever_stands_there_and_wherever_it_is_interrupted_the_end_is_the_same() {
        for start in all() {
            for plan in [plan_presence, plan_absence] {
                let changes = plan(&start);
                let end = changes.iter().fold(start, |slot, change| after(slot, *change));
                assert_eq!(plan(&end), [], "{start:?} needs one run");
                for stop in 0..changes.len() {
                    let middle = changes[..stop].iter().fold(start, |slot, change| after(slot, *change));
                    let resumed = plan(&middle).iter().fold(middle, |slot, change| after(slot, *change));
                    assert_eq!(resumed, end, "{start:?} stopped after {stop} of {changes:?}");
                }
            }
        }
    }

    #[test]
    fn a_foreign_file_is_there_before_and_after() {
        let foreign = Slot { standing: Standing::Foreign, displaced: false };
        let installed = plan_presence(&foreign).into_iter().fold(foreign, after);
        assert_eq!(installed, Slot { standing: Standing::Ours { current: true }, displaced: true });
        assert_eq!(plan_absence(&installed).into_iter().fold(installed, after), foreign);
        for slot in all().filter(|slot| slot.standing == Standing::Foreign && !slot.displaced) {
            assert_eq!(plan_absence(&slot), [], "what isn't ours stays");
        }
    }
}
