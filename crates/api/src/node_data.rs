//! What an agent publishes about its node, in a file `NODE.json` that its peers read.
//!
//! ```json
//! {"version":1,"node":"node1","mac":{"ipv4":"02:00:5e:00:53:01"},"vxlanMac":"02:00:5e:00:53:02"}
//! ```
//!
//! Agents of several versions read each other's files: keys that are not known are passed over, and only a change of
//! meaning raises the version. The file is a peer's word, and is believed for what it is: MAC addresses of that node.

use hopwise_core::cluster::NodeData;
use hopwise_core::name::NodeName;
use serde::{Deserialize, Serialize};

use crate::field::{self, FieldError, PerFamily};

#[cfg(test)]
mod tests;

/// The version that we write, and the newest that we read.
pub const VERSION: u64 = 1;

/// No honest file is larger, in bytes: a node's name and three MAC addresses take some 400.
pub const MAX_LEN: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    version: u64,
    node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<PerFamily<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vxlan_mac: Option<String>,
}

/// The content of a node's file.
pub fn encode(node: &NodeName, data: &NodeData) -> String {
    let file = File {
        version: VERSION,
        node: node.to_string(),
        mac: PerFamily::from_pair(
            data.link_mac.v4.map(|mac| mac.to_string()),
            data.link_mac.v6.map(|mac| mac.to_string()),
        ),
        vxlan_mac: data.vxlan_mac.map(|mac| mac.to_string()),
    };
    let mut json = serde_json::to_string(&file).expect("strings and numbers can always be written");
    json.push('\n');
    json
}

/// What a node's file says. `node` is the node whose file it is.
pub fn decode(bytes: &[u8], node: &NodeName) -> Result<NodeData, FieldError> {
    const FIX: &str = "delete the file; that node's agent writes it again";
    if bytes.len() > MAX_LEN {
        return Err(FieldError::new(format!("it is larger than {MAX_LEN} bytes"), FIX));
    }
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| FieldError::new(format!("it is not node data: {error}"), FIX))?;
    if file.version == 0 || file.version > VERSION {
        return Err(FieldError::new(
            format!("version {} is not known here, {VERSION} is the newest", file.version),
            "update this node's agent",
        )
        .under("version"));
    }
    if file.node != node.as_str() {
        let message = format!("{:?} is not {node}, whose file this is", file.node);
        return Err(FieldError::new(message, FIX).under("node"));
    }
    let link_mac = match &file.mac {
        Some(mac) => mac.convert(|value| field::mac(value)).map_err(|error| error.under("mac"))?,
        None => hopwise_core::family::PerFamily::default(),
    };
    let vxlan_mac =
        file.vxlan_mac.as_deref().map(field::mac).transpose().map_err(|error| error.under("vxlanMac"))?;
    Ok(NodeData { link_mac, vxlan_mac })
}
