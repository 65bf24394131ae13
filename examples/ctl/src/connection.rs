//! Which datastore, and how it is opened.

use ocicat_datastore::{Store, open};
use ocicat_node::config::Config;

use crate::cli::Global;
use crate::failure::Failure;

/// The datastore that a command works on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The store.
    pub store: Store,
    /// Whether it is the Kubernetes API, which keeps Kubernetes' own kinds itself.
    pub kubernetes: bool,
    /// Its URL without parameters, for messages.
    pub url: String,
}

impl Connection {
    /// Opens the datastore that the arguments, the environment or the node's configuration name.
    ///
    /// # Errors
    /// When the configuration is wrong or the datastore cannot be opened.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let url = url(global)?;
        let backend = open(&url)?;
        Ok(Self {
            store: Store::new(backend),
            kubernetes: url.starts_with("kubernetes:"),
            url: url.split('?').next().unwrap_or_default().to_owned(),
        })
    }
}

/// The URL of the datastore, by the rules of the agent: the flag or `OCICAT_DATASTORE`, then node.toml and its environment.
///
/// # Errors
/// When node.toml cannot be read.
pub fn url(global: &Global) -> Result<String, Failure> {
    if let Some(url) = &global.datastore {
        return Ok(url.clone());
    }
    Ok(config(global)?.datastore.url)
}

/// The node's configuration; the defaults where it has none.
///
/// # Errors
/// When node.toml cannot be read.
pub fn config(global: &Global) -> Result<Config, Failure> {
    let path = global.config.exists().then_some(global.config.as_path());
    let config = Config::load(path, ocicat_node::config::variables());
    config.map_err(|error| Failure::Failed(error.to_string()))
}
