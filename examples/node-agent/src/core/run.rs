//! The loop around the core: waits for whatever comes first, feeds it in, hands on what follows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_core::Stream;
use ocicat_dataplane::state::Hop;
use ocicat_datastore::{Event as StoreEvent, Follow};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Applied, Core, Questions};
use crate::control::Question;
use crate::speaker::{Speaker, SpeakerEvent};

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
    pub(crate) shutdown: watch::Receiver<bool>,
}

impl Core {
    /// Runs until `shutdown` says so; returns the speaker, which the caller stops.
    pub(crate) async fn run(mut self, mut channels: Channels) -> Speaker {
        let mut resolve_at = Instant::now();
        let mut release_at = Some(Instant::now() + ADOPTION);
        let mut announced_complete = false;
        loop {
            let deadline = self
                .deadline()
                .min(resolve_at)
                .min(release_at.unwrap_or(resolve_at));
            tokio::select! {
                biased;
                _ = channels.shutdown.changed() => return channels.speaker,
                Some(question) = channels.questions.recv() => self.question(question, &channels.speaker).await,
                Some(applied) = channels.applied.recv() => self.applied(applied),
                Some(event) = channels.speaker_events.recv() => {
                    self.speaker_event(event, &mut release_at);
                    while let Ok(event) = channels.speaker_events.try_recv() {
                        self.speaker_event(event, &mut release_at);
                    }
                }
                event = channels.follow.next() => {
                    self.store_event(event);
                    self.drain(&mut channels.follow);
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            if release_at.is_some_and(|at| at <= Instant::now()) {
                release_at = None;
                self.release_adopted();
            }
            self.advance();
            let due = resolve_at <= Instant::now();
            if due || self.has_new_hops() {
                self.resolve(channels.resolve);
                resolve_at = Instant::now() + RESOLVE;
                self.advance();
            }
            self.steer(&channels.speaker, &mut announced_complete).await;
        }
    }

    fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Put(object) => self.put(&object),
            StoreEvent::Deleted(key, revision) => self.delete(&key, revision),
            StoreEvent::InSync { kind, revision } => self.listed(kind, revision),
            StoreEvent::Progress { kind, revision } => self.saw(kind, revision),
            StoreEvent::Disconnected { kind, error } => {
                tracing::warn!(%kind, %error, "the datastore does not answer; everything stays as it is");
            }
            _ => {}
        }
    }

    /// Takes in what is there already, so that a hundred changes make one state.
    fn drain(&mut self, follow: &mut Follow) {
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
            SpeakerEvent::Best {
                prefix,
                hops,
                external,
            } => self.learn(prefix, hops, external),
            SpeakerEvent::Up { peer } => self.events.publish("peer-up", &[("peer", &peer)]),
            SpeakerEvent::Down { peer, reason } => {
                self.events
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

    /// Tells the speaker which sessions and announcements there should be.
    async fn steer(&mut self, speaker: &Speaker, announced_complete: &mut bool) {
        if !self.in_sync() {
            return;
        }
        if std::mem::take(&mut self.touched.originations) {
            let wanted = crate::originate::originations(
                &self.world.pools,
                &self.world.own_blocks,
                &self.world.pods(),
            );
            for prefix in wanted.difference(&self.announced) {
                speaker.originate(*prefix);
                self.events
                    .publish("route-announced", &[("prefix", prefix)]);
            }
            for prefix in self.announced.difference(&wanted) {
                speaker.withdraw(*prefix);
            }
            self.announced = wanted;
        }
        if std::mem::take(&mut self.touched.peers) {
            let plan = crate::peers::plan(
                &self.fixed.node,
                &self.world.bgp_nodes,
                self.world.bgp_configuration(),
                &self.world.bgp_peers,
            );
            for problem in &plan.problems {
                tracing::warn!(problem, "a BGP session is left out");
            }
            self.peer_problems = plan.problems;
            self.check_own_as();
            speaker.set_peers(&self.peers, &plan.wanted).await;
            self.peers = plan.wanted;
        }
        if !std::mem::replace(announced_complete, true) {
            speaker.originations_complete();
        }
    }

    /// The speaker keeps the AS that it was started with; another one needs a restart, which loses no packet.
    fn check_own_as(&mut self) {
        let stated = self
            .world
            .bgp_nodes
            .get(&self.fixed.node)
            .and_then(|node| node.as_number);
        let cluster = self
            .world
            .bgp_configuration()
            .and_then(|one| one.spec.as_number.as_ref());
        let wanted = stated
            .or_else(|| cluster.map(|number| number.0))
            .unwrap_or(crate::peers::DEFAULT_AS);
        if wanted != self.fixed.as_number {
            let running = self.fixed.as_number;
            self.peer_problems.push(format!(
                "the node's AS is {wanted} now, the agent runs with {running}: restart it"
            ));
        }
    }

    async fn question(&mut self, question: Question, speaker: &Speaker) {
        match question {
            Question::Wait {
                objects,
                limit,
                answer,
            } => {
                self.waits.add(objects, limit, answer);
                self.answer_waits();
            }
            Question::Status(answer) => {
                let mut status = self.status();
                status.peers = speaker.peers(&self.peers).await;
                let _ = answer.send(status);
            }
            Question::Routes(answer) => {
                let _ = answer.send(speaker.routes().await);
            }
        }
    }
}
