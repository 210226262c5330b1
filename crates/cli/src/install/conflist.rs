//! The network configuration list: made from options, or read from a file and checked.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hopwise_core::cidr::Cidr;
use hopwise_core::ipam::{Range, RangeSet};
use hopwise_core::mark::CONFLIST_KEY;
use hopwise_core::name::LinkName;
use serde_json::{Map, Value, json};

/// The versions that a generated list offers. The first is what runtimes before libcni 1.2 use, which read no
/// `cniVersions` and refuse 1.1.0; the others take the highest that they know.
const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];
/// All that the specification has had.
const KNOWN_VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What the key that marks a list as ours says to its reader.
const MARK_TEXT: &str = "put here by `hopwise cni install`";

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {field}: {problem}")]
pub struct ConflistError {
    /// The file, or where the list was to go.
    pub file: PathBuf,
    /// The path of the field, such as `plugins[1].type`.
    pub field: String,
    /// The value, what is wrong with it, and what to do.
    pub problem: String,
}

/// A list that is ready to be put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// For messages.
    file: PathBuf,
    /// The text, with our mark.
    pub text: String,
    /// The programs that it needs, with the field that names each.
    needs: Vec<(String, String)>,
}

/// How pods are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A route per pod, no bridge.
    Ptp,
    /// Ports of this bridge.
    Bridge(LinkName),
    /// Hosts of the LAN, with addresses of the node's slice of it: the configuration that
    /// [`hopwise_api::slices::conflist`] makes.
    Lan(Value),
}

/// What a list is generated from.
#[derive(Clone, Debug)]
pub struct Options {
    /// The network's name.
    pub network: String,
    /// How pods are attached.
    pub attachment: Attachment,
    /// The addresses of pods; the LAN's has its own.
    pub ranges: Vec<Cidr>,
    /// The MTU of pods' links in bytes; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// Whether the plugin masquerades.
    pub ip_masq: bool,
    /// Where allocations are kept; `None`: the plugin's default.
    pub data_dir: Option<PathBuf>,
    /// The run directory of the agent that STATUS asks; `None`: none.
    pub agent_status: Option<PathBuf>,
    /// Plugins after the attachment.
    pub chain: Vec<String>,
}

impl Conflist {
    /// Generates a list; `file` is where it is to go.
    ///
    /// # Errors
    ///
    /// When an option is none that a list can hold.
    pub fn generate(options: &Options, file: &Path) -> Result<Conflist, ConflistError> {
        let mut plugins = vec![attachment(options)];
        let is_lan = matches!(options.attachment, Attachment::Lan(_));
        plugins.extend(options.chain.iter().map(|name| chained(name, is_lan)));
        let list = json!({
            "cniVersion": VERSIONS[0],
            "cniVersions": VERSIONS,
            "name": options.network,
            "plugins": plugins,
            CONFLIST_KEY: MARK_TEXT,
        });
        Conflist::parse(format!("{list:#}\n").as_bytes(), file)
    }

    /// Checks a list that somebody wrote, and marks it as ours; otherwise it stays as it is written.
    ///
    /// # Errors
    ///
    /// When a runtime could not use it.
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Conflist, ConflistError> {
        let check = Check { file };
        let mut text = std::str::from_utf8(bytes)
            .map_err(|error| check.wrong("the text", format!("{error}; write it in UTF-8")))?
            .to_owned();
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| check.wrong("the text", format!("{error}; it has to be one JSON object")))?;
        let Value::Object(list) = &value else {
            return Err(check.wrong("the text", format!("{value} is no JSON object")));
        };
        let needs = check.list(list)?;
        if !list.contains_key(CONFLIST_KEY) {
            let open = text.find('{').map_or(0, |at| at + 1);
            text.insert_str(open, &format!("\n  \"{CONFLIST_KEY}\": \"{MARK_TEXT}\","));
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(Conflist { file: file.to_owned(), text, needs })
    }

    /// Whether all plugins that the list names are there.
    ///
    /// # Errors
    ///
    /// When one isn't.
    pub fn check_plugins(&self, present: &dyn Fn(&str) -> bool, bin_dir: &Path) -> Result<(), ConflistError> {
        let Some((field, name)) = self.needs.iter().find(|(_, name)| !present(name)) else { return Ok(()) };
        Err(Check { file: &self.file }.wrong(
            field,
            format!(
                "{name:?} is no plugin in {}, nor one that is to be put there; add it to --plugins, put it there yourself, \
                 or leave it out (--chain)",
                bin_dir.display()
            ),
        ))
    }
}

/// Whether a configuration is one that we put in place.
pub fn is_ours(bytes: &[u8]) -> bool {
    let value: Option<Value> = serde_json::from_slice(bytes).ok();
    value.is_some_and(|value| value.get(CONFLIST_KEY).is_some_and(Value::is_string))
}

/// Whether runtimes read a file of this name.
pub fn is_configuration(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("conf" | "conflist" | "json"))
}

fn attachment(options: &Options) -> Value {
    let ranges = range_sets(&options.ranges);
    let mut plugin = json!({ "type": super::MAIN, "ipam": { "type": "host-local", "ranges": ranges } });
    match &options.attachment {
        Attachment::Ptp => plugin["attach"] = "ptp".into(),
        Attachment::Lan(lan) => {
            plugin = lan.clone();
            plugin["hairpinMode"] = true.into();
        }
        Attachment::Bridge(name) => {
            plugin["attach"] = "bridge".into();
            plugin["bridge"] = name.as_str().into();
            plugin["isDefaultGateway"] = true.into();
            // So that a pod reaches itself by a Service or a port of its host.
            plugin["hairpinMode"] = true.into();
        }
    }
    if let Some(mtu) = options.mtu {
        plugin["mtu"] = mtu.into();
    }
    if options.ip_masq {
        plugin["ipMasq"] = true.into();
    }
    if let Some(dir) = &options.data_dir {
        plugin["ipam"]["dataDir"] = dir.to_string_lossy().into();
    }
    if let Some(dir) = &options.agent_status {
        plugin["agentStatus"] = dir.to_string_lossy().into();
    }
    plugin
}

/// A set for each family: a pod has an address of each set.
fn range_sets(ranges: &[Cidr]) -> Value {
    let (v4, v6): (Vec<&Cidr>, Vec<&Cidr>) = ranges.iter().partition(|range| range.address().is_ipv4());
    let sets = [v4, v6].into_iter().filter(|set| !set.is_empty());
    let set = |set: Vec<&Cidr>| {
        set.into_iter().map(|range| json!({ "subnet": range.to_string() })).collect::<Value>()
    };
    sets.map(set).collect()
}

/// A plugin of the chain, with what makes a runtime tell it what it needs.
fn chained(name: &str, is_lan: bool) -> Value {
    let capability = match name {
        "portmap" => Some("portMappings"),
        "bandwidth" => Some("bandwidth"),
        _ => None,
    };
    let mut plugin = json!({ "type": name });
    if let Some(capability) = capability {
        plugin["capabilities"] = json!({ capability: true });
    }
    if is_lan && name == "portmap" {
        // The pod's default route is the LAN's gateway: without it answers to hosts elsewhere would pass by this host.
        plugin["masqAll"] = true.into();
    }
    plugin
}

/// Checks one file.
struct Check<'a> {
    file: &'a Path,
}

impl Check<'_> {
    fn wrong(&self, field: &str, problem: impl Into<String>) -> ConflistError {
        ConflistError { file: self.file.to_owned(), field: field.to_owned(), problem: problem.into() }
    }

    /// The list as a whole; the programs that it needs.
    fn list(&self, list: &Map<String, Value>) -> Result<Vec<(String, String)>, ConflistError> {
        let Some(plugins) = list.get("plugins") else {
            let fix = if list.contains_key("type") {
                "missing, this is the configuration of a single plugin; write {\"cniVersion\": …, \"name\": …, \"plugins\": \
                 [THIS]}"
            } else {
                "missing; list at least one plugin"
            };
            return Err(self.wrong("plugins", fix));
        };
        let name = list.get("name").unwrap_or(&Value::Null);
        if !name.as_str().is_some_and(is_name) {
            let fix = "is no network name; use letters, digits, '_', '.' and '-', a letter or digit first";
            return Err(self.wrong("name", format!("{name} {fix}")));
        }
        if let Some(version) = list.get("cniVersion") {
            self.version("cniVersion", version)?;
        }
        for (index, version) in
            list.get("cniVersions").and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            self.version(&format!("cniVersions[{index}]"), version)?;
        }
        let plugins = match plugins.as_array() {
            Some(plugins) if !plugins.is_empty() => plugins,
            _ => return Err(self.wrong("plugins", format!("{plugins} is no list of at least one plugin"))),
        };
        let mut needs = Vec::new();
        for (index, plugin) in plugins.iter().enumerate() {
            let field = format!("plugins[{index}]");
            needs.push(self.program(&format!("{field}.type"), plugin.get("type"))?);
            if let Some(ipam) = plugin.get("ipam").filter(|ipam| **ipam != json!({})) {
                needs.extend(self.ipam(&format!("{field}.ipam"), ipam)?);
            }
        }
        Ok(needs)
    }

    fn version(&self, field: &str, version: &Value) -> Result<(), ConflistError> {
        match version.as_str() {
            Some(known) if KNOWN_VERSIONS.contains(&known) => Ok(()),
            _ => Err(self.wrong(
                field,
                format!("{version} is no known version; use one of {}", KNOWN_VERSIONS.join(", ")),
            )),
        }
    }

    fn program(&self, field: &str, name: Option<&Value>) -> Result<(String, String), ConflistError> {
        match name.and_then(Value::as_str) {
            Some(name) if !name.is_empty() && !name.contains('/') => Ok((field.to_owned(), name.to_owned())),
            _ => {
                let name = name.unwrap_or(&Value::Null);
                Err(self.wrong(
                    field,
                    format!("{name} is no plugin's name; name a program in the folder of plugins"),
                ))
            }
        }
    }

    /// The program of an `ipam` part, where it is one: host-local runs inside of our plugins.
    fn ipam(&self, field: &str, ipam: &Value) -> Result<Option<(String, String)>, ConflistError> {
        let program = self.program(&format!("{field}.type"), ipam.get("type"))?;
        if program.1 != "host-local" {
            return Ok(Some(program));
        }
        if ipam.get("subnet").is_some() {
            self.range(field, ipam)?;
        }
        for (outer, set) in ipam.get("ranges").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let field = format!("{field}.ranges[{outer}]");
            let ranges = set.as_array().into_iter().flatten().enumerate();
            let ranges = ranges.map(|(inner, range)| self.range(&format!("{field}[{inner}]"), range));
            let ranges = ranges.collect::<Result<Vec<Range>, ConflistError>>()?;
            RangeSet::new(ranges).map_err(|error| self.wrong(&field, error.to_string()))?;
        }
        Ok(None)
    }

    /// A range of host-local, as that reads it.
    fn range(&self, field: &str, range: &Value) -> Result<Range, ConflistError> {
        let subnet = range.get("subnet").unwrap_or(&Value::Null);
        let wrong = |problem: String| self.wrong(&format!("{field}.subnet"), problem);
        let subnet = match subnet.as_str().map(str::parse::<Cidr>) {
            Some(Ok(subnet)) => subnet,
            Some(Err(error)) => return Err(wrong(format!("{subnet}: {error}"))),
            None => return Err(wrong(format!("{subnet} is no subnet; write it like \"10.244.1.0/24\""))),
        };
        let address = |key: &str| {
            let value = range.get(key).filter(|value| !value.is_null() && **value != "");
            let read = |value: &Value| {
                let address: Option<IpAddr> = value.as_str().and_then(|text| text.parse().ok());
                let field = format!("{field}.{key}");
                address.ok_or_else(|| self.wrong(&field, format!("{value} is not an IP address")))
            };
            value.map(read).transpose()
        };
        let (first, last) = (address("rangeStart")?, address("rangeEnd")?);
        let made = Range::new(subnet, first, last, address("gateway")?);
        made.map_err(|error| self.wrong(field, error.to_string()))
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The agent's word about a node's own pod CIDRs and MTU: `node.json`.
pub fn from_node_file(text: &[u8]) -> Option<(Vec<Cidr>, Option<u32>)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let cidrs = value.get("podCIDRs")?.as_array()?.iter().map(|cidr| cidr.as_str()?.parse().ok());
    let mtu = value.get("podMTU").and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok());
    Some((cidrs.collect::<Option<_>>()?, mtu))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            network: "hopwise".into(),
            attachment: Attachment::Ptp,
            ranges: ["10.244.1.0/24", "fd00:10:244:1::/64", "10.245.1.0/24"]
                .map(|cidr| cidr.parse().unwrap())
                .into(),
            mtu: Some(1450),
            ip_masq: false,
            data_dir: None,
            agent_status: Some("/run/hopwise".into()),
            chain: vec!["portmap".into(), "bandwidth".into()],
        }
    }

    #[test]
    fn a_generated_list() {
        let list = Conflist::generate(&options(), Path::new("10-hopwise.conflist")).unwrap();
        expect_test::expect![[r#"
            {
              "cniVersion": "1.0.0",
              "cniVersions": [
                "1.0.0",
                "1.1.0"
              ],
              "hopwise": "put here by `hopwise cni install`",
              "name": "hopwise",
              "plugins": [
                {
                  "agentStatus": "/run/hopwise",
                  "attach": "ptp",
                  "ipam": {
                    "ranges": [
                      [
                        {
                          "subnet": "10.244.1.0/24"
                        },
                        {
                          "subnet": "10.245.1.0/24"
                        }
                      ],
                      [
                        {
                          "subnet": "fd00:10:244:1::/64"
                        }
                      ]
                    ],
                    "type": "host-local"
                  },
                  "mtu": 1450,
                  "type": "hopwise"
                },
                {
                  "capabilities": {
                    "portMappings": true
                  },
                  "type": "portmap"
                },
                {
                  "capabilities": {
                    "bandwidth": true
                  },
                  "type": "bandwidth"
                }
              ]
            }
        "#]]
        .assert_eq(&list.text);
        assert!(is_ours(list.text.as_bytes()));
        let bridge = Options {
            attachment: Attachment::Bridge(LinkName::new_static("cni0")),
            ip_masq: true,
            data_dir: Some("/data".into()),
            agent_status: None,
            mtu: None,
            chain: vec![],
            ..options()
        };
        let list = Conflist::generate(&bridge, Path::new("x")).unwrap();
        let value: Value = serde_json::from_str(&list.text).unwrap();
        expect_test::expect![[r#"[{"attach":"bridge","bridge":"cni0","hairpinMode":true,"ipMasq":true,"ipam":{"dataDir":"/data","ranges":[[{"subnet":"10.244.1.0/24"},{"subnet":"10.245.1.0/24"}],[{"subnet":"fd00:10:244:1::/64"}]],"type":"host-local"},"isDefaultGateway":true,"type":"hopwise"}]"#]].assert_eq(&value["plugins"].to_string());
    }

    #[test]
    fn a_list_stays_as_it_is_written_but_for_the_mark() {
        let written = "{ \"name\": \"net\",\n  \"plugins\": [{\"type\": \"x\"}] }";
        let list = Conflist::parse(written.as_bytes(), Path::new("x")).unwrap();
        assert_eq!(
            list.text.replace("\n  \"hopwise\": \"put here by `hopwise cni install`\",", ""),
            format!("{written}\n")
        );
        assert!(is_ours(list.text.as_bytes()) && !is_ours(written.as_bytes()));
        assert_eq!(Conflist::parse(list.text.as_bytes(), Path::new("x")).unwrap(), list, "marked once");
    }

    #[test]
    fn what_is_wrong_is_named_with_file_field_value_and_fix() {
        let of = |plugins: &str| {
            format!("{{\"name\": \"net\", \"cniVersion\": \"1.0.0\", \"plugins\": {plugins}}}")
        };
        let subnet = |subnet: &str| {
            of(&format!("[{{\"type\": \"ptp\", \"ipam\": {{\"type\": \"host-local\", {subnet}}}}}]"))
        };
        let cases = [
            ("{".to_owned(), "the text", "JSON"),
            ("[]".to_owned(), "the text", "[] is no JSON object"),
            ("{\"name\": \"net\"}".to_owned(), "plugins", "missing; list at least one"),
            ("{\"name\": \"net\", \"type\": \"bridge\"}".to_owned(), "plugins", "[THIS]"),
            ("{\"plugins\": []}".to_owned(), "name", "null is no network name"),
            (
                "{\"name\": \"a/b\", \"plugins\": []}".to_owned(),
                "name",
                "\"a/b\" is no network name; use letters",
            ),
            (of("[]"), "plugins", "[] is no list"),
            (of("[{}]"), "plugins[0].type", "null is no plugin's name"),
            (of("[{\"type\": \"a\"}, {\"type\": \"../b\"}]"), "plugins[1].type", "\"../b\""),
            (of("[{\"type\": \"a\", \"ipam\": {\"x\": 1}}]"), "plugins[0].ipam.type", "null"),
            (
                of("[]").replace("1.0.0", "1.2.0"),
                "cniVersion",
                "\"1.2.0\" is no known version; use one of 0.1.0",
            ),
            (subnet("\"subnet\": \"10.0.0.0/33\""), "plugins[0].ipam.subnet", "10.0.0.0/33"),
            (subnet("\"subnet\": \"10.0.0.0/31\""), "plugins[0].ipam", "10.0.0.0/31 is too small"),
            (
                subnet("\"ranges\": [[{\"subnet\": \"10.0.0.0/24\", \"rangeEnd\": \"10.0.1.9\"}]]"),
                "plugins[0].ipam.ranges[0][0]",
                "rangeEnd 10.0.1.9 is not in network 10.0.0.0/24",
            ),
            (
                subnet("\"ranges\": [[{\"subnet\": \"10.0.0.0/24\", \"gateway\": \"x\"}]]"),
                "plugins[0].ipam.ranges[0][0].gateway",
                "\"x\" is not an IP address",
            ),
            (subnet("\"ranges\": [[{}]]"), "plugins[0].ipam.ranges[0][0].subnet", "null is no subnet; write"),
        ];
        for (text, field, part) in cases {
            let error = Conflist::parse(text.as_bytes(), Path::new("/x/net.conflist")).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error}");
            assert!(error.problem.contains(part), "{text}: {error}");
            assert!(error.to_string().starts_with(&format!("/x/net.conflist: {field}: ")));
        }
    }

    #[test]
    fn plugins_that_are_not_there_are_named() {
        let list = Conflist::generate(&options(), Path::new("x.conflist")).unwrap();
        list.check_plugins(&|_| true, Path::new("/opt/cni/bin")).unwrap();
        let error = list
            .check_plugins(&|name| name != "bandwidth", Path::new("/opt/cni/bin"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("x.conflist: plugins[2].type: \"bandwidth\" is no plugin in /opt/cni/bin"),
            "{error}"
        );
    }

    #[test]
    fn the_nodes_own_addresses_are_read_from_the_agents_file() {
        let text = br#"{"version": 1, "podCIDRs": ["10.244.1.0/24", "fd00::/64"], "podMTU": 1450}"#;
        let (ranges, mtu) = from_node_file(text).unwrap();
        assert_eq!((ranges.len(), mtu), (2, Some(1450)));
        assert!(from_node_file(b"{}").is_none() && from_node_file(b"").is_none());
        assert!(from_node_file(br#"{"podCIDRs": ["x"]}"#).is_none());
    }
}
