//! What an agent keeps on disk of the cluster's objects, so that it can begin while the datastore is away.
//!
//! The file holds what this node's network depends on: nodes, pools, claims of blocks, BGP, policies, sets, and the
//! endpoints of this node alone. It is written beside the old one and then takes its place, so that there is a whole
//! one at any time. It says its version; a newer one is refused by name.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocicat_datastore::model::Kind;
use ocicat_datastore::{Key, Object, Revision};
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod file;
mod keep;

pub(crate) use file::write_atomically;
pub(crate) use keep::keep;

/// The version that this agent writes. It reads this one and the one before, of which there is none yet.
pub const VERSION: u32 = 1;

/// The kinds that a snapshot has.
pub const KINDS: [Kind; 18] = [
    Kind::Node,
    Kind::IpPool,
    Kind::BlockAffinity,
    Kind::IpamBlock,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::BgpFilter,
    Kind::FelixConfiguration,
    Kind::Profile,
    Kind::Tier,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::KubeNetworkPolicy,
    Kind::ClusterNetworkPolicy,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
];

/// Objects as JSON, by key: cheap to copy, since the texts are shared.
pub type Texts = BTreeMap<Key, (Revision, Arc<str>)>;

/// What is known of the cluster at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The node that it was taken on.
    pub node: String,
    /// The objects.
    pub objects: Texts,
    /// Passwords of BGP sessions by the name of their secret and key, since secrets too are in the datastore.
    pub secrets: BTreeMap<String, String>,
}

/// Why there is no snapshot to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no snapshot, or a broken one.
    #[error("{}: not a snapshot: {source}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A newer agent wrote it.
    #[error("{}: version {found} of the snapshot is newer than {VERSION}, which this agent reads: run the newer agent, or remove the file", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It was taken on another node, as when a disk was copied.
    #[error("{}: it is of node {found}, this is {expected}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// The node in it.
        found: String,
        /// This node.
        expected: String,
    },
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    node: String,
    agent: String,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    objects: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    revision: Revision,
    value: Box<serde_json::value::RawValue>,
}

impl Snapshot {
    /// Reads the file of this node; none when there is no file.
    ///
    /// # Errors
    /// [`SnapshotError`], which names the file.
    pub fn load(path: &Path, node: &str) -> Result<Option<Self>, SnapshotError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_path_buf();
                return Err(SnapshotError::File { path, source });
            }
        };
        let broken = |source| SnapshotError::Broken {
            path: path.to_path_buf(),
            source,
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(broken)?;
        if head.version > VERSION {
            return Err(SnapshotError::Newer {
                path: path.to_path_buf(),
                found: head.version,
            });
        }
        let body: Body = serde_json::from_slice(&bytes).map_err(broken)?;
        if body.node != node {
            return Err(SnapshotError::OtherNode {
                path: path.to_path_buf(),
                found: body.node,
                expected: node.to_owned(),
            });
        }
        let mut snapshot = Self {
            node: body.node,
            objects: BTreeMap::new(),
            secrets: body.secrets,
        };
        for item in body.objects {
            let value: Value = serde_json::from_str(item.value.get()).map_err(broken)?;
            // An object of a kind that this agent does not know any more is left out: it would not act on it either.
            if let Ok(object) = Object::from_value(value) {
                let text = Arc::from(item.value.get());
                snapshot.objects.insert(object.key(), (item.revision, text));
            }
        }
        Ok(Some(snapshot))
    }

    /// Writes the file, in place of an older one.
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError::File {
            path: path.to_path_buf(),
            source,
        };
        let objects: Result<Vec<Item>, serde_json::Error> = self
            .objects
            .values()
            .map(|(revision, text)| {
                Ok(Item {
                    revision: *revision,
                    value: serde_json::value::RawValue::from_string(text.as_ref().to_owned())?,
                })
            })
            .collect();
        let body = objects.and_then(|objects| {
            serde_json::to_vec(&Body {
                version: VERSION,
                node: self.node.clone(),
                agent: env!("CARGO_PKG_VERSION").to_owned(),
                secrets: self.secrets.clone(),
                objects,
            })
        });
        write_atomically(
            path,
            &body.map_err(std::io::Error::other).map_err(failed)?,
            0o600,
        )
        .map_err(failed)
    }

    /// The addresses that its node had.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let key = Key::cluster(Kind::Node, self.node.clone());
        let text = self.objects.get(&key).map(|(_, text)| text);
        let value: Value = text
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let bgp = &value["spec"]["bgp"];
        let stated = ["ipv4Address", "ipv6Address"]
            .into_iter()
            .filter_map(|field| bgp[field].as_str());
        stated
            .filter_map(|text| text.split('/').next()?.parse().ok())
            .collect()
    }

    /// The objects, with the revisions that they had.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        self.objects.iter().filter_map(|(key, (revision, text))| {
            Some(Object {
                kind: key.kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                value: serde_json::from_str(text).ok()?,
                revision: *revision,
            })
        })
    }
}

/// Whether an object belongs into the snapshot of a node. Endpoints and blocks of others are left out: there are too
/// many of them, and routes to them follow from claims and from BGP. Blocks that others borrow from stay.
#[must_use]
pub fn belongs(node: &str, object: &Object) -> bool {
    match object.kind {
        Kind::WorkloadEndpoint => object.value["spec"]["node"].as_str() == Some(node),
        Kind::IpamBlock => concerns(node, &object.value["spec"]),
        kind => KINDS.contains(&kind),
    }
}

/// Whether a block is the node's, or one that an address was borrowed from.
fn concerns(node: &str, spec: &Value) -> bool {
    let owner = spec["affinity"]
        .as_str()
        .and_then(|affinity| affinity.strip_prefix("host:"));
    owner == Some(node)
        || spec["attributes"].as_array().is_some_and(|attributes| {
            attributes.iter().any(|attribute| {
                let holder = attribute["secondary"]["node"].as_str();
                holder.is_some() && holder != owner
            })
        })
}

#[cfg(test)]
mod tests;
