use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Args, AttachmentId, CniError, ContainerId, InterfaceName, NetworkName};

use super::{Attachment, Conflist, RuntimeError};

/// The format of an entry. A higher number on disk is refused.
const FORMAT: u32 = 1;

/// Results of ADD on disk: `results/NETWORK/CONTAINER:INTERFACE.json`. No part can hold a colon or a slash, so no two
/// attachments share a file.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// What is remembered of one ADD: all that DEL needs, also when the network's file has changed or is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    version: u32,
    netns: Option<PathBuf>,
    args: Args,
    capability_args: Map<String, Value>,
    list: Value,
    pub(super) result: Value,
}

impl Entry {
    pub(super) fn new(list: &Conflist, at: &Attachment, result: Value) -> Self {
        Self {
            version: FORMAT,
            netns: at.netns.clone(),
            args: at.args.clone(),
            capability_args: at.capability_args.clone(),
            list: list.raw().clone(),
            result,
        }
    }

    pub(super) fn restore(self, id: AttachmentId) -> Result<(Conflist, Attachment), CniError> {
        let list = Conflist::from_value(self.list)?;
        let at = Attachment {
            id,
            netns: self.netns,
            args: self.args,
            capability_args: self.capability_args,
        };
        Ok((list, at))
    }
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder: folder.join("results"),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn get(
        &self,
        network: &NetworkName,
        id: &AttachmentId,
    ) -> Result<Option<Entry>, RuntimeError> {
        let path = self.path(network, id);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|source| failed(&path, source))?,
        };
        let invalid = |why: String| failed(&path, io::Error::new(io::ErrorKind::InvalidData, why));
        let entry: Entry =
            serde_json::from_slice(&bytes).map_err(|cause| invalid(cause.to_string()))?;
        if entry.version > FORMAT {
            return Err(invalid(format!(
                "format {} is newer than {FORMAT}",
                entry.version
            )));
        }
        Ok(Some(entry))
    }

    pub(super) fn put(
        &self,
        network: &NetworkName,
        id: &AttachmentId,
        entry: &Entry,
    ) -> Result<(), RuntimeError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let path = self.path(network, id);
        let folder = self.folder.join(network.as_str());
        fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let half = folder.join(format!(".{}-{serial}", std::process::id()));
        let bytes = serde_json::to_vec(entry).map_err(|cause| failed(&path, cause.into()))?;
        let written = fs::write(&half, bytes).and_then(|()| fs::rename(&half, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&half);
            failed(&path, source)
        })
    }

    pub(super) fn remove(
        &self,
        network: &NetworkName,
        id: &AttachmentId,
    ) -> Result<(), RuntimeError> {
        let path = self.path(network, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    /// What the cache has of a network, by container and interface.
    pub(super) fn attachments(
        &self,
        network: &NetworkName,
    ) -> Result<Vec<AttachmentId>, RuntimeError> {
        let folder = self.folder.join(network.as_str());
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| failed(&folder, source))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| failed(&folder, source))?.file_name();
            found.extend(name.to_str().and_then(attachment_of));
        }
        found.sort();
        Ok(found)
    }

    fn path(&self, network: &NetworkName, id: &AttachmentId) -> PathBuf {
        let file = format!("{}:{}.json", id.container_id, id.ifname);
        self.folder.join(network.as_str()).join(file)
    }
}

fn attachment_of(file: &str) -> Option<AttachmentId> {
    let (container, interface) = file.strip_suffix(".json")?.split_once(':')?;
    Some(AttachmentId::new(
        ContainerId::new(container).ok()?,
        InterfaceName::new(interface).ok()?,
    ))
}

fn failed(path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::Cache {
        path: path.to_owned(),
        source,
    }
}
