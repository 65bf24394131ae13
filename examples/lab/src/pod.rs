//! Pods, made as a container runtime makes them: a namespace, the real CNI plugin, and then what runs in it.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
use ocicat_cni::{AddResult, Invocation};
use serde_json::{Value, json};

use crate::place::{Place, machine_folder};
use crate::probe::Servers;
use crate::sandbox::BIN;
use crate::scenario::Pod as Wanted;
use crate::underlay::prepare;
use crate::wire::Wire;

/// The network's name: part of the handles under which addresses are held.
pub const NETWORK: &str = "ocicat";
/// The interface in a pod.
pub const INTERFACE: &str = "eth0";

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// What the scenario says about it, with the labels that it has now.
    pub wanted: Wanted,
    /// Its namespace.
    pub place: Arc<Place>,
    /// Its first address.
    pub address: IpAddr,
    /// All of them, one of each family.
    pub addresses: Vec<IpAddr>,
    /// The container's id.
    pub container: String,
    /// What the plugin answered.
    pub result: AddResult,
    /// How long the plugin took, its start included.
    pub took: Duration,
    families: [bool; 2],
    _servers: Servers,
}

impl Pod {
    /// Makes a pod on `node`: namespace, CNI ADD, servers. `families` are those that it gets addresses of, IPv4 first.
    ///
    /// # Errors
    /// When one of the steps fails; the plugin's own words where it was the plugin. Nothing stays then.
    pub async fn add(node: &Arc<Place>, wanted: Wanted, families: [bool; 2]) -> Result<Self> {
        let name = format!("{}.{}", wanted.namespace, wanted.name);
        let place = Place::network(&name).await?;
        match Self::attach(node, &place, wanted, families).await {
            Ok(pod) => Ok(pod),
            Err(error) => {
                place.remove()?;
                Err(error)
            }
        }
    }

    async fn attach(
        node: &Arc<Place>,
        place: &Arc<Place>,
        wanted: Wanted,
        families: [bool; 2],
    ) -> Result<Self> {
        prepare(place).await?;
        Wire::open(place).await?.up("lo").await?;
        let container = container_id(&wanted);
        let conflist = conflist(&wanted, families)?;
        let attachment = attachment(&wanted, place, &container)?;
        let runtime = runtime(node);
        let began = Instant::now();
        let added =
            tokio::task::spawn_blocking(move || runtime.add(&conflist, &attachment)).await?;
        let took = began.elapsed();
        let result = added.with_context(|| format!("pod {}", wanted.id()))?;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|one| one.address.ip()).collect();
        let address = *addresses
            .first()
            .with_context(|| format!("pod {}: the plugin gave no address", wanted.id()))?;
        let identity = wanted.id();
        let servers = Servers::start(place, &identity, &wanted.ports).await?;
        Ok(Self {
            place: place.clone(),
            address,
            addresses,
            container,
            result,
            took,
            wanted,
            families,
            _servers: servers,
        })
    }

    /// Takes the pod away: servers, CNI DEL, namespace.
    ///
    /// # Errors
    /// The plugin's failure; the namespace is gone all the same.
    pub async fn remove(self, node: &Arc<Place>) -> Result<Duration> {
        let Self {
            wanted,
            place,
            container,
            families,
            _servers,
            ..
        } = self;
        drop(_servers);
        let conflist = conflist(&wanted, families)?;
        let attachment = attachment(&wanted, &place, &container)?;
        let runtime = runtime(node);
        let began = Instant::now();
        let removed =
            tokio::task::spawn_blocking(move || runtime.del(&conflist, &attachment)).await?;
        let took = began.elapsed();
        place.remove()?;
        removed.with_context(|| format!("pod {}", wanted.id()))?;
        Ok(took)
    }

    /// Takes the namespace away and tells no plugin: what is left of a pod when its node is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn abandon(self) -> Result<()> {
        self.place.remove()
    }

    /// The handle under which the pod's address is held.
    #[must_use]
    pub fn handle(&self) -> String {
        format!("{NETWORK}.{}", self.container)
    }
}

/// A runtime whose plugins run where the node's own would: in its namespaces, with its files.
fn runtime(node: &Arc<Place>) -> Runtime {
    let cache = machine_folder(node.name()).join("cni");
    let node = node.clone();
    Runtime::new([BIN], cache).exec(move |invocation: &Invocation| {
        let run = || invocation.run(Command::new(&invocation.program));
        node.visit(run).map_err(std::io::Error::other)?
    })
}

/// The network configuration; what Kubernetes would know about the pod is in the conventional places.
fn conflist(pod: &Wanted, [ipv4, ipv6]: [bool; 2]) -> Result<Conflist> {
    let mut labels: Vec<Value> = pod
        .labels
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    labels.push(json!({"key": "projectcalico.org/serviceaccount", "value": pod.service_account}));
    let named = pod.ports.iter().filter_map(|port| {
        Some(json!({"name": port.name.as_ref()?, "port": port.port, "protocol": port.protocol}))
    });
    let list = json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [{
            "type": "ocicat",
            "ipam": {
                "type": "ocicat-ipam",
                "assign_ipv4": ipv4.to_string(),
                "assign_ipv6": ipv6.to_string(),
            },
            "policy": {"type": "k8s"},
            "capabilities": {ANNOTATIONS: true},
            "args": {"cni": {"labels": labels, "ports": named.collect::<Vec<_>>()}},
        }],
    });
    Ok(Conflist::from_value(list)?)
}

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

fn attachment(pod: &Wanted, place: &Place, container: &str) -> Result<Attachment> {
    let mut annotations = pod.annotations.clone();
    if !pod.ip.is_empty() {
        annotations.insert(
            "cni.projectcalico.org/ipAddrs".to_owned(),
            json!(pod.ip).to_string(),
        );
    }
    Ok(Attachment::new(container, INTERFACE)?
        .netns(place.path())
        .arg("IgnoreUnknown", "1")
        .arg("K8S_POD_NAMESPACE", &pod.namespace)
        .arg("K8S_POD_NAME", &pod.name)
        .arg("K8S_POD_INFRA_CONTAINER_ID", container)
        .capability(ANNOTATIONS, json!(annotations)))
}

/// 64 hexadecimal digits, as container runtimes have them; another one each time.
fn container_id(pod: &Wanted) -> String {
    use std::hash::{BuildHasher, RandomState};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let digits = |part: u64| {
        format!(
            "{:016x}",
            RandomState::new().hash_one((part, count, pod.id()))
        )
    };
    (0..4).map(digits).collect()
}
