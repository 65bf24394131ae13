//! The runtime side: drives chains of plugins as a container runtime does.
//!
//! [`Conflist`] is the configuration of a network, [`Runtime`] runs its plugins and remembers what they answered.
//! Everything is blocking and may be used from several threads at once; calls for one container's interface must not
//! overlap, as the specification demands of a runtime.
//!
//! ```no_run
//! use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
//!
//! let runtime = Runtime::new(["/opt/cni/bin"], "/var/lib/cni");
//! let list = Conflist::load("/etc/cni/net.d/10-ocicat.conflist")?;
//! let pod = Attachment::new("box1", "eth0")?.netns("/run/netns/box1").arg("K8S_POD_NAME", "web");
//! let result = runtime.add(&list, &pod)?;
//! println!("{}", result.ips[0].address);
//! runtime.del(&list, &pod)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::exec::{self, Direct, Exec, Invocation};
use crate::{
    AddResult, Args, AttachmentId, CniError, Command, ContainerId, IdentityError, InterfaceName,
};

mod cache;
mod conflist;
mod error;

pub use conflist::{Conflist, ListedPlugin};
pub use error::RuntimeError;

use cache::{Cache, Entry};

/// Runs the plugins of network lists and keeps their results on disk, as a container runtime does.
#[derive(Clone)]
pub struct Runtime {
    folders: Vec<PathBuf>,
    cache: Cache,
    exec: Arc<dyn Exec>,
    timeout: Option<Duration>,
}

/// One interface of one container, to be attached to a network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Attachment {
    /// Which container and interface.
    pub id: AttachmentId,
    /// The path of the container's network namespace. DEL may do without.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// Values for capabilities, by name; each goes to the plugins of the list that declare the capability.
    pub capability_args: Map<String, Value>,
}

impl Attachment {
    /// An interface of a container, without a namespace, arguments and capability values.
    ///
    /// # Errors
    /// When the container id or the interface name is not valid.
    pub fn new(
        container_id: impl Into<String>,
        ifname: impl Into<String>,
    ) -> Result<Self, IdentityError> {
        let id = AttachmentId::new(ContainerId::new(container_id)?, InterfaceName::new(ifname)?);
        Ok(Self {
            id,
            netns: None,
            args: Args::new(),
            capability_args: Map::new(),
        })
    }

    /// The same with the path of the container's network namespace.
    #[must_use]
    pub fn netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.netns = Some(path.into());
        self
    }

    /// The same with one more pair of `CNI_ARGS`.
    #[must_use]
    pub fn arg(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.set(key, value);
        self
    }

    /// The same with a value for a capability, such as `ips` or `portMappings`.
    #[must_use]
    pub fn capability(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.capability_args.insert(name.into(), value.into());
        self
    }
}

impl Runtime {
    /// A runtime that looks for programs in these folders, in order, and keeps results under `cache`.
    pub fn new<P: Into<PathBuf>>(
        folders: impl IntoIterator<Item = P>,
        cache: impl Into<PathBuf>,
    ) -> Self {
        let folders = folders.into_iter().map(Into::into).collect();
        Self {
            folders,
            cache: Cache::new(cache.into()),
            exec: Arc::new(Direct),
            timeout: Some(Duration::from_secs(120)),
        }
    }

    /// The same with another way to run a plugin's program, such as in the namespaces of a simulated node.
    #[must_use]
    pub fn exec(mut self, exec: impl Exec + 'static) -> Self {
        self.exec = Arc::new(exec);
        self
    }

    /// The same with another time that each run of a program may take; then it is killed, and the call fails. Default: 2 minutes,
    /// as long as kubelet waits for a pod's sandbox. `None`: for ever.
    #[must_use]
    pub const fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Attaches: runs ADD of every plugin in order, each with what those before it have answered.
    ///
    /// When one fails, DEL of all of them is run before this returns.
    ///
    /// # Errors
    /// [`RuntimeError::Attached`] when this interface has been attached and not detached since; the first failure
    /// otherwise, in [`RuntimeError::Undo`] when undoing it failed too.
    pub fn add(&self, list: &Conflist, at: &Attachment) -> Result<AddResult, RuntimeError> {
        if self.cache.get(list.name(), &at.id)?.is_some() {
            return Err(RuntimeError::Attached {
                network: list.name().clone(),
                attachment: at.id.clone(),
            });
        }
        let added = self.add_chain(list, at).and_then(|result| {
            let entry = Entry::new(list, at, result.to_value(list.version()));
            self.cache.put(list.name(), &at.id, &entry)?;
            Ok(result)
        });
        added.map_err(|error| match self.del(list, at) {
            Ok(()) => error,
            Err(undo) => RuntimeError::Undo {
                error: error.into(),
                undo: undo.into(),
            },
        })
    }

    fn add_chain(&self, list: &Conflist, at: &Attachment) -> Result<AddResult, RuntimeError> {
        let mut prev = None;
        for plugin in list.plugins() {
            let answer = self.attachment_call(list, plugin, Command::Add, at, prev.as_ref())?;
            let result = AddResult::from_value(&answer)
                .map_err(|error| RuntimeError::plugin(plugin, Command::Add, error))?;
            prev = Some(result.to_value(list.version()));
        }
        let result = prev.unwrap_or_else(|| json!({}));
        Ok(AddResult::from_value(&result)?)
    }

    /// Detaches: runs DEL of every plugin in reverse order, with the result of ADD when the cache has it.
    ///
    /// A plugin's failure does not stop the others. Calling it again, or for what was never attached, is fine.
    ///
    /// # Errors
    /// [`RuntimeError::Several`] with every failure; the cached result stays then, so that it can be repeated.
    pub fn del(&self, list: &Conflist, at: &Attachment) -> Result<(), RuntimeError> {
        let mut errors = Vec::new();
        // A cache that cannot be read must not keep an interface alive: the plugins go by names.
        let cached = self.cache.get(list.name(), &at.id).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let prev = cached
            .map(|entry| entry.result)
            .filter(|_| list.version().del_has_prev_result());
        for plugin in list.plugins().iter().rev() {
            let outcome = self.attachment_call(list, plugin, Command::Del, at, prev.as_ref());
            errors.extend(outcome.err());
        }
        RuntimeError::from_several(errors)?;
        self.cache.remove(list.name(), &at.id)
    }

    /// Checks: runs CHECK of every plugin in order with the cached result of ADD.
    ///
    /// Does nothing when the list says `disableCheck`.
    ///
    /// # Errors
    /// The first failure; [`RuntimeError::NotAttached`] when the cache has no result;
    /// [`RuntimeError::Config`] with [`CniError::INCOMPATIBLE_VERSION`] before version 0.4.0.
    pub fn check(&self, list: &Conflist, at: &Attachment) -> Result<(), RuntimeError> {
        Self::needs(list, Command::Check, list.version().has_check())?;
        if list.check_disabled() {
            return Ok(());
        }
        let cached =
            self.cache
                .get(list.name(), &at.id)?
                .ok_or_else(|| RuntimeError::NotAttached {
                    network: list.name().clone(),
                    attachment: at.id.clone(),
                })?;
        for plugin in list.plugins() {
            self.attachment_call(list, plugin, Command::Check, at, Some(&cached.result))?;
        }
        Ok(())
    }

    /// Collects garbage: DEL of every attachment in the cache that is not in `keep`, with the configuration that it
    /// was attached with, then GC of every plugin in order (from 1.1.0; older lists have the first half only).
    ///
    /// Does nothing when the list says `disableGC`. A failure does not stop the rest.
    ///
    /// # Errors
    /// [`RuntimeError::Several`] with every failure.
    pub fn gc(&self, list: &Conflist, keep: &[AttachmentId]) -> Result<(), RuntimeError> {
        if list.gc_disabled() {
            return Ok(());
        }
        let mut errors = Vec::new();
        for id in self.cache.attachments(list.name())? {
            if !keep.contains(&id) {
                errors.extend(self.del_cached(list, id).err());
            }
        }
        if list.version().has_gc() {
            // The specification's text and its reference implementation disagree about the key: both are set.
            let keys = [
                ("cni.dev/valid-attachments", json!(keep)),
                ("cni.dev/attachments", json!(keep)),
            ];
            for plugin in list.plugins() {
                let config = list.plugin_config(plugin, keys.clone());
                errors.extend(self.call(plugin, Command::Gc, None, config).err());
            }
        }
        RuntimeError::from_several(errors)
    }

    fn del_cached(&self, list: &Conflist, id: AttachmentId) -> Result<(), RuntimeError> {
        let Some(entry) = self.cache.get(list.name(), &id)? else {
            return Ok(());
        };
        let (list, at) = entry.restore(id)?;
        self.del(&list, &at)
    }

    /// Asks every plugin in order whether it could serve ADD.
    ///
    /// # Errors
    /// The first that says no; [`RuntimeError::Config`] with [`CniError::INCOMPATIBLE_VERSION`] before version 1.1.0.
    pub fn status(&self, list: &Conflist) -> Result<(), RuntimeError> {
        Self::needs(list, Command::Status, list.version().has_gc())?;
        for plugin in list.plugins() {
            self.call(
                plugin,
                Command::Status,
                None,
                list.plugin_config(plugin, []),
            )?;
        }
        Ok(())
    }

    /// The versions that a plugin says it speaks, as it writes them.
    ///
    /// # Errors
    /// When the program is missing or fails, or its answer is not one.
    pub fn versions(&self, plugin: &ListedPlugin) -> Result<Vec<String>, RuntimeError> {
        let answer = self.call(
            plugin,
            Command::Version,
            None,
            json!({"cniVersion": "1.1.0"}),
        )?;
        serde_json::from_value(answer["supportedVersions"].clone()).map_err(|cause| {
            let error = CniError::decode("supportedVersions does not decode", cause);
            RuntimeError::plugin(plugin, Command::Version, error)
        })
    }

    /// What ADD answered for an attachment that has not been detached since.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn cached(
        &self,
        list: &Conflist,
        id: &AttachmentId,
    ) -> Result<Option<AddResult>, RuntimeError> {
        let entry = self.cache.get(list.name(), id)?;
        Ok(entry
            .map(|entry| AddResult::from_value(&entry.result))
            .transpose()?)
    }

    /// The attachments of a network that the cache has.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn attachments(&self, list: &Conflist) -> Result<Vec<AttachmentId>, RuntimeError> {
        self.cache.attachments(list.name())
    }

    fn needs(list: &Conflist, command: Command, exists: bool) -> Result<(), RuntimeError> {
        if exists {
            return Ok(());
        }
        let text = format!("{command} does not exist in version {}", list.version());
        Err(CniError::new(CniError::INCOMPATIBLE_VERSION, text).into())
    }

    fn attachment_call(
        &self,
        list: &Conflist,
        plugin: &ListedPlugin,
        command: Command,
        at: &Attachment,
        prev: Option<&Value>,
    ) -> Result<Value, RuntimeError> {
        let wanted = at
            .capability_args
            .iter()
            .filter(|(name, _)| plugin.has_capability(name));
        let wanted: Map<_, _> = wanted
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let runtime_config =
            (!wanted.is_empty()).then_some(("runtimeConfig", Value::Object(wanted)));
        let prev = prev.map(|prev| ("prevResult", prev.clone()));
        let config = list.plugin_config(plugin, runtime_config.into_iter().chain(prev));
        self.call(plugin, command, Some(at), config)
    }

    fn call(
        &self,
        plugin: &ListedPlugin,
        command: Command,
        at: Option<&Attachment>,
        config: Value,
    ) -> Result<Value, RuntimeError> {
        let program =
            exec::find(plugin.name(), &self.folders).ok_or_else(|| RuntimeError::Missing {
                plugin: plugin.name().clone(),
                folders: self.folders.clone(),
            })?;
        let id = at.map(|at| &at.id);
        let netns = at.and_then(|at| at.netns.as_deref());
        let args = at.map(|at| at.args.to_string()).unwrap_or_default();
        let variables = exec::variables(command, id, netns, &args, &self.folders);
        let invocation = Invocation {
            program,
            variables,
            stdin: config.to_string().into_bytes(),
            timeout: self.timeout,
        };
        let output = self
            .exec
            .exec(&invocation)
            .map_err(|source| RuntimeError::Exec {
                plugin: plugin.name().clone(),
                command,
                source,
            })?;
        exec::interpret(&output).map_err(|error| RuntimeError::plugin(plugin, command, error))
    }

    /// The folder that results are kept in.
    #[must_use]
    pub fn cache_folder(&self) -> &Path {
        self.cache.folder()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("folders", &self.folders)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
