//! The agent put together.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ocicat_bgp::Filter;
use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::linux;
use ocicat_dataplane::{Attach, Dataplane};
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::Kind;
use ocicat_datastore::{Backend, Store, StoreError};
use ocicat_ipam::{BlockAffine, Ipam, Strategy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::census::Census;
use crate::config::{Config, ConfigError};
use crate::control::Question;
use crate::core::{Applied, Channels, Core, Desired, Fixed, Ports, Restore};
use crate::detect::DetectError;
use crate::drain::Drain;
use crate::events::Events;
use crate::facts::Facts;
use crate::install;
use crate::metrics::Meters;
use crate::register::{Registering, Registration};
use crate::secrets::Secrets;
use crate::snapshot::{self, Snapshot};
use crate::speaker::{Speaker, SpeakerError};
use crate::startup::Place;
use crate::uphold::Remains;

mod kernel;
mod place;
mod tasks;

use kernel::{predecessors_routes, way_to};
use tasks::Beside;

/// An agent to be run: the reference parts, each of which can be replaced.
pub struct Agent {
    config: Config,
    backend: Option<Arc<dyn Backend>>,
    dataplane: Option<Box<dyn Dataplane>>,
    attach: Option<Arc<dyn Attach>>,
    strategy: Option<Box<dyn Strategy>>,
    filter: Option<Arc<dyn Filter>>,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node's address could not be found.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The datastore cannot be used as it is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel cannot be used.
    #[error("the kernel's network")]
    Kernel(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The BGP speaker cannot run.
    #[error(transparent)]
    Speaker(#[from] SpeakerError),
    /// A socket or a folder cannot be made.
    #[error("{}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Agent {
    /// The reference agent with a configuration.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            backend: None,
            dataplane: None,
            attach: None,
            strategy: None,
            filter: None,
        }
    }

    /// With a datastore of one's own.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// With a dataplane of one's own.
    #[must_use]
    pub fn dataplane(mut self, dataplane: Box<dyn Dataplane>) -> Self {
        self.dataplane = Some(dataplane);
        self
    }

    /// With another way to connect pods.
    #[must_use]
    pub fn attach(mut self, attach: Arc<dyn Attach>) -> Self {
        self.attach = Some(attach);
        self
    }

    /// With an IPAM strategy of one's own.
    #[must_use]
    pub fn strategy(mut self, strategy: Box<dyn Strategy>) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// With a filter of one's own, which is asked about every route that a peer sends and no BGPFilter decides about.
    #[must_use]
    pub fn filter(mut self, filter: Arc<dyn Filter>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// What survives a restart is for root alone; a datastore on this disk may be in there, too.
    fn state_folder(&self) -> Result<(), AgentError> {
        let path = &self.config.paths.state;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
        made.map_err(|source| AgentError::File {
            path: path.clone(),
            source,
        })
    }

    /// Runs until `shutdown` is over. BGP sessions are then closed without a NOTIFICATION, and the kernel is left as it
    /// is: packets flow on, and peers keep the routes for the restart time.
    ///
    /// # Errors
    /// [`AgentError`] when the agent cannot begin, and when it must not go on: another node has its address. A
    /// datastore that does not answer is waited for; with a snapshot of an earlier run the agent speaks BGP meanwhile.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let node = self.config.node_name()?;
        self.state_folder()?;
        let backend = match self.backend.take() {
            Some(backend) => backend,
            None => ocicat_datastore::open(&self.config.datastore.url)?,
        };
        let store = Store::new(backend);
        let snapshot = self.snapshot(&node);
        let interfaces =
            linux::interfaces().map_err(|error| AgentError::Kernel(Box::new(error)))?;
        let place =
            place::place(&self.config, &store, &node, snapshot.as_ref(), &interfaces).await?;
        let ipam = self.ipam(&store);
        self.prepare_host();
        let (preserved, adopted) = predecessors_routes()?;
        let (speaker, speaker_events) = Speaker::new(preserved, self.filter.take());
        let wires = Wires::new(&node, ipam.settings_changed);
        let ipam = ipam.ipam;
        let mut tasks = JoinSet::new();
        self.spawn(&mut tasks, Beside::new(&node, &store, &ipam, &wires))?;
        let before = snapshot.as_ref();
        let census = wires.ports.census.subscribe();
        let registering =
            self.registering((&store, ipam, census), &node, &place, (&interfaces, before));
        let drain = Drain::open(self.config.paths.state.join("state/drain"));
        let core = Core::new(
            self.fixed(node.clone(), &place),
            adopted,
            Restore::new(snapshot),
            drain,
            wires.ports,
        );
        let (stop, stopped) = watch::channel(false);
        let (progress, registration) = watch::channel(Registration::default());
        let channels = Channels {
            follow: ocicat_datastore::follow(&store, crate::world::KINDS),
            questions: wires.asked,
            applied: wires.applied,
            speaker_events,
            speaker,
            resolve: way_to,
            interfaces: || linux::interfaces().unwrap_or_default(),
            registration,
            secrets: wires.secrets,
            store: store.clone(),
            shutdown: stopped,
        };
        let running = Running {
            core,
            channels,
            registering,
            progress,
            keeping: tokio::spawn(snapshot::keep(self.snapshot_path(), wires.snapshots)),
            stop,
        };
        running.until(shutdown).await
    }

    fn registering(
        &self,
        (store, ipam, census): (&Store, Arc<Ipam>, watch::Receiver<Option<Census>>),
        node: &str,
        place: &Place,
        (interfaces, snapshot): (&[Interface], Option<&Snapshot>),
    ) -> Registering {
        let remains = snapshot.map(|snapshot| Remains::of(snapshot, interfaces));
        let networks = interfaces.iter().flat_map(|one| one.addresses.clone());
        Registering {
            store: store.clone(),
            ipam,
            node: node.to_owned(),
            as_number: self.config.as_number,
            pools: self.config.pools.clone(),
            networks: networks.collect(),
            remains: remains.unwrap_or_default(),
            place: place.clone(),
            census,
        }
    }

    fn snapshot_path(&self) -> PathBuf {
        self.config.paths.state.join("state/snapshot.json")
    }

    /// What the last run left, if it can be used.
    fn snapshot(&self, node: &str) -> Option<Snapshot> {
        match Snapshot::load(&self.snapshot_path(), node) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(%error, "there is no snapshot to begin with while the datastore is away");
                None
            }
        }
    }

    /// Plugins come before there is a configuration that names them. A host that cannot be written to is no reason not
    /// to run.
    fn prepare_host(&self) {
        match install::prepare(&self.config.install, &self.config.paths.state) {
            Ok((plugins, files)) => {
                let install::Plugins { copied, kept } = plugins;
                if copied > 0 || !files.is_empty() {
                    tracing::info!(
                        copied,
                        ?files,
                        "CNI plugins and notes to other programs are on the host"
                    );
                }
                if !kept.is_empty() {
                    tracing::warn!(
                        ?kept,
                        "the host has plugins of its own by these names: they are used, not the agent's"
                    );
                }
            }
            Err(error) => tracing::error!(%error, "not everything could be put on the host"),
        }
    }

    fn ipam(&mut self, store: &Store) -> Allocation {
        let strategy = self.strategy.take();
        let strategy = strategy.unwrap_or_else(|| Box::new(BlockAffine));
        let port = Arc::new(StoreIpam::new(store.clone()).remembering());
        let settings = Arc::clone(&port);
        Allocation {
            ipam: Arc::new(Ipam::new(port, strategy)),
            settings_changed: Box::new(move |kind| settings.changed(kind)),
        }
    }

    fn fixed(&self, node: String, place: &Place) -> Fixed {
        Fixed {
            node,
            uplink: Some(place.uplink.clone()),
            uplink_v6: place.uplink_v6(),
            felix: self.config.parameters(),
            settings: self.config.shown(),
            addresses: place.addresses().map(|one| one.ip()).collect(),
            bgp: self.config.bgp.clone(),
            closed: Vec::new(),
        }
    }
}

/// An agent that has been put together.
struct Running {
    core: Core,
    channels: Channels,
    registering: Registering,
    progress: watch::Sender<Registration>,
    keeping: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    async fn until(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut core = tokio::spawn(self.core.run(self.channels));
        let registering = self.registering.run(&self.progress);
        let outcome: Result<(), AgentError> = tokio::select! {
            () = shutdown => Ok(()),
            Err(error) = registering => Err(error.into()),
            ended = &mut core => return Ok(ended.unwrap_or(Ok(()))?),
        };
        let _ = self.stop.send(true);
        let ended = core.await.unwrap_or(Ok(()));
        // The core was the last to publish: the newest snapshot is written now.
        let _ = self.keeping.await;
        outcome?;
        Ok(ended?)
    }
}

/// Who hands out addresses, and how it hears of what it depends on.
struct Allocation {
    ipam: Arc<Ipam>,
    settings_changed: Box<dyn Fn(Kind) + Send + Sync>,
}

/// The channels between the agent's tasks.
struct Wires {
    ports: Ports,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    found: watch::Sender<Arc<Secrets>>,
    secrets: watch::Receiver<Arc<Secrets>>,
    questions: mpsc::Sender<Question>,
    asked: mpsc::Receiver<Question>,
    reports: mpsc::Sender<Applied>,
    applied: mpsc::Receiver<Applied>,
}

impl Wires {
    fn new(node: &str, changed: Box<dyn Fn(Kind) + Send + Sync>) -> Self {
        let (questions, asked) = mpsc::channel(256);
        let (reports, applied) = mpsc::channel(16);
        let (publish, snapshots) = watch::channel(None);
        let (found, secrets) = watch::channel(Arc::default());
        let ports = Ports {
            desired: watch::Sender::new(Desired::default()),
            facts: watch::Sender::new(Arc::new(Facts::default())),
            snapshots: publish,
            changed,
            meters: Meters::default(),
            census: watch::Sender::default(),
            listening: watch::Sender::default(),
            resync: watch::Sender::new(RESYNC),
            secrets: watch::Sender::default(),
            events: Events::new(node),
            statuses: watch::Sender::default(),
        };
        Self {
            ports,
            snapshots,
            found,
            secrets,
            questions,
            asked,
            reports,
            applied,
        }
    }
}

/// How often the kernel is read anew, before anything is known of parameters.
const RESYNC: Duration = Duration::from_secs(90);
