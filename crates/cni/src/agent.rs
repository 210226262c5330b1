//! What STATUS wants to know of the node's agent.

use std::path::{Path, PathBuf};

use hopwise_kernel::readiness::{self, Readiness};

use crate::config::NetworkConfig;
use crate::spec::{CniError, Code};

/// The agent's run directory unless told otherwise.
const DEFAULT_RUN_DIR: &str = "/run/hopwise";

/// The run directory of the agent that a network depends on, by the key `agentStatus`: a path, or `true` for the default.
/// `None` for a network that works without an agent.
fn run_dir(config: &NetworkConfig) -> Result<Option<PathBuf>, CniError> {
    let root = config.root();
    let Some(value) = root.get("agentStatus") else { return Ok(None) };
    match (value.as_bool(), value.as_str()) {
        (Some(asked), _) => Ok(asked.then(|| DEFAULT_RUN_DIR.into())),
        (_, Some("")) => Ok(None),
        (_, Some(path)) if path.starts_with('/') => Ok(Some(path.into())),
        _ => {
            let msg = format!(
                "agentStatus: {value} is neither true, false nor an absolute path; give the agent's run directory \
                 ({DEFAULT_RUN_DIR})"
            );
            Err(CniError::new(Code::InvalidConfig, msg))
        }
    }
}

/// Whether the agent that the network depends on is ready; asked without waiting for it.
///
/// # Errors
///
/// [`Code::NotAvailable`] when it isn't; [`Code::InvalidConfig`] when `agentStatus` is wrong.
pub fn status(config: &NetworkConfig) -> Result<(), CniError> {
    let Some(run_dir) = run_dir(config)? else { return Ok(()) };
    let file = readiness::path(&run_dir);
    let because = |msg: String| Err(CniError::new(Code::NotAvailable, msg));
    match readiness::read(&run_dir) {
        Ok(Readiness::Ready) => Ok(()),
        Ok(Readiness::NotReady) => {
            because("the agent of this node is not ready; `hopwise status` says what is missing".to_owned())
        }
        Ok(Readiness::NoAgent) => because(no_agent(&file)),
        Err(error) => because(format!("can't ask {} whether the agent is ready: {error}", file.display())),
    }
}

fn no_agent(file: &Path) -> String {
    format!(
        "no agent runs on this node ({} is held by none); start `hopwise agent`, or leave agentStatus out of the network \
         configuration",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use hopwise_kernel::readiness::ReadyFile;
    use serde_json::{Value, json};

    use super::*;

    fn config(agent_status: Value) -> NetworkConfig {
        let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": "hopwise"});
        config["agentStatus"] = agent_status;
        NetworkConfig::from_json(config.to_string().into_bytes()).unwrap()
    }

    #[test]
    fn the_key_is_a_path_or_a_switch() {
        let default = Some(PathBuf::from(DEFAULT_RUN_DIR));
        let cases = [
            (json!(null), None),
            (json!(false), None),
            (json!(""), None),
            (json!(true), default),
            (json!("/run/x"), Some("/run/x".into())),
        ];
        for (value, expected) in cases {
            assert_eq!(run_dir(&config(value.clone())).unwrap(), expected, "{value}");
        }
        for wrong in [json!("run/hopwise"), json!(5), json!({})] {
            let error = status(&config(wrong.clone())).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig);
            assert!(error.msg.contains(&wrong.to_string()), "{error}");
        }
    }

    #[test]
    fn status_is_what_the_agent_tells() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(json!(dir.path().join("run")));
        let refused = |part: &str| {
            let error = status(&config).unwrap_err();
            assert_eq!(error.code, Code::NotAvailable);
            assert!(error.msg.contains(part), "{error}");
        };
        refused("no agent runs");
        let mut agent = ReadyFile::new(&dir.path().join("run"));
        agent.tell(false).unwrap();
        refused("not ready");
        agent.tell(true).unwrap();
        status(&config).unwrap();
        drop(agent);
        refused("no agent runs");
    }
}
