//! `lab up`: from a topology to running agents and attached pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::down;
use crate::error::LabError;
use crate::interrupt::Interrupt;
use crate::inventory::Inventory;
use crate::lab::Lab;
use crate::layout::{Layout, Numbers};
use crate::name::LabName;
use crate::network::{each_in_parallel, make_namespaces};
use crate::rootless;
use crate::state::{Binaries, Record, StateDir};
use crate::topology;

/// What to make.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The lab's name.
    pub name: LabName,
    /// A built-in topology's name, or a file.
    pub topology: String,
    /// How many nodes and pods, where not as many as the topology says.
    pub numbers: Numbers,
    /// The `hopwise` binary; the running one when not given.
    pub hopwise: Option<PathBuf>,
    /// The `hopwise-cni` binary; the one beside `hopwise` when not given.
    pub cni: Option<PathBuf>,
    /// How long agents may take to become ready.
    pub ready_timeout: Duration,
}

impl Default for UpOptions {
    fn default() -> Self {
        UpOptions {
            name: LabName::default(),
            topology: topology::DEFAULT.to_owned(),
            numbers: Numbers::default(),
            hopwise: None,
            cni: None,
            ready_timeout: Duration::from_secs(20),
        }
    }
}

/// How far a command has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub doing: &'static str,
    /// How many of it are done.
    pub done: usize,
    /// How many there are.
    pub total: usize,
}

/// Makes a lab. When it fails, or SIGINT, SIGTERM or SIGHUP comes, everything is removed again.
///
/// Without root this process makes a user namespace and joins it, for good; it must not have started threads.
pub fn up(options: &UpOptions, progress: &mut dyn FnMut(Progress)) -> Result<Lab, LabError> {
    let binaries = find_binaries(options)?;
    let topology = topology::load(&options.topology)?;
    let layout = Layout::resolve(options.name.clone(), topology, options.numbers)?;
    let dir = StateDir::of(&options.name);
    let inventory = Inventory::of(&layout);
    let record = Record { layout, binaries, complete: false };

    clear_unfinished(&options.name, &dir)?;
    let interrupt = Interrupt::watch();
    let made = make(
        &options.name,
        &dir,
        record,
        &inventory,
        &mut |step| {
            progress(step);
            interrupt.check()
        },
        options.ready_timeout,
    );
    if made.is_err() && !matches!(made, Err(LabError::Busy { .. })) {
        // The first error is what the user needs to see; leftovers show in the next `up` or `down`.
        let _ = down::remove(&options.name, &dir);
    }
    made
}

/// Removes what an `up` that was killed has left. A lab that is up is an error.
fn clear_unfinished(lab: &LabName, dir: &StateDir) -> Result<(), LabError> {
    if !dir.exists() {
        return Ok(());
    }
    let lock = dir.lock_soon(lab)?;
    if let Ok(Some(Record { complete: true, .. })) = dir.read_record() {
        return Err(LabError::Exists { lab: lab.clone() });
    }
    drop(lock);
    down::remove(lab, dir)
}

fn make(
    name: &LabName,
    dir: &StateDir,
    mut record: Record,
    inventory: &Inventory,
    step: &mut dyn FnMut(Progress) -> Result<(), LabError>,
    ready_timeout: Duration,
) -> Result<Lab, LabError> {
    let create_lock = || dir.create(name);
    let lock = if rootless::is_privileged() {
        create_lock()?
    } else {
        // The holder inherits what is open here, so it is made before the lock is taken.
        drop(create_lock()?);
        rootless::create(name, &dir.holder())?;
        dir.lock(name)?
    };
    dir.write_record(&record)?;
    let lab = Lab::from_record(record.clone(), dir.clone());
    std::fs::create_dir_all(dir.node_data()).map_err(LabError::file(&dir.node_data()))?;
    inventory.write(&dir.inventory())?;
    // A setting that no agent would take is better said now, with its place in the inventory.
    inventory.view(&dir.inventory())?;

    let layout = &lab.layout;
    let nodes: Vec<&str> = layout.nodes().map(|(member, _)| member.name.as_str()).collect();
    let pods: Vec<&str> = layout.pods().map(|(pod, _)| pod).collect();
    let n_namespaces = layout.targets().len();
    step(Progress { doing: "making namespaces", done: 0, total: n_namespaces })?;
    make_namespaces(layout)?;
    step(Progress { doing: "connecting", done: 0, total: layout.members.len() })?;
    lab.connect_all()?;
    step(Progress { doing: "starting agents", done: 0, total: nodes.len() })?;
    each_in_parallel(&nodes, |node| lab.start_agent(node))?;
    let ready = |done| step(Progress { doing: "waiting for agents", done, total: nodes.len() });
    lab.wait_all_ready(&nodes, ready_timeout, ready)?;
    step(Progress { doing: "attaching pods", done: 0, total: pods.len() })?;
    each_in_parallel(&pods, |pod| lab.attach_pod(pod))?;
    step(Progress { doing: "attaching pods", done: pods.len(), total: pods.len() })?;
    record.complete = true;
    dir.write_record(&record)?;
    drop(lock);
    Ok(lab)
}

fn find_binaries(options: &UpOptions) -> Result<Binaries, LabError> {
    let hopwise = match &options.hopwise {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(LabError::file(Path::new("/proc/self/exe")))?,
    };
    let beside = || hopwise.with_file_name("hopwise-cni");
    let cni = options.cni.clone().unwrap_or_else(beside);
    let found = |what, path: PathBuf, option| match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(LabError::NoBinary { what, path, option }),
    };
    Ok(Binaries {
        hopwise: found("hopwise binary", hopwise, "--hopwise")?,
        cni: found("hopwise-cni binary", cni, "--cni")?,
    })
}
