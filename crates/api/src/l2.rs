//! What is written down of an uplink on a bridge ([`hopwise_core::l2`]), and shown of it.
//!
//! Numbers of the kernel (`flags`, `scope`, `protocol`, `kind`) stand as numbers: this is for putting back exactly what was.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use hopwise_core::l2::value::{
    Address, BridgeBefore, Held, Hop, Neighbour, Record, Route, Special, Sysctl, Wanted,
};
use hopwise_core::name::{LinkName, MacAddr};
use serde::{Deserialize, Serialize};

use crate::field::FieldError;

#[cfg(test)]
mod tests;

/// The file form of [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordData {
    /// The uplink.
    pub uplink: String,
    /// The bridge.
    pub bridge: String,
    /// The bridge's MAC address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
    /// Addresses that moved.
    pub addresses: Vec<AddressData>,
    /// Routes that moved.
    pub routes: Vec<RouteData>,
    /// Permanent neighbour entries that moved.
    pub neighbours: Vec<NeighbourData>,
    /// Former values of the uplink's sysctls, by area and name: `ipv6/conf/addr_gen_mode`.
    pub uplink_sysctls: BTreeMap<String, String>,
    /// Values of the bridge's sysctls.
    pub bridge_sysctls: BTreeMap<String, String>,
    /// What the bridge was; absent: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_before: Option<BridgeData>,
}

/// The file form of [`BridgeBefore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BridgeData {
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Former values of its sysctls.
    pub sysctls: BTreeMap<String, String>,
}

/// The file form of [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressData {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// The other side's address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<IpAddr>,
    /// The broadcast address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub broadcast: Option<Ipv4Addr>,
    /// The label.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub label: Option<String>,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `IFA_F_*` that can be set.
    pub flags: u32,
    /// Other `IFA_F_*`.
    pub state: u32,
    /// Preferred for so many seconds; absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preferred: Option<u32>,
    /// Valid for so many seconds; absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid: Option<u32>,
    /// The metric of its prefix's route.
    pub metric: u32,
    /// `IFA_PROTO`.
    pub protocol: u8,
}

/// The file form of [`Route`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteData {
    /// The destination.
    pub dst: String,
    /// Source prefix.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// TOS.
    pub tos: u8,
    /// The table.
    pub table: u32,
    /// The metric.
    pub metric: u32,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `rtm_scope`.
    pub scope: u8,
    /// `rtm_type`.
    pub kind: u8,
    /// The preferred source address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<IpAddr>,
    /// Where it leads.
    pub hops: Vec<HopData>,
    /// `RTAX_*`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub metrics: Vec<(u16, u32)>,
    /// The congestion control algorithm.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub congestion: Option<String>,
    /// The router's preference.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preference: Option<u8>,
    /// It ends after so many seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<u32>,
}

/// The file form of [`Hop`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HopData {
    /// The link.
    pub link: String,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<IpAddr>,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// Its weight.
    pub weight: u16,
}

/// The file form of [`Neighbour`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighbourData {
    /// The address.
    pub address: IpAddr,
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
    /// `NTF_PROXY`.
    pub proxy: bool,
    /// `NTF_ROUTER`.
    pub router: bool,
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T, FieldError>
where
    T::Err: Display,
{
    value.parse().map_err(|error: T::Err| {
        FieldError::new(error.to_string(), "the file was damaged or written by hand").under(key.to_owned())
    })
}

fn sysctls_data(sysctls: &BTreeMap<Sysctl, String>) -> BTreeMap<String, String> {
    let entry =
        |(sysctl, value): (&Sysctl, &String)| (format!("{}/{}", sysctl.area, sysctl.name), value.clone());
    sysctls.iter().map(entry).collect()
}

fn sysctls(key: &str, data: &BTreeMap<String, String>) -> Result<BTreeMap<Sysctl, String>, FieldError> {
    let entry = |(path, value): (&String, &String)| {
        let known = path.rsplit_once('/').and_then(|(area, name)| Sysctl::find(area, name));
        let sysctl = known.ok_or_else(|| {
            FieldError::new(
                format!("{path:?} is no sysctl that hopwise changes"),
                "use the version of hopwise that wrote it",
            )
            .under(key.to_owned())
        })?;
        Ok((sysctl, value.clone()))
    };
    data.iter().map(entry).collect()
}

impl From<&Record> for RecordData {
    fn from(record: &Record) -> RecordData {
        RecordData {
            uplink: record.wanted.uplink.to_string(),
            bridge: record.wanted.bridge.to_string(),
            mac: record.mac.map(|mac| mac.to_string()),
            addresses: record.held.addresses.iter().map(AddressData::from).collect(),
            routes: record.held.routes.iter().map(RouteData::from).collect(),
            neighbours: record.held.neighbours.iter().map(NeighbourData::from).collect(),
            uplink_sysctls: sysctls_data(&record.uplink_sysctls),
            bridge_sysctls: sysctls_data(&record.bridge_sysctls),
            bridge_before: record.bridge.as_ref().map(|bridge| BridgeData {
                mac: bridge.mac.map(|mac| mac.to_string()),
                mtu: bridge.mtu,
                up: bridge.up,
                sysctls: sysctls_data(&bridge.sysctls),
            }),
        }
    }
}

impl TryFrom<&RecordData> for Record {
    type Error = FieldError;

    fn try_from(data: &RecordData) -> Result<Record, FieldError> {
        let bridge = data.bridge_before.as_ref().map(|bridge| {
            Ok(BridgeBefore {
                mac: mac(bridge.mac.as_ref())?,
                mtu: bridge.mtu,
                up: bridge.up,
                sysctls: sysctls("bridgeBefore.sysctls", &bridge.sysctls)?,
            })
        });
        Ok(Record {
            wanted: Wanted { uplink: parse("uplink", &data.uplink)?, bridge: parse("bridge", &data.bridge)? },
            mac: mac(data.mac.as_ref())?,
            held: Held {
                addresses: data.addresses.iter().map(Address::from).collect(),
                routes: data.routes.iter().map(Route::try_from).collect::<Result<_, _>>()?,
                neighbours: data.neighbours.iter().map(Neighbour::try_from).collect::<Result<_, _>>()?,
            },
            uplink_sysctls: sysctls("uplinkSysctls", &data.uplink_sysctls)?,
            bridge: bridge.transpose()?,
            bridge_sysctls: sysctls("bridgeSysctls", &data.bridge_sysctls)?,
        })
    }
}

fn mac(data: Option<&String>) -> Result<Option<MacAddr>, FieldError> {
    data.map(|mac| parse("mac", mac)).transpose()
}

impl From<&Address> for AddressData {
    fn from(address: &Address) -> AddressData {
        let Address {
            address,
            prefix_len,
            peer,
            broadcast,
            label,
            scope,
            flags,
            state,
            preferred,
            valid,
            metric,
            protocol,
        } = address.clone();
        AddressData {
            address,
            prefix_len,
            peer,
            broadcast,
            label,
            scope,
            flags,
            state,
            preferred,
            valid,
            metric,
            protocol,
        }
    }
}

impl From<&AddressData> for Address {
    fn from(data: &AddressData) -> Address {
        let AddressData {
            address,
            prefix_len,
            peer,
            broadcast,
            label,
            scope,
            flags,
            state,
            preferred,
            valid,
            metric,
            protocol,
        } = data.clone();
        Address {
            address,
            prefix_len,
            peer,
            broadcast,
            label,
            scope,
            flags,
            state,
            preferred,
            valid,
            metric,
            protocol,
        }
    }
}

impl From<&Route> for RouteData {
    fn from(route: &Route) -> RouteData {
        let hop = |hop: &Hop| HopData {
            link: hop.link.to_string(),
            gateway: hop.gateway,
            onlink: hop.onlink,
            weight: hop.weight,
        };
        RouteData {
            dst: route.dst.to_string(),
            from: route.from.map(|from| from.to_string()),
            tos: route.tos,
            table: route.table,
            metric: route.metric,
            protocol: route.protocol,
            scope: route.scope,
            kind: route.kind,
            source: route.source,
            hops: route.hops.iter().map(hop).collect(),
            metrics: route.metrics.clone(),
            congestion: route.congestion.clone(),
            preference: route.preference,
            expires: route.expires,
        }
    }
}

impl TryFrom<&RouteData> for Route {
    type Error = FieldError;

    fn try_from(data: &RouteData) -> Result<Route, FieldError> {
        let hop = |hop: &HopData| {
            Ok(Hop {
                link: parse::<LinkName>("hops.link", &hop.link)?,
                gateway: hop.gateway,
                onlink: hop.onlink,
                weight: hop.weight,
            })
        };
        Ok(Route {
            dst: parse("dst", &data.dst)?,
            from: data.from.as_ref().map(|from| parse("from", from)).transpose()?,
            tos: data.tos,
            table: data.table,
            metric: data.metric,
            protocol: data.protocol,
            scope: data.scope,
            kind: data.kind,
            source: data.source,
            hops: data.hops.iter().map(hop).collect::<Result<_, FieldError>>()?,
            metrics: data.metrics.clone(),
            congestion: data.congestion.clone(),
            preference: data.preference,
            expires: data.expires,
            // Routes that have something special are not attached at all.
            special: None::<Special>,
        })
    }
}

impl From<&Neighbour> for NeighbourData {
    fn from(neighbour: &Neighbour) -> NeighbourData {
        NeighbourData {
            address: neighbour.address,
            mac: neighbour.mac.map(|mac| mac.to_string()),
            proxy: neighbour.proxy,
            router: neighbour.router,
        }
    }
}

impl TryFrom<&NeighbourData> for Neighbour {
    type Error = FieldError;

    fn try_from(data: &NeighbourData) -> Result<Neighbour, FieldError> {
        Ok(Neighbour {
            address: data.address,
            mac: mac(data.mac.as_ref())?,
            proxy: data.proxy,
            router: data.router,
        })
    }
}
