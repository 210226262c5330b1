//! The places at which a crash is survived.

/// A point between two changes of the disk. A test stops the store at each of them and looks at what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The lock is held, nothing is changed.
    Locked,
    /// An address has been reserved.
    Reserved,
    /// The address given out last has been written down.
    LastWritten,
    /// The index has new entries, or tombstones.
    IndexWritten,
    /// The index is declared to be complete.
    IndexSealed,
    /// An address has been released.
    Released,
}

/// What is called at each [`Step`]. [`no_steps`] outside tests.
pub type Steps<'a> = &'a dyn Fn(Step);

/// Does nothing.
pub fn no_steps(_: Step) {}
