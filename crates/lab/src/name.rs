//! Names of labs and of their namespaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lab's name: 1 to 12 lower-case letters and digits.
///
/// No dash, so that `hw-LAB-` is the prefix of this lab's namespaces and of no other's: what `down` finds by that prefix
/// is its own. 12, so that it fits a process name (`hw-` and 12 of the 15 bytes) and, with room to spare, a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

/// Not a [`LabName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a lab name: use 1 to 12 lower-case letters and digits, as in `lab` or `test2`")]
pub struct LabNameError(String);

impl LabName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How the names of its namespaces start.
    pub fn prefix(&self) -> String {
        format!("hw-{}-", self.0)
    }

    /// The namespace of one member, as `ip netns` shows it.
    pub fn namespace(&self, member: &str) -> String {
        format!("hw-{}-{member}", self.0)
    }
}

impl Default for LabName {
    fn default() -> Self {
        LabName("lab".to_owned())
    }
}

impl FromStr for LabName {
    type Err = LabNameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if (1..=12).contains(&value.len()) && value.bytes().all(allowed) {
            Ok(LabName(value.to_owned()))
        } else {
            Err(LabNameError(value.to_owned()))
        }
    }
}

impl TryFrom<String> for LabName {
    type Error = LabNameError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> String {
        name.0
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_name_has_no_dash_and_fits() {
        for good in ["lab", "a", "test2", "abcdefghijkl"] {
            assert!(good.parse::<LabName>().is_ok(), "{good}");
        }
        for bad in ["", "a-b", "Lab", "a/b", "abcdefghijklm", "é"] {
            assert!(bad.parse::<LabName>().is_err(), "{bad}");
        }
        assert_eq!(LabName::default().namespace("node1-pod1"), "hw-lab-node1-pod1");
    }
}
