//! The file store: one inventory, followed by inotify, and a directory through which agents tell each other their MAC
//! addresses.
//!
//! Good news travels at once, bad news waits: a change is read as soon as writing has stopped for a moment
//! ([`QUIET`]), but a file that is missing or wrong gets [`GRACE`] to come right, since many an editor removes a file
//! before it writes the new one. Whatever inotify does not tell (other hosts' writes on NFS, bind mounts, a kernel out of
//! watches) the slow check finds.
//!
//! No wall clock is read: a clock that jumps changes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hopwise_core::cluster::{ClusterView, NodeData};
use hopwise_core::name::NodeName;
use tokio::time::Instant;

use self::inventory::{InventoryFile, Reading};
use self::node_data::{NodeDataDir, Said, node_of};
use self::view::Current;
use self::watch::{Changed, Trail, Watch};
use crate::{ClusterStore, StoreEvent, StoreTrouble};

mod inventory;
mod node_data;
#[cfg(test)]
mod tests;
mod view;
mod watch;

/// Changes are read once there were none for so long.
const QUIET: Duration = Duration::from_millis(1);

/// Changes are read after so long even if they go on.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a file may be missing or wrong before anybody is told.
const GRACE: Duration = Duration::from_millis(50);

/// A file that somebody writes in place is left alone until it is closed, or was not written to for so long.
const WRITER: Duration = Duration::from_secs(1);

/// And even if it is written to all the time, for no longer than this.
const ENDLESS_WRITER: Duration = Duration::from_secs(10);

/// The slow check, where inotify works and where it doesn't.
const SLOW_CHECK: Duration = Duration::from_secs(10);
const SLOW_CHECK_ALONE: Duration = Duration::from_secs(1);

/// Our own file is written again at most so often: two agents under one name must not fight at full speed.
const REPUBLISH: Duration = Duration::from_secs(1);

/// What the file store needs to know.
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    /// The inventory. May be reached through symbolic links.
    pub inventory: PathBuf,
    /// Where agents publish their data; made when it is not there.
    pub node_data_dir: Option<PathBuf>,
    /// The node that we are.
    pub node: NodeName,
}

/// A [`ClusterStore`] over files.
#[derive(Debug)]
pub struct FileStore {
    inventory: InventoryFile,
    data: Option<NodeDataDir>,
    watch: Option<Watch>,
    current: Current,
    /// What is wrong right now, as it was told.
    troubles: BTreeMap<Source, StoreTrouble>,
    pending: VecDeque<StoreEvent>,
    /// What there is to tell once the first view was told.
    held_back: Vec<StoreEvent>,
    dirty: Dirty,
    due: Due,
}

/// What a trouble is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Watch,
    Inventory,
    Directory,
    Publication,
    NodeData(OsString),
}

/// What has to be looked at.
#[derive(Debug, Default)]
struct Dirty {
    inventory: bool,
    data: BTreeSet<OsString>,
    data_dir: bool,
}

/// What is to happen when.
#[derive(Debug, Default)]
struct Due {
    /// Look at what is dirty; with the time of the first change.
    settled: Option<(Instant, Instant)>,
    /// Look at the inventory again, which was being written or was wrong.
    inventory_again: Option<Instant>,
    /// The inventory is being written: since when, and until when to leave it alone.
    writer: Option<(Instant, Instant)>,
    /// When an inventory that is wrong is told.
    doubt: Option<Instant>,
    publication: Option<Instant>,
    /// Not before this is our file written again.
    republication: Option<Instant>,
    /// `None` before the start.
    slow_check: Option<Instant>,
}

impl FileStore {
    /// Prepares to follow an inventory. Reads nothing yet: the first [`ClusterStore::next`] does, on a tokio runtime with
    /// I/O and time. A file that is missing or wrong is no error here but trouble there.
    ///
    /// An error is a path that means nothing, such as an empty one.
    pub fn open(options: FileStoreOptions) -> Result<FileStore, StoreTrouble> {
        let absolute = |path: PathBuf, what: &str| {
            std::path::absolute(&path).map_err(|error| StoreTrouble {
                subject: format!("{:?}", path.display().to_string()),
                message: format!("this path of the {what} can't be used: {error}"),
                fix: "give an absolute path".to_owned(),
            })
        };
        let inventory = absolute(options.inventory, "inventory")?;
        let dir = options.node_data_dir.map(|dir| absolute(dir, "node data directory")).transpose()?;
        Ok(FileStore {
            inventory: InventoryFile::new(inventory),
            data: dir.map(|dir| NodeDataDir::new(dir, options.node)),
            watch: None,
            current: Current::default(),
            troubles: BTreeMap::new(),
            pending: VecDeque::new(),
            held_back: Vec::new(),
            dirty: Dirty { inventory: true, data: BTreeSet::new(), data_dir: true },
            due: Due::default(),
        })
    }

    /// Carries the seniority of claims over from an earlier run's view. What the view says is not told to anybody: the
    /// first event is a complete view from the files, as ever.
    #[must_use]
    pub fn remembering(mut self, saved: Arc<ClusterView>) -> FileStore {
        self.current.remember(saved);
        self
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) {
        let due = [
            self.due.settled.map(|(_, due)| due),
            self.due.inventory_again,
            self.due.publication,
            self.due.slow_check,
        ];
        let Some(due) = due.into_iter().flatten().min() else { return };
        let changed = match &mut self.watch {
            Some(watch) => tokio::select! {
                changed = watch.changed() => changed,
                () = tokio::time::sleep_until(due) => return,
            },
            None => return tokio::time::sleep_until(due).await,
        };
        self.note(changed);
    }

    fn note(&mut self, changed: Changed) {
        let now = Instant::now();
        self.dirty.inventory |= changed.trail || changed.everything;
        self.dirty.data_dir |= changed.everything;
        self.dirty.data.extend(changed.data);
        match changed.writer {
            Some(true) => {
                let since = self.due.writer.map_or(now, |(since, _)| since);
                let until = (now + WRITER).min(since + ENDLESS_WRITER);
                self.due.writer = Some((since, until));
                self.due.inventory_again = Some(until);
            }
            Some(false) => self.due.writer = None,
            None => {}
        }
        let first = self.due.settled.map_or(now, |(first, _)| first);
        self.due.settled = Some((first, (now + QUIET).min(first + PATIENCE)));
    }

    /// Does what is due. No await in it: whoever drops the future of `next` drops no work half done.
    fn work(&mut self) {
        let now = Instant::now();
        let is_due = |due: &Option<Instant>| due.is_some_and(|due| due <= now);
        let slow_check = self.due.slow_check.is_none_or(|due| due <= now);
        if slow_check || self.due.settled.is_some_and(|(_, due)| due <= now) {
            self.due.settled = None;
            self.look_again(slow_check);
        }
        if is_due(&self.due.inventory_again) {
            self.due.inventory_again = None;
            self.read_inventory(now);
        }
        if slow_check {
            let every = if self.watch.is_some() { SLOW_CHECK } else { SLOW_CHECK_ALONE };
            self.due.slow_check = Some(now + every);
            self.republish(now);
        }
        if is_due(&self.due.publication) {
            self.due.publication = None;
            self.write_publication(now);
        }
    }

    /// Watches what there is to watch, then reads what has changed: in this order nothing is missed.
    fn look_again(&mut self, slow_check: bool) {
        let now = Instant::now();
        if slow_check || self.dirty.inventory || self.dirty.data_dir {
            self.watch_again();
            self.dirty.inventory |= slow_check && self.inventory.looks_changed();
            let data = self.data.as_ref();
            self.dirty.data_dir |=
                data.is_some_and(|data| data.is_another() || slow_check && data.looks_changed());
        }
        let names = std::mem::take(&mut self.dirty.data);
        if std::mem::take(&mut self.dirty.data_dir) {
            self.scan_data();
        } else if let Some(data) = self.data.as_mut().filter(|_| !names.is_empty()) {
            let said = data.read(&names);
            self.take_data(said);
        }
        if std::mem::take(&mut self.dirty.inventory) {
            self.read_inventory(now);
        }
        self.republish(now);
    }

    fn watch_again(&mut self) {
        let result = match &mut self.watch {
            Some(_) => Ok(()),
            None => Watch::open().map(|watch| self.watch = Some(watch)),
        };
        let inventory = Trail::follow(self.inventory.path());
        let data_dir = self.data.as_ref().map(NodeDataDir::path);
        let data = data_dir.map(Trail::follow).unwrap_or_default();
        let result = result.and_then(|()| match &mut self.watch {
            Some(watch) => watch.set(&[&inventory, &data], data_dir),
            None => Ok(()),
        });
        if result.is_err() {
            self.watch = None;
        }
        let trouble = result.err().map(|error| StoreTrouble {
            subject: self.inventory.path().display().to_string(),
            message: format!("can't watch for changes, so they are looked for every second: {error}"),
            fix: "raise the sysctls fs.inotify.max_user_watches and fs.inotify.max_user_instances".to_owned(),
        });
        self.tell(Source::Watch, trouble);
    }

    fn read_inventory(&mut self, now: Instant) {
        if let Some((_, until)) = self.due.writer.filter(|(_, until)| *until > now) {
            self.due.inventory_again = Some(until);
            return;
        }
        match self.inventory.read() {
            Reading::View(view) => {
                self.inventory_is_good();
                self.pending.extend(self.current.put_inventory(view));
                self.pending.extend(self.held_back.drain(..));
                for node in self.current.publishers() {
                    self.check_publisher(&node);
                }
            }
            Reading::Same => self.inventory_is_good(),
            Reading::Unsettled => self.due.inventory_again = Some(now + PATIENCE),
            Reading::Bad(trouble) => {
                let doubt = *self.due.doubt.get_or_insert(now + GRACE);
                if doubt <= now {
                    self.due.doubt = None;
                    self.tell(Source::Inventory, Some(trouble));
                } else {
                    self.due.inventory_again = Some(doubt);
                }
            }
        }
    }

    fn inventory_is_good(&mut self) {
        self.due.doubt = None;
        self.due.inventory_again = None;
        self.tell(Source::Inventory, None);
    }

    fn scan_data(&mut self) {
        let Some(data) = &mut self.data else { return };
        match data.scan() {
            Ok(said) => {
                self.tell(Source::Directory, None);
                self.take_data(said);
            }
            Err(trouble) => self.tell(Source::Directory, Some(trouble)),
        }
    }

    /// A file that is wrong leaves what it said before in force, as a wrong inventory does.
    fn take_data(&mut self, said: BTreeMap<OsString, Said>) {
        let mut news = Vec::new();
        for (file, said) in said {
            match said {
                Some(Ok(data)) => news.extend(node_of(&file).map(|node| (node, Some(data)))),
                Some(Err(trouble)) => self.tell(Source::NodeData(file), Some(trouble)),
                None => {
                    news.extend(node_of(&file).map(|node| (node, None)));
                    self.tell(Source::NodeData(file), None);
                }
            }
        }
        for (node, _) in news.iter().filter(|(_, data)| data.is_some()) {
            self.check_publisher(node);
        }
        self.pending.extend(self.current.put_published(news));
    }

    /// Tells when a node publishes, and rightly, without being in the inventory.
    fn check_publisher(&mut self, node: &NodeName) {
        let Some(data) = self.data.as_ref().filter(|_| self.current.is_told()) else { return };
        let file = OsString::from(format!("{node}.json"));
        let trouble = (!self.current.has_node(node)).then(|| StoreTrouble {
            subject: data.path().join(&file).display().to_string(),
            message: format!("the inventory has no node {node}"),
            fix: "add it to the inventory, or delete the file".to_owned(),
        });
        self.tell(Source::NodeData(file), trouble);
    }

    /// Sees to it that our own file holds what it should.
    fn republish(&mut self, now: Instant) {
        if self.due.publication.is_none() && self.data.as_ref().is_some_and(|data| !data.is_published()) {
            self.due.publication = Some(self.due.republication.map_or(now, |earliest| earliest.max(now)));
        }
    }

    fn write_publication(&mut self, now: Instant) {
        let Some(data) = &self.data else { return };
        let result = data.write();
        self.due.republication = Some(now + REPUBLISH);
        if result.is_err() {
            self.due.publication = self.due.republication;
        }
        self.tell(Source::Publication, result.err());
    }

    /// Says what is wrong with a source now, `None` for nothing; tells what is new about that.
    ///
    /// Until there is a view, only the inventory matters: the rest is told afterwards.
    fn tell(&mut self, source: Source, trouble: Option<StoreTrouble>) {
        if self.troubles.get(&source) == trouble.as_ref() {
            return;
        }
        let told_now = source == Source::Inventory || self.current.is_told();
        let over = self.troubles.remove(&source).map(StoreEvent::Recovered);
        let fresh = trouble.clone().map(StoreEvent::Trouble);
        self.troubles.extend(trouble.map(|trouble| (source, trouble)));
        let events = over.into_iter().chain(fresh);
        if told_now { self.pending.extend(events) } else { self.held_back.extend(events) }
    }
}

impl ClusterStore for FileStore {
    async fn next(&mut self) -> StoreEvent {
        loop {
            self.work();
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            self.wait().await;
        }
    }

    fn publish(&mut self, data: NodeData) {
        if let Some(dir) = &mut self.data {
            dir.want(&data);
            self.due.publication = Some(Instant::now());
        }
    }
}
