//! The test on a host without Kubernetes: containers of its own by the plugins that are installed, and from them what other
//! nodes have.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
use ocicat_datastore::{Key, Kind, Object, Op};
use serde_json::{Value, json};

use super::plan::Phase;
use super::probe::{self, Outcome};
use super::report::{Report, Row};
use super::space::{self, Space};
use super::{NAMESPACE, PORT, limit, or_interrupted, serve, survey};
use crate::cli::ConnectivityTest;
use crate::connection::Connection;
use crate::failure::Failure;

/// How long a change of policy may take until it is seen.
const CHANGE: Duration = Duration::from_secs(20);
/// The policy of the test.
const POLICY: &str = "admitted-alone";
/// The containers: who answers, who is admitted by the policy, who is not.
const NAMES: [&str; 3] = ["server", "friend", "stranger"];
/// Where runtimes keep what plugins answered.
const CACHE: &str = "/run/ocicat-connectivity";

/// Makes containers, has them ask, and takes everything away again, also when it is interrupted.
///
/// # Errors
/// When there is no CNI configuration, the plugin refuses, or the datastore fails.
pub(super) async fn test(at: &Connection, args: &ConnectivityTest) -> Result<Report, Failure> {
    let host = Arc::new(Host::new(args)?);
    host.clone().blocking(Host::detach).await?;
    let asked = or_interrupted(run(at, &host, args)).await;
    host.ended.store(true, Ordering::Relaxed);
    eprintln!("removing the containers of the test");
    let detached = host.blocking(Host::detach).await;
    let forgotten = forget(at).await;
    let report = asked?;
    detached.and(forgotten)?;
    Ok(report)
}

async fn run(
    at: &Connection,
    host: &Arc<Host>,
    args: &ConnectivityTest,
) -> Result<Report, Failure> {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    put(at, &namespace).await?;
    let ends = host.clone().blocking(Host::attach).await?;
    let [server, friend, stranger] = ends.as_slice() else {
        return Err(Failure::Failed("the plugin made no container".into()));
    };
    let serving = serve::serve(server.space.listen(PORT)?, "server".into());
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(serving);
    let mut report = Report::default();
    for phase in Phase::ALL {
        match phase {
            Phase::Denied => put(at, &policy(friend)).await?,
            Phase::Again => remove(at, Kind::NetworkPolicy, Some(NAMESPACE), POLICY).await?,
            Phase::Open | Phase::Admitted => {}
        }
        let client = if phase == Phase::Admitted {
            friend
        } else {
            stranger
        };
        for address in &server.addresses {
            let to = SocketAddr::new(*address, PORT);
            let outcome = ask(client, to, limit(args), phase.reached()).await?;
            report.rows.push(Row {
                test: phase.text().to_owned(),
                from: format!("container {}", client.name),
                to: "container on this node".to_owned(),
                address: to.to_string(),
                expected: phase.reached(),
                outcome,
            });
        }
    }
    survey::add(at, stranger, limit(args), &mut report).await?;
    let untested = [
        "Services: there is no Kubernetes here",
        "32 KiB to other nodes, and policies there: their containers are not the test's own; run it there, too",
    ];
    report.untested.extend(untested.map(str::to_owned));
    Ok(report)
}

async fn ask(
    client: &End,
    to: SocketAddr,
    limit: Duration,
    expect: bool,
) -> Result<Outcome, Failure> {
    let space = client.space.clone();
    let asked =
        tokio::task::spawn_blocking(move || space.within(|| probe::ask(to, limit, expect, CHANGE)));
    asked
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?
}

/// What can make and remove containers on this host.
struct Host {
    runtime: Runtime,
    conflist: Conflist,
    /// One thing at a time: what was interrupted ends before it is undone.
    busy: Mutex<()>,
    ended: AtomicBool,
}

/// A container of the test.
pub(super) struct End {
    name: &'static str,
    pub(super) space: Arc<Space>,
    pub(super) addresses: Vec<IpAddr>,
}

impl Host {
    fn new(args: &ConnectivityTest) -> Result<Self, Failure> {
        let folders = args.cni_bin.iter().cloned();
        Ok(Self {
            runtime: Runtime::new(folders, CACHE),
            conflist: conflist(args)?,
            busy: Mutex::new(()),
            ended: AtomicBool::new(false),
        })
    }

    /// Does something that blocks, beside the runtime.
    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        job: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let alone = move || {
            let _alone = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            job(&self)
        };
        let done = tokio::task::spawn_blocking(alone).await;
        done.map_err(|error| Failure::Failed(error.to_string()))?
    }

    fn attach(&self) -> Result<Vec<End>, Failure> {
        NAMES
            .into_iter()
            .map(|name| self.attach_one(name))
            .collect()
    }

    fn attach_one(&self, name: &'static str) -> Result<End, Failure> {
        if self.ended.load(Ordering::Relaxed) {
            return Err(Failure::Failed("the test has ended".into()));
        }
        let space = Space::new(&container(name))?;
        let at = attachment(name)?.netns(space.path());
        let result = self.runtime.add(&self.conflist, &at);
        let result =
            result.map_err(|error| Failure::failed(&format!("container {name}"), error))?;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|one| one.address.ip()).collect();
        Ok(End {
            name,
            space: Arc::new(space),
            addresses,
        })
    }

    /// Detaches all, also those of a test that was killed: plugins go by names.
    fn detach(&self) -> Result<(), Failure> {
        let mut failures = Vec::new();
        for name in NAMES {
            let at = attachment(name)?;
            let gone = self.runtime.del(&self.conflist, &at);
            failures.extend(gone.err().map(|error| format!("container {name}: {error}")));
            space::remove(&container(name));
        }
        // Empty now, or somebody else's.
        let _ = std::fs::remove_dir_all(CACHE);
        match failures.first() {
            None => Ok(()),
            Some(_) => Err(Failure::Failed(failures.join("\n"))),
        }
    }
}

fn container(name: &str) -> String {
    format!("{NAMESPACE}-{name}")
}

fn attachment(name: &str) -> Result<Attachment, Failure> {
    let id = container(name);
    let at = Attachment::new(&id, "eth0").map_err(|error| Failure::failed(&id, error))?;
    Ok(at
        .arg("IgnoreUnknown", "1")
        .arg("K8S_POD_NAMESPACE", NAMESPACE)
        .arg("K8S_POD_NAME", name)
        .arg("K8S_POD_INFRA_CONTAINER_ID", &id))
}

/// The configuration that was named, else the first of the folder with our plugin, as a runtime takes the first.
fn conflist(args: &ConnectivityTest) -> Result<Conflist, Failure> {
    let load =
        |path: &PathBuf| Conflist::load(path).map_err(|error| Failure::Failed(error.to_string()));
    if let Some(path) = &args.cni_config {
        return load(path);
    }
    let folder = &args.cni_net;
    let files = Conflist::files(folder)
        .map_err(|error| Failure::failed(&folder.display().to_string(), error))?;
    for path in &files {
        let list = load(path)?;
        if list
            .plugins()
            .iter()
            .any(|one| one.name().as_str() == "ocicat")
        {
            return Ok(list);
        }
    }
    Err(Failure::NotFound(format!(
        "{}: no network configuration with the plugin ocicat; the agent writes it when it is ready ([install] cni-net), \
         or name one by --cni-config",
        folder.display()
    )))
}

/// A policy for the server that admits one address for each family alone.
fn policy(friend: &End) -> Value {
    let nets = friend.addresses.iter().map(|address| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("{address}/{bits}")
    });
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": POLICY, "namespace": NAMESPACE},
        "spec": {
            "types": ["Ingress"], "ingress": [{"action": "Allow", "source": {"nets": nets.collect::<Vec<_>>()}}],
        },
    })
}

async fn put(at: &Connection, value: &Value) -> Result<(), Failure> {
    let object =
        Object::from_value(value.clone()).map_err(|error| Failure::failed(NAMESPACE, error))?;
    let object = crate::native(&object)?;
    for outcome in at.store.backend().write(vec![Op::Put(object)]).await {
        outcome?;
    }
    Ok(())
}

async fn remove(
    at: &Connection,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), Failure> {
    let key = match namespace {
        Some(namespace) => Key::namespaced(kind, namespace, name),
        None => Key::cluster(kind, name),
    };
    let op = Op::Delete {
        key,
        revision: None,
    };
    for outcome in at.store.backend().write(vec![op]).await {
        match outcome {
            Ok(_) | Err(ocicat_datastore::StoreError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes the test's own objects.
async fn forget(at: &Connection) -> Result<(), Failure> {
    remove(at, Kind::NetworkPolicy, Some(NAMESPACE), POLICY).await?;
    remove(at, Kind::Profile, None, &format!("kns.{NAMESPACE}")).await
}
