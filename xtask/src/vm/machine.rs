//! The emulated machine, and what it says while it runs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use anyhow::{Context, Result};

use super::debian::Kernel;

/// Memory in MiB: what is unpacked at boot, twice while it is unpacked, and what the tests need.
const MEMORY: u32 = 2048;

/// How much of what the kernel said is told when the machine has failed.
const CONSOLE_LINES: usize = 40;

/// A machine without network devices and disks: one processor, memory, serial lines. It is emulated even where the
/// processor could do better, so that it is the same everywhere and needs no rights.
///
/// Its clock counts instructions, a nanosecond each, and leaps to the next timer when there is nothing to do: no deadline in
/// the guest is ever missed because this machine is busy, and waiting takes no time.
///
/// `setpriv` has the kernel end it with the thread that started it, however that ends.
fn qemu(kernel: &Kernel, archive: &Path, console: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"]);
    command.args(["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none"]);
    command.args(["-no-reboot", "-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]);
    command.args(["-m", &MEMORY.to_string(), "-smp", "1"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(archive);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    // A panic ends the machine, and so does any other fault of the kernel.
    command.args(["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic reboot=triple"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A running machine; it ends when this is dropped.
pub struct Machine {
    process: Child,
    chunks: Receiver<Vec<u8>>,
    /// What has come and is no whole line yet.
    rest: Vec<u8>,
    console: PathBuf,
}

/// What the machine's jobs print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The machine has ended.
    End,
    /// Nothing more in time, after the beginning of a line.
    Silence(Vec<u8>),
}

impl Machine {
    /// Starts it.
    pub fn start(kernel: &Kernel, archive: &Path) -> Result<Machine> {
        let console = archive.with_extension("console");
        let mut process = qemu(kernel, archive, &console).spawn().context("can't run QEMU by setpriv")?;
        let mut stdout = process.stdout.take().context("QEMU without standard output")?;
        let (sender, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Machine { process, chunks, rest: Vec::new(), console })
    }

    /// The next line, if it is whole by then.
    pub fn hear(&mut self, deadline: Instant) -> Heard {
        hear(&self.chunks, &mut self.rest, deadline)
    }

    /// What the kernel said last. QEMU ends well after a panic too.
    pub fn console(&self) -> String {
        let text = std::fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hear(chunks: &Receiver<Vec<u8>>, rest: &mut Vec<u8>, deadline: Instant) -> Heard {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = rest.drain(..=end).collect();
            line.pop();
            return Heard::Line(line);
        }
        match chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(chunk) => rest.extend(chunk),
            Err(RecvTimeoutError::Timeout) => return Heard::Silence(rest.clone()),
            Err(RecvTimeoutError::Disconnected) if rest.is_empty() => return Heard::End,
            Err(RecvTimeoutError::Disconnected) => return Heard::Line(std::mem::take(rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_come_whole_and_what_is_begun_is_told() {
        let (sender, chunks) = mpsc::channel();
        let mut rest = Vec::new();
        for chunk in [&b"one\ntw"[..], b"o\n\nth"] {
            sender.send(chunk.to_vec()).unwrap();
        }
        let mut next = |wait| hear(&chunks, &mut rest, Instant::now() + Duration::from_millis(wait));
        for line in ["one", "two", ""] {
            assert_eq!(next(60_000), Heard::Line(line.into()));
        }
        assert_eq!(next(10), Heard::Silence(b"th".to_vec()));
        sender.send(b"ree".to_vec()).unwrap();
        assert_eq!(next(10), Heard::Silence(b"three".to_vec()));
        drop(sender);
        assert_eq!(next(60_000), Heard::Line(b"three".to_vec()));
        assert_eq!(next(60_000), Heard::End);
    }
}
