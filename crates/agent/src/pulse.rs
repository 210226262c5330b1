//! The sign of life of the reconciler's thread, for `/healthz`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A turn takes milliseconds; one that takes this long hangs.
const LONGEST_TURN: Duration = Duration::from_secs(20);

/// When turns of the loop began and ended.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Microseconds from `origin` to the beginning of the present turn; 0: the loop sleeps.
    turning_since: AtomicU64,
    /// Microseconds from `origin` to the end of the last turn.
    last_turn: AtomicU64,
    /// The loop never sleeps longer.
    longest_sleep: Duration,
}

/// What the pulse says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Turning, or asleep by right.
    Alive,
    /// In the same turn for so long.
    Stuck(Duration),
    /// Asleep for so long, when something was due before.
    Overslept(Duration),
}

impl Pulse {
    /// A pulse for a loop that sleeps no longer than that.
    pub fn new(longest_sleep: Duration) -> Pulse {
        Pulse {
            origin: Instant::now(),
            turning_since: AtomicU64::new(0),
            last_turn: AtomicU64::new(0),
            longest_sleep,
        }
    }

    /// A turn begins.
    pub fn begin_turn(&self) {
        self.turning_since.store(self.micros().max(1), Ordering::Relaxed);
    }

    /// A turn ends.
    pub fn end_turn(&self) {
        self.last_turn.store(self.micros(), Ordering::Relaxed);
        self.turning_since.store(0, Ordering::Relaxed);
    }

    /// How the loop does.
    pub fn health(&self) -> Health {
        let ago = |then: u64| Duration::from_micros(self.micros().saturating_sub(then));
        let since = self.turning_since.load(Ordering::Relaxed);
        if since != 0 {
            let turning = ago(since);
            return if turning > LONGEST_TURN { Health::Stuck(turning) } else { Health::Alive };
        }
        let asleep = ago(self.last_turn.load(Ordering::Relaxed));
        if asleep > self.longest_sleep + LONGEST_TURN { Health::Overslept(asleep) } else { Health::Alive }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_alive_while_it_turns_or_sleeps_by_right() {
        let mut pulse = Pulse::new(Duration::from_secs(30));
        assert_eq!(pulse.health(), Health::Alive);
        pulse.begin_turn();
        assert_eq!(pulse.health(), Health::Alive);
        pulse.origin -= Duration::from_secs(25);
        assert!(matches!(pulse.health(), Health::Stuck(_)));
        pulse.end_turn();
        assert_eq!(pulse.health(), Health::Alive);
        pulse.origin -= Duration::from_secs(55);
        assert!(matches!(pulse.health(), Health::Overslept(_)));
    }
}
