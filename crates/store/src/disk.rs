//! Files as the stores need them: written whole or not at all, and read without trusting what stands under a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Writes `DIR/NAME` so that a reader, now or after a crash, finds the old content or the new one and nothing between.
///
/// The new content goes into a file of its own beside the old one, onto the disk, and only then under the name; the
/// directory is synced too, without which the name may still be the old one after a crash. The file beside has one fixed
/// name: one that a crash has left is removed by the next write.
pub fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let beside = beside(dir, name);
    remove_if_there(&beside)?;
    let written = write_synced(&beside, bytes).and_then(|()| fs::rename(&beside, dir.join(name)));
    if written.is_err() {
        // Half a file on a full disk would keep it full. That this fails too changes nothing: the next write tries again.
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(dir)?.sync_all()
}

/// Removes what a crash in the middle of [`write_atomically`] has left.
pub fn remove_stale(dir: &Path, name: &str) -> io::Result<()> {
    remove_if_there(&beside(dir, name))
}

/// Reads a regular file of at most `limit` bytes. `InvalidInput` for anything that is none: opening a FIFO would wait for
/// ever, reading a device could have effects. `FileTooLarge` beyond the limit.
pub fn read_regular(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(limit).min(limit));
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn beside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.tmp"))
}

/// Looks first: on a read-only file system removing what is not there is refused for the file system's sake.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
