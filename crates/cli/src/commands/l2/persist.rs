//! `hopwise l2 persist`: what this node has now, as configuration that outlives a boot.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use hopwise_core::l2::value::{DEFAULT_BRIDGE, Observed, Wanted};
use hopwise_core::name::LinkName;
use hopwise_core::persist::{Dns, File, Format, Persistent};
use hopwise_kernel::l2::L2;

use crate::exit::{Exit, Failure, Hint};
use crate::output::print_text;

/// Shown by `--help`.
pub const EXAMPLES: &str = "\
Examples:
  hopwise l2 persist --format netplan --uplink eth1
                                             Before or after `hopwise l2 attach`: it says the same
  hopwise l2 persist --format networkd --dir /tmp/new
                                             Write the files below a folder, to look at and to move

Addresses, routes and neighbours that somebody gave are said again; where DHCP and routers gave some, they are asked
again. What the format has no words for stands in it as a comment. The files take the place of those that
configure the uplink today: move these away. Nothing of the running network is changed.
docs/l2-persist.md tells more.";

/// Where name servers stand when `/etc/resolv.conf` only leads to a resolver on this node.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Arguments of `hopwise l2 persist`.
#[derive(Args, Debug)]
pub struct PersistCommand {
    /// Who reads it: netplan, networkd, ifupdown or nmconnection
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format: Reader,
    /// The link to the LAN [default: the one port of the bridge that is no pod's]
    #[arg(long, value_name = "LINK")]
    uplink: Option<LinkName>,
    /// The bridge
    #[arg(long, value_name = "LINK", default_value_t = DEFAULT_BRIDGE)]
    bridge: LinkName,
    /// Write the files below this folder instead of printing them; existing ones are left alone
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where name servers are read, for a node without DHCP
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reader {
    Netplan,
    Networkd,
    Ifupdown,
    #[value(alias = "networkmanager")]
    Nmconnection,
}

impl From<Reader> for Format {
    fn from(reader: Reader) -> Format {
        match reader {
            Reader::Netplan => Format::Netplan,
            Reader::Networkd => Format::Networkd,
            Reader::Ifupdown => Format::Ifupdown,
            Reader::Nmconnection => Format::NmConnection,
        }
    }
}

impl PersistCommand {
    /// Looks, renders and prints or writes.
    pub fn run(&self) -> Result<Exit, Failure> {
        let wanted = Wanted { uplink: self.uplink()?, bridge: self.bridge };
        let observed = observe(wanted)?;
        let persistent = Persistent::of(&observed, wanted, self.dns()?)?;
        let files = persistent.render(self.format.into());
        match &self.dir {
            Some(dir) => write(dir, &files)?,
            None => print_text(&shown(&files))?,
        }
        Ok(Exit::Good)
    }

    fn uplink(&self) -> Result<LinkName, Failure> {
        if let Some(uplink) = self.uplink {
            return Ok(uplink);
        }
        let observed = observe(Wanted { uplink: self.bridge, bridge: self.bridge })?;
        let is_uplink = |name: &&LinkName| {
            let link = &observed.links[*name];
            link.master == Some(self.bridge) && link.kind != "veth" && link.kind != "vxlan"
        };
        let mut ports = observed.links.keys().filter(is_uplink);
        match (ports.next(), ports.next()) {
            (Some(port), None) => Ok(*port),
            (None, _) => Err(anyhow!("bridge {} has no port that looks like an uplink", self.bridge)),
            (Some(one), Some(two)) => {
                Err(anyhow!("bridge {} has several ports: {one}, {two} and maybe more", self.bridge))
            }
        }
        .hint("name the link to the LAN with --uplink")
    }

    fn dns(&self) -> Result<Dns, Failure> {
        let Ok(text) = fs::read_to_string(&self.resolv_conf) else { return Ok(Dns::default()) };
        let dns = resolv_conf(&text);
        if !dns.servers.is_empty() && dns.servers.iter().all(IpAddr::is_loopback) {
            return Ok(fs::read_to_string(RESOLVED).map(|text| resolv_conf(&text)).unwrap_or(dns));
        }
        Ok(dns)
    }
}

fn observe(wanted: Wanted) -> anyhow::Result<Observed> {
    L2::open().and_then(|mut l2| l2.observe(wanted)).context("can't read this node's network")
}

/// Name servers and search domains of a `resolv.conf(5)`; the last `search` counts.
fn resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(|word| word.parse().ok());
                dns.servers.extend(server.filter(|server| !dns.servers.contains(server)));
            }
            Some("search" | "domain") => {
                dns.search = words.filter(|word| is_domain(word)).map(Into::into).collect();
            }
            _ => {}
        }
    }
    dns
}

fn is_domain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// One after the other, each after its path.
fn shown(files: &[File]) -> String {
    let one = |file: &File| format!("# {} (mode {:04o})\n{}", file.path, file.mode, file.content);
    files.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn write(dir: &Path, files: &[File]) -> anyhow::Result<()> {
    let place = |file: &File| dir.join(file.path.trim_start_matches('/'));
    if let Some(file) = files.iter().find(|file| place(file).exists()) {
        bail!("{} is there already; move it away, or write into another folder", place(file).display());
    }
    for file in files {
        let path = place(file);
        let what = || format!("can't write {}", path.display());
        path.parent().map_or(Ok(()), fs::create_dir_all).with_context(what)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(file.mode);
        let mut opened = options.open(&path).with_context(what)?;
        opened.write_all(file.content.as_bytes()).with_context(what)?;
        println!("{}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# c\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.1\n\
                    domain old.example\nsearch a.example b.example \"x\noptions ndots:5\n";
        let dns = resolv_conf(text);
        assert_eq!(dns.servers, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(dns.search, ["a.example", "b.example"]);
        assert_eq!(resolv_conf(""), Dns::default());
    }
}
