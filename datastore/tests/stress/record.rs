//! What a node writes down about its attachments, and what can be read from it when the node was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Addresses are about to be asked for.
    Asking(String),
    /// An address was given.
    Took(IpAddr, String),
    /// The handle is about to be released.
    Giving(String),
    /// The handle was released.
    Gave(String),
}

pub(crate) struct Log(File);

pub(crate) fn path(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("node-{node}.log"))
}

fn clock() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock").as_nanos()
}

impl Log {
    pub(crate) fn open(folder: &Path, node: &str) -> Self {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(path(folder, node));
        let mut log = Self(file.expect("a log"));
        // Ends what a predecessor may have been killed in.
        log.0.write_all(b"\n").expect("a line");
        log
    }

    /// Writes an entry with one call, so that it is there or not.
    pub(crate) fn note(&mut self, entry: &Entry) {
        let line = match entry {
            Entry::Asking(handle) => format!("{} asking {handle} .\n", clock()),
            Entry::Took(address, handle) => format!("{} took {handle} {address} .\n", clock()),
            Entry::Giving(handle) => format!("{} giving {handle} .\n", clock()),
            Entry::Gave(handle) => format!("{} gave {handle} .\n", clock()),
        };
        self.0.write_all(line.as_bytes()).expect("a line");
    }
}

/// Every whole entry with its time.
pub(crate) fn read(folder: &Path, node: &str) -> Vec<(u128, Entry)> {
    let text = std::fs::read_to_string(path(folder, node)).unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (time, entry) = match words.as_slice() {
            [time, "asking", handle, "."] => (time, Entry::Asking((*handle).to_owned())),
            [time, "took", handle, address, "."] => (
                time,
                Entry::Took(address.parse().ok()?, (*handle).to_owned()),
            ),
            [time, "giving", handle, "."] => (time, Entry::Giving((*handle).to_owned())),
            [time, "gave", handle, "."] => (time, Entry::Gave((*handle).to_owned())),
            _ => return None,
        };
        Some((time.parse().ok()?, entry))
    };
    text.lines().filter_map(entry).collect()
}

/// How many addresses a node was given so far.
pub(crate) fn given(folder: &Path, node: usize) -> usize {
    let text = std::fs::read_to_string(path(folder, &node.to_string())).unwrap_or_default();
    text.matches(" took ").count()
}

/// What is attached after these entries: addresses and their handles.
pub(crate) fn attached(entries: &[(u128, Entry)]) -> BTreeMap<IpAddr, String> {
    let mut given: BTreeSet<&str> = BTreeSet::new();
    for (_, entry) in entries {
        if let Entry::Giving(handle) = entry {
            given.insert(handle);
        }
    }
    let took = entries.iter().filter_map(|(_, entry)| match entry {
        Entry::Took(address, handle) if !given.contains(handle.as_str()) => {
            Some((*address, handle.clone()))
        }
        _ => None,
    });
    took.collect()
}

/// Handles under which addresses may be held that are not attached: of a request or a release that was interrupted.
pub(crate) fn interrupted(entries: &[(u128, Entry)]) -> BTreeSet<String> {
    let attached: BTreeSet<String> = attached(entries).into_values().collect();
    let mut handles = BTreeSet::new();
    for (_, entry) in entries {
        match entry {
            Entry::Asking(handle) if !attached.contains(handle) => handles.insert(handle.clone()),
            Entry::Gave(handle) => handles.remove(handle),
            _ => false,
        };
    }
    handles
}
