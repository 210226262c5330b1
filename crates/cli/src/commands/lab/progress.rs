//! Shows how far a command has come, on standard error: one line that is written over on a terminal, a line for each
//! step elsewhere.

use std::io::{self, IsTerminal, Write};

use hopwise_lab::Progress;

/// Runs something that reports progress.
pub fn shown<T>(run: impl FnOnce(&mut dyn FnMut(Progress)) -> T) -> T {
    let mut stderr = io::stderr();
    let terminal = stderr.is_terminal();
    let mut last_step = "";
    let result = run(&mut |progress| {
        let Progress { doing, done, total } = progress;
        // Nobody to show it to is no reason to stop.
        let _ = match terminal {
            true => write!(stderr, "\r\x1b[K{doing} {done}/{total}").and_then(|()| stderr.flush()),
            false if doing != last_step => writeln!(stderr, "{doing} ({total})"),
            false => Ok(()),
        };
        last_step = doing;
    });
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    result
}
