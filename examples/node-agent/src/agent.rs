//! The agent put together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocicat_dataplane::linux::{self, LinuxAttach, LinuxDataplane};
use ocicat_dataplane::state::{Hop, Route, RouteKey};
use ocicat_dataplane::{Attach, Dataplane, names};
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::{Backend, Store, StoreError};
use ocicat_ipam::{BlockAffine, Ipam, Strategy};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::assigner::Assigner;
use crate::attachments::{Attachments, Busy};
use crate::config::{Config, ConfigError};
use crate::control::Question;
use crate::core::{Applied, Channels, Core, Desired, Fixed, Ports, Restore};
use crate::detect::{DetectError, Method};
use crate::drain::Drain;
use crate::events::Events;
use crate::facts::Facts;
use crate::register::{Registration, register};
use crate::secrets::Secrets;
use crate::snapshot::{self, Snapshot};
use crate::speaker::{Speaker, SpeakerError};
use crate::startup::{self, Place};

/// An agent to be run: the reference parts, each of which can be replaced.
pub struct Agent {
    config: Config,
    backend: Option<Arc<dyn Backend>>,
    dataplane: Option<Box<dyn Dataplane>>,
    attach: Option<Arc<dyn Attach>>,
    strategy: Option<Box<dyn Strategy>>,
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

    /// Runs until `shutdown` is over. BGP sessions are then closed without a NOTIFICATION, and the kernel is left as it
    /// is: packets flow on, and peers keep the routes for the restart time.
    ///
    /// # Errors
    /// [`AgentError`] when the agent cannot begin, and when it must not go on: another node has its address. A
    /// datastore that does not answer is waited for; with a snapshot of an earlier run the agent speaks BGP meanwhile.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let node = self.config.node_name()?;
        let backend = match self.backend.take() {
            Some(backend) => backend,
            None => ocicat_datastore::open(&self.config.datastore.url)?,
        };
        let store = Store::new(backend);
        let snapshot = self.snapshot(&node);
        let place = self.place()?;
        let (preserved, adopted) = predecessors_routes()?;
        let (speaker, speaker_events) = Speaker::new(preserved);
        let wires = Wires::new(&node);
        let mut tasks = JoinSet::new();
        self.spawn(&mut tasks, &node, &store, &wires)?;
        let drain = Drain::open(self.config.paths.state.join("state/drain"));
        let core = Core::new(
            self.fixed(node.clone(), &place),
            adopted,
            Restore::new(snapshot),
            drain,
            wires.ports,
        );
        let keeping = tokio::spawn(snapshot::keep(self.snapshot_path(), wires.snapshots));
        let (stop, stopped) = watch::channel(false);
        let (progress, registration) = watch::channel(Registration::default());
        let channels = Channels {
            follow: ocicat_datastore::follow(&store, crate::world::KINDS),
            questions: wires.asked,
            applied: wires.applied,
            speaker_events,
            speaker,
            resolve: way_to,
            registration,
            secrets: wires.secrets,
            store: store.clone(),
            shutdown: stopped,
        };
        let mut core = tokio::spawn(core.run(channels));
        let registering = register(&store, &node, &place, &progress);
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            Err(error) = registering => Err(error.into()),
            ended = &mut core => return ended.unwrap_or(Ok(())).map_err(Into::into),
        };
        let _ = stop.send(true);
        let ended = core.await;
        // The core was the last to publish: the newest snapshot is written now.
        let _ = keeping.await;
        outcome.and(ended.unwrap_or(Ok(())).map_err(Into::into))
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

    /// Starts everything that runs beside the core.
    fn spawn(
        &mut self,
        tasks: &mut JoinSet<()>,
        node: &str,
        store: &Store,
        wires: &Wires,
    ) -> Result<(), AgentError> {
        let events = &wires.ports.events;
        let strategy = self
            .strategy
            .take()
            .unwrap_or_else(|| Box::new(BlockAffine));
        let ipam = Arc::new(Ipam::new(Arc::new(StoreIpam::new(store.clone())), strategy));
        let (desired, facts) = (
            wires.ports.desired.subscribe(),
            wires.ports.facts.subscribe(),
        );
        tasks.spawn(crate::drive::drive(
            self.open_dataplane()?,
            desired,
            wires.reports.clone(),
        ));
        tasks.spawn(crate::tunnel::follow(
            store.clone(),
            Arc::clone(&ipam),
            node.to_owned(),
            facts.clone(),
        ));
        tasks.spawn(crate::control::serve(
            self.socket("node.sock")?,
            wires.questions.clone(),
            events.clone(),
        ));
        tasks.spawn(crate::secrets::follow(
            self.config.paths.secrets.clone(),
            wires.ports.secrets.subscribe(),
            wires.found.clone(),
        ));
        let (assigner, assigning) = Assigner::new(Arc::clone(&ipam));
        tasks.spawn(assigning);
        let attachments = Attachments {
            node: node.to_owned(),
            store: store.clone(),
            ipam,
            assigner,
            attach: self
                .attach
                .take()
                .unwrap_or_else(|| Arc::new(LinuxAttach::new())),
            facts,
            core: wires.questions.clone(),
            events: events.clone(),
            busy: Busy::default(),
            counts: crate::attachments::Counts::default(),
        };
        let tombstones = self.config.paths.state.join("tombstones");
        tasks.spawn(crate::cni::serve(
            self.socket("cni.sock")?,
            Arc::new(attachments),
            tombstones,
        ));
        Ok(())
    }

    fn place(&self) -> Result<Place, AgentError> {
        let method = Method::parse(
            self.config
                .node
                .address_detection
                .as_deref()
                .unwrap_or_default(),
        )?;
        let interfaces =
            linux::interfaces().map_err(|error| AgentError::Kernel(Box::new(error)))?;
        let source = match method {
            Method::CanReach(address) => linux::way_to(address)
                .ok()
                .flatten()
                .and_then(|way| way.source),
            _ => None,
        };
        Ok(startup::place(&method, &interfaces, source)?)
    }

    fn open_dataplane(&mut self) -> Result<Box<dyn Dataplane>, AgentError> {
        match self.dataplane.take() {
            Some(dataplane) => Ok(dataplane),
            None => LinuxDataplane::new(linux::Options::default())
                .map(|dataplane| Box::new(dataplane) as Box<dyn Dataplane>)
                .map_err(|error| AgentError::Kernel(Box::new(error))),
        }
    }

    fn fixed(&self, node: String, place: &Place) -> Fixed {
        let mut felix: BTreeMap<String, String> = BTreeMap::new();
        for name in self.config.felix.keys() {
            felix.insert(
                name.to_ascii_lowercase(),
                self.config.felix(name).unwrap_or_default(),
            );
        }
        for (name, value) in std::env::vars() {
            if let Some(name) = name.strip_prefix("FELIX_") {
                felix.insert(name.to_ascii_lowercase(), value);
            }
        }
        Fixed {
            node,
            uplink: Some(place.uplink.clone()),
            uplink_v6: place.uplink_v6(),
            felix,
            addresses: place.addresses().map(|one| one.ip()).collect(),
            bgp: self.config.bgp.clone(),
            closed: Vec::new(),
        }
    }

    /// A socket in the run folder, for root alone.
    fn socket(&self, name: &str) -> Result<UnixListener, AgentError> {
        let folder = &self.config.paths.run;
        let path = folder.join(name);
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| AgentError::File { path, source }
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(failed(folder))?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed(&path))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .map_err(failed(&path))?;
        Ok(listener)
    }
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
    fn new(node: &str) -> Self {
        let (questions, asked) = mpsc::channel(256);
        let (reports, applied) = mpsc::channel(16);
        let (publish, snapshots) = watch::channel(None);
        let (found, secrets) = watch::channel(Arc::default());
        let ports = Ports {
            desired: watch::Sender::new(Desired::default()),
            facts: watch::Sender::new(Arc::new(Facts::default())),
            snapshots: publish,
            secrets: watch::Sender::default(),
            events: Events::new(node),
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

/// What an earlier agent left in the kernel: whether there is anything, and its routes by way of others, which are
/// kept until BGP has told what is so now.
fn predecessors_routes() -> Result<(bool, BTreeMap<RouteKey, Route>), AgentError> {
    let routes = linux::routes_of(names::ROUTE_PROTOCOL)
        .map_err(|error| AgentError::Kernel(Box::new(error)))?;
    let by_others = |route: &Route| route.hops.iter().all(|hop| matches!(hop, Hop::Via { .. }));
    let found = !routes.is_empty();
    Ok((
        found,
        routes
            .into_iter()
            .filter(|(_, route)| by_others(route))
            .collect(),
    ))
}

/// How the kernel reaches an address that is no neighbour.
fn way_to(address: IpAddr) -> Option<Hop> {
    let way = linux::way_to(address).ok()??;
    let gateway = way.gateway?;
    Some(Hop::Via {
        gateway,
        link: way.link,
        onlink: false,
    })
}
