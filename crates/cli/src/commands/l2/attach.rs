//! `hopwise l2 attach`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use hopwise_agent::l2::{AttachOptions, By, Uplink, no_points};
use hopwise_core::l2::value::{DEFAULT_BRIDGE, Wanted};
use hopwise_core::name::LinkName;
use serde::Serialize;

use super::{CommonArgs, failure};
use crate::exit::{Exit, Failure};

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 attach --uplink eth1 --dry-run          What would be done, as commands
  hopwise l2 attach --uplink eth1                    Do it; the LAN's routers must answer afterwards
  hopwise l2 attach --uplink bond0 --bridge br0 --verify 192.168.1.1

Addresses, routes, neighbour entries and sysctls of the uplink move to the bridge, which takes over its MAC address.
If nobody answers afterwards everything is put back, also when this command is killed: by the next one, or the agent.
It lasts until the next boot; the agent's setting `l2` attaches at every start.";

/// Arguments of `hopwise l2 attach`.
#[derive(Args, Debug)]
pub struct AttachCommand {
    /// The link to the LAN
    #[arg(long, value_name = "LINK")]
    uplink: LinkName,
    /// The bridge that the pods are on; made if there is none
    #[arg(long, value_name = "LINK", default_value_t = DEFAULT_BRIDGE)]
    bridge: LinkName,
    /// An address that has to answer, before and afterwards; can be given several times [default: the routers]
    #[arg(long, value_name = "ADDRESS")]
    verify: Vec<IpAddr>,
    /// How long an answer is waited for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    verify_timeout: u64,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    uplink: String,
    bridge: String,
    /// Nothing was changed.
    dry_run: bool,
    /// What was done, as commands; empty: it was attached already.
    commands: Vec<String>,
    /// Who answered afterwards.
    answered: Vec<IpAddr>,
}

impl AttachCommand {
    /// Attaches, and prints what was done.
    pub fn run(&self) -> Result<Exit, Failure> {
        let wanted = Wanted { uplink: self.uplink, bridge: self.bridge };
        let mut uplink = Uplink::open(&self.common.state.state_dir).map_err(failure)?;
        let (commands, answered) = if self.dry_run {
            (uplink.plan_attach(wanted).map_err(failure)?, Vec::new())
        } else {
            let options = AttachOptions {
                wanted,
                verify: self.verify.clone(),
                timeout: Duration::from_secs(self.verify_timeout),
                by: By::Command,
            };
            let attached = uplink.attach(&options, &mut no_points).map_err(failure)?;
            (attached.commands, attached.answered)
        };
        let done = Done {
            uplink: self.uplink.to_string(),
            bridge: self.bridge.to_string(),
            dry_run: self.dry_run,
            commands,
            answered,
        };
        self.common.output.print(&done, shown)?;
        Ok(Exit::Good)
    }
}

fn shown(done: &Done) -> String {
    let Done { uplink, bridge, dry_run, commands, answered } = done;
    let mut text: String = commands.iter().map(|command| format!("{command}\n")).collect();
    text += &match (commands.is_empty(), dry_run, answered.is_empty()) {
        (true, ..) => format!("# {uplink} is attached to {bridge} already\n"),
        (_, true, _) => "# nothing was changed: --dry-run\n".to_owned(),
        (_, _, true) => format!("# {uplink} is on {bridge}; there was no router to ask, so nobody was\n"),
        (_, _, false) => {
            let names: Vec<String> = answered.iter().map(ToString::to_string).collect();
            format!("# {uplink} is on {bridge}; {} answered\n", names.join(" and "))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_says_what_was_done_and_who_answered() {
        let mut done = Done {
            uplink: "eth1".to_owned(),
            bridge: "cni0".to_owned(),
            dry_run: false,
            commands: vec!["ip link set eth1 master cni0".to_owned()],
            answered: vec!["192.168.0.1".parse().unwrap(), "fe80::1".parse().unwrap()],
        };
        assert_eq!(
            shown(&done),
            "ip link set eth1 master cni0\n# eth1 is on cni0; 192.168.0.1 and fe80::1 answered\n"
        );
        done.answered.clear();
        assert!(shown(&done).ends_with("# eth1 is on cni0; there was no router to ask, so nobody was\n"));
        done.dry_run = true;
        assert!(shown(&done).ends_with("# nothing was changed: --dry-run\n"));
        done.commands.clear();
        assert_eq!(shown(&done), "# eth1 is attached to cni0 already\n");
    }
}
