//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`.

use super::CniError;

/// The arguments of `CNI_ARGS` that a plugin knows. Unlike keys of the configuration, their names match exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvArgs(Vec<(String, String)>);

impl EnvArgs {
    /// Reads the arguments. Those not among `known` are refused, unless `IgnoreUnknown=1` is with them.
    ///
    /// # Errors
    ///
    /// When a pair is not `KEY=VALUE`, or a key is not known.
    pub fn load(text: &str, known: &[&str]) -> Result<EnvArgs, CniError> {
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|_| !text.is_empty()) {
            let invalid = || CniError::failed(format!("ARGS: invalid pair {pair:?}"));
            let (key, value) = pair.split_once('=').filter(|(_, v)| !v.contains('=')).ok_or_else(invalid)?;
            if key == "IgnoreUnknown" {
                ignore_unknown = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    other => {
                        let msg = format!(
                            "ARGS: error parsing value of pair {pair:?}: boolean unmarshal error: \
                             invalid input {other}"
                        );
                        return Err(CniError::failed(msg));
                    }
                };
            } else if known.contains(&key) {
                found.push((key.to_owned(), value.to_owned()));
            } else {
                unknown.push(pair);
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(CniError::failed(format!("ARGS: unknown args {unknown:?}")));
        }
        Ok(EnvArgs(found))
    }

    /// The value of an argument; the last one where it is given twice; `None` when empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}
