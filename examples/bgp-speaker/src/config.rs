//! The configuration file.

mod peer;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ocicat_bgp::{DynamicPeers, PeerConfig, Prefix, SpeakerConfig};
use serde::Deserialize;

pub use peer::{Peer, Restart, Secret};

/// A whole configuration. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The AS of the speaker.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// Where to listen. Default: every address of both families.
    pub addr: Option<IpAddr>,
    /// The port to listen at. Default 179.
    #[serde(default = "port")]
    pub port: u16,
    /// The cluster of a reflector. Default: the BGP identifier.
    pub cluster_id: Option<Ipv4Addr>,
    /// The hold time in seconds for peers that say nothing else. Default 90.
    #[serde(default = "hold")]
    pub hold: u64,
    /// Prefixes to originate.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The neighbours.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// How many equally good paths are used. Default 1.
    #[serde(default = "one")]
    pub max_paths: u8,
    /// Compare MED between different neighbouring ASes. Default false, as RFC 4271 has it.
    #[serde(default)]
    pub always_compare_med: bool,
    /// Where `ocicat-bgpd status` and its like ask. Default /run/ocicat/bgpd.sock.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// What becomes of the best routes.
    #[serde(default)]
    pub kernel: Kernel,
    /// The process takes up from one that was killed or ended with SIGUSR2. Default false.
    #[serde(default)]
    pub restarting: bool,
}

/// The kernel's routing table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Put the best routes into it. Default false.
    #[serde(default)]
    pub export: bool,
    /// The protocol number of these routes. What carries it is ours: routes that are not best any more are removed.
    /// Default 186, which iproute2 calls bgp; an agent on the same machine has 80.
    #[serde(default = "protocol")]
    pub protocol: u8,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            export: false,
            protocol: protocol(),
        }
    }
}

const fn port() -> u16 {
    179
}

/// Where the control socket is by default.
pub const SOCKET: &str = "/run/ocicat/bgpd.sock";

fn socket() -> PathBuf {
    SOCKET.into()
}

const fn protocol() -> u8 {
    186
}

const fn hold() -> u64 {
    90
}

const fn one() -> u8 {
    1
}

impl Config {
    /// Reads a file: JSON when its name ends with `.json`, else TOML.
    ///
    /// # Errors
    /// When it cannot be read or understood, with its name, line and key.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            serde_json::from_str(&text).with_context(|| name.to_string())
        } else {
            toml::from_str(&text).with_context(|| name.to_string())
        }
    }

    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> Vec<SocketAddr> {
        match self.addr {
            Some(addr) => vec![SocketAddr::new(addr, self.port)],
            None => vec![
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), self.port),
                SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), self.port),
            ],
        }
    }

    /// The speaker's settings.
    #[must_use]
    pub fn speaker(&self, seed: u64) -> SpeakerConfig {
        SpeakerConfig::new(self.as_number, self.router_id)
            .cluster_id(self.cluster_id.unwrap_or(self.router_id))
            .max_paths(self.max_paths)
            .always_compare_med(self.always_compare_med)
            .restarting(self.restarting)
            .seed(seed)
    }

    /// The prefixes to originate.
    ///
    /// # Errors
    /// Names the one that is no prefix.
    pub fn networks(&self) -> Result<Vec<Prefix>> {
        let parse = |text: &String| text.parse().with_context(|| format!("networks: {text}"));
        self.networks.iter().map(parse).collect()
    }

    /// The neighbours with an address, and those by prefix.
    ///
    /// # Errors
    /// Names the neighbour and the key.
    pub fn neighbours(&self) -> Result<(Vec<PeerConfig>, Vec<DynamicPeers>)> {
        let (mut single, mut dynamic) = (Vec::new(), Vec::new());
        let mut filters = peer::Filters::default();
        for (at, peer) in self.peers.iter().enumerate() {
            let place = || format!("peers[{at}]");
            match (&peer.addr, &peer.prefix) {
                (Some(addr), None) => single.push(
                    peer.settings(*addr, self, &mut filters)
                        .with_context(place)?,
                ),
                (None, Some(prefix)) => {
                    let prefix: Prefix = prefix.parse().context("prefix").with_context(place)?;
                    let open = peer.md5.is_none() && peer.password_file.is_none();
                    if open && peer.ttl_security.is_none() && !peer.insecure {
                        bail!(
                            "peers[{at}]: {prefix} has neither a password nor ttl_security; \
                             say insecure = true if that is meant"
                        );
                    }
                    let template = peer
                        .settings(prefix.address(), self, &mut filters)
                        .with_context(place)?;
                    dynamic.push(DynamicPeers::new(prefix, template));
                }
                _ => bail!("peers[{at}]: either addr or prefix"),
            }
        }
        Ok((single, dynamic))
    }
}
