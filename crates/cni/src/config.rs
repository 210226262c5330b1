//! A network configuration: what every plugin reads of it.

use serde_json::{Map, Value};

use crate::json::{self, FieldError, Object};
use crate::spec::{AddResult, CniError, Code, Dns, SpecVersion, is_name, read_dns};

/// A network configuration from stdin, checked as far as all plugins share it.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The version that results are printed in.
    pub version: SpecVersion,
    /// The network's name.
    pub name: String,
    /// `type`: the plugin.
    pub plugin: String,
    /// The text itself, for plugins that are run in turn.
    pub raw: Vec<u8>,
    value: Value,
}

/// The key for a GC, and its name in the specification's first text, which libcni sends as well.
const ATTACHMENTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// An attachment that a GC must leave alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The container.
    pub container_id: String,
    /// The link's name in it.
    pub ifname: String,
}

impl NetworkConfig {
    /// Parses and checks what all plugins share.
    ///
    /// # Errors
    ///
    /// [`Code::Decode`], [`Code::InvalidConfig`] or [`Code::IncompatibleVersion`], in this order.
    pub fn from_json(raw: Vec<u8>) -> Result<NetworkConfig, CniError> {
        let decode = |error: &dyn std::fmt::Display| {
            CniError::new(Code::Decode, format!("error unmarshall network config: {error}"))
        };
        let value = json::parse(&raw).map_err(|error| decode(&error))?;
        let value = if value.is_null() { Value::Object(Map::new()) } else { value };
        let root = Object::root(&value).map_err(|error| decode(&error))?;
        let text = |key| root.string(key).map(Option::unwrap_or_default).map_err(|error| decode(&error));
        let (name, asked) = (text("name")?, text("cniVersion")?);
        if name.is_empty() {
            return Err(CniError::new(Code::InvalidConfig, "missing network name"));
        }
        if !is_name(&name) {
            let error = CniError::new(Code::InvalidConfig, "invalid characters found in network name");
            return Err(error.details(name));
        }
        let version = SpecVersion::negotiate(&asked)?;
        let plugin = root.string("type")?.unwrap_or_default();
        Ok(NetworkConfig { version, name, plugin, raw, value })
    }

    /// The outermost object.
    pub fn root(&self) -> Object<'_> {
        Object::root(&self.value).expect("from_json has seen that it is an object")
    }

    /// `ipam.type`, or empty for a network without addresses.
    pub fn ipam_type(&self) -> Result<String, FieldError> {
        let ipam = self.root().object("ipam")?;
        Ok(ipam.map(|ipam| ipam.string("type")).transpose()?.flatten().unwrap_or_default())
    }

    /// `dns`, where it says anything; an empty list says that there is none.
    pub fn dns(&self) -> Result<Option<Dns>, FieldError> {
        let Some(object) = self.root().object("dns")? else { return Ok(None) };
        let dns = read_dns(&object)?;
        let lists = ["nameservers", "search", "options"];
        let said = !dns.domain.is_empty() || lists.iter().any(|key| object.get(key).is_some());
        Ok(said.then_some(dns))
    }

    /// `prevResult`.
    pub fn prev_result(&self) -> Result<Option<AddResult>, FieldError> {
        let Some(result) = self.root().object("prevResult")? else { return Ok(None) };
        let version = result.string("cniVersion")?.unwrap_or_default();
        SpecVersion::negotiate(&version).map_err(|error| FieldError {
            field: result.field("cniVersion"),
            problem: format!("{version:?} is no version that this plugin reads; {error}"),
        })?;
        AddResult::from_json(&result).map(Some)
    }

    /// Whether it says which attachments are valid.
    pub fn tells_attachments(&self) -> bool {
        ATTACHMENTS.into_iter().any(|key| self.root().get(key).is_some())
    }

    /// `cni.dev/valid-attachments`, or the older `cni.dev/attachments`; `null` is an empty list, which libcni sends as that.
    ///
    /// # Errors
    ///
    /// When neither is there ([`NetworkConfig::tells_attachments`]): a GC that took this for "none is valid" would remove
    /// everything.
    pub fn valid_attachments(&self) -> Result<Vec<Attachment>, FieldError> {
        let root = self.root();
        let key = ATTACHMENTS.into_iter().find(|key| root.get(key).is_some()).ok_or_else(|| FieldError {
            field: ATTACHMENTS[0].to_owned(),
            problem: "missing; give a list of {containerID, ifname}, empty if none is valid".to_owned(),
        })?;
        let entries = if root.get(key).is_some_and(Value::is_null) { Vec::new() } else { root.objects(key)? };
        let read = |entry: Object<'_>| {
            // An entry that names nothing would keep nothing: whoever wrote it did not mean that all else is to go.
            Ok(Attachment { container_id: entry.required("containerID")?, ifname: entry.required("ifname")? })
        };
        entries.into_iter().map(read).collect()
    }
}

impl From<FieldError> for CniError {
    fn from(error: FieldError) -> CniError {
        CniError::failed(format!("failed to load netconf: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_of_valid_attachments_is_not_an_empty_one() {
        let valid = |part: &str| {
            let text = format!("{{\"cniVersion\": \"1.1.0\", \"name\": \"net\"{part}}}");
            NetworkConfig::from_json(text.into_bytes()).unwrap().valid_attachments()
        };
        let key = ", \"cni.dev/valid-attachments\": ";
        assert!(valid("").unwrap_err().to_string().contains("missing"));
        // Go's word for an empty list.
        assert_eq!(valid(&format!("{key}null")).unwrap(), []);
        assert_eq!(valid(&format!("{key}[]")).unwrap(), []);
        let one = valid(&format!("{key}[{{\"containerID\": \"c\", \"ifname\": \"eth0\"}}]")).unwrap();
        assert_eq!(one, [Attachment { container_id: "c".into(), ifname: "eth0".into() }]);
        assert!(valid(&format!("{key}5")).is_err());
        for nameless in
            ["[{}]", "[{\"containerID\": \"c\"}]", "[{\"containerID\": \"\", \"ifname\": \"eth0\"}]"]
        {
            let error = valid(&format!("{key}{nameless}")).unwrap_err().to_string();
            assert!(
                error.starts_with("cni.dev/valid-attachments[0].") && error.ends_with(": missing"),
                "{error}"
            );
        }
    }
}
