//! The best routes in the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ocicat_bgp::{BestRoute, Event};
use ocicat_dataplane::linux::Options;
use ocicat_dataplane::state::{Hop, Route, RouteKey};
use ocicat_dataplane::{Dataplane, LinuxDataplane, Prefix, State};
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

/// How often the kernel is compared with what it should hold, whatever happens.
const RESYNC: Duration = Duration::from_secs(90);
/// The pause before another attempt when the kernel could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the kernel's routes of one protocol number equal to the best routes.
pub struct Kernel {
    dataplane: LinuxDataplane,
    routes: BTreeMap<RouteKey, Route>,
    /// After a restart: routes that nobody has announced yet may still be announced.
    incomplete: bool,
}

impl Kernel {
    /// Opens the kernel of this thread's network namespace.
    ///
    /// # Errors
    /// Without the right to open it.
    pub fn open(protocol: u8, restarting: bool) -> Result<Self> {
        Ok(Self {
            dataplane: LinuxDataplane::new(Options::routes_only(protocol))?,
            routes: BTreeMap::new(),
            incomplete: restarting,
        })
    }

    /// Follows the best routes until there are no more events.
    pub async fn follow(&mut self, mut events: Receiver<Event>) {
        let mut resync = interval(RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = self.apply().await;
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.take(event);
                    while let Ok(event) = events.try_recv() {
                        self.take(event);
                    }
                }
                () = self.dataplane.changed() => {}
                _ = resync.tick() => self.dataplane.invalidate(),
                () = tokio::time::sleep(RETRY), if !written => {}
            }
            written = self.apply().await;
        }
    }

    /// Removes every route, as a speaker does that has said goodbye.
    pub async fn clear(&mut self) {
        self.routes.clear();
        self.incomplete = false;
        self.apply().await;
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Best { prefix, routes, .. } => self.set(prefix, &routes),
            Event::RestartComplete => self.incomplete = false,
            _ => {}
        }
    }

    fn set(&mut self, prefix: ocicat_bgp::Prefix, routes: &[BestRoute]) {
        let Ok(prefix) = Prefix::containing(prefix.address(), prefix.length()) else {
            return;
        };
        let key = RouteKey::main(prefix);
        let mut hops: Vec<Hop> = routes
            .iter()
            .filter(|route| route.peer.is_some())
            .filter_map(|route| route.next_hop)
            .map(|gateway| Hop::Via {
                gateway,
                link: None,
                onlink: false,
            })
            .collect();
        hops.sort();
        hops.dedup();
        if hops.is_empty() {
            self.routes.remove(&key);
        } else {
            self.routes.insert(key, Route { hops, source: None });
        }
    }

    /// Whether the kernel is as it should be.
    async fn apply(&mut self) -> bool {
        let state = State {
            routes: Arc::new(self.routes.clone()),
            incomplete: self.incomplete,
            ..State::default()
        };
        match self.dataplane.apply(&state).await {
            Ok(report) => {
                for failure in &report.failed {
                    eprintln!("ocicat-bgpd: kernel: {failure}");
                }
                report.failed.is_empty()
            }
            Err(error) => {
                eprintln!("ocicat-bgpd: kernel: {error}");
                false
            }
        }
    }
}
