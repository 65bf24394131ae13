use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Args, AttachmentId, CniError, ContainerId, InterfaceName};

/// What a runtime may ask of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Command {
    /// Attach a container to the network.
    Add,
    /// Detach it. "Already gone" is success.
    Del,
    /// Say whether it is still attached as ADD has left it. From 0.4.0.
    Check,
    /// Release what belongs to attachments that are not in the list. From 1.1.0.
    Gc,
    /// Say whether ADD would be served now. From 1.1.0.
    Status,
    /// List the versions that the plugin speaks.
    Version,
}

impl Command {
    /// Every command.
    pub const ALL: &'static [Self] = &[
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Version,
    ];

    /// The value of `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `CNI_*` variables as they were given. An empty variable counts as not given.
///
/// ```
/// use ocicat_cni::Environment;
///
/// let environment = Environment::from_fn(|name| (name == "CNI_COMMAND").then(|| "VERSION".to_owned()));
/// assert_eq!(environment.command.as_deref(), Some("VERSION"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Option<String>,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<String>,
    /// `CNI_NETNS`.
    pub netns: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: Option<String>,
    /// `CNI_ARGS`.
    pub args: Option<String>,
    /// `CNI_PATH`.
    pub path: Option<String>,
}

/// The variables of ADD, DEL and CHECK, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) attachment: AttachmentId,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) args: Args,
}

impl Environment {
    /// Reads the variables of this process. One that is not UTF-8 counts as not given.
    #[must_use]
    pub fn from_process() -> Self {
        Self::from_fn(|name| std::env::var(name).ok())
    }

    /// Reads the variables through a function, such as a map's lookup.
    pub fn from_fn(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            command: variable("CNI_COMMAND"),
            container_id: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
        }
    }

    /// The folders of `CNI_PATH`, where delegated plugins are looked for. Empty and relative ones are left out.
    #[must_use]
    pub fn search_path(&self) -> Vec<PathBuf> {
        let folders = self.path.as_deref().unwrap_or_default().split(':');
        folders
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
            .collect()
    }

    pub(crate) fn known_command(&self) -> Result<Command, CniError> {
        let text = self
            .command
            .as_deref()
            .ok_or_else(|| missing("CNI_COMMAND"))?;
        let known = Command::ALL.iter().find(|command| command.as_str() == text);
        known.copied().ok_or_else(|| {
            CniError::environment("CNI_COMMAND", format_args!("{text:?} is no command"))
        })
    }

    pub(crate) fn target(&self, command: Command) -> Result<Target, CniError> {
        let missing_names = self.missing(command);
        if !missing_names.is_empty() {
            return Err(missing(&missing_names.join(", ")));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let container_id = ContainerId::new(text(&self.container_id))
            .map_err(|error| CniError::environment("CNI_CONTAINERID", error))?;
        let ifname = InterfaceName::new(text(&self.ifname))
            .map_err(|error| CniError::environment("CNI_IFNAME", error))?;
        let args = self.args.as_deref().unwrap_or_default().parse();
        let args = args.map_err(|error| CniError::environment("CNI_ARGS", error))?;
        let attachment = AttachmentId::new(container_id, ifname);
        Ok(Target {
            attachment,
            netns: self.netns.as_deref().map(|n| Path::new(n).into()),
            args,
        })
    }

    fn missing(&self, command: Command) -> Vec<&'static str> {
        let needs_netns = matches!(command, Command::Add | Command::Check);
        let needed = [
            ("CNI_CONTAINERID", self.container_id.is_none()),
            ("CNI_NETNS", self.netns.is_none() && needs_netns),
            ("CNI_IFNAME", self.ifname.is_none()),
        ];
        needed
            .into_iter()
            .filter(|(_, missing)| *missing)
            .map(|(name, _)| name)
            .collect()
    }
}

fn missing(names: &str) -> CniError {
    CniError::environment(names, "required, but not set")
}
