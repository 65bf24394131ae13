//! The handlers over a store and a kernel in memory.

use ocicat_cni::{AttachmentId, ContainerId, InterfaceName, NetworkConfig};
use ocicat_dataplane::testing::FakeKernel;
use ocicat_datastore::model::{IpPool, Profile, WorkloadEndpoint};
use ocicat_datastore::{Memory, Store, ipam::StoreIpam};
use ocicat_ipam::{BlockAffine, Ipam};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::assigner::Assigner;
use crate::attachments::{Busy, Counts};
use crate::control::{Question, Waited};
use crate::events::Events;

mod addresses;
mod collecting;
mod lending;
mod locked;

/// A node's handlers, and what they work on.
struct Bench {
    server: Server,
    store: Store,
    kernel: FakeKernel,
    facts: watch::Sender<Arc<Facts>>,
}

async fn bench() -> Bench {
    let store = Store::new(Arc::new(Memory::new()));
    let ipam = Arc::new(Ipam::new(
        Arc::new(StoreIpam::new(store.clone())),
        Box::new(BlockAffine),
    ));
    let (assigner, work) = Assigner::new(Arc::clone(&ipam));
    tokio::spawn(work);
    let (facts, told) = watch::channel(Arc::new(Facts {
        ready: true,
        mtu: 1450,
        ..Facts::default()
    }));
    let kernel = FakeKernel::new();
    let attachments = Attachments {
        node: "n1".to_owned(),
        store: store.clone(),
        ipam,
        assigner,
        attach: Arc::new(kernel.clone()),
        facts: told,
        core: policy_at_once(),
        events: Events::new("n1"),
        busy: Busy::default(),
        counts: Counts::default(),
    };
    let bench = Bench {
        server: Server {
            attachments: Arc::new(attachments),
        },
        store,
        kernel,
        facts,
    };
    bench.pool("pods", "10.0.0.0/24", json!({})).await;
    bench
}

/// A core whose policies are always in force, but for pods called late.
fn policy_at_once() -> mpsc::Sender<Question> {
    let (ask, mut asked) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(question) = asked.recv().await {
            if let Question::Wait {
                answer, objects, ..
            } = question
            {
                let _ = answer.send(Waited {
                    ok: !objects.iter().any(|object| object.name.contains("late")),
                    waited_ms: 0,
                    error: None,
                });
            }
        }
    });
    ask
}

impl Bench {
    async fn pool(&self, name: &str, cidr: &str, spec: Value) {
        let mut value = json!({"metadata": {"name": name}, "spec": {"cidr": cidr}});
        for (key, setting) in spec.as_object().unwrap() {
            value["spec"][key] = setting.clone();
        }
        let pool: IpPool = serde_json::from_value(value).unwrap();
        self.store.put(pool).await.unwrap();
    }

    async fn add(&self, request: &Request) -> Result<AddResult, CniError> {
        let patient = Caller::patient();
        self.server.add(request.clone(), namespace(), patient).await
    }

    async fn lend(&self, request: &Request) -> Result<AddResult, CniError> {
        self.server
            .ipam_add(request.clone(), Caller::patient())
            .await
    }

    /// Every address that is held, by handle.
    async fn held(&self) -> BTreeMap<String, Vec<String>> {
        let blocks = self.server.attachments.ipam.store().all_blocks().await;
        let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for block in &blocks.unwrap().records {
            for (ordinal, allocation) in block.value.held() {
                let handle = allocation.handle.as_ref().unwrap().to_string();
                let address = block.value.address(ordinal).unwrap().to_string();
                held.entry(handle).or_default().push(address);
            }
        }
        held
    }

    async fn endpoints(&self) -> Vec<WorkloadEndpoint> {
        let listed = self.store.list::<WorkloadEndpoint>().await.unwrap();
        listed.items.into_iter().map(|one| one.value).collect()
    }

    fn links(&self) -> usize {
        self.kernel.links().len()
    }
}

/// The kernel in memory does not look at it.
fn namespace() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// A request of container `id` with interface `ifname` for the network of this configuration.
fn request_of(config: Value, id: &str, ifname: &str) -> Request {
    let attachment = AttachmentId::new(
        ContainerId::new(id).unwrap(),
        InterfaceName::new(ifname).unwrap(),
    );
    Request::new(NetworkConfig::from_value(config).unwrap(), attachment)
}

/// A configuration of network `name` with more keys.
fn network(name: &str, more: Value) -> Value {
    let mut config = json!({"cniVersion": "1.1.0", "name": name, "type": "ocicat",
        "ipam": {"type": "ocicat-ipam"}});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// The same request of a pod of Kubernetes.
fn of_pod(mut request: Request, namespace: &str, name: &str) -> Request {
    request.args.set("K8S_POD_NAMESPACE", namespace);
    request.args.set("K8S_POD_NAME", name);
    request
}

/// With these annotations, as a runtime passes them on.
fn annotated(mut config: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, text) in annotations {
        config["runtimeConfig"]["io.kubernetes.cri.pod-annotations"]
            [format!("cni.projectcalico.org/{name}")] = json!(text);
    }
    config
}

fn texts(result: &AddResult) -> Vec<String> {
    let ips = result.ips.iter();
    ips.map(|ip| ip.address.to_string()).collect()
}

#[tokio::test]
async fn an_add_can_be_repeated_and_a_del_too() {
    let bench = bench().await;
    let pod = of_pod(
        request_of(network("net", json!({})), "a", "eth0"),
        "shop",
        "web",
    );
    let first = bench.add(&pod).await.unwrap();
    let again = bench.add(&pod).await.unwrap();
    assert_eq!(texts(&first), texts(&again));
    assert_eq!(bench.held().await.len(), 1);
    for _ in 0..3 {
        bench.server.del(pod.clone(), None).await.unwrap();
    }
    assert!(bench.held().await.is_empty() && bench.endpoints().await.is_empty());
    assert_eq!(bench.links(), 0);
}

#[tokio::test]
async fn an_old_container_does_not_take_the_new_one_along() {
    let bench = bench().await;
    let of = |id| {
        of_pod(
            request_of(network("net", json!({})), id, "eth0"),
            "shop",
            "web",
        )
    };
    bench.add(&of("old")).await.unwrap();
    let new = bench.add(&of("new")).await.unwrap();
    bench.server.del(of("old"), None).await.unwrap();
    let endpoints = bench.endpoints().await;
    assert_eq!(endpoints[0].spec.container_id.as_deref(), Some("new"));
    assert_eq!(endpoints[0].spec.ip_networks, texts(&new));
    assert_eq!(bench.links(), 1);
    assert_eq!(bench.held().await.keys().collect::<Vec<_>>(), ["net.new"]);
}

#[tokio::test]
async fn a_del_needs_nothing_that_can_be_malformed() {
    let bench = bench().await;
    let good = of_pod(
        request_of(network("net", json!({})), "a", "eth0"),
        "shop",
        "web",
    );
    bench.add(&good).await.unwrap();
    let config = annotated(network("net", json!({})), &[("ipAddrs", "nonsense")]);
    let bad = of_pod(request_of(config, "a", "eth0"), "shop", "web");
    assert_eq!(
        bench.add(&bad).await.unwrap_err().code,
        CniError::INVALID_CONFIG
    );
    bench.server.del(bad, None).await.unwrap();
    assert!(bench.held().await.is_empty());
}

#[tokio::test]
async fn an_agent_that_is_not_in_sync_says_so() {
    let bench = bench().await;
    bench.facts.send_modify(|facts| {
        let why = vec!["not in sync with the datastore".to_owned()];
        *facts = Arc::new(Facts {
            reasons: why,
            ..Facts::default()
        });
    });
    let pod = request_of(network("net", json!({})), "a", "eth0");
    let about = NetworkRequest::new(pod.network.clone());
    let codes = [
        bench.add(&pod).await.unwrap_err().code,
        bench.lend(&pod).await.unwrap_err().code,
        bench.server.del(pod.clone(), None).await.unwrap_err().code,
        bench.server.ipam_del(pod.clone()).await.unwrap_err().code,
        bench.server.gc(about.clone()).await.unwrap_err().code,
        bench
            .server
            .check(pod.clone(), namespace())
            .await
            .unwrap_err()
            .code,
        bench.server.ipam_check(pod.clone()).await.unwrap_err().code,
    ];
    assert_eq!(codes, [CniError::TRY_AGAIN_LATER; 7]);
    let error = bench.server.status(about.clone()).await.unwrap_err();
    assert_eq!(error.code, CniError::PLUGIN_NOT_AVAILABLE);
    assert!(error.details.contains("not in sync"), "{error:?}");
    bench.facts.send_modify(|facts| {
        *facts = Arc::new(Facts {
            ready: true,
            limited: vec!["the kernel does not answer".to_owned()],
            ..Facts::default()
        });
    });
    let error = bench.server.status(about.clone()).await.unwrap_err();
    assert_eq!(error.code, CniError::LIMITED_CONNECTIVITY);
    assert!(error.details.contains("does not answer"), "{error:?}");
    // And no pod starts whose policy nothing would enforce.
    let error = bench.add(&pod).await.unwrap_err();
    assert_eq!(error.code, CniError::TRY_AGAIN_LATER);
    assert!(error.msg.contains("does not answer"), "{error:?}");
    bench.facts.send_modify(|facts| {
        *facts = Arc::new(Facts {
            ready: true,
            ..Facts::default()
        });
    });
    bench.server.status(about).await.unwrap();
}

/// Its endpoint is in the kernel by then, and denies.
#[tokio::test]
async fn a_pod_whose_policy_is_late_starts_and_is_counted() {
    let bench = bench().await;
    let pod = |name: &str| {
        of_pod(
            request_of(network("net", json!({})), name, "eth0"),
            "shop",
            name,
        )
    };
    bench.add(&pod("early")).await.unwrap();
    let late = &bench.server.attachments.counts.policy_late;
    assert_eq!(late.load(Ordering::Relaxed), 0);
    bench.add(&pod("late")).await.unwrap();
    assert_eq!(late.load(Ordering::Relaxed), 1);
    assert_eq!(bench.links(), 2);
}

/// Each of kernel, IPAM and store says something else than what was answered, one at a time.
#[tokio::test]
async fn a_check_compares_kernel_ipam_store_and_answer() {
    let bench = bench().await;
    let pod = of_pod(
        request_of(network("net", json!({})), "a", "eth0"),
        "shop",
        "web",
    );
    let mut pod = pod;
    pod.netns = Some("/run/netns/a".into());
    let result = bench.add(&pod).await.unwrap();
    let mut check = pod.clone();
    check.network.prev_result = Some(result);
    let look = async || bench.server.check(check.clone(), namespace()).await;
    look().await.unwrap();
    let wrong = async |what: &str| {
        let error = look().await.unwrap_err();
        assert_eq!(error.code, CniError::FIRST_OWN);
        assert!(error.details.contains(what), "{what}: {error:?}");
    };
    let link = bench.kernel.links().keys().next().unwrap().clone();
    bench.kernel.set_link(&link, false);
    wrong(&format!("state of {link}: down instead of up")).await;
    // A link that was down has lost its routes.
    bench.kernel.set_link(&link, true);
    wrong("missing instead of there").await;
    bench.add(&pod).await.unwrap();
    look().await.unwrap();

    let name = bench.endpoints().await[0].metadata.name.clone();
    let put = async |change: fn(&mut WorkloadEndpoint)| {
        let key = ("shop", name.as_str());
        bench
            .store
            .modify::<WorkloadEndpoint>(key, change)
            .await
            .unwrap();
    };
    put(|endpoint| endpoint.spec.mac = Some("02:00:00:00:00:99".to_owned())).await;
    wrong("02:00:00:00:00:99 in the WorkloadEndpoint").await;
    put(|endpoint| endpoint.spec.mac = Some("02:00:00:00:00:01".to_owned())).await;
    put(|endpoint| endpoint.spec.interface_name = Some("cali0".to_owned())).await;
    wrong("interfaceName: cali0 instead of").await;
    bench.add(&pod).await.unwrap();
    look().await.unwrap();

    bench
        .server
        .attachments
        .ipam
        .release_handle(&"net.a".into(), std::time::SystemTime::now())
        .await
        .unwrap();
    wrong("not held in IPAM").await;
    put(|endpoint| endpoint.spec.ip_networks = vec!["10.0.0.200/32".to_owned()]).await;
    wrong("answered to ADD, and not in the WorkloadEndpoint").await;
    let key = ("shop", name.as_str());
    let gone = bench.store.delete::<WorkloadEndpoint>(key, None).await;
    gone.unwrap();
    wrong("WorkloadEndpoint shop/n1-k8s-web-eth0: missing").await;
    // Nothing at all: the runtime need not even ask for its removal.
    bench.server.del(pod, None).await.unwrap();
    let error = look().await.unwrap_err();
    assert_eq!(error.code, CniError::UNKNOWN_CONTAINER, "{error:?}");
}
