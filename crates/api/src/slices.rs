//! Slices as JSON: what `hopwise l2 slices` prints and keeps between calls, and the CNI configuration of a node.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::ipam::RangeSet;
use hopwise_core::name::{LinkName, NodeName};
use hopwise_core::slices::{Assignment, Departed, Lan, Outcome, Span, SpanSet};
use serde::{Deserialize, Serialize};

/// The version of the format that is written.
pub const VERSION: u32 = 1;

/// Who has which slice: the state between two calls, and with `ranges` and `shortages` the answer of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slices {
    /// [`VERSION`].
    pub version: u32,
    /// The nodes that there are.
    pub nodes: Vec<NodeSlice>,
    /// Nodes that are gone, the longest gone first.
    #[serde(default)]
    pub departed: Vec<NodeSlice>,
    /// Where there were too few addresses, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortages: Vec<String>,
}

/// What one node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSlice {
    /// Its name.
    pub node: String,
    /// Its addresses, `FIRST-LAST` or one, IPv4 first.
    pub slices: Vec<String>,
    /// The same as `ranges` of a host-local configuration: a set for each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Vec<Range>>,
}

/// A range of a host-local configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// The subnet.
    pub subnet: String,
    /// The first address.
    pub range_start: IpAddr,
    /// The last address.
    pub range_end: IpAddr,
    /// The gateway.
    pub gateway: IpAddr,
}

/// Why a state can't be used. The message names the field and the value.
#[derive(Debug, thiserror::Error)]
pub enum SlicesError {
    /// Not the JSON that is written here.
    #[error("not a state of slices")]
    Json(#[source] serde_json::Error),
    /// Written by a newer Hopwise.
    #[error("version {0} is not known here; use the hopwise that wrote it, or a newer one")]
    Version(u32),
    /// A name or a run of addresses that is none.
    #[error("{field}: {problem}")]
    Value {
        /// Where, such as `nodes[2].slices[0]`.
        field: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Slices {
    /// What is kept between two calls.
    pub fn state(assignment: &Assignment) -> Slices {
        let entry = |node: &NodeName, slice: &PerFamily<SpanSet>| NodeSlice {
            node: node.to_string(),
            slices: texts(slice),
            ranges: Vec::new(),
        };
        Slices {
            version: VERSION,
            nodes: assignment.nodes.iter().map(|(node, slice)| entry(node, slice)).collect(),
            departed: assignment.departed.iter().map(|gone| entry(&gone.node, &gone.slice)).collect(),
            shortages: Vec::new(),
        }
    }

    /// What is answered.
    pub fn answer(lan: &Lan, outcome: &Outcome) -> Slices {
        let mut slices = Slices::state(&outcome.assignment);
        for (entry, slice) in slices.nodes.iter_mut().zip(outcome.assignment.nodes.values()) {
            entry.ranges = ranges(lan, slice);
        }
        slices.shortages = outcome.shortages.iter().map(ToString::to_string).collect();
        slices
    }

    /// Reads a state, or an answer as one.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Assignment, SlicesError> {
        let slices: Slices = serde_json::from_str(text).map_err(SlicesError::Json)?;
        if slices.version != VERSION {
            return Err(SlicesError::Version(slices.version));
        }
        let mut assignment = Assignment::default();
        for (index, entry) in slices.nodes.iter().enumerate() {
            let (node, slice) = entry.read(&format!("nodes[{index}]"))?;
            assignment.nodes.insert(node, slice);
        }
        for (index, entry) in slices.departed.iter().enumerate() {
            let (node, slice) = entry.read(&format!("departed[{index}]"))?;
            assignment.departed.push(Departed { node, slice });
        }
        Ok(assignment)
    }
}

impl NodeSlice {
    fn read(&self, place: &str) -> Result<(NodeName, PerFamily<SpanSet>), SlicesError> {
        let wrong = |field: String, problem: &dyn std::fmt::Display| SlicesError::Value {
            field,
            problem: problem.to_string(),
        };
        let node = self.node.parse().map_err(|error| wrong(format!("{place}.node"), &error))?;
        let mut slice = PerFamily::<SpanSet>::default();
        for (index, text) in self.slices.iter().enumerate() {
            let span: Span =
                text.parse().map_err(|error| wrong(format!("{place}.slices[{index}]"), &error))?;
            slice.get_mut(span.family()).insert(span);
        }
        Ok((node, slice))
    }
}

fn texts(slice: &PerFamily<SpanSet>) -> Vec<String> {
    slice.iter().flat_map(|(_, spans)| spans.spans()).map(|span| span.to_string()).collect()
}

fn ranges(lan: &Lan, slice: &PerFamily<SpanSet>) -> Vec<Vec<Range>> {
    let range = |range: &hopwise_core::ipam::Range| Range {
        subnet: range.subnet().to_string(),
        range_start: range.first(),
        range_end: range.last(),
        gateway: range.gateway(),
    };
    let set = |set: RangeSet| set.ranges().iter().map(range).collect();
    slice.iter().filter_map(|(_, spans)| lan.range_set(spans)).map(set).collect()
}

/// What a node's CNI configuration says beside its slice.
#[derive(Clone, Debug)]
pub struct ConflistOptions {
    /// The network's name.
    pub name: String,
    /// The bridge that the LAN is on.
    pub bridge: LinkName,
    /// The node's own addresses on the LAN, where pods reach services.
    pub node_addresses: PerFamily<Option<IpAddr>>,
    /// The service ranges.
    pub services: Vec<Cidr>,
}

/// The CNI configuration of a node: pods as hosts of the LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflist {
    cni_version: &'static str,
    cni_versions: [&'static str; 2],
    name: String,
    plugins: [Plugin; 1],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    r#type: &'static str,
    attach: &'static str,
    bridge: String,
    address_conflict_detection: bool,
    ipam: Ipam,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Ipam {
    r#type: &'static str,
    ranges: Vec<Vec<Range>>,
    routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Route {
    dst: String,
    gw: IpAddr,
}

/// The CNI configuration for a node's slice: pods on the bridge that has the uplink, with a default route through the
/// LAN's gateway and service ranges through the node, whose kernel knows what is behind them.
///
/// `type` is `hopwise`, not `bridge`: the reference plugin would take the configuration, and detect no conflicts.
pub fn conflist(lan: &Lan, slice: &PerFamily<SpanSet>, options: &ConflistOptions) -> Conflist {
    let mut routes = Vec::new();
    for (family, spans) in slice.iter() {
        let Some(subnet) = spans.spans().next().and_then(|span| lan.subnet_of(span.first())) else {
            continue;
        };
        // IPv6 routers announce themselves; IPv4 ones have to be known.
        let gateway = match family {
            Family::V4 => Some(lan.gateway_of(subnet)),
            Family::V6 => lan.given_gateway(subnet),
        };
        let default = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
        routes.extend(gateway.map(|gw| Route { dst: default.to_owned(), gw }));
        if let Some(gw) = *options.node_addresses.get(family) {
            let services = options.services.iter().filter(|service| service.family() == family);
            routes.extend(services.map(|service| Route { dst: service.to_string(), gw }));
        }
    }
    let ipam = Ipam { r#type: "host-local", ranges: ranges(lan, slice), routes };
    let plugin = Plugin {
        r#type: "hopwise",
        attach: "bridge",
        bridge: options.bridge.to_string(),
        address_conflict_detection: true,
        ipam,
    };
    // Runtimes with libcni before 1.2 read no `cniVersions`, and refuse 1.1.0.
    let versions = ["1.0.0", "1.1.0"];
    Conflist {
        cni_version: versions[0],
        cni_versions: versions,
        name: options.name.clone(),
        plugins: [plugin],
    }
}

impl Conflist {
    /// The configuration of the plugin that attaches pods, for a list that has others after it.
    ///
    /// # Panics
    ///
    /// Never: strings, numbers and lists can always be written.
    pub fn attaching_plugin(&self) -> serde_json::Value {
        serde_json::to_value(&self.plugins[0]).expect("strings, numbers and lists can always be written")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use hopwise_core::slices::assign;

    use super::*;

    fn lan() -> Lan {
        Lan {
            subnets: vec!["192.168.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
            gateways: vec!["fe80::1".parse().unwrap()],
            exclude: vec!["192.168.1.4".parse().unwrap()],
            per_node: 3,
        }
    }

    fn names(list: &str) -> Vec<NodeName> {
        list.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn state_and_answer_read_back() {
        let first = assign(&lan(), &names("a b c"), &Assignment::default());
        let outcome = assign(&lan(), &names("b c"), &first.assignment);
        for slices in [Slices::state(&outcome.assignment), Slices::answer(&lan(), &outcome)] {
            let text = serde_json::to_string(&slices).unwrap();
            assert_eq!(Slices::parse(&text).unwrap(), outcome.assignment, "{text}");
        }
    }

    #[test]
    fn what_is_no_state_is_named() {
        let error = |text: &str| Slices::parse(text).unwrap_err().to_string();
        assert_eq!(error("[]"), "not a state of slices");
        assert!(error(r#"{"version": 2, "nodes": []}"#).starts_with("version 2 is not known here"));
        let bad = r#"{"version": 1, "nodes": [{"node": "a", "slices": ["10.0.0.1", "x"]}]}"#;
        assert!(error(bad).starts_with("nodes[0].slices[1]: \"x\" is no run of addresses"), "{}", error(bad));
        let bad = r#"{"version": 1, "nodes": [], "departed": [{"node": "A", "slices": []}]}"#;
        assert!(error(bad).starts_with("departed[0].node: \"A\" is not a node name"), "{}", error(bad));
    }

    #[test]
    fn a_conflist_has_the_slice_and_the_routes() {
        let mut slice = PerFamily::<SpanSet>::default();
        for text in ["192.168.1.2-192.168.1.3", "192.168.1.9", "fd00:1::5-fd00:1::7"] {
            let span: Span = text.parse().unwrap();
            slice.get_mut(span.family()).insert(span);
        }
        let options = ConflistOptions {
            name: "lan".to_owned(),
            bridge: LinkName::new_static("br0"),
            node_addresses: PerFamily { v4: Some("192.168.1.30".parse().unwrap()), v6: None },
            services: vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
        };
        let text = serde_json::to_string_pretty(&conflist(&lan(), &slice, &options)).unwrap();
        expect![[r#"
            {
              "cniVersion": "1.0.0",
              "cniVersions": [
                "1.0.0",
                "1.1.0"
              ],
              "name": "lan",
              "plugins": [
                {
                  "type": "hopwise",
                  "attach": "bridge",
                  "bridge": "br0",
                  "addressConflictDetection": true,
                  "ipam": {
                    "type": "host-local",
                    "ranges": [
                      [
                        {
                          "subnet": "192.168.1.0/24",
                          "rangeStart": "192.168.1.2",
                          "rangeEnd": "192.168.1.3",
                          "gateway": "192.168.1.1"
                        },
                        {
                          "subnet": "192.168.1.0/24",
                          "rangeStart": "192.168.1.9",
                          "rangeEnd": "192.168.1.9",
                          "gateway": "192.168.1.1"
                        }
                      ],
                      [
                        {
                          "subnet": "fd00:1::/64",
                          "rangeStart": "fd00:1::5",
                          "rangeEnd": "fd00:1::7",
                          "gateway": "fe80::1"
                        }
                      ]
                    ],
                    "routes": [
                      {
                        "dst": "0.0.0.0/0",
                        "gw": "192.168.1.1"
                      },
                      {
                        "dst": "10.96.0.0/12",
                        "gw": "192.168.1.30"
                      },
                      {
                        "dst": "::/0",
                        "gw": "fe80::1"
                      }
                    ]
                  }
                }
              ]
            }"#]]
        .assert_eq(&text);
    }
}
