//! The agent's configuration: `node.toml`, then the environment, which wins.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::parameters::{self, Shown, Source};

mod environment;

pub use environment::variables;

/// The whole file. A key that is not here is an error that names it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The node itself.
    pub node: NodeConfig,
    /// Where the cluster's objects are.
    pub datastore: DatastoreConfig,
    /// The speaker.
    pub bgp: BgpConfig,
    /// Folders.
    pub paths: Paths,
    /// Logs.
    pub log: LogConfig,
    /// Where the agent answers health checks; Felix's parameters say it too.
    pub health: Listen,
    /// Where the agent shows metrics; Felix's parameters say it too.
    pub metrics: Listen,
    /// What the agent puts on the host.
    pub install: InstallConfig,
    /// Felix's parameters by Felix's names, such as `DefaultEndpointToHostAction`.
    pub felix: BTreeMap<String, toml::Value>,
    /// The namespace of the agent's own objects (`POD_NAMESPACE`); `kube-system`.
    pub namespace: String,
    /// Pools that are made in a cluster that has none.
    #[serde(skip)]
    pub pools: DefaultPools,
    /// The node's AS, from the environment.
    #[serde(skip)]
    pub as_number: Option<u32>,
    /// `FELIX_*` of the environment.
    #[serde(skip)]
    felix_environment: Vec<(String, String)>,
    /// The file.
    #[serde(skip)]
    path: String,
    /// Where each setting that is not the default's comes from.
    #[serde(skip)]
    sources: BTreeMap<&'static str, Source>,
    /// What the environment says without an effect.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

/// Pools that are made in a cluster that has none: `CALICO_IPV4POOL_*`, `CALICO_IPV6POOL_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultPools {
    /// None are made (`NO_DEFAULT_POOLS`).
    pub none: bool,
    /// What is stated about the IPv4 pool, by the part of the name behind `POOL_`.
    pub v4: BTreeMap<String, String>,
    /// What is stated about the IPv6 pool.
    pub v6: BTreeMap<String, String>,
}

/// Where something listens.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Listen {
    /// Address and port; without, Felix's parameters decide.
    pub listen: Option<SocketAddr>,
}

/// `[install]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct InstallConfig {
    /// A folder with CNI plugins, which are copied to `cni-bin`; without, none are. One that the host has of its own stays.
    pub plugins: Option<PathBuf>,
    /// Where runtimes look for plugins; `/opt/cni/bin`.
    pub cni_bin: Option<PathBuf>,
    /// Where runtimes look for networks, `/etc/cni/net.d`: the network's configuration is written there when the agent
    /// is ready; without, none is.
    pub cni_net: Option<PathBuf>,
    /// A network configuration to be written in place of the agent's own.
    pub cni_config: Option<PathBuf>,
    /// Whether the agent's own configuration holds pods to the selectors of pools also where they ask for a pool or an
    /// address by name; false, as in Calico.
    pub enforce_pool_selectors: bool,
    /// NetworkManager, systemd-networkd and udev are told to leave the agent's links and routes alone: files below
    /// this folder, `/etc` on a host. Without, they are not.
    pub host_etc: Option<PathBuf>,
}

/// `[node]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// The node's name; default: `NODENAME`, else the host's name in lower case.
    pub name: Option<String>,
    /// How the node's address is found: `first-found` (default), `can-reach=ADDRESS`, `interface=REGEX,...`,
    /// `skip-interface=REGEX,...`, `cidr=RANGE,...`, `kubernetes-internal-ip`, or an address with its prefix length.
    pub address_detection: Option<String>,
    /// The same for the IPv6 address; `none` for none. Default: as for IPv4.
    pub address_detection_v6: Option<String>,
}

/// `[datastore]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DatastoreConfig {
    /// The datastore's URL; `OCICAT_DATASTORE` wins.
    pub url: String,
}

impl Default for DatastoreConfig {
    fn default() -> Self {
        Self {
            url: "sqlite:/var/lib/ocicat/ocicat.db".to_owned(),
        }
    }
}

/// `[bgp]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BgpConfig {
    /// Where the speaker listens; default: port 179 (or BGPConfiguration's `listenPort`) of every address.
    pub listen: Option<SocketAddr>,
    /// The router id; default: the node's IPv4 address.
    pub router_id: Option<Ipv4Addr>,
}

/// `[paths]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Paths {
    /// For sockets; `/run/ocicat`.
    pub run: PathBuf,
    /// For what has to survive a restart; `/var/lib/ocicat`.
    pub state: PathBuf,
    /// Passwords of BGP sessions, each in the file `NAME/KEY`; `/etc/ocicat/secrets`.
    pub secrets: PathBuf,
    /// The settings of network namespaces; `/proc/sys/net`. Another where that is read-only, as in a container without
    /// all privileges: the node's own, mounted at another place.
    pub sysctl: Option<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: PathBuf::from("/run/ocicat"),
            state: PathBuf::from("/var/lib/ocicat"),
            secrets: PathBuf::from("/etc/ocicat/secrets"),
            sysctl: None,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// What is logged, in tracing's filter syntax; `info`. `OCICAT_LOG` wins.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the message has line, column and key.
    #[error("{}: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A parameter of Felix that there is not.
    #[error("{}: [felix] {key}: there is no such parameter", path.display())]
    Parameter {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A variable of the environment has a value that it cannot have.
    #[error("environment {name}: {value:?}: expected {expected}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The node's name cannot be used as one.
    #[error(
        "the node's name {0:?} is not a DNS subdomain (lower-case letters, digits, '-' and '.'); set [node] name or NODENAME"
    )]
    NodeName(String),
}

impl Config {
    /// Reads the file, if one is named, and lays the environment over it.
    ///
    /// # Errors
    /// [`ConfigError`], with file and key.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut config = match path {
            None => Self::default(),
            Some(path) => Self::read(path)?,
        };
        if config.namespace.is_empty() {
            "kube-system".clone_into(&mut config.namespace);
        }
        config.lay_over(environment.into_iter().collect())?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_path_buf(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        config.path = path.display().to_string();
        let unknown = |key: &&String| {
            !parameters::KNOWN
                .iter()
                .any(|one| one.name.eq_ignore_ascii_case(key))
        };
        if let Some(key) = config.felix.keys().find(unknown) {
            return Err(ConfigError::Parameter {
                path: path.to_path_buf(),
                key: key.clone(),
            });
        }
        let file = || Source::File(path.display().to_string());
        let stated = [
            ("node.name", config.node.name.is_some()),
            (
                "node.address-detection",
                config.node.address_detection.is_some(),
            ),
            (
                "datastore.url",
                config.datastore.url != DatastoreConfig::default().url,
            ),
            ("bgp.listen", config.bgp.listen.is_some()),
            ("bgp.router-id", config.bgp.router_id.is_some()),
            (
                "log.filter",
                config.log.filter != LogConfig::default().filter,
            ),
        ];
        for (name, _) in stated.into_iter().filter(|(_, stated)| *stated) {
            config.sources.insert(name, file());
        }
        Ok(config)
    }

    /// Felix's parameters of file and environment. `[health]` and `[metrics]` are some of them in other words.
    #[must_use]
    pub fn parameters(&self) -> parameters::Fixed {
        let text = |value: &toml::Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let mut file: Vec<_> = self
            .felix
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        for (prefix, listen) in [
            ("health", self.health.listen),
            ("prometheusMetrics", self.metrics.listen),
        ] {
            let Some(listen) = listen else { continue };
            file.push((format!("{prefix}Enabled"), "true".to_owned()));
            file.push((format!("{prefix}Host"), listen.ip().to_string()));
            file.push((format!("{prefix}Port"), listen.port().to_string()));
        }
        parameters::Fixed::new(file, &self.path, self.felix_environment.clone())
    }

    /// The settings of the program itself, with where they come from.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let optional = |value: Option<String>| value.unwrap_or_default();
        let values = [
            ("node.name", optional(self.node_name().ok())),
            (
                "node.address-detection",
                optional(self.node.address_detection.clone()),
            ),
            // What follows the question mark may be secret.
            (
                "datastore.url",
                self.datastore
                    .url
                    .split('?')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
            (
                "bgp.listen",
                optional(self.bgp.listen.map(|one| one.to_string())),
            ),
            (
                "bgp.router-id",
                optional(self.bgp.router_id.map(|one| one.to_string())),
            ),
            ("log.filter", self.log.filter.clone()),
            ("paths.state", self.paths.state.display().to_string()),
            ("paths.run", self.paths.run.display().to_string()),
            ("paths.secrets", self.paths.secrets.display().to_string()),
        ];
        let source = |name| {
            self.sources
                .get(name)
                .unwrap_or(&Source::Default)
                .to_string()
        };
        let shown = values.into_iter().map(|(name, value)| Shown {
            name: name.to_owned(),
            value,
            source: source(name),
        });
        shown.collect()
    }

    /// The node's name: configured, or the host's.
    ///
    /// # Errors
    /// [`ConfigError::NodeName`] when it is not a DNS subdomain.
    pub fn node_name(&self) -> Result<String, ConfigError> {
        let name = self.node.name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            host.trim().to_lowercase()
        });
        let fits = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if name.len() <= 253 && name.split('.').all(fits) {
            Ok(name)
        } else {
            Err(ConfigError::NodeName(name))
        }
    }
}

#[cfg(test)]
mod tests;
