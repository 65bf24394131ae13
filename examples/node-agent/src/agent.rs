//! The agent put together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocicat_dataplane::linux::{self, LinuxAttach, LinuxDataplane};
use ocicat_dataplane::state::{Hop, Protocol, Route, RouteKey};
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
use crate::core::{Applied, Channels, Core, Desired, Fixed};
use crate::detect::{DetectError, Method};
use crate::events::Events;
use crate::facts::Facts;
use crate::speaker::{Speaker, SpeakerError};
use crate::startup::{self, BgpSettings, Place};

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
    /// [`AgentError`] when the agent cannot begin. A datastore that does not answer is waited for.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let node = self.config.node_name()?;
        let backend = match self.backend.take() {
            Some(backend) => backend,
            None => ocicat_datastore::open(&self.config.datastore.url)?,
        };
        let store = Store::new(backend);
        let place = self.place()?;
        startup::ensure_node(&store, &node, &place).await?;
        let settings = startup::bgp(&store, &node, &place, &self.config.bgp).await?;
        let (preserved, adopted) = predecessors_routes()?;
        let (speaker, speaker_events, speaker_driver) = Speaker::new(&settings, preserved)?;
        let events = Events::new(&node);
        let wires = Wires::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(speaker_driver);
        self.spawn(&mut tasks, &node, &store, &wires, &events)?;
        let core = Core::new(
            self.fixed(node, &place, &settings),
            adopted,
            wires.desired,
            wires.facts,
            events,
        );
        let (stop, stopped) = watch::channel(false);
        let channels = Channels {
            follow: ocicat_datastore::follow(&store, crate::world::KINDS),
            questions: wires.asked,
            applied: wires.applied,
            speaker_events,
            speaker,
            resolve: way_to,
            shutdown: stopped,
        };
        let core = tokio::spawn(core.run(channels));
        shutdown.await;
        let _ = stop.send(true);
        if let Ok(speaker) = core.await {
            speaker.stop().await;
        }
        Ok(())
    }

    /// Starts everything that runs beside the core.
    fn spawn(
        &mut self,
        tasks: &mut JoinSet<()>,
        node: &str,
        store: &Store,
        wires: &Wires,
        events: &Events,
    ) -> Result<(), AgentError> {
        let strategy = self
            .strategy
            .take()
            .unwrap_or_else(|| Box::new(BlockAffine));
        let ipam = Arc::new(Ipam::new(Arc::new(StoreIpam::new(store.clone())), strategy));
        let (desired, facts) = (wires.desired.subscribe(), wires.facts.subscribe());
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

    fn fixed(&self, node: String, place: &Place, bgp: &BgpSettings) -> Fixed {
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
            closed: vec![(Protocol::TCP, bgp.listen.port())],
            as_number: bgp.as_number,
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
    desired: watch::Sender<Desired>,
    facts: watch::Sender<Arc<Facts>>,
    questions: mpsc::Sender<Question>,
    asked: mpsc::Receiver<Question>,
    reports: mpsc::Sender<Applied>,
    applied: mpsc::Receiver<Applied>,
}

impl Wires {
    fn new() -> Self {
        let (questions, asked) = mpsc::channel(256);
        let (reports, applied) = mpsc::channel(16);
        Self {
            desired: watch::Sender::new(Desired::default()),
            facts: watch::Sender::new(Arc::new(Facts::default())),
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
