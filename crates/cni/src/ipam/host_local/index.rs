//! Who holds which address, in one file that is read in one go. The files of host-local stay the truth: this only saves
//! reading all of them, which is what makes the reference slow (70 ms with 4,000 addresses).
//!
//! The index is believed only while the allocation folder's modification time is the one written in its header. Anybody
//! else's change (the reference plugin, a person with `rm`) and any crash of ours leave another time there; then all files
//! are read and the index is written anew.
//!
//! It lies beside the folder, not in it, because the reference reads and may remove every file in there. Format: a header
//! line of fixed length, then one line per address of tab-separated fields. A line that starts with `-` is void.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &str = "hopwise-index 1";
/// Magic, boot id (36), void bytes (12), seconds (20), nanoseconds (9), each after a tab; line feed.
const HEADER_LEN: usize = MAGIC.len() + 1 + 36 + 1 + 12 + 1 + 20 + 1 + 9 + 1;
/// How much dead weight is carried before the file is written anew, in bytes.
const MAX_VOID: usize = 64 * 1024;

/// Room for what an ADD appends, in bytes: thousands of entries are not moved for one more.
const SPARE: usize = 4096;

/// One address and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: IpAddr,
    /// The container.
    pub container_id: String,
    /// The link's name in the container; empty in files of host-local before 0.8.
    pub ifname: String,
    /// The path of the container's network namespace; empty where not known.
    pub netns: String,
    /// The file's modification time in nanoseconds: tells it from a later one of the same name and content.
    pub stamp: i128,
}

/// The index as read, with what has changed since.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    /// The file at `path`, where it is there and may be written.
    file: Option<File>,
    text: Vec<u8>,
    /// Length of the file; what follows in `text` is not written yet.
    written: usize,
    /// Lines made void since: where they start.
    voided: Vec<usize>,
    void_bytes: usize,
    rewrite: bool,
    boot_id: String,
}

/// What was found at opening.
pub struct Opened {
    /// The index; empty unless `complete`.
    pub index: Index,
    /// Whether it has an entry for every file.
    pub complete: bool,
    /// Entries from before the present boot, whose namespaces can't exist any more.
    pub stale: Vec<Entry>,
    /// Entries of the present boot that may or may not hold still.
    pub known: Vec<Entry>,
}

impl Index {
    /// Reads the index at `path` for the allocation folder `folder`.
    pub fn open(path: &Path, folder: &Path, boot_id: &str) -> Opened {
        let file = OpenOptions::new().read(true).write(true).open(path).ok();
        let mut index = Index {
            path: path.to_owned(),
            text: read(file.as_ref(), path).unwrap_or_default(),
            file,
            written: 0,
            voided: Vec::new(),
            void_bytes: 0,
            rewrite: false,
            boot_id: boot_id.to_owned(),
        };
        index.written = index.text.len();
        let header = index.text.get(..HEADER_LEN).and_then(|header| String::from_utf8(header.to_vec()).ok());
        let recorded = header.as_deref().and_then(|header| header.strip_prefix(MAGIC)).unwrap_or_default();
        let same_boot = recorded.get(1..37) == Some(boot_id);
        let same_time = modified(folder).is_ok_and(|time| recorded.get(50..) == Some(time.as_str()));
        index.void_bytes = recorded.get(38..50).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let mut opened = Opened { index, complete: false, stale: Vec::new(), known: Vec::new() };
        if !recorded.is_empty() && same_boot && same_time {
            opened.complete = true;
            return opened;
        }
        // Without a header nothing tells which boot the entries are from.
        if !recorded.is_empty() {
            let entries = opened.index.entries().collect();
            if same_boot {
                opened.known = entries;
            } else {
                opened.stale = entries;
            }
        }
        opened.index.clear();
        opened
    }

    /// Forgets everything; [`Index::seal`] will write the file anew.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.resize(HEADER_LEN - 1, b' ');
        self.text.push(b'\n');
        self.voided.clear();
        self.void_bytes = 0;
        self.rewrite = true;
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.lines().filter_map(parse_line)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.get(HEADER_LEN..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n')
    }

    /// The line around an offset, and where it starts.
    fn line_at(&self, offset: usize) -> (usize, &[u8]) {
        let start = memchr::memrchr(b'\n', &self.text[..offset]).map_or(0, |end| end + 1);
        let end = memchr::memchr(b'\n', &self.text[offset..]).map_or(self.text.len(), |end| offset + end + 1);
        (start, &self.text[start..end])
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let Entry { address, container_id, ifname, netns, stamp } = entry;
        // Nothing that can't be read back goes in; only a netns path could hold such a thing.
        let netns = if netns.contains(['\t', '\n']) { "" } else { netns };
        let line = format!("+{address}\t{container_id}\t{ifname}\t{netns}\t{stamp}\n");
        self.text.extend_from_slice(line.as_bytes());
    }

    /// The entries of one attachment: those of exactly this link, and those that name only the container.
    pub fn of(&self, container_id: &str, ifname: &str) -> Vec<Entry> {
        let needle = format!("\t{container_id}\t");
        memchr::memmem::find_iter(&self.text, needle.as_bytes())
            .filter_map(|offset| parse_line(self.line_at(offset).1))
            .filter(|entry| entry.container_id == container_id)
            .filter(|entry| entry.ifname == ifname || entry.ifname.is_empty())
            .collect()
    }

    /// Makes the entry of an address void.
    pub fn remove(&mut self, address: IpAddr) {
        let needle = format!("\n+{address}\t");
        let Some(before) = memchr::memmem::find(&self.text, needle.as_bytes()) else { return };
        let start = before + 1;
        self.void_bytes += self.line_at(start).1.len();
        self.text[start] = b'-';
        if start < self.written {
            self.voided.push(start);
        }
    }

    /// Writes changes. Until [`Index::seal`] the file does not count as complete.
    ///
    /// # Errors
    ///
    /// When the file can't be written; the next one to look will then read all files.
    pub fn write(&mut self) -> io::Result<()> {
        if self.rewrite || self.void_bytes > MAX_VOID {
            return self.write_anew();
        }
        let file = self.file.as_ref().ok_or(ErrorKind::ReadOnlyFilesystem)?;
        for start in self.voided.drain(..) {
            file.write_all_at(b"-", start as u64)?;
        }
        file.write_all_at(&self.text[self.written..], self.written as u64)?;
        self.written = self.text.len();
        Ok(())
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let live: Vec<Entry> = self.entries().collect();
        self.clear();
        for entry in &live {
            self.add(entry);
        }
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let temporary = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.text)?;
        fs::rename(&temporary, &self.path)?;
        self.file = Some(file);
        self.written = self.text.len();
        self.rewrite = false;
        Ok(())
    }

    /// Declares the index complete for the folder as it is now. The last thing to do before the lock is released.
    ///
    /// # Errors
    ///
    /// When the file can't be written; the next one to look will then read all files.
    pub fn seal(&self, folder: &Path) -> io::Result<()> {
        let header = format!("{MAGIC}\t{:36.36}\t{:012}{}", self.boot_id, self.void_bytes, modified(folder)?);
        let file = self.file.as_ref().ok_or(ErrorKind::ReadOnlyFilesystem)?;
        file.write_all_at(header.as_bytes(), 0)
    }
}

/// The file's content; of a file that may be read only, too.
fn read(file: Option<&File>, path: &Path) -> io::Result<Vec<u8>> {
    let Some(mut file) = file else { return fs::read(path) };
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut content = Vec::with_capacity(len + SPARE);
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// The modification time as it stands in the header, fixed in length, with its tabs and line feed.
fn modified(folder: &Path) -> io::Result<String> {
    let metadata = fs::metadata(folder)?;
    Ok(format!("\t{:020}\t{:09}\n", metadata.mtime(), metadata.mtime_nsec()))
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix('+')?.strip_suffix('\n')?;
    let mut fields = text.split('\t');
    let mut next = || fields.next();
    Some(Entry {
        address: next()?.parse().ok()?,
        container_id: next()?.to_owned(),
        ifname: next()?.to_owned(),
        netns: next()?.to_owned(),
        stamp: next()?.parse().ok()?,
    })
}
