//! `lab check`: sends traffic between all ends of a lab and compares with what should be so.
//!
//! One thread serves the receiving ends of all namespaces; a bounded number of threads send, each entering the namespace
//! of the cell that it works on. A cell costs a millisecond when all is well, and its timeouts when not.

mod probe;
mod report;
mod server;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use hopwise_api::status::Status;
use hopwise_core::family::{Family, PerFamily};
use hopwise_kernel::netns::Namespace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::LabError;
use crate::expect::{Endpoint, Expectations, Expected};
use crate::lab::Lab;
use crate::layout::{Member, Role};
use crate::up::Progress;
use probe::probe;
use server::{Listening, Ports, Server};

pub use report::{
    AgentFinding, Cell, CheckReport, EndpointKind, EndpointReport, Finding, ModeFinding, Outcome,
};
pub use table::TableOptions;

/// How to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// How many cells are worked on at the same time. They wait more than they work, above all the failing ones.
    pub n_threads: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions { n_threads: 48 }
    }
}

/// One cell to work on.
struct Job<'a> {
    from: usize,
    to: usize,
    family: Family,
    address: std::net::IpAddr,
    ports: Ports,
    expected: Expected,
    namespace: &'a Namespace,
}

impl Lab {
    /// Checks everything: traffic between all ends, how nodes reach each other, whether agents are ready.
    pub fn check(
        &self,
        options: &CheckOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<CheckReport, LabError> {
        let start = Instant::now();
        raise_file_limit();
        let view = self.view()?;
        let expectations = Expectations::new(&self.layout, &view);
        let endpoints = self.endpoints()?;
        let (agents, modes) = self.check_agents(&expectations);

        let namespaces: Vec<Namespace> =
            endpoints.iter().map(|endpoint| self.namespace(endpoint.name)).collect::<Result<_, _>>()?;
        let listening = (endpoints.iter().zip(&namespaces))
            .map(|(endpoint, namespace)| listen(endpoint, namespace))
            .collect::<Result<Vec<_>, _>>()?;
        let ports: Vec<PerFamily<Option<Ports>>> = listening.iter().map(ports_of).collect();
        let server = Server::start(listening).map_err(LabError::step("starting the receiving ends"))?;
        let jobs = jobs(&expectations, &endpoints, &namespaces, &ports);
        let cells = work(options, &endpoints, &jobs, progress)?;
        drop(server);

        let ok = cells.iter().all(Cell::is_ok)
            && agents.is_empty()
            && modes.iter().all(|mode| mode.seen == Some(mode.expected));
        Ok(CheckReport {
            lab: self.name().to_string(),
            ok,
            endpoints: endpoints.iter().map(describe).collect(),
            cells,
            modes,
            agents,
            elapsed_millis: start.elapsed().as_millis() as u64,
        })
    }

    /// Pods and nodes, node by node, then outside hosts.
    fn endpoints(&self) -> Result<Vec<Endpoint<'_>>, LabError> {
        let mut endpoints = Vec::new();
        for (member, role) in self.layout.nodes() {
            for pod in &role.pods {
                let held = self.pod_addresses(pod)?;
                let address = |family| held.iter().copied().find(|address| Family::of(*address) == family);
                endpoints.push(Endpoint {
                    name: pod,
                    kind: EndpointKind::Pod,
                    host: &member.name,
                    addresses: PerFamily::from_fn(address),
                });
            }
            endpoints.push(host_endpoint(member));
        }
        endpoints.extend(self.layout.outside().map(host_endpoint));
        Ok(endpoints)
    }

    fn check_agents(&self, expectations: &Expectations<'_>) -> (Vec<AgentFinding>, Vec<ModeFinding>) {
        let mut agents = Vec::new();
        let mut statuses: BTreeMap<&str, Status> = BTreeMap::new();
        for (member, _) in self.layout.nodes() {
            let finding = |problem: String| AgentFinding { node: member.name.clone(), problem };
            match self.agent_status(&member.name) {
                Ok(status) => {
                    if !status.ready.ready {
                        agents.push(finding(format!("not ready: {}", status.ready.missing.join("; "))));
                    }
                    statuses.insert(&member.name, status);
                }
                Err(error) => agents.push(finding(match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                })),
            }
        }
        let mut modes = Vec::new();
        for (from, status) in &statuses {
            for (peer, _) in self.layout.nodes() {
                for family in self.layout.families() {
                    let Some(expected) = expectations.reach(from, &peer.name, family) else { continue };
                    let said = |p: &&hopwise_api::status::PeerStatus| {
                        p.node == peer.name && p.family == family.into()
                    };
                    modes.push(ModeFinding {
                        from: (*from).to_owned(),
                        to: peer.name.clone(),
                        family: family.into(),
                        expected,
                        seen: status.peers.iter().find(said).map(|peer| peer.mode),
                    });
                }
            }
        }
        (agents, modes)
    }
}

fn host_endpoint(member: &Member) -> Endpoint<'_> {
    let kind = match member.role {
        Role::Node(_) => EndpointKind::Node,
        Role::Router | Role::Outside => EndpointKind::Outside,
    };
    let address = |family| member.interfaces.iter().find_map(|link| link.address(family));
    Endpoint { name: &member.name, kind, host: &member.name, addresses: PerFamily::from_fn(address) }
}

fn describe(endpoint: &Endpoint<'_>) -> EndpointReport {
    EndpointReport {
        name: endpoint.name.to_owned(),
        kind: endpoint.kind,
        host: endpoint.host.to_owned(),
        addresses: endpoint.addresses.iter().filter_map(|(_, address)| *address).collect(),
    }
}

/// Each end listens with two sockets a family, and each sender has two: more than the usual 1,024 in a large lab.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn listen(endpoint: &Endpoint<'_>, namespace: &Namespace) -> Result<PerFamily<Option<Listening>>, LabError> {
    let doing = format!("listening in {}", endpoint.name);
    let open = |family: Family| endpoint.addresses.get(family).map(Listening::open).transpose();
    let opened = namespace.run(|| Ok::<_, std::io::Error>((open(Family::V4)?, open(Family::V6)?)));
    let (v4, v6) = opened.map_err(LabError::step(&*doing))?.map_err(LabError::step(&*doing))?;
    Ok(PerFamily { v4, v6 })
}

fn ports_of(listening: &PerFamily<Option<Listening>>) -> PerFamily<Option<Ports>> {
    PerFamily::from_fn(|family| listening.get(family).as_ref().and_then(|sockets| sockets.ports().ok()))
}

/// All pairs of ends that should reach each other.
fn jobs<'a>(
    expectations: &Expectations<'_>,
    endpoints: &[Endpoint<'_>],
    namespaces: &'a [Namespace],
    ports: &[PerFamily<Option<Ports>>],
) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for (from, sender) in endpoints.iter().enumerate() {
        for (to, receiver) in endpoints.iter().enumerate().filter(|(to, _)| *to != from) {
            for family in Family::BOTH {
                let expected = expectations.between(sender, receiver, family);
                let (address, ports) = (*receiver.addresses.get(family), *ports[to].get(family));
                if let (Some(expected), Some(address), Some(ports)) = (expected, address, ports) {
                    jobs.push(Job {
                        from,
                        to,
                        family,
                        address,
                        ports,
                        expected,
                        namespace: &namespaces[from],
                    });
                }
            }
        }
    }
    jobs
}

fn work(
    options: &CheckOptions,
    endpoints: &[Endpoint<'_>],
    jobs: &[Job<'_>],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Cell>, LabError> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut found: Vec<Option<Cell>> = jobs.iter().map(|_| None).collect();
    let mut failed = None;
    std::thread::scope(|scope| {
        for _ in 0..options.n_threads.clamp(1, jobs.len().max(1)) {
            let sender = sender.clone();
            let next = &next;
            // The thread goes from namespace to namespace and ends in one: it is used for nothing else.
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    if sender.send((number, cell(endpoints, job, number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let total = jobs.len();
        for (done, (number, cell)) in receiver.iter().enumerate() {
            match cell {
                Ok(cell) => found[number] = Some(cell),
                Err(error) => {
                    next.store(total, Ordering::Relaxed);
                    failed.get_or_insert(error);
                }
            }
            progress(Progress { doing: "checking", done: done + 1, total });
        }
    });
    failed.map_or_else(|| Ok(found.into_iter().flatten().collect()), Err)
}

fn cell(endpoints: &[Endpoint<'_>], job: &Job<'_>, number: usize) -> Result<Cell, LabError> {
    let (from, to) = (&endpoints[job.from], &endpoints[job.to]);
    job.namespace.enter().map_err(LabError::step(format!("entering the namespace of {}", from.name)))?;
    // A raw socket sees all echo replies of its namespace: cells that share one have different identifiers.
    let id = number as u16;
    let probed = probe(job.address, job.ports, id, &job.expected);
    Ok(Cell {
        from: from.name.to_owned(),
        to: to.name.to_owned(),
        family: job.family.into(),
        address: job.address,
        icmp: probed.icmp,
        tcp: probed.tcp,
        udp: probed.udp,
        mtu: probed.mtu,
        source: probed.source,
    })
}
