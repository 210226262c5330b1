//! The emulated machine, and what it says while it runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::Kernel;

/// Memory in MiB: what is unpacked at boot, twice while it is unpacked, and what the tests need.
const MEMORY: u32 = 2048;

/// How much of what the kernel said is told when the machine has failed.
const CONSOLE_LINES: usize = 40;

/// The exit code of `timeout` when time was up.
const TIMED_OUT: i32 = 124;

/// A machine without network devices and disks: one processor, memory, serial lines. It is emulated even where the
/// processor could do better, so that it is the same everywhere and needs no rights.
///
/// Its clock counts instructions, a nanosecond each, and leaps to the next timer when there is nothing to do: no deadline in
/// the guest is ever missed because this machine is busy, and waiting takes no time.
///
/// `timeout` ends it when this process can't.
fn qemu(kernel: &Kernel, archive: &Path, console: &Path, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=5", &limit.as_secs().to_string()]);
    command.args(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-machine", "q35"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"]);
    command.args(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]);
    command.args(["-m", &MEMORY.to_string(), "-smp", "1"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(archive);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    // A panic ends the machine, and so does any other fault of the kernel.
    command.args(["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic reboot=triple"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Runs the machine to its end, with each line that its jobs print given to `on_line`, without its end of line.
///
/// The result is what the kernel said last: QEMU ends well after a panic too.
///
/// # Errors
///
/// When it can't be started or does not end in time.
pub fn run(
    kernel: &Kernel,
    archive: &Path,
    limit: Duration,
    mut on_line: impl FnMut(&[u8]),
) -> Result<String> {
    let console = archive.with_extension("console");
    let mut machine = qemu(kernel, archive, &console, limit).spawn().context("can't run QEMU")?;
    let stdout = machine.stdout.take().context("QEMU without standard output")?;
    for line in BufReader::new(stdout).split(b'\n') {
        on_line(&line?);
    }
    let status = machine.wait()?;
    let text = std::fs::read(&console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
    match status.code() {
        Some(0) => Ok(last),
        Some(TIMED_OUT) => {
            bail!("the guest did not end within {} s; its kernel said last:\n{last}", limit.as_secs())
        }
        _ => bail!("QEMU ended with {status}; the guest's kernel said last:\n{last}"),
    }
}
