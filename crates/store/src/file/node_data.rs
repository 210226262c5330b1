//! The node data directory: one file `NODE.json` per node, written by its agent, read by all others.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hopwise_api::node_data::{self, MAX_LEN};
use hopwise_core::cluster::NodeData;
use hopwise_core::name::NodeName;

use super::inventory::Stamp;
use crate::StoreTrouble;
use crate::disk;

/// The directory and what was read from it last.
#[derive(Debug)]
pub struct NodeDataDir {
    dir: PathBuf,
    node: NodeName,
    stamp: Option<Stamp>,
    /// Files that hold node data, right or wrong.
    files: BTreeSet<OsString>,
    /// What our own file should hold.
    wanted: Option<String>,
}

/// What one file says: a node's data, or why not. `None`: it is gone.
pub type Said = Option<Result<NodeData, StoreTrouble>>;

impl NodeDataDir {
    /// A directory that was not read yet; `node` is us.
    pub fn new(dir: PathBuf, node: NodeName) -> NodeDataDir {
        NodeDataDir { dir, node, stamp: None, files: BTreeSet::new(), wanted: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether it is another directory than at the last scan, or came or went.
    pub fn is_another(&self) -> bool {
        Stamp::of(&self.dir).map(Stamp::file) != self.stamp.map(Stamp::file)
    }

    /// Whether entries were made or removed since the last scan.
    pub fn looks_changed(&self) -> bool {
        Stamp::of(&self.dir) != self.stamp
    }

    /// Reads all of it. A directory that is not there is an empty one: it is made with the first publication.
    pub fn scan(&mut self) -> Result<BTreeMap<OsString, Said>, StoreTrouble> {
        let stamp = Stamp::of(&self.dir);
        let mut names = std::mem::take(&mut self.files);
        match fs::read_dir(&self.dir) {
            Ok(entries) => names.extend(entries.filter_map(|entry| Some(entry.ok()?.file_name()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                self.files = names;
                return Err(StoreTrouble {
                    subject: self.dir.display().to_string(),
                    message: format!("can't list the node data directory: {error}"),
                    fix: "let the agent's user read it, or name another with --node-data".to_owned(),
                });
            }
        }
        self.stamp = stamp;
        Ok(self.read(&names))
    }

    /// Reads some files, leaving out what is not node data by its name: half-written files beside, editors' backups.
    pub fn read(&mut self, names: &BTreeSet<OsString>) -> BTreeMap<OsString, Said> {
        let mut said = BTreeMap::new();
        for name in names {
            if let Some(stem) = stem(name) {
                let one = self.read_one(name, stem);
                if one.is_some() {
                    self.files.insert(name.clone());
                } else {
                    self.files.remove(name);
                }
                said.insert(name.clone(), one);
            }
        }
        said
    }

    /// Says what our own file should hold.
    pub fn want(&mut self, data: &NodeData) {
        self.wanted = Some(node_data::encode(&self.node, data));
    }

    /// Whether our own file holds what it should, as far as anything is wanted.
    pub fn is_published(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| {
            disk::read_regular(&self.dir.join(self.own_file()), MAX_LEN)
                .is_ok_and(|there| there == wanted.as_bytes())
        })
    }

    /// Writes our own file, unless it holds already what it should.
    pub fn write(&self) -> Result<(), StoreTrouble> {
        let Some(wanted) = self.wanted.as_ref().filter(|_| !self.is_published()) else { return Ok(()) };
        let name = self.own_file();
        disk::write_atomically(&self.dir, &name, wanted.as_bytes()).map_err(|error| StoreTrouble {
            subject: self.dir.join(&name).display().to_string(),
            message: format!("can't publish our own data: {error}"),
            fix: "let the agent's user write there; peers resolve our address by ARP until then".to_owned(),
        })
    }

    fn own_file(&self) -> String {
        format!("{}.json", self.node)
    }

    fn read_one(&self, name: &OsStr, stem: &str) -> Said {
        let path = self.dir.join(name);
        let trouble = |field: String, message: String, fix: String| StoreTrouble {
            subject: path.display().to_string(),
            message: if field.is_empty() { message } else { format!("{field}: {message}") },
            fix,
        };
        let bytes = match disk::read_regular(&path, MAX_LEN) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                let message = format!("can't read the node data: {error}");
                let fix = "make it a small file that the agent's user can read, or delete it".to_owned();
                return Some(Err(trouble(String::new(), message, fix)));
            }
        };
        let Ok(node) = stem.parse::<NodeName>() else {
            let message = format!("{stem:?} is not a node name");
            return Some(Err(trouble(
                String::new(),
                message,
                "rename the file NODE.json, or delete it".to_owned(),
            )));
        };
        let data = node_data::decode(&bytes, &node);
        Some(data.map_err(|error| trouble(error.path.to_string(), error.message, error.fix)))
    }
}

/// The node whose file this is, by its name.
pub fn node_of(name: &OsStr) -> Option<NodeName> {
    stem(name)?.parse().ok()
}

/// `NODE` of `NODE.json`; `None` for files that are none of ours.
fn stem(name: &OsStr) -> Option<&str> {
    name.to_str()?.strip_suffix(".json").filter(|stem| !stem.starts_with('.') && !stem.is_empty())
}
