//! The loop around the core: waits for whatever comes first, feeds it in, hands on what follows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::state::Hop;
use ocicat_datastore::{Event as StoreEvent, Follow, Store, follow};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Applied, Core, Questions};
use crate::register::Registration;
use crate::secrets::Secrets;
use crate::speaker::{Speaker, SpeakerError, SpeakerEvent};
use crate::world::SERVICE_KINDS;

/// How often next hops that are no neighbours are looked up again, beside at every change.
const RESOLVE: Duration = Duration::from_secs(10);
/// How long the routes of a killed predecessor are held for peers that do not come back.
const ADOPTION: Duration = Duration::from_secs(120);
/// As many events are taken in before the state is computed anew.
const BATCH: usize = 10_000;

/// Where the core's inputs come from.
pub(crate) struct Channels {
    pub(crate) follow: Follow,
    pub(crate) questions: Questions,
    pub(crate) applied: mpsc::Receiver<Applied>,
    pub(crate) speaker_events: mpsc::Receiver<SpeakerEvent>,
    pub(crate) speaker: Speaker,
    /// Looks up how the kernel reaches an address.
    pub(crate) resolve: fn(IpAddr) -> Option<Hop>,
    /// Looks up the node's interfaces.
    pub(crate) interfaces: fn() -> Vec<Interface>,
    /// Whether the datastore has this node's address.
    pub(crate) registration: watch::Receiver<Registration>,
    /// Passwords.
    pub(crate) secrets: watch::Receiver<Arc<Secrets>>,
    pub(crate) store: Store,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// When the core looks at the clock.
struct Timers {
    resolve: Instant,
    /// When the routes of a predecessor are let go; none before the speaker has begun, and none after.
    release: Option<Instant>,
}

impl Timers {
    fn new() -> Self {
        Self {
            resolve: Instant::now(),
            release: None,
        }
    }

    fn next(&self, core: Instant, restore: Option<Instant>) -> Instant {
        let others = [self.release, restore].into_iter().flatten();
        others.fold(core.min(self.resolve), Instant::min)
    }
}

/// The next event, if anything is followed.
async fn next_of(follow: &mut Option<Follow>) -> StoreEvent {
    match follow {
        Some(follow) => follow.next().await,
        None => std::future::pending().await,
    }
}

impl Core {
    /// Runs until `shutdown` says so, and closes the sessions in a way that peers keep the routes.
    ///
    /// # Errors
    /// When the speaker cannot listen.
    pub(crate) async fn run(mut self, mut channels: Channels) -> Result<(), SpeakerError> {
        let mut timers = Timers::new();
        let mut services: Option<Follow> = None;
        self.listen_early();
        loop {
            let deadline = timers.next(self.deadline(), self.restore.due());
            tokio::select! {
                biased;
                _ = channels.shutdown.changed() => break,
                Some(question) = channels.questions.recv() => self.question(question, &channels.speaker).await,
                Some(applied) = channels.applied.recv() => self.applied(applied),
                Some(event) = channels.speaker_events.recv() => {
                    self.speaker_event(event, &mut timers.release);
                    while let Ok(event) = channels.speaker_events.try_recv() {
                        self.speaker_event(event, &mut timers.release);
                    }
                }
                Ok(()) = channels.registration.changed() => {
                    self.registration = channels.registration.borrow_and_update().clone();
                }
                Ok(()) = channels.secrets.changed() => {
                    self.secrets = Arc::clone(&channels.secrets.borrow_and_update());
                    self.touched.peers = true;
                }
                event = channels.follow.next() => {
                    self.store_event(event);
                    self.drain_follow(&mut channels.follow);
                }
                event = next_of(&mut services) => self.store_event(event),
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.turn(&mut channels, &mut timers).await?;
            if services.is_none() && !self.world.bgp.services.is_empty() {
                services = Some(follow(&channels.store, SERVICE_KINDS));
            }
        }
        self.publish_snapshot();
        channels.speaker.stop().await;
        Ok(())
    }

    /// What follows from what has just been taken in.
    async fn turn(
        &mut self,
        channels: &mut Channels,
        timers: &mut Timers,
    ) -> Result<(), SpeakerError> {
        let now = Instant::now();
        if timers.release.is_some_and(|at| at <= now) {
            timers.release = None;
            self.release_adopted();
        }
        if self.restore.is_due(now) {
            self.restore_from_disk();
        }
        self.advance();
        if timers.resolve <= now || self.has_new_hops() {
            self.interfaces(&(channels.interfaces)());
            self.resolve(channels.resolve);
            timers.resolve = now + RESOLVE;
            self.advance();
        }
        let began = channels.speaker.identity().is_some();
        self.steer(&mut channels.speaker).await?;
        if !began && channels.speaker.identity().is_some() {
            timers.release = Some(now + ADOPTION);
            self.advance();
        }
        self.publish_snapshot_when_due();
        Ok(())
    }

    fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Put(object) => self.put(&object),
            StoreEvent::Deleted(key, revision) => self.delete(&key, revision),
            StoreEvent::InSync { kind, revision } => self.listed(kind, revision),
            StoreEvent::Progress { kind, revision } => self.saw(kind, revision),
            StoreEvent::Disconnected { kind, error } => {
                tracing::warn!(%kind, %error, "the datastore does not answer; everything stays as it is");
                self.disconnected.insert(kind, error.to_string());
            }
            _ => {}
        }
    }

    /// Takes in what is there already, so that a hundred changes make one state.
    fn drain_follow(&mut self, follow: &mut Follow) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..BATCH {
            match std::pin::Pin::new(&mut *follow).poll_next(&mut context) {
                std::task::Poll::Ready(Some(event)) => self.store_event(event),
                _ => return,
            }
        }
    }

    fn speaker_event(&mut self, event: SpeakerEvent, release_at: &mut Option<Instant>) {
        match event {
            SpeakerEvent::Best { prefix, hops, peer } => {
                let external = peer.is_some_and(|peer| !self.world.is_node(peer));
                self.learn(prefix, hops, external);
            }
            SpeakerEvent::Up { peer } => self.ports.events.publish("peer-up", &[("peer", &peer)]),
            SpeakerEvent::Down { peer, reason } => {
                self.ports
                    .events
                    .publish("peer-down", &[("peer", &peer), ("reason", &reason)]);
            }
            // A moment more for what is still in the channel behind this.
            SpeakerEvent::Converged => {
                *release_at = Some(Instant::now() + Duration::from_millis(100))
            }
        }
    }

    fn has_new_hops(&self) -> bool {
        self.unresolved
            .iter()
            .any(|hop| !self.gateways.contains_key(hop))
    }

    /// The look-up is one netlink question each, tens of microseconds.
    fn resolve(&mut self, resolve: fn(IpAddr) -> Option<Hop>) {
        let wanted = self.to_resolve();
        let found: BTreeMap<IpAddr, Hop> = wanted
            .into_iter()
            .filter_map(|address| Some((address, resolve(address)?)))
            .collect();
        self.unresolved.retain(|hop| found.contains_key(hop));
        self.resolved(found);
    }
}
