//! Everything that runs beside the core.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocicat_dataplane::linux::{self, LinuxAttach, LinuxDataplane};
use ocicat_dataplane::{Attach, Dataplane};
use ocicat_datastore::Store;
use ocicat_ipam::Ipam;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::kernel::{KERNEL, links_of_pods};
use super::{Agent, AgentError, Wires};
use crate::assigner::Assigner;
use crate::attachments::{Attachments, Busy};
use crate::collect::{Collected, Collecting};
use crate::control::Serving;
use crate::drive::Driving;
use crate::health::{serve_health, serve_metrics};
use crate::metrics::Metrics;
use crate::{install, kubernetes, secrets};

/// Says at start what this kernel cannot do, and what that costs: before a policy or a pool that needs it fails.
async fn name_missing_features(sysctl: Option<PathBuf>) {
    let probed = tokio::task::spawn_blocking(move || linux::probe_with(sysctl.as_deref())).await;
    for feature in probed.unwrap_or_default() {
        match &feature.available {
            Ok(()) => {}
            // Nothing else was tried, then.
            Err(why) if why == "not tried" => {}
            Err(why) => tracing::warn!(
                feature = feature.name,
                why,
                costs = feature.costs,
                "the kernel has not all that may be needed"
            ),
        }
    }
}

/// Says which rules of others drop what pods send, and what lets it through: at start, and when there are new ones.
async fn name_obstacles(mut every: tokio::sync::watch::Receiver<std::time::Duration>) {
    let mut known = std::collections::BTreeSet::new();
    loop {
        let found = tokio::task::spawn_blocking(|| {
            let mut table = ocicat_dataplane::nft::Table::open()?;
            table.obstacles()
        });
        let found = found.await.ok().and_then(Result::ok).unwrap_or_default();
        let now = found.into_iter().map(|one| {
            let place = format!("{} {} {}", one.family, one.table, one.chain);
            (place, one.legacy, one.remedy)
        });
        let now: std::collections::BTreeSet<_> = now.collect();
        for (place, legacy, remedy) in now.difference(&known) {
            tracing::warn!(
                chain = place,
                legacy,
                remedy,
                "others' rules drop what pods send"
            );
        }
        known = now;
        let period = *every.borrow_and_update();
        tokio::time::sleep(period).await;
    }
}

/// What tasks share.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    node: &'a str,
    store: &'a Store,
    ipam: &'a Arc<Ipam>,
    wires: &'a Wires,
}

impl<'a> Beside<'a> {
    pub(super) const fn new(
        node: &'a str,
        store: &'a Store,
        ipam: &'a Arc<Ipam>,
        wires: &'a Wires,
    ) -> Self {
        Self {
            node,
            store,
            ipam,
            wires,
        }
    }
}

impl Agent {
    /// Starts everything that runs beside the core.
    pub(super) fn spawn(
        &mut self,
        tasks: &mut JoinSet<()>,
        beside: Beside<'_>,
    ) -> Result<(), AgentError> {
        let collected = Arc::new(Collected::default());
        self.spawn_kernel_and_questions(tasks, beside, Arc::clone(&collected))?;
        self.spawn_followers(tasks, beside, collected);
        self.spawn_plugin_server(tasks, beside)
    }

    /// The task that owns the dataplane, and those that answer questions.
    fn spawn_kernel_and_questions(
        &mut self,
        tasks: &mut JoinSet<()>,
        Beside { wires, .. }: Beside<'_>,
        collected: Arc<Collected>,
    ) -> Result<(), AgentError> {
        if self.dataplane.is_none() {
            tasks.spawn(name_missing_features(self.config.paths.sysctl.clone()));
            tasks.spawn(name_obstacles(wires.ports.resync.subscribe()));
        }
        let (count, counting) = mpsc::channel(4);
        let driving = Driving {
            counting,
            resync: wires.ports.resync.subscribe(),
            meters: wires.ports.meters.clone(),
        };
        tasks.spawn(crate::drive::drive(
            self.open_dataplane()?,
            wires.ports.desired.subscribe(),
            wires.reports.clone(),
            driving,
        ));
        let serving = Serving {
            core: wires.questions.clone(),
            events: wires.ports.events.clone(),
            counting: count,
            kernel: KERNEL,
        };
        let metrics = Metrics {
            serving: serving.clone(),
            meters: wires.ports.meters.clone(),
            collected,
        };
        let listening = wires.ports.listening.subscribe();
        tasks.spawn(serve_metrics(Arc::new(metrics), listening.clone()));
        tasks.spawn(serve_health(wires.questions.clone(), listening));
        tasks.spawn(crate::control::serve(self.socket("node.sock")?, serving));
        Ok(())
    }

    /// Tasks that follow the datastore, or what the core knows of it.
    fn spawn_followers(
        &self,
        tasks: &mut JoinSet<()>,
        Beside {
            node,
            store,
            ipam,
            wires,
        }: Beside<'_>,
        figures: Arc<Collected>,
    ) {
        let facts = wires.ports.facts.subscribe();
        let name = || node.to_owned();
        tasks.spawn(crate::tunnel::follow(
            store.clone(),
            Arc::clone(ipam),
            name(),
            facts.clone(),
        ));
        let sources = secrets::Sources {
            folder: self.config.paths.secrets.clone(),
            store: store.clone(),
            namespace: self.config.namespace.clone(),
        };
        let wanted = wires.ports.secrets.subscribe();
        tasks.spawn(secrets::follow(sources, wanted, wires.found.clone()));
        let collecting = Collecting {
            node: name(),
            namespace: self.config.namespace.clone(),
            store: store.clone(),
            ipam: Arc::clone(ipam),
            links: links_of_pods,
            core: wires.questions.clone(),
            figures,
        };
        tasks.spawn(collecting.run(facts.clone()));
        tasks.spawn(kubernetes::tell_available(
            store.clone(),
            name(),
            facts.clone(),
        ));
        tasks.spawn(crate::node_status::answer(
            store.clone(),
            name(),
            wires.questions.clone(),
            facts.clone(),
        ));
        tasks.spawn(crate::endpoint_status::keep(
            wires.ports.statuses.subscribe(),
            self.config.paths.state.clone(),
        ));
        let socket = self.config.paths.run.join("cni.sock");
        tasks.spawn(install::network(self.config.install.clone(), socket, facts));
    }

    /// The server of the CNI plugin, and who takes addresses for it.
    fn spawn_plugin_server(
        &mut self,
        tasks: &mut JoinSet<()>,
        Beside {
            node,
            store,
            ipam,
            wires,
        }: Beside<'_>,
    ) -> Result<(), AgentError> {
        let (assigner, assigning) = Assigner::new(Arc::clone(ipam));
        tasks.spawn(assigning);
        let attach = self.attach.take().unwrap_or_else(|| self.own_attach());
        let attachments = Attachments {
            node: node.to_owned(),
            store: store.clone(),
            ipam: Arc::clone(ipam),
            assigner,
            attach,
            facts: wires.ports.facts.subscribe(),
            core: wires.questions.clone(),
            events: wires.ports.events.clone(),
            busy: Busy::default(),
            counts: wires.ports.meters.cni.counts.clone(),
        };
        let tombstones = self.config.paths.state.join("tombstones");
        let socket = self.socket("cni.sock")?;
        tasks.spawn(crate::cni::serve(
            socket,
            Arc::new(attachments),
            tombstones,
            wires.ports.meters.cni.clone(),
        ));
        Ok(())
    }

    fn open_dataplane(&mut self) -> Result<Box<dyn Dataplane>, AgentError> {
        match self.dataplane.take() {
            Some(dataplane) => Ok(dataplane),
            None => {
                let mut options = linux::Options::default();
                options.sysctl.clone_from(&self.config.paths.sysctl);
                LinuxDataplane::new(options)
                    .map(|dataplane| Box::new(dataplane) as Box<dyn Dataplane>)
                    .map_err(|error| AgentError::Kernel(Box::new(error)))
            }
        }
    }

    fn own_attach(&self) -> Arc<dyn Attach> {
        match &self.config.paths.sysctl {
            Some(folder) => Arc::new(LinuxAttach::new().sysctl(folder)),
            None => Arc::new(LinuxAttach::new()),
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
