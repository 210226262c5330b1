//! Signals that ask to stop, seen as a flag while something is being made that must be removed again.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::error::LabError;

static CAME: AtomicBool = AtomicBool::new(false);
const WATCHED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

extern "C" fn note(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

/// While it lives, SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process.
pub struct Interrupt {
    former: Vec<(Signal, SigAction)>,
}

impl Interrupt {
    /// Starts to watch.
    pub fn watch() -> Interrupt {
        CAME.store(false, Ordering::Relaxed);
        let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        let former = WATCHED
            .into_iter()
            .filter_map(|signal| unsafe { sigaction(signal, &action).ok().map(|former| (signal, former)) });
        Interrupt { former: former.collect() }
    }

    /// An error once a signal has come.
    pub fn check(&self) -> Result<(), LabError> {
        if CAME.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for (signal, former) in &self.former {
            // SAFETY: puts back the very action that was there before.
            let _ = unsafe { sigaction(*signal, former) };
        }
    }
}
