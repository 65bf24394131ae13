//! What the agent has put on this host, written down: an uninstall takes that away and nothing else. A host may have a plugin
//! of the same name that is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::snapshot::write_atomically;

/// The version that this agent writes, and the newest that it reads.
const VERSION: u32 = 1;
/// Folders that other programs, too, have to look into.
const FOLDER_MODE: u32 = 0o755;

/// What is on the host because of the agent.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    version: u32,
    /// Plugins, and the SHA-256 of what was written.
    plugins: BTreeMap<PathBuf, String>,
    /// Files whose names are the agent's alone.
    pub(crate) files: BTreeSet<PathBuf>,
    /// Folders that were not there before.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// The folder of endpoint-status files.
    pub(crate) statuses: BTreeSet<PathBuf>,
}

impl Record {
    /// The record in the folder of the agent's state; an empty one where there is none.
    ///
    /// # Errors
    /// A record that cannot be read, or that a newer agent wrote.
    pub(crate) fn load(state: &Path) -> io::Result<Self> {
        let path = path(state);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let record: Self = serde_json::from_slice(&bytes)?;
        if record.version > VERSION {
            let found = record.version;
            let text =
                format!("version {found} is of a newer agent; this one reads up to {VERSION}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(record)
    }

    /// Writes the record.
    pub(crate) fn save(&mut self, state: &Path) -> io::Result<()> {
        self.version = VERSION;
        let text = serde_json::to_vec_pretty(self)?;
        write_atomically(&path(state), &text, 0o600)
    }

    /// A plugin with this content was written, or found as if it had been.
    pub(crate) fn wrote_plugin(&mut self, path: &Path, content: &[u8]) {
        self.plugins.insert(path.to_path_buf(), sum(content));
    }

    /// Whether the agent wrote this content to this path.
    pub(crate) fn has_plugin(&self, path: &Path, content: &[u8]) -> bool {
        self.plugins
            .get(path)
            .is_some_and(|old| *old == sum(content))
    }

    /// The paths of plugins.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &PathBuf> {
        self.plugins.keys()
    }

    /// Makes a folder and those that it is in, and notes which were not there.
    pub(crate) fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let missing = folder.ancestors().take_while(|one| !one.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)?;
        self.folders.extend(missing);
        Ok(())
    }
}

/// Notes the folder of endpoint-status files, and makes it.
pub(crate) fn statuses(state: &Path, folder: &Path) -> io::Result<()> {
    let mut record = Record::load(state)?;
    if record.statuses.contains(folder) && folder.is_dir() {
        return Ok(());
    }
    record.make_folder(folder)?;
    record.statuses.insert(folder.to_path_buf());
    record.save(state)
}

/// Where the record is.
pub(crate) fn path(state: &Path) -> PathBuf {
    state.join("installed.json")
}

fn sum(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        let mut record = Record::load(&state).unwrap();
        assert_eq!(record, Record::default());
        let plugin = Path::new("/opt/cni/bin/ocicat");
        record.wrote_plugin(plugin, b"one");
        record.make_folder(&place.path().join("a/b")).unwrap();
        record.save(&state).unwrap();
        let record = Record::load(&state).unwrap();
        assert!(record.has_plugin(plugin, b"one") && !record.has_plugin(plugin, b"two"));
        let made: Vec<_> = record.folders.into_iter().collect();
        assert_eq!(made, [place.path().join("a"), place.path().join("a/b")]);
    }

    #[test]
    fn a_newer_record_is_refused_by_its_version() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(path(place.path()), r#"{"version": 2}"#).unwrap();
        let error = Record::load(place.path()).unwrap_err().to_string();
        assert!(
            error.contains("version 2") && error.contains("up to 1"),
            "{error}"
        );
    }
}
