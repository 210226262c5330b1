//! One flag for each field of core [`Settings`], each with an environment variable.

use std::net::IpAddr;

use clap::Args;
use hopwise_core::cidr::Cidr;
use hopwise_core::config::{PeerMode, Settings, UplinkSelector};
use hopwise_core::family::PerFamily;
use hopwise_core::l2::value::{DEFAULT_BRIDGE, Wanted};
use hopwise_core::name::{LinkName, Mtu};

/// Settings given on the command line: they win over the inventory's.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings (they win over the inventory's)")]
pub struct SettingsArgs {
    /// How peers are reached: auto, direct, vxlan or fabric [default: auto]
    #[arg(long, env = "HOPWISE_MODE", hide_env_values = true, value_name = "MODE")]
    pub mode: Option<PeerMode>,
    /// Whether `auto` may use VXLAN for peers off the link [default: true]
    #[arg(
        long,
        env = "HOPWISE_VXLAN",
        hide_env_values = true,
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub vxlan: Option<bool>,
    /// VXLAN network identifier [default: 4857]
    #[arg(long, env = "HOPWISE_VXLAN_VNI", hide_env_values = true, value_name = "VNI", value_parser = clap::value_parser!(u32).range(1..=0xff_ffff))]
    pub vxlan_vni: Option<u32>,
    /// VXLAN UDP port [default: 4789]
    #[arg(long, env = "HOPWISE_VXLAN_PORT", hide_env_values = true, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub vxlan_port: Option<u16>,
    /// The link to the other nodes: auto, a link's name, regex:REGEX, address:IP or can-reach:IP [default: auto]
    #[arg(long, env = "HOPWISE_UPLINK", hide_env_values = true, value_name = "UPLINK", value_parser = parse_uplink)]
    pub uplink: Option<UplinkSelector>,
    /// Whether pods take the node's address outside the cluster: true, false, ipv4 or ipv6 [default: true]
    #[arg(long, env = "HOPWISE_MASQUERADE", hide_env_values = true, value_name = "WHICH", value_parser = parse_masquerade)]
    pub masquerade: Option<Masquerade>,
    /// Whether masquerade picks source ports at random [default: true]
    #[arg(
        long,
        env = "HOPWISE_MASQUERADE_RANDOM",
        hide_env_values = true,
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub masquerade_random: Option<bool>,
    /// Destinations outside the cluster that see pods' own addresses
    #[arg(
        long,
        env = "HOPWISE_MASQUERADE_EXEMPT",
        hide_env_values = true,
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub masquerade_exempt: Option<Vec<Cidr>>,
    /// The routing table for routes to peers [default: 254, main]
    #[arg(long, env = "HOPWISE_ROUTE_TABLE", hide_env_values = true, value_name = "TABLE", value_parser = parse_table)]
    pub route_table: Option<u32>,
    /// The priority of the policy rule for a table other than main [default: 32000]
    #[arg(long, env = "HOPWISE_RULE_PRIORITY", hide_env_values = true, value_name = "PRIORITY", value_parser = clap::value_parser!(u32).range(1..=32765))]
    pub rule_priority: Option<u32>,
    /// The metric of routes to peers [default: 0 for IPv4, 1024 for IPv6]
    #[arg(long, env = "HOPWISE_ROUTE_METRIC", hide_env_values = true, value_name = "METRIC")]
    pub route_metric: Option<u32>,
    /// Whether forwarding, rp_filter and send_redirects are looked after [default: true]
    #[arg(
        long,
        env = "HOPWISE_MANAGE_SYSCTLS",
        hide_env_values = true,
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub manage_sysctls: Option<bool>,
    /// Whether pods are accepted in an iptables FORWARD chain with policy DROP [default: true]
    #[arg(
        long,
        env = "HOPWISE_FORWARD_ACCEPT",
        hide_env_values = true,
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub forward_accept: Option<bool>,
    /// Whether on-link peers whose MAC is published get permanent neighbour entries [default: true]
    #[arg(
        long,
        env = "HOPWISE_PERMANENT_NEIGHBOURS",
        hide_env_values = true,
        value_name = "BOOL",
        hide_possible_values = true
    )]
    pub permanent_neighbours: Option<bool>,
    /// The MTU of the path between nodes, in bytes [default: the uplink's]
    #[arg(long, env = "HOPWISE_MTU", hide_env_values = true, value_name = "BYTES", value_parser = parse_mtu)]
    pub mtu: Option<Mtu>,
    /// The link that becomes a port of the pods' bridge: UPLINK, or UPLINK:BRIDGE [default: none; bridge cni0]
    #[arg(long, env = "HOPWISE_L2", hide_env_values = true, value_name = "UPLINK", value_parser = parse_l2)]
    pub l2: Option<Wanted>,
}

/// Which families masquerade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masquerade(PerFamily<bool>);

impl SettingsArgs {
    /// The same as core settings.
    pub fn to_settings(&self) -> Settings {
        Settings {
            mode: self.mode,
            vxlan: self.vxlan,
            vxlan_vni: self.vxlan_vni,
            vxlan_port: self.vxlan_port,
            uplink: self.uplink.clone(),
            masquerade: PerFamily::from_fn(|family| self.masquerade.map(|given| *given.0.get(family))),
            masquerade_random: self.masquerade_random,
            masquerade_exempt: self.masquerade_exempt.clone(),
            route_table: self.route_table,
            rule_priority: self.rule_priority,
            route_metric: self.route_metric,
            manage_sysctls: self.manage_sysctls,
            forward_accept: self.forward_accept,
            permanent_neighbours: self.permanent_neighbours,
            mtu: self.mtu,
            l2: self.l2,
        }
    }
}

fn parse_uplink(value: &str) -> Result<UplinkSelector, String> {
    let address = |text: &str| {
        text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address; write address:192.0.2.1"))
    };
    match value.split_once(':') {
        None if value == "auto" => Ok(UplinkSelector::Auto),
        None => value.parse::<LinkName>().map(UplinkSelector::Name).map_err(|error| error.to_string()),
        Some(("regex", regex)) => match regex::Regex::new(regex) {
            Ok(_) => Ok(UplinkSelector::NameRegex(regex.to_owned())),
            Err(error) => Err(format!("{regex:?} is not a regular expression: {error}")),
        },
        Some(("address", text)) => address(text).map(UplinkSelector::Address),
        Some(("can-reach", text)) => address(text).map(UplinkSelector::CanReach),
        Some((kind, _)) => {
            Err(format!("{kind:?} is none of regex, address, can-reach; a plain name has no ':'"))
        }
    }
}

fn parse_l2(value: &str) -> Result<Wanted, String> {
    let (uplink, bridge) = value.split_once(':').unwrap_or((value, DEFAULT_BRIDGE.as_str()));
    let name = |text: &str| text.parse::<LinkName>().map_err(|error| error.to_string());
    Ok(Wanted { uplink: name(uplink)?, bridge: name(bridge)? })
}

fn parse_masquerade(value: &str) -> Result<Masquerade, String> {
    let (v4, v6) = match value {
        "true" => (true, true),
        "false" => (false, false),
        "ipv4" => (true, false),
        "ipv6" => (false, true),
        _ => return Err(format!("{value:?} is none of true, false, ipv4, ipv6")),
    };
    Ok(Masquerade(PerFamily { v4, v6 }))
}

fn parse_table(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(255) => Err("table 255 is the kernel's own, local; the main table is 254".to_owned()),
        Ok(table) if table != 0 => Ok(table),
        _ => Err(format!("{value:?} is not the number of a routing table, 1 to 4294967295; main is 254")),
    }
}

fn parse_mtu(value: &str) -> Result<Mtu, String> {
    let bytes = value.parse().map_err(|_| format!("{value:?} is not a number of bytes"))?;
    Mtu::new(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn settings(args: &[&str]) -> Settings {
        Only::try_parse_from(std::iter::once(&"x").chain(args)).unwrap().settings.to_settings()
    }

    #[test]
    fn nothing_given_is_nothing_said() {
        assert_eq!(settings(&[]), Settings::default());
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let given = settings(&[
            "--mode=direct",
            "--vxlan=false",
            "--vxlan-vni=7",
            "--vxlan-port=8472",
            "--uplink=eth0",
            "--masquerade=ipv4",
            "--masquerade-random=false",
            "--masquerade-exempt=192.0.2.0/24,2001:db8::/32",
            "--route-table=100",
            "--rule-priority=50",
            "--route-metric=9",
            "--manage-sysctls=false",
            "--forward-accept=false",
            "--permanent-neighbours=false",
            "--mtu=9000",
            "--l2=eth1:br0",
        ]);
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let want = Settings {
            mode: Some(PeerMode::Direct),
            vxlan: Some(false),
            vxlan_vni: Some(7),
            vxlan_port: Some(8472),
            uplink: Some(UplinkSelector::Name("eth0".parse().unwrap())),
            masquerade: PerFamily { v4: Some(true), v6: Some(false) },
            masquerade_random: Some(false),
            masquerade_exempt: Some(vec![cidr("192.0.2.0/24"), cidr("2001:db8::/32")]),
            route_table: Some(100),
            rule_priority: Some(50),
            route_metric: Some(9),
            manage_sysctls: Some(false),
            forward_accept: Some(false),
            permanent_neighbours: Some(false),
            mtu: Some(Mtu::new(9000).unwrap()),
            l2: Some(Wanted { uplink: LinkName::new_static("eth1"), bridge: LinkName::new_static("br0") }),
        };
        assert_eq!(given, want);
    }

    #[test]
    fn uplinks_are_chosen_in_five_ways() {
        let address = "2001:db8::1".parse().unwrap();
        assert_eq!(parse_uplink("auto"), Ok(UplinkSelector::Auto));
        assert_eq!(parse_uplink("regex:en.*"), Ok(UplinkSelector::NameRegex("en.*".to_owned())));
        assert_eq!(parse_uplink("address:2001:db8::1"), Ok(UplinkSelector::Address(address)));
        assert_eq!(parse_uplink("can-reach:2001:db8::1"), Ok(UplinkSelector::CanReach(address)));
        for bad in ["", "regex:(", "address:x", "name:eth0", "sixteen-letters-"] {
            assert!(parse_uplink(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [
            "--vxlan-vni=0",
            "--vxlan-vni=16777216",
            "--mtu=67",
            "--route-table=0",
            "--route-table=255",
            "--rule-priority=32766",
            "--masquerade=no",
            "--masquerade-exempt=10.0.0.1/8",
            "--mode=ipip",
        ] {
            assert!(Only::try_parse_from(["x", bad]).is_err(), "{bad}");
        }
    }
}
