//! `hopwise cni install`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{ArgAction, Args, ValueEnum};
use hopwise_core::cidr::Cidr;
use hopwise_core::name::LinkName;

use super::{PlacesArgs, shown};
use crate::args::NodeArgs;
use crate::commands::l2::slices;
use crate::exit::{Exit, Failure, Hint};
use crate::install::binary::PluginBinary;
use crate::install::conflist::{self, Attachment, Conflist, Options};
use crate::install::folder::no_steps;
use crate::install::{InstallError, MAIN, Wanted, install};
use crate::output::Format;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise cni install --range 10.244.1.0/24,fd00:10:244:1::/64
  hopwise cni install --attach bridge --bridge cni0 --range 10.244.1.0/24
  hopwise cni install --inventory net.yaml         Pods as hosts of the LAN (docs/l2-slices.md)
  hopwise cni install --conflist net.conflist --plugins bridge,portmap
  hopwise cni install --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d   (in an init container)

Other plugins of the same names are kept beside, in .hopwise/displaced, and come back with hopwise cni uninstall.
Doing it again changes only what differs. A crash in the middle leaves old files or new ones, never half of one.";

/// Arguments of `hopwise cni install`.
#[derive(Args, Debug)]
pub struct InstallCommand {
    #[command(flatten)]
    places: PlacesArgs,
    /// The name of the configuration; runtimes take the first by name
    #[arg(long, value_name = "NAME", default_value = "10-hopwise.conflist", value_parser = conf_name)]
    conf_name: String,
    /// The plugin binary [default: the hopwise-cni beside this program]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The plugins to take the place of [default: all that the binary is]; "none" leaves only `type: hopwise`
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    plugins: Option<Vec<String>>,
    /// Put this configuration in place, in place of a generated one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["no_conflist", "network", "attach", "bridge", "inventory", "range", "mtu", "ip_masq", "data_dir", "agent_status", "chain"])]
    conflist: Option<PathBuf>,
    /// Put no configuration in place
    #[arg(long, conflicts_with_all = ["network", "attach", "bridge", "inventory", "range", "mtu", "ip_masq", "data_dir", "agent_status", "chain"])]
    no_conflist: bool,
    #[command(flatten)]
    generated: GeneratedArgs,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// How to print it: table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_possible_values = true)]
    output: Format,
}

/// What a generated configuration says.
#[derive(Args, Debug)]
struct GeneratedArgs {
    /// The network's name, under which addresses are kept
    #[arg(long, value_name = "NAME", default_value = "hopwise")]
    network: String,
    /// How pods are attached: ptp (a route each) or bridge
    #[arg(long, value_name = "HOW", default_value = "ptp", hide_possible_values = true)]
    attach: AttachKind,
    /// The bridge, with --attach bridge or --inventory
    #[arg(long, value_name = "NAME", default_value = "cni0")]
    bridge: LinkName,
    /// An inventory with `networks.lan`: pods are hosts of that LAN, with addresses of this node's slice
    #[arg(long, value_name = "FILE", conflicts_with_all = ["range", "attach"])]
    inventory: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    /// The addresses of this node's pods [default: the pod CIDRs that the agent wrote down in its run directory]
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    range: Vec<Cidr>,
    /// The MTU of pods' links [default: the agent's word, else the kernel's choice]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    mtu: Option<u32>,
    /// Masquerade in the plugin; the agent does it for all pods and knows the cluster's networks
    #[arg(long)]
    ip_masq: bool,
    /// Where allocated addresses are kept [default: /var/lib/cni/networks]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Whether the runtime's network is ready only while the node's agent is
    #[arg(long, value_name = "BOOL", default_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    agent_status: bool,
    /// The agent's run directory
    #[arg(long, env = "HOPWISE_RUN_DIR", hide_env_values = true, value_name = "DIR", default_value = hopwise_agent::DEFAULT_RUN_DIR)]
    run_dir: PathBuf,
    /// Plugins after the attachment; "none" for none
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "portmap,bandwidth")]
    chain: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AttachKind {
    Ptp,
    Bridge,
}

/// A name in the folder of configurations that runtimes read as a list.
fn conf_name(name: &str) -> Result<String, String> {
    match name.strip_suffix(".conflist") {
        Some(stem) if !stem.is_empty() && !name.contains('/') && !name.starts_with('.') => {
            Ok(name.to_owned())
        }
        _ => Err("give the name of a file that ends in .conflist, such as 10-hopwise.conflist".to_owned()),
    }
}

impl InstallCommand {
    /// Installs and prints what was done.
    pub fn run(self) -> Result<Exit, Failure> {
        let path = self.binary.map_or_else(beside, Ok)?;
        let binary =
            PluginBinary::load(&path).hint("build it with: cargo build --profile plugin -p hopwise-cni")?;
        let plugins = chosen(self.plugins, &binary)?;
        let places = self.places.places();
        let conflist = match (self.no_conflist, &self.conflist) {
            (true, _) => None,
            (false, Some(file)) => {
                let bytes = std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?;
                Some(Conflist::parse(&bytes, file)?)
            }
            (false, None) => {
                let options = self.generated.options()?;
                Some(Conflist::generate(&options, &places.conf_dir.join(&self.conf_name))?)
            }
        };
        let conflist = conflist.map(|conflist| (self.conf_name, conflist));
        let wanted = Wanted { binary, plugins, conflist };
        let outcome = install(&places, &wanted, self.dry_run, &no_steps)?;
        self.output.print(&outcome, shown)?;
        Ok(Exit::Good)
    }
}

fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()
        .context("can't find out where this program is; name the plugin with --binary")?;
    Ok(own.with_file_name("hopwise-cni"))
}

/// The names to install, of those that the binary can be called by.
fn chosen(asked: Option<Vec<String>>, binary: &PluginBinary) -> Result<BTreeSet<String>, InstallError> {
    let known = || binary.names.iter().cloned().collect::<BTreeSet<String>>();
    let asked: BTreeSet<String> = match asked {
        None => return Ok(known()),
        Some(asked) => without_none(asked).into_iter().filter(|name| name != MAIN).collect(),
    };
    match asked.iter().find(|name| !binary.names.contains(name)) {
        Some(name) => Err(InstallError::UnknownPlugin {
            name: name.clone(),
            binary: binary.path.clone(),
            known: binary.names.join(", "),
        }),
        None => Ok(asked),
    }
}

fn without_none(names: Vec<String>) -> Vec<String> {
    if names == ["none"] { Vec::new() } else { names }
}

impl GeneratedArgs {
    fn options(self) -> Result<Options, Failure> {
        let (mut ranges, mut mtu) = (self.range, self.mtu);
        let attachment = match (&self.inventory, self.attach) {
            (Some(inventory), _) => {
                let lan = slices::conflist_for(inventory, &self.node.name()?, self.bridge, &self.network)?;
                Attachment::Lan(lan.attaching_plugin())
            }
            (None, AttachKind::Ptp) => Attachment::Ptp,
            (None, AttachKind::Bridge) => Attachment::Bridge(self.bridge),
        };
        if ranges.is_empty() && self.inventory.is_none() {
            let (agents, agents_mtu) = node_file(&self.run_dir).hint(
                "give this node's pod CIDRs with --range, or start `hopwise agent` first, which writes them down there",
            )?;
            ranges = agents;
            mtu = mtu.or(agents_mtu);
        }
        Ok(Options {
            network: self.network,
            attachment,
            ranges,
            mtu,
            ip_masq: self.ip_masq,
            data_dir: self.data_dir,
            agent_status: self.agent_status.then_some(self.run_dir),
            chain: without_none(self.chain),
        })
    }
}

/// This node's own pod CIDRs and MTU, as its agent wrote them down.
fn node_file(run_dir: &Path) -> anyhow::Result<(Vec<Cidr>, Option<u32>)> {
    let path = run_dir.join("node.json");
    let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let found = conflist::from_node_file(&bytes).filter(|(ranges, _)| !ranges.is_empty());
    found.ok_or_else(|| anyhow!("{} names no pod CIDRs", path.display()))
}
