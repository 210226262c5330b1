//! The last complete view as it is kept on disk, for the time at boot when the store has not answered yet.
//!
//! One line of text, then JSON:
//!
//! ```text
//! hopwise-view VERSION LENGTH CRC32\n
//! {"networks":…,"settings":…,"nodes":[…]}
//! ```
//!
//! `LENGTH` counts the bytes after the line, `CRC32` (IEEE 802.3, eight hexadecimal digits) is over the same bytes. The
//! line tells a torn file from a foreign one and from one that a newer Hopwise wrote, before anything is believed.
//! JSON, not something more compact: 5,000 nodes load in a few milliseconds, and `tail -n +2 view | jq` reads it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config;
use hopwise_core::family;
use hopwise_core::name::{MacAddr, NodeName};
use serde::{Deserialize, Serialize};

use crate::field::FieldError;
use crate::settings::Settings;
use crate::text::Text;

#[cfg(test)]
mod tests;

/// What the file starts with.
const MAGIC: &str = "hopwise-view ";

/// The version that we write, and the newest that we read.
pub const VERSION: u32 = 1;

/// No header is longer: magic, two numbers of up to 20 digits, the checksum, spaces and the line's end.
const LONGEST_HEADER: usize = MAGIC.len() + 20 + 1 + 20 + 1 + 8 + 1;

/// Why bytes are not a saved view.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Something else altogether.
    #[error(
        "it is not a saved view of Hopwise's: its first line is not \"hopwise-view VERSION LENGTH CRC32\""
    )]
    Foreign,
    /// Written by a newer Hopwise.
    #[error("its format is version {version}, newer than {VERSION}, the newest that this Hopwise reads")]
    Newer {
        /// The version that it says.
        version: u64,
    },
    /// It stops within its first line, or is empty, as after a crash.
    #[error("it is torn: it ends after {found} bytes, within its first line")]
    TornHeader {
        /// The bytes that are there.
        found: usize,
    },
    /// It stops too early.
    #[error("it is torn: {found} bytes of {expected} are there")]
    Torn {
        /// The bytes that were written.
        expected: usize,
        /// The bytes that are there.
        found: usize,
    },
    /// There is more than was written.
    #[error("there are {extra} bytes too many after its end")]
    Trailing {
        /// How many bytes too many.
        extra: usize,
    },
    /// The bytes are not those that were written.
    #[error("its checksum is {found:08x}, not {expected:08x}: it was altered or its blocks were lost")]
    Checksum {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of what is there.
        found: u32,
    },
    /// The checksum is right and the content is not what its version says.
    #[error("its content can't be read")]
    Content(#[source] serde_json::Error),
    /// The checksum is right and a value in it is not one.
    #[error("a value in it can't be used")]
    Field(#[source] FieldError),
}

/// The bytes to keep for a view.
pub fn encode(view: &ClusterView) -> Vec<u8> {
    let json =
        serde_json::to_vec(&View::from(view)).expect("strings, numbers and lists can always be written");
    let header = format!("{MAGIC}{VERSION} {} {:08x}\n", json.len(), crc32fast::hash(&json));
    let mut bytes = header.into_bytes();
    bytes.extend_from_slice(&json);
    bytes
}

/// The view that was kept.
pub fn decode(bytes: &[u8]) -> Result<ClusterView, DecodeError> {
    let header = header(bytes)?;
    let payload = &bytes[header.len..];
    if payload.len() < header.payload {
        let expected = header.len.saturating_add(header.payload);
        return Err(DecodeError::Torn { expected, found: bytes.len() });
    }
    if payload.len() > header.payload {
        return Err(DecodeError::Trailing { extra: payload.len() - header.payload });
    }
    let found = crc32fast::hash(payload);
    if found != header.checksum {
        return Err(DecodeError::Checksum { expected: header.checksum, found });
    }
    let view: View<'_> = serde_json::from_slice(payload).map_err(DecodeError::Content)?;
    view.try_into().map_err(DecodeError::Field)
}

struct Header {
    /// Bytes of the header itself, its line end included.
    len: usize,
    /// Bytes that should follow.
    payload: usize,
    checksum: u32,
}

fn header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let start = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.as_bytes().starts_with(start) {
        return Err(DecodeError::Foreign);
    }
    let head = &bytes[..bytes.len().min(LONGEST_HEADER)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return Err(if bytes.len() < LONGEST_HEADER {
            DecodeError::TornHeader { found: bytes.len() }
        } else {
            DecodeError::Foreign
        });
    };
    let line = std::str::from_utf8(&head[MAGIC.len()..end]).map_err(|_| DecodeError::Foreign)?;
    let mut words = line.split(' ');
    // The version comes first and alone decides what the rest of the line means.
    let version: u64 = words.next().and_then(|w| w.parse().ok()).ok_or(DecodeError::Foreign)?;
    if version > u64::from(VERSION) {
        return Err(DecodeError::Newer { version });
    }
    let payload = words.next().and_then(|word| word.parse().ok());
    let checksum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
    match (version, payload, checksum, words.next()) {
        (1, Some(payload), Some(checksum), None) => Ok(Header { len: end + 1, payload, checksum }),
        _ => Err(DecodeError::Foreign),
    }
}

/// Version 1 of the content. What it lacks means nothing special; what it has beyond this is an error, since a change
/// of content is a new version.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct View<'a> {
    networks: Networks,
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    settings: Settings,
    #[serde(borrow)]
    nodes: Vec<SavedNode<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Networks {
    pods: Vec<Text<Cidr>>,
    services: Vec<Text<Cidr>>,
    nodes: Vec<Text<Cidr>>,
    fabric: Vec<Text<Cidr>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SavedNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    addresses: Vec<SavedClaim<IpAddr>>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<SavedClaim<Cidr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac_v4: Option<Text<MacAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac_v6: Option<Text<MacAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vxlan_mac: Option<Text<MacAddr>>,
    #[serde(default, skip_serializing_if = "is_false")]
    windows: bool,
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(
    deserialize = "T: std::str::FromStr<Err: std::fmt::Display>",
    serialize = "T: std::fmt::Display"
))]
struct SavedClaim<T> {
    value: Text<T>,
    #[serde(default, skip_serializing_if = "is_zero")]
    since: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl<'a> From<&'a ClusterView> for View<'a> {
    fn from(view: &'a ClusterView) -> Self {
        let list = |cidrs: &[Cidr]| cidrs.iter().copied().map(Text).collect();
        let networks = &view.networks;
        View {
            networks: Networks {
                pods: list(&networks.pods),
                services: list(&networks.services),
                nodes: list(&networks.nodes),
                fabric: list(&networks.fabric),
            },
            settings: (&view.settings).into(),
            nodes: view.nodes.values().map(|node| SavedNode::from(&**node)).collect(),
        }
    }
}

impl<'a> From<&'a Node> for SavedNode<'a> {
    fn from(node: &'a Node) -> Self {
        SavedNode {
            name: node.name.as_str().into(),
            addresses: saved_claims(&node.addresses),
            pod_cidrs: saved_claims(&node.pod_cidrs),
            mac_v4: node.data.link_mac.v4.map(Text),
            mac_v6: node.data.link_mac.v6.map(Text),
            vxlan_mac: node.data.vxlan_mac.map(Text),
            windows: node.os == Os::Windows,
            settings: (&node.settings).into(),
        }
    }
}

impl TryFrom<View<'_>> for ClusterView {
    type Error = FieldError;

    fn try_from(view: View<'_>) -> Result<Self, Self::Error> {
        let list = |cidrs: Vec<Text<Cidr>>| cidrs.into_iter().map(|Text(cidr)| cidr).collect();
        let node = |(index, node): (usize, SavedNode<'_>)| {
            let node = Node::try_from(node).map_err(|error| error.at(index).under("nodes"))?;
            Ok((node.name.clone(), Arc::new(node)))
        };
        Ok(ClusterView {
            networks: ClusterNetworks {
                pods: list(view.networks.pods),
                services: list(view.networks.services),
                nodes: list(view.networks.nodes),
                fabric: list(view.networks.fabric),
            },
            settings: (&view.settings).try_into().map_err(|error: FieldError| error.under("settings"))?,
            nodes: view.nodes.into_iter().enumerate().map(node).collect::<Result<_, FieldError>>()?,
        })
    }
}

impl TryFrom<SavedNode<'_>> for Node {
    type Error = FieldError;

    fn try_from(node: SavedNode<'_>) -> Result<Self, Self::Error> {
        let name: NodeName = node.name.parse().map_err(|error: hopwise_core::name::NameError| {
            FieldError::new(error.to_string(), "delete the file")
        })?;
        Ok(Node {
            name,
            addresses: claims(node.addresses),
            pod_cidrs: claims(node.pod_cidrs),
            data: NodeData {
                link_mac: family::PerFamily {
                    v4: node.mac_v4.map(|Text(mac)| mac),
                    v6: node.mac_v6.map(|Text(mac)| mac),
                },
                vxlan_mac: node.vxlan_mac.map(|Text(mac)| mac),
            },
            os: if node.windows { Os::Windows } else { Os::Linux },
            settings: config::Settings::try_from(&node.settings).map_err(|error| error.under("settings"))?,
        })
    }
}

fn saved_claims<T: Copy>(claims: &[Claim<T>]) -> Vec<SavedClaim<T>> {
    claims.iter().map(|claim| SavedClaim { value: Text(claim.value), since: claim.since }).collect()
}

/// Exactly as large as it is: collected in place, or grown by pushing, it would keep room for four, in thousands of nodes.
fn claims<T>(saved: Vec<SavedClaim<T>>) -> Vec<Claim<T>> {
    let mut claims: Vec<Claim<T>> =
        saved.into_iter().map(|claim| Claim { since: claim.since, value: claim.value.0 }).collect();
    claims.shrink_to_fit();
    claims
}
