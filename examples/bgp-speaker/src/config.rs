//! The configuration file.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocicat_bgp::{
    AsNumber, DynamicPeers, Families, Family, GracefulRestart, NextHopMode, Password, PeerConfig,
    Prefix, SpeakerConfig, Ttl,
};
use serde::{Deserialize, Deserializer};

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

/// A neighbour, or with `prefix` any number of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// The neighbour's address.
    pub addr: Option<IpAddr>,
    /// Where neighbours connect from that are not configured one by one.
    pub prefix: Option<String>,
    /// The neighbour's AS.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// Our AS towards it.
    pub local_as: Option<u32>,
    /// Its port. Default 179.
    #[serde(default = "port")]
    pub port: u16,
    /// Our address towards it.
    pub local_address: Option<IpAddr>,
    /// It is a client of this reflector.
    #[serde(default)]
    pub rr_client: bool,
    /// Wait for it to connect.
    #[serde(default)]
    pub passive: bool,
    /// `ipv4`, `ipv6`. Default: that of its address.
    pub families: Option<Vec<String>>,
    /// Its TCP MD5 password.
    pub md5: Option<Secret>,
    /// A file that holds the password and that only its owner can read.
    pub password_file: Option<PathBuf>,
    /// Graceful restart: the seconds that it shall keep our routes, `true` for 120, `false` or 0 for none. Default 120.
    #[serde(default)]
    pub gr: Restart,
    /// The hold time in seconds.
    pub hold: Option<u64>,
    /// The keepalive interval in seconds.
    pub keepalive: Option<f64>,
    /// The next hop is always our address.
    #[serde(default)]
    pub next_hop_self: bool,
    /// The next hop is never changed.
    #[serde(default)]
    pub next_hop_keep: bool,
    /// How many hops it may be away: RFC 5082.
    pub ttl_security: Option<u8>,
    /// The TTL of our packets.
    pub ttl: Option<u8>,
    /// How often our AS may be in its paths.
    #[serde(default)]
    pub allow_own_as: u8,
    /// More prefixes than this end the session. Default one million; 0: no limit.
    pub max_prefixes: Option<u32>,
    /// A prefix without password and TTL security lets in whoever can reach the port; this says that it is meant.
    #[serde(default)]
    pub insecure: bool,
}

/// A password in the configuration; it is not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(set)")
    }
}

/// The restart time that a neighbour is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart(pub Option<u16>);

impl Default for Restart {
    fn default() -> Self {
        Self(Some(120))
    }
}

impl<'de> Deserialize<'de> for Restart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Switch(bool),
            Seconds(u16),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Switch(true) => Self::default().0,
            Form::Switch(false) | Form::Seconds(0) => None,
            Form::Seconds(seconds) => Some(seconds),
        }))
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
        for (at, peer) in self.peers.iter().enumerate() {
            let place = || format!("peers[{at}]");
            match (&peer.addr, &peer.prefix) {
                (Some(addr), None) => single.push(peer.settings(*addr, self).with_context(place)?),
                (None, Some(prefix)) => {
                    let prefix: Prefix = prefix.parse().context("prefix").with_context(place)?;
                    let open = peer.md5.is_none() && peer.password_file.is_none();
                    if open && peer.ttl_security.is_none() && !peer.insecure {
                        bail!(
                            "peers[{at}]: {prefix} has neither a password nor ttl_security; \
                             say insecure = true if that is meant"
                        );
                    }
                    let template = peer.settings(prefix.address(), self).with_context(place)?;
                    dynamic.push(DynamicPeers::new(prefix, template));
                }
                _ => bail!("peers[{at}]: either addr or prefix"),
            }
        }
        Ok((single, dynamic))
    }
}

impl Peer {
    fn settings(&self, address: IpAddr, config: &Config) -> Result<PeerConfig> {
        let mut peer = PeerConfig::new(address, self.as_number)
            .port(self.port)
            .passive(self.passive)
            .rr_client(self.rr_client)
            .local_as(self.local_as.map(AsNumber))
            .local_address(self.local_address)
            .allow_own_as(self.allow_own_as)
            .hold_time(Duration::from_secs(self.hold.unwrap_or(config.hold)));
        if let Some(keepalive) = self.keepalive {
            peer = peer.keepalive(Duration::try_from_secs_f64(keepalive).context("keepalive")?);
        }
        let restart = self.gr.0.map(|seconds| {
            GracefulRestart::new(Duration::from_secs(seconds.into()))
                .forwarding_preserved(config.restarting)
        });
        peer = peer.graceful_restart(restart);
        if let Some(families) = &self.families {
            peer = peer.families(
                families
                    .iter()
                    .map(|name| family(name))
                    .collect::<Result<Families>>()?,
            );
        }
        peer = peer.next_hop(match (self.next_hop_self, self.next_hop_keep) {
            (true, true) => bail!("next_hop_self and next_hop_keep exclude each other"),
            (true, false) => NextHopMode::Own,
            (false, true) => NextHopMode::Keep,
            (false, false) => NextHopMode::Auto,
        });
        match (self.ttl_security, self.ttl) {
            (Some(_), Some(_)) => bail!("ttl_security and ttl exclude each other"),
            (Some(hops), None) => peer = peer.ttl(Ttl::Security { hops }),
            (None, Some(ttl)) => peer = peer.ttl(Ttl::Limit(ttl)),
            (None, None) => {}
        }
        if let Some(limit) = self.max_prefixes {
            peer = peer.max_prefixes(Some(limit).filter(|&limit| limit > 0));
        }
        if let Some(password) = self.password()? {
            peer = peer.password(password);
        }
        Ok(peer)
    }

    fn password(&self) -> Result<Option<Password>> {
        let secret = match (&self.md5, &self.password_file) {
            (Some(_), Some(_)) => bail!("md5 and password_file exclude each other"),
            (Some(secret), None) => secret.0.clone(),
            (None, Some(path)) => read_secret(path)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Password::new(secret)?))
    }
}

/// Reads a password file, unless others could as well.
fn read_secret(path: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let name = path.display();
    let meta = std::fs::metadata(path).with_context(|| format!("password_file {name}"))?;
    if meta.permissions().mode() & 0o077 != 0 {
        bail!("password_file {name}: group or others can read it; chmod 600 {name}");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("password_file {name}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn family(name: &str) -> Result<Family> {
    match name {
        "ipv4" => Ok(Family::Ipv4Unicast),
        "ipv6" => Ok(Family::Ipv6Unicast),
        _ => bail!("families: {name:?} is neither \"ipv4\" nor \"ipv6\""),
    }
}
