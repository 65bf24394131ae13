use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::{parse_object, version_of};
use crate::{CniError, NetworkName, PluginName, Version};

use super::RuntimeError;

/// The configuration of a network: a name and a chain of plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    name: NetworkName,
    version: Version,
    plugins: Vec<ListedPlugin>,
    raw: Value,
}

/// One plugin of a network's chain.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedPlugin {
    name: PluginName,
    raw: Map<String, Value>,
}

impl ListedPlugin {
    /// Its program's name: `type`.
    #[must_use]
    pub const fn name(&self) -> &PluginName {
        &self.name
    }

    /// Whether it declares a capability.
    #[must_use]
    pub fn has_capability(&self, name: &str) -> bool {
        self.raw.get("capabilities").and_then(|all| all.get(name)) == Some(&Value::Bool(true))
    }
}

impl Conflist {
    /// Reads a list, or the configuration of a single plugin, which is a list of one.
    ///
    /// The version is the highest of `cniVersion` and `cniVersions` that this crate speaks.
    ///
    /// # Errors
    /// [`RuntimeError::Config`] with the number that the specification has for it.
    pub fn parse(json: &[u8]) -> Result<Self, RuntimeError> {
        Ok(Self::from_value(parse_object(json)?)?)
    }

    /// Reads a list that is JSON already.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), as a plugin's error.
    pub fn from_value(mut raw: Value) -> Result<Self, CniError> {
        if raw.get("plugins").is_none() && raw.get("type").is_some() {
            let keep = |key: &str| raw.get(key).cloned().unwrap_or_default();
            raw = json!({"cniVersion": keep("cniVersion"), "name": keep("name"), "plugins": [raw]});
        }
        let version = highest_version(&raw)?;
        let name = raw.get("name").and_then(Value::as_str).unwrap_or_default();
        let name =
            NetworkName::new(name).map_err(|error| CniError::config(format!("name: {error}")))?;
        let listed = raw.get("plugins").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| CniError::config("plugins: is missing or no list"))?;
        if listed.is_empty() {
            return Err(CniError::config("plugins: is empty"));
        }
        let plugins = listed
            .iter()
            .enumerate()
            .map(|(i, plugin)| listed_plugin(i, plugin));
        let plugins = plugins.collect::<Result<Vec<_>, _>>()?;
        for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
            if flag(&raw, key).is_none() {
                return Err(CniError::config(format!(
                    "{key}: {} is not true or false",
                    raw[key]
                )));
            }
        }
        Ok(Self {
            name,
            version,
            plugins,
            raw,
        })
    }

    /// Reads a file. Plugins in `*.conf` files of a folder beside it, which has the network's name, are added to the chain
    /// unless the list says `loadOnlyInlinedPlugins`.
    ///
    /// # Errors
    /// [`RuntimeError::Read`], and those of [`parse`](Self::parse) with the file's name.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        let path = path.as_ref();
        let mut list = Self::parse(&read(path)?).map_err(|error| in_file(error, path))?;
        if flag(&list.raw, "loadOnlyInlinedPlugins") == Some(true) {
            return Ok(list);
        }
        let beside = path
            .parent()
            .unwrap_or_else(|| Path::new("."))
            .join(list.name.as_str());
        for file in files(&beside, &["conf"])? {
            let plugin =
                parse_object(&read(&file)?).and_then(|raw| listed_plugin(list.plugins.len(), &raw));
            list.plugins
                .push(plugin.map_err(|error| in_file(error.into(), &file))?);
        }
        let all = list
            .plugins
            .iter()
            .map(|plugin| Value::Object(plugin.raw.clone()))
            .collect();
        list.raw["plugins"] = Value::Array(all);
        Ok(list)
    }

    /// The configuration files of a folder (`.conflist`, `.conf`, `.json`) by name: a runtime uses the first that is valid.
    ///
    /// # Errors
    /// [`RuntimeError::Read`]. A folder that is not there has no files.
    pub fn files(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, RuntimeError> {
        files(folder.as_ref(), &["conflist", "conf", "json"])
    }

    /// The network's name.
    #[must_use]
    pub const fn name(&self) -> &NetworkName {
        &self.name
    }

    /// The version that the plugins are called with.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The plugins in the order of ADD.
    #[must_use]
    pub fn plugins(&self) -> &[ListedPlugin] {
        &self.plugins
    }

    /// Whether the list says `disableCheck`.
    #[must_use]
    pub fn check_disabled(&self) -> bool {
        flag(&self.raw, "disableCheck") == Some(true)
    }

    /// Whether the list says `disableGC`.
    #[must_use]
    pub fn gc_disabled(&self) -> bool {
        flag(&self.raw, "disableGC") == Some(true)
    }

    /// The whole list as JSON.
    #[must_use]
    pub const fn raw(&self) -> &Value {
        &self.raw
    }

    /// What a plugin gets on stdin: its own keys, the list's name and version, and these.
    pub(super) fn plugin_config<'a>(
        &self,
        plugin: &ListedPlugin,
        more: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Value {
        let mut config = plugin.raw.clone();
        config.insert("name".to_owned(), self.name.as_str().into());
        config.insert("cniVersion".to_owned(), self.version.as_str().into());
        config.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Value::Object(config)
    }
}

fn listed_plugin(index: usize, plugin: &Value) -> Result<ListedPlugin, CniError> {
    let at = |why: &dyn std::fmt::Display| CniError::config(format!("plugins[{index}].{why}"));
    let raw = plugin.as_object().ok_or_else(|| at(&"type: is missing"))?;
    let name = raw.get("type").and_then(Value::as_str).unwrap_or_default();
    let name = PluginName::new(name).map_err(|error| at(&format!("type: {error}")))?;
    Ok(ListedPlugin {
        name,
        raw: raw.clone(),
    })
}

fn highest_version(raw: &Value) -> Result<Version, CniError> {
    let offered = raw.get("cniVersions").and_then(Value::as_array);
    let offered = offered.into_iter().flatten().filter_map(Value::as_str);
    let best = offered.filter_map(|text| text.parse().ok()).max();
    match (version_of(raw), best) {
        (Ok(version), best) => Ok(best.map_or(version, |best| version.max(best))),
        (Err(_), Some(best)) => Ok(best),
        (Err(error), None) => Err(error),
    }
}

/// A flag as JSON's or as text, as some lists have it; `None` when it is neither.
fn flag(raw: &Value, key: &str) -> Option<bool> {
    match raw.get(key) {
        None | Some(Value::Null) => Some(false),
        Some(Value::Bool(value)) => Some(*value),
        Some(Value::String(text)) => text.to_ascii_lowercase().parse().ok(),
        Some(_) => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RuntimeError> {
    std::fs::read(path).map_err(|source| RuntimeError::Read {
        path: path.to_owned(),
        source,
    })
}

fn in_file(error: RuntimeError, path: &Path) -> RuntimeError {
    match error {
        RuntimeError::Config(mut error) => {
            error.msg = format!("{}: {}", path.display(), error.msg);
            error.into()
        }
        other => other,
    }
}

fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, RuntimeError> {
    let failed = |source| RuntimeError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
