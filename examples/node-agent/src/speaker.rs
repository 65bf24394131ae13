//! The node's BGP speaker, as the core sees it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ocicat_bgp::driver::{self, DriverConfig, DriverError, Handle};
use ocicat_bgp::{
    Attributes, Cease, Community, Families, Filter, GracefulRestart, NextHopMode, Password,
    PeerConfig, PeerId, SpeakerConfig, State, Stop, Ttl,
};
use ocicat_dataplane::Prefix;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::control::Peer;
use crate::filters::{Filters, Passage, to_bgp};
use crate::peers::{NextHop, WantedPeer};

#[cfg(test)]
mod tests;
mod translate;

pub(crate) use translate::SpeakerEvent;

/// Why the speaker cannot run.
#[derive(Debug, thiserror::Error)]
#[error("the BGP speaker cannot run")]
pub struct SpeakerError(#[from] DriverError);

/// Who the speaker is: fixed while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) as_number: u32,
    pub(crate) router_id: Ipv4Addr,
    /// The cluster of a route reflector.
    pub(crate) cluster_id: Option<Ipv4Addr>,
    pub(crate) listen: Vec<SocketAddr>,
    /// The node's addresses, one of each family at most, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
}

/// A session, with everything that it needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) peer: WantedPeer,
    pub(crate) password: Option<String>,
    pub(crate) passage: Passage,
    /// The link that the peer is reached by, for BGPFilters that ask.
    pub(crate) interface: Option<String>,
}

/// Sessions and announcements of this node; before [`start`](Self::start) there are none.
pub(crate) struct Speaker {
    events: mpsc::Sender<SpeakerEvent>,
    /// Routes of a predecessor are in the kernel: peers are asked to wait, and told that packets flowed on meanwhile.
    forwarding_preserved: bool,
    running: Option<Running>,
    wanted: BTreeMap<IpAddr, Wanted>,
    ids: BTreeMap<IpAddr, PeerId>,
    filters: Filters,
    draining: bool,
}

struct Running {
    identity: Identity,
    handle: Handle,
    driver: JoinHandle<()>,
}

impl Speaker {
    /// A speaker that has not begun, and where its events come from.
    pub(crate) fn new(
        forwarding_preserved: bool,
        import: Option<Arc<dyn Filter>>,
    ) -> (Self, mpsc::Receiver<SpeakerEvent>) {
        let (events, receiver) = mpsc::channel(1024);
        let speaker = Self {
            events,
            forwarding_preserved,
            running: None,
            wanted: BTreeMap::new(),
            ids: BTreeMap::new(),
            filters: Filters::new(import),
            draining: false,
        };
        (speaker, receiver)
    }

    /// Who it is; nobody before it has begun.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.running.as_ref().map(|running| &running.identity)
    }

    /// Begins to listen. Does nothing when it runs already.
    ///
    /// # Errors
    /// When an address cannot be listened at.
    pub(crate) fn start(&mut self, identity: Identity) -> Result<(), SpeakerError> {
        if self.running.is_some() {
            return Ok(());
        }
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let own = |ipv4| {
            let mut addresses = identity.addresses.iter().copied();
            addresses.find(|address| address.is_ipv4() == ipv4)
        };
        let mut config = SpeakerConfig::new(identity.as_number, identity.router_id)
            .restarting(self.forwarding_preserved)
            .max_paths(MAX_PATHS)
            .next_hop_v6(own(false).map(Into::into))
            .next_hop_v4(own(true).map(Into::into))
            .seed(seed);
        if let Some(cluster) = identity.cluster_id {
            config = config.cluster_id(cluster);
        }
        let driver = DriverConfig::new(config);
        let driver = identity
            .listen
            .iter()
            .fold(driver, |driver, address| driver.listen(*address));
        let (handle, driver) = driver::new(driver)?;
        let (events, sender) = (handle.events(), self.events.clone());
        let driver = tokio::spawn(async move {
            tokio::join!(driver, translate::translate(events, sender));
        });
        self.running = Some(Running {
            identity,
            handle,
            driver,
        });
        Ok(())
    }

    /// Announces a route of this node.
    pub(crate) fn originate(&self, prefix: Prefix) {
        if let (Some(running), Some(prefix)) = (&self.running, to_bgp(prefix)) {
            running.handle.originate(prefix, self.own_attributes());
        }
    }

    /// RFC 8326: what is about to go away says so, and is the last resort inside the AS.
    fn own_attributes(&self) -> Attributes {
        let own = Attributes::local();
        if !self.draining {
            return own;
        }
        own.edit()
            .community(Community::GRACEFUL_SHUTDOWN)
            .local_pref(0)
            .build()
    }

    /// Whether announcements say that the node goes away; true when that is another answer than before, and everything
    /// is to be announced anew.
    pub(crate) const fn set_draining(&mut self, draining: bool) -> bool {
        let changed = self.draining != draining;
        self.draining = draining;
        changed
    }

    /// Takes an announcement back.
    pub(crate) fn withdraw(&self, prefix: Prefix) {
        if let (Some(running), Some(prefix)) = (&self.running, to_bgp(prefix)) {
            running.handle.withdraw(prefix);
        }
    }

    /// Everything that this node announces has been announced.
    pub(crate) fn originations_complete(&self) {
        if let Some(running) = &self.running {
            running.handle.originations_complete();
        }
    }

    /// Makes the sessions those that are wanted; the others are not touched. Says which cannot be had, and why.
    pub(crate) async fn set_peers(&mut self, new: BTreeMap<IpAddr, Wanted>) -> Vec<String> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        for address in self
            .wanted
            .keys()
            .filter(|address| !new.contains_key(*address))
        {
            if let Some(id) = self.ids.remove(address) {
                let _ = running
                    .handle
                    .remove_peer(id, Cease::PeerDeconfigured)
                    .await;
            }
        }
        let used: Vec<&Passage> = new.values().map(|one| &one.passage).collect();
        self.filters.keep(&used);
        for (address, wanted) in &new {
            if self.wanted.get(address) == Some(wanted) && self.ids.contains_key(address) {
                continue;
            }
            let config = match config(wanted, &running.identity, self.forwarding_preserved) {
                Ok(config) => config,
                Err(problem) => {
                    problems.push(format!("{}: {problem}", wanted.peer.object));
                    continue;
                }
            };
            let pair = self.filters.of(&wanted.passage);
            let config = config.import(pair.import).export(pair.export);
            let outcome = match self.ids.get(address) {
                Some(id) => running.handle.update_peer(*id, config).await,
                None => running.handle.add_peer(config).await,
            };
            match outcome {
                Ok(id) => drop(self.ids.insert(*address, id)),
                Err(error) => problems.push(format!("{}: {error}", wanted.peer.object)),
            }
        }
        self.wanted = new;
        problems
    }

    /// How the wanted sessions are doing.
    pub(crate) async fn peers(&self) -> Vec<Peer> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let now = Instant::now();
        let statuses = running.handle.peers().await.unwrap_or_default();
        let peer = |status: &ocicat_bgp::PeerStatus| {
            let wanted = self.wanted.get(&status.address).map(|one| &one.peer);
            Peer {
                address: status.address.to_string(),
                as_number: status.peer_as.0,
                kind: wanted.map_or("", |wanted| wanted.kind.name()).to_owned(),
                state: status.state.to_string(),
                since_s: now.saturating_duration_since(status.since).as_secs_f64(),
                last_error: status.last_error.as_ref().map(ToString::to_string),
                routes: usize::try_from(status.routes).unwrap_or(usize::MAX),
                established: status.state == State::Established,
                object: wanted
                    .map(|wanted| wanted.object.clone())
                    .unwrap_or_default(),
                updates: status.updates,
                sessions: status.sessions,
            }
        };
        statuses.iter().map(peer).collect()
    }

    /// Every prefix with its paths, and why the first is the best.
    pub(crate) async fn routes(&self) -> Vec<Value> {
        let Some(running) = &self.running else {
            return Vec::new();
        };
        let routes = running.handle.routes().await.unwrap_or_default();
        routes.iter().map(shown).collect()
    }

    /// Closes every session without a word, so that peers keep the routes while the agent is away.
    pub(crate) async fn stop(self) {
        if let Some(running) = self.running {
            running.handle.stop(Stop::Silent).await;
            running.driver.abort();
        }
    }
}

/// Equally good paths that are used together: as many as a rack has ways out.
const MAX_PATHS: u8 = 16;

fn shown(route: &ocicat_bgp::Route) -> Value {
    let paths: Vec<Value> = route
        .paths
        .iter()
        .map(|path| {
            let communities = path.attributes.communities().map(|one| one.to_string());
            json!({
                "nextHop": path.next_hop.map(|hop| hop.to_string()),
                "peer": path.peer_address.map(|peer| peer.to_string()),
                "external": path.external,
                "stale": path.stale,
                "localPref": path.attributes.local_pref(),
                "med": path.attributes.med(),
                "asPath": path.attributes.as_path().to_string(),
                "communities": communities.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "prefix": route.prefix.to_string(),
        "used": route.used,
        "reason": route.step.map(|step| format!("{step:?}")),
        "paths": paths,
    })
}

/// A session's settings, without filters.
fn config(
    wanted: &Wanted,
    identity: &Identity,
    forwarding_preserved: bool,
) -> Result<PeerConfig, String> {
    let peer = &wanted.peer;
    let address = peer.address.ip();
    let restart =
        GracefulRestart::new(peer.restart_time).forwarding_preserved(forwarding_preserved);
    let mut own = identity.addresses.iter().copied();
    let local = own.find(|own| peer.from_node_address && own.is_ipv4() == address.is_ipv4());
    let families = match identity.addresses.as_slice() {
        [_, _] => Families::BOTH,
        _ if address.is_ipv4() => Families::IPV4,
        _ => Families::IPV6,
    };
    let password = wanted
        .password
        .as_ref()
        .map(|text| Password::new(text.as_bytes()));
    let password = password
        .transpose()
        .map_err(|error| format!("spec.password: {error}"))?;
    let mut config = PeerConfig::new(address, peer.as_number)
        .port(peer.address.port())
        .local_address(local)
        .interface(wanted.interface.as_deref())
        // A peer that speaks over IPv6 may say where IPv4 is reached by way of IPv6 (RFC 8950).
        .extended_next_hop(address.is_ipv6())
        .passive(peer.passive)
        .hold_time(peer.keepalive * 3)
        .keepalive(Some(peer.keepalive))
        .families(families)
        .next_hop(match peer.next_hop {
            NextHop::Auto => NextHopMode::Auto,
            NextHop::Own => NextHopMode::Own,
            NextHop::Keep => NextHopMode::Keep,
        })
        .rr_client(peer.rr_client)
        .allow_own_as(peer.allow_own_as)
        .password(password)
        .graceful_restart(Some(restart))
        .max_restart_time(peer.restart_time.max(std::time::Duration::from_secs(1)));
    if let Some(hops) = peer.ttl_security {
        config = config.ttl(Ttl::Security { hops });
    }
    if peer.local_as != identity.as_number {
        config = config.local_as(Some(peer.local_as.into()));
    }
    Ok(config)
}
