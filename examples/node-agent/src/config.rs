//! The agent's configuration: `node.toml`, then the environment, which wins.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

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
    /// Felix's parameters by Felix's names, such as `DefaultEndpointToHostAction`.
    pub felix: BTreeMap<String, toml::Value>,
}

/// `[node]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// The node's name; default: `NODENAME`, else the host's name in lower case.
    pub name: Option<String>,
    /// How the node's address is found: `first-found` (default), `can-reach=ADDRESS`, `interface=REGEX,...`,
    /// `skip-interface=REGEX,...`, `cidr=RANGE,...`, or an address with its prefix length.
    pub address_detection: Option<String>,
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
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            run: PathBuf::from("/run/ocicat"),
            state: PathBuf::from("/var/lib/ocicat"),
            secrets: PathBuf::from("/etc/ocicat/secrets"),
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
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut config = match path {
            None => Self::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                        path: path.to_path_buf(),
                        source,
                    })?;
                toml::from_str(&text).map_err(|source| ConfigError::Syntax {
                    path: path.to_path_buf(),
                    source: Box::new(source),
                })?
            }
        };
        if let Some(url) = environment("OCICAT_DATASTORE") {
            config.datastore.url = url;
        }
        if let Some(filter) = environment("OCICAT_LOG") {
            config.log.filter = filter;
        }
        if let Some(method) = environment("IP_AUTODETECTION_METHOD") {
            config.node.address_detection = Some(method);
        }
        if let Some(name) = environment("NODENAME") {
            config.node.name = Some(name);
        }
        Ok(config)
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

    /// A Felix parameter from the file, as text.
    #[must_use]
    pub fn felix(&self, name: &str) -> Option<String> {
        let (_, value) = self
            .felix
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(
            &path,
            "[node]\nname = \"a\"\n[datastore]\nurl = \"memory:\"\n[felix]\nVXLANMTU = 1400\n",
        )
        .unwrap();
        let none = Config::load(Some(&path), |_| None).unwrap();
        assert_eq!(
            (
                none.node_name().unwrap().as_str(),
                none.datastore.url.as_str()
            ),
            ("a", "memory:")
        );
        assert_eq!(none.felix("vxlanmtu").as_deref(), Some("1400"));
        let set = Config::load(Some(&path), |name| {
            (name == "NODENAME").then(|| "b".to_owned())
        })
        .unwrap();
        assert_eq!(set.node_name().unwrap(), "b");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, "[bgp]\nlisten-port = 179\n").unwrap();
        let error = Config::load(Some(&path), |_| None).unwrap_err().to_string();
        assert!(
            error.contains("listen-port") && error.contains("node.toml"),
            "{error}"
        );
    }

    #[test]
    fn a_node_needs_a_name_that_kubernetes_accepts() {
        for (name, good) in [
            ("node1", true),
            ("a.b-c", true),
            ("Node", false),
            ("-a", false),
            ("", false),
            ("a_b", false),
        ] {
            let node = NodeConfig {
                name: Some(name.to_owned()),
                address_detection: None,
            };
            assert_eq!(
                Config {
                    node,
                    ..Config::default()
                }
                .node_name()
                .is_ok(),
                good,
                "{name}"
            );
        }
    }
}
