use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{AttachmentId, CniError, Command, NetworkName, PluginName};

use super::ListedPlugin;

/// Why an operation of the runtime side failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A configuration file could not be read.
    #[error("reading {path}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A configuration is not valid, or its version has no such command.
    #[error("{0}")]
    Config(#[from] CniError),
    /// A plugin's program is in none of the folders.
    #[error("plugin {plugin}: no such program in {}", Paths(folders))]
    Missing {
        /// The plugin.
        plugin: PluginName,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// A plugin's program could not be run.
    #[error("running plugin {plugin} for {command}")]
    Exec {
        /// The plugin.
        plugin: PluginName,
        /// What was asked of it.
        command: Command,
        /// The cause.
        source: io::Error,
    },
    /// A plugin answered with an error.
    #[error("plugin {plugin} ({command}): {error} (code {code})", code = error.code)]
    Plugin {
        /// The plugin.
        plugin: PluginName,
        /// What was asked of it.
        command: Command,
        /// What it answered.
        error: CniError,
    },
    /// The cache of results could not be read or written.
    #[error("result cache, {path}", path = path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// ADD of an interface that has been attached and not detached since.
    #[error("{attachment} is attached to {network} already")]
    Attached {
        /// The network.
        network: NetworkName,
        /// The container and interface.
        attachment: AttachmentId,
    },
    /// CHECK of an interface that the cache does not have.
    #[error("{attachment} is not attached to {network}")]
    NotAttached {
        /// The network.
        network: NetworkName,
        /// The container and interface.
        attachment: AttachmentId,
    },
    /// ADD failed, and so did undoing it.
    #[error("{error}; undoing it: {undo}")]
    Undo {
        /// Why ADD failed.
        error: Box<Self>,
        /// Why undoing failed.
        undo: Box<Self>,
    },
    /// Several steps failed, in the order in which they were tried.
    #[error("{}", Lines(.0))]
    Several(Vec<Self>),
}

impl RuntimeError {
    pub(super) fn plugin(plugin: &ListedPlugin, command: Command, error: CniError) -> Self {
        Self::Plugin {
            plugin: plugin.name().clone(),
            command,
            error,
        }
    }

    /// None is success, one is itself.
    pub(super) fn from_several(mut errors: Vec<Self>) -> Result<(), Self> {
        match (errors.pop(), errors.is_empty()) {
            (None, _) => Ok(()),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }

    /// The first plugin's error in it, if there is one.
    #[must_use]
    pub fn plugin_error(&self) -> Option<&CniError> {
        match self {
            Self::Plugin { error, .. } | Self::Config(error) => Some(error),
            Self::Undo { error, .. } => error.plugin_error(),
            Self::Several(errors) => errors.iter().find_map(Self::plugin_error),
            _ => None,
        }
    }
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ":" }, path.display())?;
        }
        Ok(())
    }
}

struct Lines<'a>(&'a [RuntimeError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
