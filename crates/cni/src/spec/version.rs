//! Specification versions.

use std::fmt;

use serde_json::{Value, json};

use super::{CniError, Code};

/// A version of the specification that these plugins speak. The order is that of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// 0.1.0: one address per family, `ip4` and `ip6`.
    V0_1_0,
    /// 0.2.0: the VERSION command.
    V0_2_0,
    /// 0.3.0: lists of interfaces and addresses.
    V0_3_0,
    /// 0.3.1: the same, corrected.
    V0_3_1,
    /// 0.4.0: CHECK, `prevResult` for DEL.
    V0_4_0,
    /// 1.0.0: no more `version` in addresses.
    V1_0_0,
    /// 1.1.0: GC, STATUS, more route fields.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [SpecVersion; 7] = [
        SpecVersion::V0_1_0,
        SpecVersion::V0_2_0,
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];

    /// As it is written in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            SpecVersion::V0_1_0 => "0.1.0",
            SpecVersion::V0_2_0 => "0.2.0",
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration asks for: an exact match, as in the reference; none is 0.1.0.
    ///
    /// # Errors
    ///
    /// [`Code::IncompatibleVersion`] for any other.
    pub fn negotiate(asked: &str) -> Result<SpecVersion, CniError> {
        if asked.is_empty() {
            return Ok(SpecVersion::V0_1_0);
        }
        let known = SpecVersion::ALL.into_iter().find(|version| version.as_str() == asked);
        known.ok_or_else(|| SpecVersion::incompatible(asked, SpecVersion::V0_1_0))
    }

    /// The refusal of a version by a plugin that speaks those from `oldest` on.
    pub fn incompatible(asked: &str, oldest: SpecVersion) -> CniError {
        let supported = SpecVersion::since(oldest);
        CniError::new(Code::IncompatibleVersion, "incompatible CNI versions")
            .details(format!("config is {asked:?}, plugin supports {supported:?}"))
    }

    fn since(oldest: SpecVersion) -> Vec<&'static str> {
        let supported = SpecVersion::ALL.into_iter().filter(|version| *version >= oldest);
        supported.map(SpecVersion::as_str).collect()
    }

    /// The answer to the VERSION command by a plugin that speaks the versions from `oldest` on.
    pub fn report(oldest: SpecVersion) -> Value {
        json!({
            "cniVersion": SpecVersion::V1_1_0.as_str(),
            "supportedVersions": SpecVersion::since(oldest),
        })
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
