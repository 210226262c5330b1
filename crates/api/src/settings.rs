//! Settings as they stand in files: every field of [`core::Settings`](hopwise_core::config::Settings), in camel case,
//! all optional, unknown keys refused.

use hopwise_core::config::{self, PeerMode, UplinkSelector};
use hopwise_core::l2::value::{DEFAULT_BRIDGE, Wanted};
use hopwise_core::name::{LinkName, Mtu};
use serde::{Deserialize, Serialize};

use crate::field::{self, FieldError, PerFamily};

#[cfg(test)]
pub(crate) mod tests;

/// The file form of [`config::Settings`]. Numbers are wide and words are text here, so that what is out of range is
/// found by the conversion, which can say what the range is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// `auto`, `direct`, `vxlan` or `fabric`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Whether `auto` may fall back to VXLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<bool>,
    /// VXLAN network identifier, 1 to 16,777,215.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_vni: Option<u64>,
    /// VXLAN UDP port, 1 to 65,535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_port: Option<u64>,
    /// Which link carries the node's traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// Whether traffic from pods to outside the cluster takes the node's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<PerFamily<bool>>,
    /// Whether masquerade picks source ports at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade_random: Option<bool>,
    /// CIDRs outside the cluster that see pods' own addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade_exempt: Option<Vec<String>>,
    /// The routing table for routes to peers, 1 to 4,294,967,295 without 255 (`local`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_table: Option<u64>,
    /// The priority of the policy rule for it, 1 to 32,765 (before `main`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_priority: Option<u64>,
    /// The metric of routes to peers, 0 to 4,294,967,295.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_metric: Option<u64>,
    /// Whether forwarding, rp_filter and send_redirects sysctls are looked after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manage_sysctls: Option<bool>,
    /// Whether accepts are kept in an iptables `FORWARD` chain with policy `DROP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_accept: Option<bool>,
    /// Whether on-link peers get permanent neighbour entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permanent_neighbours: Option<bool>,
    /// The MTU of the path between nodes in bytes, 68 to 65,535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u64>,
    /// The link that is to be a port of the pods' bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<L2>,
}

/// The file form of [`Wanted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct L2 {
    /// The link to the LAN.
    pub uplink: String,
    /// The bridge; `cni0` when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bridge: Option<String>,
}

/// The file form of [`UplinkSelector`]: the word `auto`, or a mapping with one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Uplink {
    /// The link that holds the node's own address, else the one of the default route.
    Auto,
    /// The link of this name.
    Name(String),
    /// The first link whose whole name matches this regular expression.
    Regex(String),
    /// The link that holds this address.
    Address(String),
    /// The link through which the kernel reaches this address.
    CanReach(String),
}

impl Settings {
    /// Whether nothing is said at all.
    pub fn is_empty(&self) -> bool {
        *self == Settings::default()
    }
}

impl TryFrom<&Settings> for config::Settings {
    type Error = FieldError;

    fn try_from(wire: &Settings) -> Result<Self, Self::Error> {
        let mode = |value: &String| {
            value.parse::<PeerMode>().map_err(|error| {
                FieldError::new(
                    format!("{value:?} is not a mode"),
                    match field::nearest(value, &["auto", "direct", "vxlan", "fabric"]) {
                        Some(word) => format!("did you mean {word}?"),
                        None => format!("write one of {}", error.choices),
                    },
                )
            })
        };
        Ok(config::Settings {
            mode: optional("mode", &wire.mode, mode)?,
            vxlan: wire.vxlan,
            vxlan_vni: optional("vxlanVni", &wire.vxlan_vni, |v| number(*v, 1, (1 << 24) - 1))?,
            vxlan_port: optional("vxlanPort", &wire.vxlan_port, |v| number(*v, 1, u16::MAX))?,
            uplink: optional("uplink", &wire.uplink, uplink)?,
            masquerade: optional("masquerade", &wire.masquerade, |v| v.convert(|on| Ok(*on)))?
                .unwrap_or_default(),
            masquerade_random: wire.masquerade_random,
            masquerade_exempt: optional("masqueradeExempt", &wire.masquerade_exempt, |v| field::cidrs(v))?,
            route_table: optional("routeTable", &wire.route_table, |v| route_table(*v))?,
            rule_priority: optional("rulePriority", &wire.rule_priority, |v| number(*v, 1, 32_765))?,
            route_metric: optional("routeMetric", &wire.route_metric, |v| number(*v, 0, u32::MAX))?,
            manage_sysctls: wire.manage_sysctls,
            forward_accept: wire.forward_accept,
            permanent_neighbours: wire.permanent_neighbours,
            mtu: optional("mtu", &wire.mtu, |v| mtu(*v))?,
            l2: optional("l2", &wire.l2, l2)?,
        })
    }
}

impl From<&config::Settings> for Settings {
    fn from(settings: &config::Settings) -> Self {
        Settings {
            mode: settings.mode.map(|mode| mode.to_string()),
            vxlan: settings.vxlan,
            vxlan_vni: settings.vxlan_vni.map(u64::from),
            vxlan_port: settings.vxlan_port.map(u64::from),
            uplink: settings.uplink.as_ref().map(|uplink| match uplink {
                UplinkSelector::Auto => Uplink::Auto,
                UplinkSelector::Name(name) => Uplink::Name(name.to_string()),
                UplinkSelector::NameRegex(regex) => Uplink::Regex(regex.clone()),
                UplinkSelector::Address(address) => Uplink::Address(address.to_string()),
                UplinkSelector::CanReach(address) => Uplink::CanReach(address.to_string()),
            }),
            masquerade: PerFamily::from_pair(settings.masquerade.v4, settings.masquerade.v6),
            masquerade_random: settings.masquerade_random,
            masquerade_exempt: settings
                .masquerade_exempt
                .as_ref()
                .map(|cidrs| cidrs.iter().map(ToString::to_string).collect()),
            route_table: settings.route_table.map(u64::from),
            rule_priority: settings.rule_priority.map(u64::from),
            route_metric: settings.route_metric.map(u64::from),
            manage_sysctls: settings.manage_sysctls,
            forward_accept: settings.forward_accept,
            permanent_neighbours: settings.permanent_neighbours,
            mtu: settings.mtu.map(|mtu| u64::from(mtu.bytes())),
            l2: settings.l2.map(|Wanted { uplink, bridge }| L2 {
                uplink: uplink.to_string(),
                bridge: (bridge != DEFAULT_BRIDGE).then(|| bridge.to_string()),
            }),
        }
    }
}

/// Checks a regular expression for link names; the error says what is wrong with it and where.
pub fn check_regex(value: &str) -> Result<(), FieldError> {
    regex::Regex::new(value).map(drop).map_err(|error| {
        // The library draws the expression with a caret under it, over several lines; its last line says what is wrong.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        FieldError::new(
            format!("{value:?} is not a regular expression ({reason})"),
            "write one that matches whole link names, for example \"eth[0-9]+\"",
        )
    })
}

fn optional<T, U>(
    key: &'static str,
    value: &Option<T>,
    convert: impl FnOnce(&T) -> Result<U, FieldError>,
) -> Result<Option<U>, FieldError> {
    value.as_ref().map(convert).transpose().map_err(|error| error.under(key))
}

fn number<T: TryFrom<u64> + Into<u64> + Copy>(value: u64, lowest: T, highest: T) -> Result<T, FieldError> {
    let bounds = lowest.into()..=highest.into();
    T::try_from(value).ok().filter(|_| bounds.contains(&value)).ok_or_else(|| {
        FieldError::new(
            format!("{value} is out of range"),
            format!("write a number from {} to {}", bounds.start(), bounds.end()),
        )
    })
}

fn route_table(value: u64) -> Result<u32, FieldError> {
    let table = number(value, 1, u32::MAX)?;
    if table == 255 {
        return Err(FieldError::new(
            "255 is the table `local`, which the kernel keeps for itself",
            "write 254 for `main`, or a number that `ip rule` does not show",
        ));
    }
    Ok(table)
}

fn mtu(value: u64) -> Result<Mtu, FieldError> {
    u32::try_from(value).ok().and_then(|bytes| Mtu::new(bytes).ok()).ok_or_else(|| {
        FieldError::new(
            format!("an MTU of {value} bytes can't be used"),
            "write a number from 68 to 65535, or leave it out to use the uplink's own",
        )
    })
}

fn link_name(value: &str) -> Result<LinkName, FieldError> {
    value.parse().map_err(|_| {
        FieldError::new(
            format!("{value:?} is not a link name"),
            "write 1 to 15 characters without '/', ':' or white space, as `ip link` shows it",
        )
    })
}

fn l2(wire: &L2) -> Result<Wanted, FieldError> {
    let uplink = link_name(&wire.uplink).map_err(|error| error.under("uplink"))?;
    let bridge = wire.bridge.as_deref().map_or(Ok(DEFAULT_BRIDGE), link_name);
    let bridge = bridge.map_err(|error| error.under("bridge"))?;
    if uplink == bridge {
        let message = format!("{uplink} can't be the uplink and the bridge at once");
        return Err(FieldError::new(message, "give the bridge another name, or leave it out for cni0")
            .under("bridge"));
    }
    Ok(Wanted { uplink, bridge })
}

fn uplink(wire: &Uplink) -> Result<UplinkSelector, FieldError> {
    Ok(match wire {
        Uplink::Auto => UplinkSelector::Auto,
        Uplink::Name(value) => UplinkSelector::Name(link_name(value).map_err(|error| error.under("name"))?),
        Uplink::Regex(value) => {
            check_regex(value).map_err(|error| error.under("regex"))?;
            UplinkSelector::NameRegex(value.clone())
        }
        Uplink::Address(value) => {
            UplinkSelector::Address(field::address(value).map_err(|error| error.under("address"))?)
        }
        Uplink::CanReach(value) => {
            UplinkSelector::CanReach(field::address(value).map_err(|error| error.under("canReach"))?)
        }
    })
}
