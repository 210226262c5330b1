//! `lab status`: what there is, and how the agents stand.

use std::fmt::Write;

use serde::Serialize;

use crate::error::LabError;
use crate::lab::Lab;
use crate::layout::Role;
use crate::state;

/// How a lab stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// What its topology says about itself.
    pub description: String,
    /// Its directory.
    pub directory: String,
    /// Its nodes.
    pub nodes: Vec<LabNode>,
    /// Routers and outside hosts.
    pub others: Vec<LabHost>,
}

/// A node of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabNode {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its pod CIDRs.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// `ready`, `not ready` or `not running`.
    pub agent: &'static str,
    /// The agent's process, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its pods.
    pub pods: Vec<LabHost>,
}

/// A pod, router or outside host of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabHost {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses; none for a pod that is not attached.
    pub addresses: Vec<String>,
}

impl LabStatus {
    /// Whether every agent is ready.
    pub fn is_ready(&self) -> bool {
        self.nodes.iter().all(|node| node.agent == "ready")
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut rows = vec![[
            "NAME".to_owned(),
            "ADDRESSES".into(),
            "POD CIDRS".into(),
            "AGENT".into(),
            "NAMESPACE".into(),
        ]];
        for node in &self.nodes {
            let agent = match node.pid {
                Some(pid) => format!("{} (pid {pid})", node.agent),
                None => node.agent.to_owned(),
            };
            let (addresses, cidrs) = (node.addresses.join(" "), node.pod_cidrs.join(" "));
            rows.push([node.name.clone(), addresses, cidrs, agent, node.namespace.clone()]);
            rows.extend(node.pods.iter().map(|pod| pod.row("  ")));
        }
        rows.extend(self.others.iter().map(|host| host.row("")));
        let widths: Vec<usize> = (0..5)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = format!("lab {}: {}\nfiles in {}\n\n", self.name, self.description, self.directory);
        for row in rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

impl LabHost {
    fn row(&self, indent: &str) -> [String; 5] {
        let name = format!("{indent}{}", self.name);
        [name, self.addresses.join(" "), String::new(), String::new(), self.namespace.clone()]
    }
}

impl Lab {
    /// How the lab stands.
    pub fn status(&self) -> Result<LabStatus, LabError> {
        let mut status = LabStatus {
            name: self.name().to_string(),
            description: self.layout.topology.description.clone(),
            directory: self.dir.path().display().to_string(),
            nodes: Vec::new(),
            others: Vec::new(),
        };
        for member in &self.layout.members {
            let host = LabHost {
                name: member.name.clone(),
                namespace: self.name().namespace(&member.name),
                addresses: member
                    .interfaces
                    .iter()
                    .flat_map(|l| l.addresses.iter().map(|(a, _)| a.to_string()))
                    .collect(),
            };
            let Role::Node(role) = &member.role else {
                status.others.push(host);
                continue;
            };
            let pid = self.agent(&member.name)?.map(|agent| agent.pid);
            let agent = match pid {
                None => "not running",
                Some(_) if self.is_ready(&member.name) => "ready",
                Some(_) => "not ready",
            };
            let pods = role.pods.iter().map(|pod| LabHost {
                name: pod.clone(),
                namespace: self.name().namespace(pod),
                addresses: self
                    .pod_addresses(pod)
                    .unwrap_or_default()
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            });
            status.nodes.push(LabNode {
                name: host.name,
                namespace: host.namespace,
                addresses: host.addresses,
                pod_cidrs: role.pod_cidrs.iter().map(ToString::to_string).collect(),
                agent,
                pid,
                pods: pods.collect(),
            });
        }
        Ok(status)
    }
}

/// The names of the labs that this user has.
pub fn labs() -> Vec<crate::name::LabName> {
    state::labs()
}
