//! Our side of the link.

use std::fs::File;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use ocicat_bgp::driver::{self, DriverConfig, Handle};
use ocicat_bgp::{
    Attributes, Community, Event, Families, GracefulRestart, LargeCommunity, NextHop, PeerConfig,
    PeerStatus, Prefix, Route, SpeakerConfig, Stop,
};
use tokio::sync::oneshot;

use super::lab::{Lab, until};

pub(crate) const OUR_V4: &str = "10.1.0.0/26";
pub(crate) const OUR_V6: &str = "2001:db8:1::/122";
pub(crate) const THEIR_V4: &str = "10.2.0.0/26";
pub(crate) const THEIR_V6: &str = "2001:db8:2::/122";

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Waits for a future of the handle's.
fn wait_for<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn speaker(as_number: u32) -> SpeakerConfig {
    let v6 = NextHop::V6 {
        global: "2001:db8::1".parse().unwrap(),
        link_local: None,
    };
    SpeakerConfig::new(as_number, [192, 0, 2, 1].into()).next_hop_v6(v6)
}

/// The neighbour, with both families and graceful restart.
pub(crate) fn peer(as_number: u32) -> PeerConfig {
    let restart = GracefulRestart::new(Duration::from_secs(20)).forwarding_preserved(true);
    PeerConfig::new([192, 0, 2, 2].into(), as_number)
        .families(Families::BOTH)
        .hold_time(Duration::from_secs(9))
        .graceful_restart(restart)
}

pub(crate) fn is_best(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Best { prefix, routes, .. }
        if *prefix == self::prefix(wanted) && !routes.is_empty())
}

pub(crate) fn is_gone(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Best { prefix, routes, .. }
        if *prefix == self::prefix(wanted) && routes.is_empty())
}

impl Lab {
    /// Starts our driver, with a route of each family of its own and one neighbour.
    pub(crate) fn start(&self, speaker: SpeakerConfig, peer: PeerConfig) -> Ours {
        let ours = self.start_alone(speaker);
        let attributes = Attributes::builder()
            .community(Community(64512 << 16 | 9))
            .large_community(LargeCommunity(64512, 3, 4));
        ours.handle.originate(prefix(OUR_V4), attributes.build());
        ours.handle.originate(prefix(OUR_V6), Attributes::local());
        ours.handle.originations_complete();
        wait_for(ours.handle.add_peer(peer)).unwrap();
        ours
    }

    /// Starts our driver without routes or neighbours.
    pub(crate) fn start_alone(&self, speaker: SpeakerConfig) -> Ours {
        let config = DriverConfig::new(speaker)
            .listen("0.0.0.0:179".parse().unwrap())
            .listen("[::]:179".parse().unwrap());
        self.start_driver(config)
    }

    /// A second speaker on our side, at 192.0.2.3 and a client of `ours` in the same AS, with a route to `prefix`.
    pub(crate) fn start_client(&self, ours: &Ours, as_number: u32, prefix: &str) -> Ours {
        let here = IpAddr::from([192, 0, 2, 3]);
        self.ask_our_side("ip addr add 192.0.2.3/24 dev v0");
        let config = SpeakerConfig::new(as_number, [192, 0, 2, 3].into());
        let client = self.start_driver(DriverConfig::new(config));
        let attributes = Attributes::builder().next_hop(here).med(9);
        client
            .handle
            .originate(self::prefix(prefix), attributes.build());
        client.handle.originations_complete();
        let up = PeerConfig::new([192, 0, 2, 1].into(), as_number).local_address(here);
        let down = PeerConfig::new(here, as_number)
            .passive(true)
            .rr_client(true);
        wait_for(ours.handle.add_peer(down)).unwrap();
        wait_for(client.handle.add_peer(up)).unwrap();
        client
    }

    fn start_driver(&self, config: DriverConfig) -> Ours {
        let (ready, started) = mpsc::channel();
        let (kill, killed) = oneshot::channel::<()>();
        let namespace = self.namespace();
        let thread = std::thread::spawn(move || {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let (handle, driver) = driver::new(config).unwrap();
                ready.send(handle).unwrap();
                tokio::select! {
                    () = driver => {}
                    _ = killed => {}
                }
            });
        });
        let handle = started.recv().unwrap();
        let events = handle.events();
        Ours {
            handle,
            events,
            kill: Some(kill),
            thread: Some(thread),
        }
    }
}

/// Our side.
pub(crate) struct Ours {
    pub(crate) handle: Handle,
    pub(crate) events: tokio::sync::mpsc::Receiver<Event>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    /// The state of the neighbours.
    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        wait_for(self.handle.peers()).unwrap()
    }

    /// What we have for a prefix.
    pub(crate) fn route(&self, wanted: &str) -> Route {
        let routes = self.routes();
        let route = routes.iter().find(|route| route.prefix == prefix(wanted));
        route
            .unwrap_or_else(|| panic!("{wanted} in {routes:?}"))
            .clone()
    }

    /// What a peer of AS 64513 sent with every attribute that the tests ask it for, in both families.
    pub(crate) fn has_their_attributes(&self, v4: &str, v6: &str) {
        let route = self.route(v4);
        let attributes = &route.paths[0].attributes;
        assert_eq!(attributes.as_path().to_string(), "64513");
        assert!(attributes.communities().eq([Community(64513 << 16 | 7)]));
        assert!(
            attributes
                .large_communities()
                .eq([LargeCommunity(64513, 1, 2)])
        );
        let v6 = self.route(v6).paths[0].next_hop;
        assert_eq!(v6, Some("2001:db8::2".parse().unwrap()));
    }

    pub(crate) fn routes(&self) -> Vec<Route> {
        wait_for(self.handle.routes()).unwrap()
    }

    /// Gives the neighbour new settings.
    pub(crate) fn update_peer(&self, peer: PeerConfig) {
        let id = self.peers()[0].id;
        wait_for(self.handle.update_peer(id, peer)).unwrap();
    }

    pub(crate) fn stop(&self, stop: Stop) {
        wait_for(self.handle.stop(stop));
    }

    /// Both sides hold the other's routes of both families; `theirs_has` asks the neighbour.
    pub(crate) fn exchanged(&mut self, they_have: impl Fn(&str) -> bool) {
        let events = self.wait("an IPv4 route of the neighbour", |event| {
            is_best(event, THEIR_V4)
        });
        if !events.iter().any(|event| is_best(event, THEIR_V6)) {
            self.wait("an IPv6 route of the neighbour", |event| {
                is_best(event, THEIR_V6)
            });
        }
        until("our routes at the neighbour", || {
            they_have(OUR_V4) && they_have(OUR_V6)
        });
    }

    /// The session with a neighbour that does graceful restart is lost: its routes are kept.
    pub(crate) fn loses_the_session(&mut self) {
        let down = self.wait("the loss", |event| matches!(event, Event::PeerDown { .. }));
        assert!(
            matches!(down.last(), Some(Event::PeerDown { kept: Some(_), .. })),
            "{down:?}"
        );
        let stale = self
            .routes()
            .iter()
            .filter(|route| route.paths[0].stale)
            .count();
        assert_eq!(stale, 2);
    }

    /// The neighbour is back with what it had: nothing that the host is told about has changed.
    pub(crate) fn finds_the_same_routes(&mut self) {
        let is_end = |event: &Event| matches!(event, Event::EndOfRib { .. });
        let mut events = self.wait("one family of the neighbour's", is_end);
        events.extend(self.wait("the other family", is_end));
        let touched =
            |event: &&Event| matches!(event, Event::Best { .. } | Event::StaleDropped { .. });
        assert_eq!(events.iter().find(touched), None);
        let stale = |route: &Route| route.paths.iter().any(|path| path.stale);
        assert!(!self.routes().iter().any(stale));
    }

    /// Forgets the events up to now.
    pub(crate) fn forget_events(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    /// Ends it as SIGKILL does: the kernel closes the sockets.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// The events up to the first that `wanted` says yes to.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        until(what, || {
            while let Ok(event) = self.events.try_recv() {
                seen.push(event);
                if seen.last().is_some_and(&wanted) {
                    return true;
                }
            }
            false
        });
        seen
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end();
    }
}
