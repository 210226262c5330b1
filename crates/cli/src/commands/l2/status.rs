//! `hopwise l2 status`.

use clap::Args;
use hopwise_agent::l2::{By, Uplink};
use serde::Serialize;

use super::{CommonArgs, failure};
use crate::exit::{Exit, Failure};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 status
  hopwise l2 status -o json | jq .differs

What differs is healed by an agent, which says who did it (hopwise status).
Exit codes: 0 attached and as it should be, or nothing attached; 2 something differs.";

/// Arguments of `hopwise l2 status`.
#[derive(Args, Debug)]
pub struct StatusCommand {
    #[command(flatten)]
    common: CommonArgs,
}

/// What is attached.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    attached: Option<Attached>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    uplink: String,
    bridge: String,
    /// `command` or `agent`.
    by: By,
    /// Whether hopwise made the bridge, and deletes it in the end.
    made_bridge: bool,
    addresses: Vec<String>,
    routes: Vec<String>,
    /// What differs from what was attached.
    differs: Vec<String>,
}

impl StatusCommand {
    /// Prints what is attached.
    pub fn run(&self) -> Result<Exit, Failure> {
        let shown = if Uplink::has_journal(&self.common.state.state_dir) { self.look()? } else { None };
        let exit = match &shown {
            Some(attached) if !attached.differs.is_empty() => Exit::Attention,
            _ => Exit::Good,
        };
        self.common.output.print(&Shown { attached: shown }, |shown| table(shown.attached.as_ref()))?;
        Ok(exit)
    }

    fn look(&self) -> Result<Option<Attached>, Failure> {
        let mut uplink = Uplink::open(&self.common.state.state_dir).map_err(failure)?;
        let Some((entry, healing)) = uplink.check().map_err(failure)? else { return Ok(None) };
        let held = healing.record.held.on_link(entry.record.wanted.uplink, entry.record.wanted.bridge);
        Ok(Some(Attached {
            uplink: entry.record.wanted.uplink.to_string(),
            bridge: entry.record.wanted.bridge.to_string(),
            by: entry.by,
            made_bridge: entry.record.bridge.is_none(),
            addresses: held.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix_len)).collect(),
            routes: held.routes.iter().map(|r| hopwise_core::l2::step::RouteText(r).to_string()).collect(),
            differs: healing.findings.iter().map(ToString::to_string).collect(),
        }))
    }
}

fn table(attached: Option<&Attached>) -> String {
    let Some(attached) = attached else { return "nothing is attached\n".to_owned() };
    let by = match attached.by {
        By::Command => "hopwise l2 attach",
        By::Agent => "the agent's setting l2",
    };
    let bridge = if attached.made_bridge { "made for it" } else { "there before" };
    let mut text = format!("{} is on {} ({bridge}), by {by}\n", attached.uplink, attached.bridge);
    for address in &attached.addresses {
        text += &format!("  address  {address}\n");
    }
    for route in &attached.routes {
        text += &format!("  route    {route}\n");
    }
    for finding in &attached.differs {
        text += &format!("  DIFFERS  {finding}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_by_whom_and_what_differs() {
        assert_eq!(table(None), "nothing is attached\n");
        let attached = Attached {
            uplink: "eth1".to_owned(),
            bridge: "cni0".to_owned(),
            by: By::Agent,
            made_bridge: true,
            addresses: vec!["192.168.0.5/24".to_owned()],
            routes: vec!["default via 192.168.0.1 dev cni0 proto static".to_owned()],
            differs: vec!["eth1 was taken off cni0".to_owned()],
        };
        assert_eq!(
            table(Some(&attached)),
            "eth1 is on cni0 (made for it), by the agent's setting l2\n  \
             address  192.168.0.5/24\n  \
             route    default via 192.168.0.1 dev cni0 proto static\n  \
             DIFFERS  eth1 was taken off cni0\n"
        );
    }
}
