use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocicat_bgp::{
    AddPath, AsNumber, Families, Family, Filter, GracefulRestart, NextHopMode, Password,
    PeerConfig, PrivateAs, Role, RuleSet, Rules, Ttl,
};
use serde::{Deserialize, Deserializer};

use super::{Config, port};

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
    /// Several paths per prefix (RFC 7911): `both`, `receive` or `send`. Default none.
    pub add_path: Option<Paths>,
    /// Messages of up to 65535 octets (RFC 8654). Default false.
    #[serde(default)]
    pub extended_messages: bool,
    /// IPv4 routes with IPv6 next hops (RFC 8950). Default false.
    #[serde(default)]
    pub extended_next_hop: bool,
    /// What we are to a neighbour in another AS (RFC 9234): `provider`, `route-server`, `route-server-client`,
    /// `customer` or `peer`. Default nothing.
    pub role: Option<Role>,
    /// A neighbour that says nothing of its role gets no session. Default false.
    #[serde(default)]
    pub strict_role: bool,
    /// What becomes of private AS numbers in what is sent to other ASes: `keep`, `remove` or `replace`. Default `keep`.
    #[serde(default)]
    pub private_as: PrivateAs,
    /// Rules with the keys of Calico's BGPFilter: `importV4`, `exportV4`, `importV6`, `exportV6`.
    #[serde(default)]
    pub filter: RuleSet,
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

/// Filters by their rules: neighbours with equal rules share theirs, and with them their messages.
#[derive(Default)]
pub(super) struct Filters {
    known: Vec<(RuleSet, Pair)>,
}

/// Import and export; `None` where there is no rule.
type Pair = (Option<Arc<dyn Filter>>, Option<Arc<dyn Filter>>);

impl Filters {
    fn of(&mut self, set: &RuleSet) -> Result<Pair> {
        if let Some((_, pair)) = self.known.iter().find(|(known, _)| known == set) {
            return Ok(pair.clone());
        }
        let share = |rules: Rules| -> Option<Arc<dyn Filter>> {
            (!rules.is_empty()).then(|| Arc::new(rules) as Arc<dyn Filter>)
        };
        let import = Rules::import([set]).context("filter")?;
        let export = Rules::export([set]).context("filter")?;
        let pair = (share(import), share(export));
        self.known.push((set.clone(), pair.clone()));
        Ok(pair)
    }
}

/// In which direction several paths per prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paths {
    /// Both.
    Both,
    /// To us.
    Receive,
    /// To the neighbour.
    Send,
}

impl Peer {
    pub(super) fn settings(
        &self,
        address: IpAddr,
        config: &Config,
        filters: &mut Filters,
    ) -> Result<PeerConfig> {
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
        peer = self.routes(peer, filters)?;
        if let Some(limit) = self.max_prefixes {
            peer = peer.max_prefixes(Some(limit).filter(|&limit| limit > 0));
        }
        if let Some(password) = self.password()? {
            peer = peer.password(password);
        }
        Ok(peer)
    }

    /// What is exchanged, and how.
    fn routes(&self, peer: PeerConfig, filters: &mut Filters) -> Result<PeerConfig> {
        let (import, export) = filters.of(&self.filter)?;
        let paths = match self.add_path {
            None => AddPath::default(),
            Some(Paths::Both) => AddPath::both(peer.families),
            Some(Paths::Receive) => AddPath::receive(peer.families),
            Some(Paths::Send) => AddPath::send(peer.families),
        };
        Ok(peer
            .add_path(paths)
            .extended_messages(self.extended_messages)
            .extended_next_hop(self.extended_next_hop)
            .role(self.role)
            .strict_role(self.strict_role)
            .private_as(self.private_as)
            .import(import)
            .export(export))
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
