//! The node's BGP speaker, as the core sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ocicat_bgp::driver::{self, DriverConfig, DriverError, Handle};
use ocicat_bgp::{
    Attributes, Cease, Event, Families, Filter, GracefulRestart, NextHopMode, PeerConfig, PeerId,
    SpeakerConfig, State, Stop,
};
use ocicat_dataplane::Prefix;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::control::Peer;
use crate::filters::{Mesh, Outside};
use crate::peers::{NextHop, PeerKind, WantedPeer};
use crate::startup::BgpSettings;

/// What the speaker tells the core.
#[derive(Clone, Debug)]
pub(crate) enum SpeakerEvent {
    /// The best next hops of a prefix; none means that it is gone. A prefix of this node itself has none either.
    Best {
        prefix: Prefix,
        hops: Vec<IpAddr>,
        external: bool,
    },
    Up {
        peer: IpAddr,
    },
    Down {
        peer: IpAddr,
        reason: String,
    },
    /// After a restart: what the peers have is known now.
    Converged,
}

/// Why the speaker cannot run.
#[derive(Debug, thiserror::Error)]
#[error("the BGP speaker cannot run")]
pub struct SpeakerError(#[from] DriverError);

/// Sessions and announcements of this node.
pub(crate) struct Speaker {
    handle: Handle,
    settings: BgpSettings,
    forwarding_preserved: bool,
    ids: Mutex<BTreeMap<IpAddr, PeerId>>,
    mesh: Arc<dyn Filter>,
    outside: Arc<dyn Filter>,
}

impl Speaker {
    /// A speaker that listens, its events, and the future that drives both. `forwarding_preserved` says that routes of
    /// a predecessor are in the kernel: peers are asked to wait, and told that packets flowed on meanwhile.
    pub(crate) fn new(
        settings: &BgpSettings,
        forwarding_preserved: bool,
    ) -> Result<
        (
            Self,
            mpsc::Receiver<SpeakerEvent>,
            impl Future<Output = ()> + Send + use<>,
        ),
        SpeakerError,
    > {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let config = SpeakerConfig::new(settings.as_number, settings.router_id)
            .restarting(forwarding_preserved)
            .next_hop_v6(settings.next_hop_v6.map(|hop| IpAddr::V6(hop).into()))
            .next_hop_v4(settings.local.is_ipv4().then(|| settings.local.into()))
            .seed(seed);
        let (handle, driver) = driver::new(DriverConfig::new(config).listen(settings.listen))?;
        let (sender, receiver) = mpsc::channel(1024);
        let events = handle.events();
        let speaker = Self {
            handle,
            settings: *settings,
            forwarding_preserved,
            ids: Mutex::default(),
            mesh: Arc::new(Mesh),
            outside: Arc::new(Outside),
        };
        let run = async move {
            tokio::join!(driver, translate(events, sender));
        };
        Ok((speaker, receiver, run))
    }

    /// Announces a route of this node.
    pub(crate) fn originate(&self, prefix: Prefix) {
        if let Some(prefix) = to_bgp(prefix) {
            self.handle.originate(prefix, Attributes::local());
        }
    }

    /// Takes an announcement back.
    pub(crate) fn withdraw(&self, prefix: Prefix) {
        if let Some(prefix) = to_bgp(prefix) {
            self.handle.withdraw(prefix);
        }
    }

    /// Everything that this node announces has been announced.
    pub(crate) fn originations_complete(&self) {
        self.handle.originations_complete();
    }

    /// Makes the sessions those that are wanted; the others are not touched.
    pub(crate) async fn set_peers(
        &self,
        old: &BTreeMap<IpAddr, WantedPeer>,
        new: &BTreeMap<IpAddr, WantedPeer>,
    ) {
        let mut ids = self.ids.lock().await;
        for address in old.keys().filter(|address| !new.contains_key(*address)) {
            if let Some(id) = ids.remove(address) {
                let _ = self.handle.remove_peer(id, Cease::PeerDeconfigured).await;
            }
        }
        for (address, wanted) in new
            .iter()
            .filter(|(address, wanted)| old.get(*address) != Some(*wanted))
        {
            let config = self.config(wanted);
            let outcome = match ids.get(address) {
                Some(id) => self.handle.update_peer(*id, config).await,
                None => self.handle.add_peer(config).await,
            };
            match outcome {
                Ok(id) => drop(ids.insert(*address, id)),
                Err(error) => {
                    tracing::warn!(peer = %address, object = wanted.object, %error, "no BGP session")
                }
            }
        }
    }

    fn config(&self, wanted: &WantedPeer) -> PeerConfig {
        let restart = GracefulRestart::new(wanted.restart_time)
            .forwarding_preserved(self.forwarding_preserved);
        let mut config = PeerConfig::new(wanted.address.ip(), wanted.as_number)
            .port(wanted.address.port())
            .local_address(self.local_address(wanted.address.ip()))
            .hold_time(wanted.keepalive * 3)
            .keepalive(Some(wanted.keepalive))
            .next_hop(match wanted.next_hop {
                NextHop::Auto => NextHopMode::Auto,
                NextHop::Own => NextHopMode::Own,
                NextHop::Keep => NextHopMode::Keep,
            })
            .graceful_restart(Some(restart))
            .max_restart_time(wanted.restart_time.max(std::time::Duration::from_secs(1)))
            .families(self.families(wanted.address.ip()));
        if wanted.local_as != self.settings.as_number {
            config = config.local_as(Some(wanted.local_as.into()));
        }
        if wanted.kind == PeerKind::Mesh {
            config.import(Some(Arc::clone(&self.mesh)))
        } else if wanted.as_number == wanted.local_as {
            config
        } else {
            config.export(Some(Arc::clone(&self.outside)))
        }
    }

    /// Both families where the node has addresses of both, on one session.
    fn families(&self, peer: IpAddr) -> Families {
        match (self.settings.local, self.settings.next_hop_v6) {
            (IpAddr::V4(_), Some(_)) => Families::BOTH,
            _ if peer.is_ipv4() => Families::IPV4,
            _ => Families::IPV6,
        }
    }

    /// The node's address of the peer's family.
    fn local_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let second = self.settings.next_hop_v6.map(IpAddr::V6);
        let mut own = [Some(self.settings.local), second].into_iter().flatten();
        own.find(|own| own.is_ipv4() == peer.is_ipv4())
    }

    /// How the wanted sessions are doing.
    pub(crate) async fn peers(&self, wanted: &BTreeMap<IpAddr, WantedPeer>) -> Vec<Peer> {
        let now = Instant::now();
        let statuses = self.handle.peers().await.unwrap_or_default();
        let peer = |status: &ocicat_bgp::PeerStatus| Peer {
            address: status.address.to_string(),
            as_number: status.peer_as.0,
            kind: wanted
                .get(&status.address)
                .map_or("", |wanted| wanted.kind.name())
                .to_owned(),
            state: status.state.to_string(),
            since_s: now.saturating_duration_since(status.since).as_secs_f64(),
            last_error: status.last_error.as_ref().map(ToString::to_string),
            routes: usize::try_from(status.routes).unwrap_or(usize::MAX),
            established: status.state == State::Established,
        };
        statuses.iter().map(peer).collect()
    }

    /// Every prefix with its paths, and why the first is the best.
    pub(crate) async fn routes(&self) -> Value {
        let routes = self.handle.routes().await.unwrap_or_default();
        let shown = routes.iter().map(|route| {
            let paths: Vec<Value> = route
                .paths
                .iter()
                .map(|path| {
                    json!({
                        "nextHop": path.next_hop.map(|hop| hop.to_string()),
                        "peer": path.peer_address.map(|peer| peer.to_string()),
                        "external": path.external,
                        "stale": path.stale,
                    })
                })
                .collect();
            json!({
                "prefix": route.prefix.to_string(),
                "used": route.used,
                "reason": route.step.map(|step| format!("{step:?}")),
                "paths": paths,
            })
        });
        Value::Array(shown.collect())
    }

    /// Closes every session without a word, so that peers keep the routes while the agent is away.
    pub(crate) async fn stop(self) {
        self.handle.stop(Stop::Silent).await;
    }
}

async fn translate(mut events: mpsc::Receiver<Event>, core: mpsc::Sender<SpeakerEvent>) {
    while let Some(event) = events.recv().await {
        let event = match event {
            Event::Best { prefix, routes, .. } => {
                let Some(prefix) = from_bgp(prefix) else {
                    continue;
                };
                SpeakerEvent::Best {
                    prefix,
                    external: routes.first().is_some_and(|route| route.external),
                    hops: routes.iter().filter_map(|route| route.next_hop).collect(),
                }
            }
            Event::PeerUp { address, .. } => SpeakerEvent::Up { peer: address },
            Event::PeerDown {
                address,
                reason,
                kept,
                ..
            } => {
                let kept = kept.map_or_else(String::new, |time| {
                    format!("; its routes are kept for {time:?}")
                });
                SpeakerEvent::Down {
                    peer: address,
                    reason: format!("{reason}{kept}"),
                }
            }
            Event::RestartComplete => SpeakerEvent::Converged,
            _ => continue,
        };
        if core.send(event).await.is_err() {
            return;
        }
    }
}

fn to_bgp(prefix: Prefix) -> Option<ocicat_bgp::Prefix> {
    ipnetwork::IpNetwork::from(prefix).try_into().ok()
}

fn from_bgp(prefix: ocicat_bgp::Prefix) -> Option<Prefix> {
    ipnetwork::IpNetwork::from(prefix).try_into().ok()
}
