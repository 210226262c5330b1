//! The last complete view, on disk: what a node routes by when it boots before its store answers.
//!
//! Nothing here is fatal. A file that is torn, foreign or from a newer Hopwise is an error value that says so; the caller
//! notes it, goes without, and the next view replaces it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use hopwise_api::saved::{DecodeError, decode, encode};
use hopwise_core::cluster::ClusterView;

use crate::disk;

#[cfg(test)]
mod tests;

/// The name of the file in the state directory.
const FILE_NAME: &str = "view";

/// The largest file that is read, in bytes: some 100 million nodes' worth would not be a saved view.
const MAX_LEN: usize = 1 << 30;

/// Why the view could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file can't be read.
    #[error("can't read the saved view {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a saved view, or not whole.
    #[error("the saved view {} can't be used", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The file can't be written. The one that was there before is untouched.
    #[error("can't write the saved view {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The file in a state directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// Loads the view; `None` when none was ever saved.
pub fn load(dir: &Path) -> Result<Option<ClusterView>, SavedError> {
    let path = path(dir);
    match disk::read_regular(&path, MAX_LEN) {
        Ok(bytes) => match decode(&bytes) {
            Ok(view) => Ok(Some(view)),
            Err(source) => Err(SavedError::Content { path, source }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SavedError::Read { path, source }),
    }
}

/// Saves the view, atomically and onto the disk. Writes nothing when the same view is there already: state directories
/// are often on flash.
pub fn save(dir: &Path, view: &ClusterView) -> Result<(), SavedError> {
    let bytes = encode(view);
    let path = path(dir);
    // Compared byte by byte: a file whose header is right and whose content is torn has to be replaced.
    let result = match disk::read_regular(&path, MAX_LEN) {
        Ok(there) if there == bytes => disk::remove_stale(dir, FILE_NAME),
        _ => disk::write_atomically(dir, FILE_NAME, &bytes),
    };
    result.map_err(|source| SavedError::Write { path, source })
}
