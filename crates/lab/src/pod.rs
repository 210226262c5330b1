//! Pods: the lab plays the container runtime and calls the real plugin, as the CNI specification (1.1) has it.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use hopwise_core::family::Family;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::LabError;
use crate::lab::Lab;
use crate::layout::NodeRole;
use crate::state::write_atomically;

/// The name of the network in the lab's CNI configuration.
const NETWORK: &str = "hopwise-lab";
const INTERFACE: &str = "eth0";
/// The bridge that a node's pods are ports of.
const BRIDGE: &str = "hopwise0";

/// The part of a plugin's result that the lab needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct AddResult {
    #[serde(default)]
    ips: Vec<ResultIp>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ResultIp {
    address: String,
}

impl Lab {
    /// Attaches a pod of the layout to its node.
    pub fn attach_pod(&self, pod: &str) -> Result<(), LabError> {
        let (member, role) = self.layout.node_of_pod(pod).ok_or_else(|| self.unknown_pod(pod))?;
        let mtu = self.agent_status(&member.name)?.pod_mtu.unwrap_or(member.interfaces[0].mtu);
        let node = member.name.as_str();
        let network = self.network_configuration(node, role, mtu);
        let written =
            serde_json::to_vec_pretty(&network).map_err(LabError::step("writing a CNI configuration"))?;
        let path = self.dir.node(node).join("10-hopwise.conflist");
        write_atomically(&path, &written).map_err(LabError::file(&path))?;
        let output = self.call_plugin("ADD", node, pod, &plugin_configuration(&network, None))?;
        let path = self.result_file(node, pod);
        write_atomically(&path, &output).map_err(LabError::file(&path))
    }

    /// Detaches a pod from its node.
    pub fn detach_pod(&self, pod: &str) -> Result<(), LabError> {
        let (member, _) = self.layout.node_of_pod(pod).ok_or_else(|| self.unknown_pod(pod))?;
        let node = member.name.as_str();
        let (network, result) =
            (self.dir.node(node).join("10-hopwise.conflist"), self.result_file(node, pod));
        let read = |path: &std::path::Path| -> Result<Value, LabError> {
            let bytes = std::fs::read(path).map_err(LabError::file(path))?;
            serde_json::from_slice(&bytes).map_err(LabError::step(format!("reading {}", path.display())))
        };
        let configuration = plugin_configuration(&read(&network)?, Some(read(&result)?));
        self.call_plugin("DEL", node, pod, &configuration)?;
        std::fs::remove_file(&result).map_err(LabError::file(&result))
    }

    /// The addresses of a pod, as the plugin gave them.
    pub fn pod_addresses(&self, pod: &str) -> Result<Vec<IpAddr>, LabError> {
        let (member, _) = self.layout.node_of_pod(pod).ok_or_else(|| self.unknown_pod(pod))?;
        let path = self.result_file(&member.name, pod);
        let bytes = std::fs::read(&path).map_err(LabError::file(&path))?;
        let damaged = |problem: String| LabError::Damaged { path: path.clone(), problem };
        let result: AddResult = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let parse = |ip: &ResultIp| {
            let address = ip.address.split('/').next().unwrap_or_default();
            address.parse().map_err(|_| damaged(format!("{:?} is no address", ip.address)))
        };
        result.ips.iter().map(parse).collect()
    }

    /// The address of one family of a pod.
    pub fn pod_address(&self, pod: &str, family: Family) -> Result<IpAddr, LabError> {
        let addresses = self.pod_addresses(pod)?;
        addresses.into_iter().find(|address| Family::of(*address) == family).ok_or_else(|| {
            LabError::step(format!("looking for the address of {pod}"))(format!("it has no {family} address"))
        })
    }

    /// A network configuration list, as a runtime would find it in `/etc/cni/net.d`.
    fn network_configuration(&self, node: &str, role: &NodeRole, mtu: u32) -> Value {
        let ranges: Vec<Value> =
            role.pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr.to_string() }])).collect();
        json!({
            "cniVersion": "1.0.0",
            "name": NETWORK,
            "plugins": [{
                "type": "hopwise",
                "bridge": BRIDGE,
                "isDefaultGateway": true,
                "hairpinMode": true,
                "mtu": mtu,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.dir.node(node).join("ipam"),
                    "ranges": ranges,
                },
            }],
        })
    }

    fn result_file(&self, node: &str, pod: &str) -> std::path::PathBuf {
        self.dir.node(node).join(format!("{pod}.json"))
    }

    fn call_plugin(
        &self,
        command: &'static str,
        node: &str,
        pod: &str,
        configuration: &Value,
    ) -> Result<Vec<u8>, LabError> {
        let failed = |message: String| LabError::Plugin { command, pod: pod.to_owned(), message };
        let namespace = format!("{}/{}", hopwise_kernel::netns::NAMED_DIR, self.name().namespace(pod));
        let mut plugin = Command::new(&self.binaries.cni);
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.name().namespace(pod))
            .env("CNI_NETNS", namespace)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", self.binaries.cni.parent().unwrap_or(std::path::Path::new("/")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.inside(node, || plugin.spawn())?.map_err(|error| failed(error.to_string()))?;
        let stdin = child.stdin.take();
        let written = stdin.map(|mut stdin| stdin.write_all(configuration.to_string().as_bytes()));
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
            return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim())));
        }
        match written {
            Some(Err(error)) => Err(failed(format!("it did not read its configuration: {error}"))),
            _ => Ok(output.stdout),
        }
    }

    fn unknown_pod(&self, pod: &str) -> LabError {
        LabError::UnknownTarget {
            lab: self.name().clone(),
            target: pod.to_owned(),
            known: self.layout.pods().map(|(pod, _)| pod).collect::<Vec<_>>().join(", "),
        }
    }
}

/// What a runtime gives the first plugin of a list: its part, with the list's name and version, and on the way down the result
/// of the way up.
fn plugin_configuration(network: &Value, previous: Option<Value>) -> Value {
    let mut configuration = network["plugins"][0].clone();
    configuration["cniVersion"] = network["cniVersion"].clone();
    configuration["name"] = network["name"].clone();
    if let Some(previous) = previous {
        configuration["prevResult"] = previous;
    }
    configuration
}
