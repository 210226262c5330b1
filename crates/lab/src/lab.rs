//! A lab that is up, to look at and to change.

use hopwise_core::cluster::ClusterView;
use hopwise_kernel::netns::Namespace;

use crate::error::LabError;
use crate::inventory::Inventory;
use crate::layout::{Layout, Member};
use crate::name::LabName;
use crate::rootless;
use crate::state::{self, Binaries, Record, StateDir};

/// A lab that is up. Dropping it changes nothing: a lab lives until `down`.
#[derive(Clone, Debug)]
pub struct Lab {
    pub(crate) layout: Layout,
    pub(crate) dir: StateDir,
    pub(crate) binaries: Binaries,
}

impl Lab {
    /// Finds a lab that is up. Without root this process joins the lab's user namespace, for good, which it can only
    /// do before it has started threads.
    pub fn open(name: &LabName) -> Result<Lab, LabError> {
        let dir = StateDir::of(name);
        let Some(record) = dir.read_record()? else {
            return Err(not_found(name));
        };
        if !record.complete {
            return Err(LabError::Unfinished { lab: name.clone() });
        }
        if !rootless::is_privileged() {
            rootless::join(name, &dir.holder())?;
        }
        Ok(Lab::from_record(record, dir))
    }

    pub(crate) fn from_record(record: Record, dir: StateDir) -> Lab {
        Lab { layout: record.layout, dir, binaries: record.binaries }
    }

    /// The lab's name.
    pub fn name(&self) -> &LabName {
        &self.layout.lab
    }

    /// Every name, address and route.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its files.
    pub fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// The network namespace of a node, pod, router, outside host, or the switch.
    pub fn namespace(&self, target: &str) -> Result<Namespace, LabError> {
        let targets = self.layout.targets();
        if !targets.contains(&target) {
            return Err(LabError::UnknownTarget {
                lab: self.name().clone(),
                target: target.to_owned(),
                known: targets.join(", "),
            });
        }
        Namespace::open_named(&self.name().namespace(target))
            .map_err(LabError::step(format!("opening the namespace of {target}")))
    }

    /// Runs something inside a namespace, on a thread of its own.
    pub fn inside<T: Send>(&self, target: &str, body: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let namespace = self.namespace(target)?;
        namespace.run(body).map_err(LabError::step(format!("entering the namespace of {target}")))
    }

    /// The inventory as it stands.
    pub fn inventory(&self) -> Result<Inventory, LabError> {
        Inventory::read(&self.dir.inventory())
    }

    /// Changes the inventory in one step: agents see all of the change or nothing.
    pub fn edit_inventory(&self, edit: impl FnOnce(&mut Inventory)) -> Result<(), LabError> {
        let mut inventory = self.inventory()?;
        edit(&mut inventory);
        inventory.write(&self.dir.inventory())
    }

    /// What agents make of the inventory.
    pub(crate) fn view(&self) -> Result<ClusterView, LabError> {
        self.inventory()?.view(&self.dir.inventory())
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Member, LabError> {
        self.layout.node(name).map(|(member, _)| member).ok_or_else(|| LabError::UnknownTarget {
            lab: self.name().clone(),
            target: name.to_owned(),
            known: self.layout.nodes().map(|(member, _)| member.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

pub(crate) fn not_found(lab: &LabName) -> LabError {
    let labs: Vec<String> = state::labs().iter().map(ToString::to_string).collect();
    let others = match labs.as_slice() {
        [] => String::new(),
        labs => format!(" (there are: {})", labs.join(", ")),
    };
    LabError::NotFound { lab: lab.clone(), others }
}
