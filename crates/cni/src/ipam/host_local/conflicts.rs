//! Addresses that other hosts of the LAN were found to have: `DIR/.hopwise/NETWORK.conflicts`.
//!
//! A line for each, `ADDRESS HOLDER SECONDS`: who has it by MAC address, and when that was seen, in seconds since 1970. The
//! reference plugin neither reads nor minds the file. It is read and written under the allocation folder's lock; what
//! can't be understood in it is left out, and the file may be deleted at any time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hopwise_core::name::MacAddr;

/// A note: who has an address, and when that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    holder: MacAddr,
    seen: u64,
}

/// The notes of one network that still hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    path: PathBuf,
    notes: BTreeMap<IpAddr, Note>,
}

/// Now, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Conflicts {
    /// Reads the notes of a network that are younger than `retry_after`. One from the future holds no longer: the clock
    /// was set back, and nobody knows how old it is.
    pub fn load(data_dir: &Path, network: &str, retry_after: Duration, now: u64) -> Conflicts {
        let path = data_dir.join(super::store::INDEX_DIR).join(format!("{network}.conflicts"));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let holds = |seen: u64| now.checked_sub(seen).is_some_and(|age| age < retry_after.as_secs());
        let notes = parse(&text).filter(|(_, note)| holds(note.seen)).collect();
        Conflicts { path, notes }
    }

    /// Whether an address is known to be somebody else's.
    pub fn has(&self, address: IpAddr) -> bool {
        self.notes.contains_key(&address)
    }

    /// The addresses, with their holders.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, MacAddr)> + '_ {
        self.notes.iter().map(|(address, note)| (*address, note.holder))
    }

    /// Notes that an address was seen to be somebody else's.
    pub fn add(&mut self, address: IpAddr, holder: MacAddr, now: u64) {
        self.notes.insert(address, Note { holder, seen: now });
    }

    /// Writes the file beside its place and renames it.
    pub fn save(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut text = String::new();
        for (address, Note { holder, seen }) in &self.notes {
            let _ = writeln!(text, "{address} {holder} {seen}");
        }
        // Only one writes at a time: the lock is held.
        let temporary = self.path.with_extension("conflicts.new");
        File::create(&temporary)?.write_all(text.as_bytes())?;
        fs::rename(&temporary, &self.path)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn parse(text: &str) -> impl Iterator<Item = (IpAddr, Note)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        let note = Note { holder: words.next()?.parse().ok()?, seen: words.next()?.parse().ok()? };
        words.next().is_none().then_some((address, note))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOLDER: MacAddr = MacAddr([2, 0, 0x5e, 0, 0x53, 9]);
    const TEN_MINUTES: Duration = Duration::from_secs(600);

    #[test]
    fn notes_are_kept_until_it_is_time_to_ask_again() {
        let dir = tempfile::TempDir::new().unwrap();
        let load = |now| Conflicts::load(dir.path(), "net", TEN_MINUTES, now);
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let mut conflicts = load(1000);
        assert!(!conflicts.has(address), "no file, no notes");
        conflicts.add(address, HOLDER, 1000);
        conflicts.add("fd00::7".parse().unwrap(), HOLDER, 1300);
        conflicts.save().unwrap();
        let text = fs::read_to_string(dir.path().join(".hopwise/net.conflicts")).unwrap();
        assert_eq!(text, "10.0.0.7 02:00:5e:00:53:09 1000\nfd00::7 02:00:5e:00:53:09 1300\n");
        assert_eq!(load(1599), conflicts);
        assert!(!load(1600).has(address) && load(1600).has("fd00::7".parse().unwrap()));
        assert_eq!(load(999).iter().count(), 0, "the clock was set back");
        assert_eq!(Conflicts::load(dir.path(), "other", TEN_MINUTES, 1000).iter().count(), 0);
        assert_eq!(fs::read_dir(dir.path().join(".hopwise")).unwrap().count(), 1, "nothing else is left");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}", address in any::<IpAddr>(), seen in any::<u64>(), now in any::<u64>()) {
            let good = format!("{address} {HOLDER} {seen}");
            let read: Vec<_> = parse(&format!("{text}\n{good}\n{good} more\n")).collect();
            prop_assert_eq!(read.last(), Some(&(address, Note { holder: HOLDER, seen })));
            let dir = tempfile::TempDir::new().unwrap();
            let mut conflicts = Conflicts::load(dir.path(), "net", TEN_MINUTES, now);
            conflicts.add(address, HOLDER, seen);
            conflicts.save().unwrap();
            let holds = seen <= now && now - seen < 600;
            prop_assert_eq!(Conflicts::load(dir.path(), "net", TEN_MINUTES, now).has(address), holds);
        }
    }
}
