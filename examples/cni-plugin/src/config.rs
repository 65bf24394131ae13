use std::path::PathBuf;

use ocicat_cni::agent::{Client, Tombstones};
use serde::Deserialize;

/// The keys of the network configuration that the plugins themselves read; the agent reads the rest.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// The agent's socket. Default: /run/ocicat/cni.sock.
    pub socket: Option<PathBuf>,
    /// Where a DEL is noted that the agent did not see. Default: /var/lib/ocicat/tombstones.
    pub tombstones: Option<PathBuf>,
    /// The same keys under `ipam`, which another plugin's configuration has for `ocicat-ipam`.
    #[serde(default)]
    pub ipam: Option<IpamConfig>,
}

/// The keys under `ipam`; they count before those above.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct IpamConfig {
    /// The agent's socket.
    pub socket: Option<PathBuf>,
    /// Where a DEL is noted that the agent did not see.
    pub tombstones: Option<PathBuf>,
}

impl Config {
    pub(crate) fn client(&self) -> Client {
        let ipam = self.ipam.as_ref().and_then(|ipam| ipam.socket.as_ref());
        let socket = ipam.or(self.socket.as_ref());
        Client::new(
            socket
                .cloned()
                .unwrap_or_else(|| "/run/ocicat/cni.sock".into()),
        )
    }

    pub(crate) fn tombstones(&self) -> Tombstones {
        let ipam = self.ipam.as_ref().and_then(|ipam| ipam.tombstones.as_ref());
        let folder = ipam.or(self.tombstones.as_ref());
        Tombstones::new(
            folder
                .cloned()
                .unwrap_or_else(|| "/var/lib/ocicat/tombstones".into()),
        )
    }
}
