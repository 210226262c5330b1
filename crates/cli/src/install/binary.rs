//! The plugin binary, and what it says of itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hopwise_core::mark::PLUGIN_BINARY;

use super::InstallError;

/// A plugin binary that can be put in place.
#[derive(Clone, Debug)]
pub struct PluginBinary {
    /// Where it came from.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The plugins that it is, by its own word.
    pub names: Vec<String>,
}

impl PluginBinary {
    /// Reads a binary and runs it once, which shows that this machine can, and asks which plugins it is.
    ///
    /// # Errors
    ///
    /// When it can't be read or run, or is something else.
    pub fn load(path: &Path) -> Result<PluginBinary, InstallError> {
        let bytes = std::fs::read(path).map_err(InstallError::file("read", path))?;
        let wrong = |problem: String| InstallError::Binary { path: path.to_owned(), problem };
        if !is_ours(&bytes) {
            return Err(wrong("it lacks our mark".to_owned()));
        }
        let output = Command::new(path)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .map_err(|error| wrong(format!("running it: {error}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let names = names(&said).filter(|_| output.status.success());
        let names = names.ok_or_else(|| wrong(format!("{}, {:?}", output.status, said.trim())))?;
        Ok(PluginBinary { path: path.to_owned(), bytes, names })
    }
}

/// The names in what the binary says when it is run without `CNI_COMMAND`.
fn names(said: &str) -> Option<Vec<String>> {
    let line = said.lines().find_map(|line| line.strip_prefix(PLUGIN_BINARY))?;
    Some(line.split(", ").map(str::to_owned).collect())
}

/// Whether a file is a plugin binary of ours, of whatever version.
pub fn is_ours(bytes: &[u8]) -> bool {
    let mark = PLUGIN_BINARY.as_bytes();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == mark[0]) {
        if rest[at..].starts_with(mark) {
            return bytes.starts_with(b"\x7fELF");
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_by_its_mark() {
        let ours = |text: &str| is_ours(&[b"\x7fELF..H..", text.as_bytes()].concat());
        assert!(ours(PLUGIN_BINARY) && ours("HHHopwise plugins in this binary: bridge"));
        assert!(!ours("Hopwise plugins") && !ours(""));
        assert!(!is_ours(PLUGIN_BINARY.as_bytes()), "a text about it is no binary");
    }

    #[test]
    fn names_are_read_from_what_it_says() {
        let said = format!("CNI plugin x\n{PLUGIN_BINARY}bridge, host-local\n");
        assert_eq!(names(&said).unwrap(), ["bridge", "host-local"]);
        assert_eq!(names("CNI bridge plugin v1.9.1\n"), None);
    }
}
