use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::exec::{self, Direct, Exec, Invocation};
use crate::{AddResult, Args, AttachmentId, CniError, Command, NetworkConfig, PluginName, Version};

/// A CNI plugin: what it does for each command. [`run`](crate::run) does the rest.
///
/// Rules that the specification sets, and that `plugin_kit` (feature `testing`) tests: DEL of what is gone, was never there or has
/// lost its namespace is success; ADD leaves nothing behind when it fails; nothing but the answer goes to stdout.
///
/// # Defaults
/// CHECK, GC and STATUS go on to the IPAM plugin when the configuration names one, and are else a success.
pub trait Plugin {
    /// The plugin's own keys of the network configuration. Unknown keys must be no error: others have theirs there.
    type Config: DeserializeOwned;

    /// Attaches the container.
    ///
    /// # Errors
    /// Whatever the runtime should be told; nothing may be left half done then ([`Rollback`](crate::Rollback)).
    fn add(&self, call: Call<Self::Config>) -> Result<AddResult, CniError>;

    /// Detaches the container. What is already gone is no error.
    ///
    /// # Errors
    /// Only when something could not be removed.
    fn del(&self, call: Call<Self::Config>) -> Result<(), CniError>;

    /// Compares what is there with `call.network.prev_result`.
    ///
    /// # Errors
    /// Any difference.
    fn check(&self, call: Call<Self::Config>) -> Result<(), CniError> {
        match &call.network.ipam {
            Some(ipam) => call.delegate_check(ipam),
            None => Ok(()),
        }
    }

    /// Releases what belongs to this network and to none of `call.keep`.
    ///
    /// # Errors
    /// When something could not be released; the rest should be released all the same.
    fn gc(&self, call: GcCall<Self::Config>) -> Result<(), CniError> {
        match &call.network.ipam {
            Some(ipam) => call.delegate(ipam),
            None => Ok(()),
        }
    }

    /// Whether ADD would be served now.
    ///
    /// # Errors
    /// [`CniError::PLUGIN_NOT_AVAILABLE`] or [`CniError::LIMITED_CONNECTIVITY`].
    fn status(&self, call: StatusCall<Self::Config>) -> Result<(), CniError> {
        match &call.network.ipam {
            Some(ipam) => call.delegate(ipam),
            None => Ok(()),
        }
    }

    /// The versions that the plugin speaks. Default: all that this crate does.
    fn versions(&self) -> &[Version] {
        Version::ALL
    }
}

/// One ADD, CHECK or DEL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call<C> {
    /// Which interface of which container.
    pub attachment: AttachmentId,
    /// The path of the container's network namespace; always there for ADD and CHECK, perhaps not for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// The configuration's common keys.
    pub network: NetworkConfig,
    /// The plugin's own keys.
    pub config: C,
    /// The folders of `CNI_PATH`.
    pub search_path: Vec<PathBuf>,
}

/// One GC.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GcCall<C> {
    /// The attachments of this network that are in use; what belongs to any other is to be released.
    pub keep: Vec<AttachmentId>,
    /// The configuration's common keys.
    pub network: NetworkConfig,
    /// The plugin's own keys.
    pub config: C,
    /// The folders of `CNI_PATH`.
    pub search_path: Vec<PathBuf>,
}

/// One STATUS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatusCall<C> {
    /// The configuration's common keys.
    pub network: NetworkConfig,
    /// The plugin's own keys.
    pub config: C,
    /// The folders of `CNI_PATH`.
    pub search_path: Vec<PathBuf>,
}

impl<C> Call<C> {
    /// Opens the container's network namespace; the host's own is refused.
    ///
    /// # Errors
    /// [`CniError::INVALID_ENVIRONMENT`], naming `CNI_NETNS`, when there is no path, nothing can be opened there, or it is
    /// the namespace that the plugin runs in.
    pub fn open_netns(&self) -> Result<File, CniError> {
        let wrong = |why: &dyn std::fmt::Display| CniError::environment("CNI_NETNS", why);
        let path = self
            .netns
            .as_deref()
            .ok_or_else(|| wrong(&"required, but not set"))?;
        let at_path = |cause| wrong(&format_args!("{}: {cause}", path.display()));
        let file = File::open(path).map_err(at_path)?;
        let inside = file.metadata().map_err(at_path)?;
        let host = std::fs::metadata("/proc/self/ns/net");
        if host.is_ok_and(|host| (host.dev(), host.ino()) == (inside.dev(), inside.ino())) {
            return Err(wrong(&"is the host's own network namespace"));
        }
        Ok(file)
    }

    /// Runs another plugin's ADD with the same configuration and variables, such as the IPAM plugin's.
    ///
    /// When it fails, its DEL is run too, as the specification asks; an error of that is in the details.
    ///
    /// # Errors
    /// The plugin's own error; [`CniError::INVALID_CONFIG`] when there is no such program in `CNI_PATH`.
    pub fn delegate_add(&self, plugin: &PluginName) -> Result<AddResult, CniError> {
        let answer = self.delegate(plugin, Command::Add);
        match answer.and_then(|value| AddResult::from_value(&value)) {
            Ok(result) => Ok(result),
            Err(error) => match self.delegate(plugin, Command::Del) {
                Ok(_) => Err(error),
                Err(undo) => Err(error.with_details(format!("undoing it: {undo}"))),
            },
        }
    }

    /// Runs another plugin's DEL.
    ///
    /// # Errors
    /// As [`delegate_add`](Self::delegate_add).
    pub fn delegate_del(&self, plugin: &PluginName) -> Result<(), CniError> {
        self.delegate(plugin, Command::Del).map(drop)
    }

    /// Runs another plugin's CHECK.
    ///
    /// # Errors
    /// As [`delegate_add`](Self::delegate_add).
    pub fn delegate_check(&self, plugin: &PluginName) -> Result<(), CniError> {
        self.delegate(plugin, Command::Check).map(drop)
    }

    fn delegate(
        &self,
        plugin: &PluginName,
        command: Command,
    ) -> Result<serde_json::Value, CniError> {
        let target = Target {
            attachment: Some(&self.attachment),
            netns: self.netns.as_deref(),
            args: self.args.to_string(),
        };
        delegate(plugin, command, &target, &self.network, &self.search_path)
    }
}

impl<C> GcCall<C> {
    /// Runs another plugin's GC with the same configuration.
    ///
    /// # Errors
    /// The plugin's own error; [`CniError::INVALID_CONFIG`] when there is no such program in `CNI_PATH`.
    pub fn delegate(&self, plugin: &PluginName) -> Result<(), CniError> {
        let target = Target::default();
        delegate(
            plugin,
            Command::Gc,
            &target,
            &self.network,
            &self.search_path,
        )
        .map(drop)
    }
}

impl<C> StatusCall<C> {
    /// Runs another plugin's STATUS with the same configuration.
    ///
    /// # Errors
    /// The plugin's own error; [`CniError::INVALID_CONFIG`] when there is no such program in `CNI_PATH`.
    pub fn delegate(&self, plugin: &PluginName) -> Result<(), CniError> {
        let target = Target::default();
        delegate(
            plugin,
            Command::Status,
            &target,
            &self.network,
            &self.search_path,
        )
        .map(drop)
    }
}

#[derive(Default)]
struct Target<'a> {
    attachment: Option<&'a AttachmentId>,
    netns: Option<&'a Path>,
    args: String,
}

fn delegate(
    plugin: &PluginName,
    command: Command,
    target: &Target<'_>,
    network: &NetworkConfig,
    folders: &[PathBuf],
) -> Result<serde_json::Value, CniError> {
    let program = exec::find(plugin, folders).ok_or_else(|| {
        let searched = folders.iter().map(|folder| folder.display().to_string());
        CniError::config(format!("plugin {plugin}: no such program in CNI_PATH"))
            .with_details(searched.collect::<Vec<_>>().join(":"))
    })?;
    let invocation = Invocation {
        program,
        variables: exec::variables(
            command,
            target.attachment,
            target.netns,
            &target.args,
            folders,
        ),
        stdin: network.raw.to_string().into_bytes(),
        // The runtime that called this plugin has its own idea of how long all of it may take.
        timeout: None,
    };
    let output = Direct
        .exec(&invocation)
        .map_err(|cause| CniError::io(format!("running plugin {plugin}"), cause))?;
    exec::interpret(&output).map_err(|mut error| {
        error.msg = format!("plugin {plugin} ({command}): {}", error.msg);
        error
    })
}
