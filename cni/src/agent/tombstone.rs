use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Command;

use super::Request;
use super::wire::{Message, Role};

const FORMAT: u32 = 1;

/// Notes of a DEL that happened while the agent was down: one file each, for the agent to catch up on.
///
/// The plugin has removed the kernel's side then; addresses and endpoints are left to the agent, which reads the notes when it is
/// in sync. A container id can come back before that: an ADD that finds a note of its own has to see that DEL done first, or a
/// late agent would remove what is in use.
#[derive(Clone, Debug)]
pub struct Tombstones {
    folder: PathBuf,
}

/// One note.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tombstone {
    /// Its file.
    pub path: PathBuf,
    /// The DEL that was asked for.
    pub request: Request,
    /// Whether it was the IPAM plugin that was called.
    pub ipam: bool,
}

/// A note could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("tombstone {path}", path = path.display())]
#[non_exhaustive]
pub struct TombstoneError {
    /// The file or folder.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    request: Message,
}

impl Tombstones {
    /// The notes in this folder, which is made when the first is written.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Notes a DEL, replacing an earlier note of the same attachment. On disk before this returns.
    ///
    /// # Errors
    /// When the file could not be written.
    pub fn write(&self, request: &Request, ipam: bool) -> Result<(), TombstoneError> {
        let role = if ipam { Role::Ipam } else { Role::Network };
        let file = File {
            version: FORMAT,
            request: Message::about_attachment(Command::Del, role, request),
        };
        let path = self.path(request, ipam);
        let half = path.with_extension(format!("half-{}", std::process::id()));
        let write = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(&half, serde_json::to_vec(&file)?)?;
            fs::File::open(&half)?.sync_all()?;
            fs::rename(&half, &path)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&half);
            TombstoneError {
                path: path.clone(),
                source,
            }
        })
    }

    /// Whether there is a note of this attachment.
    #[must_use]
    pub fn contains(&self, request: &Request, ipam: bool) -> bool {
        self.path(request, ipam).exists()
    }

    /// Every note. One that cannot be read is an error in its place and does not hide the others.
    ///
    /// # Errors
    /// When the folder could not be read. One that is not there has no notes.
    pub fn list(&self) -> Result<Vec<Result<Tombstone, TombstoneError>>, TombstoneError> {
        let failed = |source| TombstoneError {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                found.push(read(&path).map_err(|source| TombstoneError { path, source }));
            }
        }
        Ok(found)
    }

    /// Removes the note of an attachment, if there is one: its DEL has been done.
    ///
    /// # Errors
    /// When the file is there and could not be removed.
    pub fn remove(&self, request: &Request, ipam: bool) -> Result<(), TombstoneError> {
        let path = self.path(request, ipam);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(TombstoneError { path, source })
            }
            _ => Ok(()),
        }
    }

    /// No part can hold a colon or a slash, so no two attachments share a file.
    fn path(&self, request: &Request, ipam: bool) -> PathBuf {
        let attachment = &request.attachment;
        let role = if ipam { "ipam:" } else { "" };
        let name = &request.network.name;
        self.folder.join(format!(
            "{role}{name}:{}:{}.json",
            attachment.container_id, attachment.ifname
        ))
    }
}

fn read(path: &Path) -> io::Result<Tombstone> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let file: File = serde_json::from_slice(&fs::read(path)?)?;
    if file.version > FORMAT {
        return Err(invalid(format!(
            "format {} is newer than {FORMAT}",
            file.version
        )));
    }
    let ipam = file.request.role == Role::Ipam;
    let request = file
        .request
        .into_request()
        .map_err(|error| invalid(error.to_string()))?;
    Ok(Tombstone {
        path: path.to_owned(),
        request,
        ipam,
    })
}
