//! Pods, nodes and profiles, through the store.

use std::sync::Arc;

use ocicat_datastore::model::{
    IpPool, IpPoolStatus, KubeCondition, KubeNode, Node, NodeBgp, Profile, WorkloadEndpoint,
};
use ocicat_datastore::testing::kubernetes::ApiServer;
use ocicat_datastore::{
    ApiGroup, Change, Kind, Metadata, Name, Resource, Revision, Scope, Store, StoreError,
    Versioned, Watch,
};
use serde_json::{Value, json};

pub(crate) fn server(group: &ApiGroup) -> (ApiServer, Store) {
    let server = ApiServer::with_calico(group);
    let store = Store::new(Arc::new(server.store()));
    (server, store)
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": "web" } },
        "spec": {
            "nodeName": node, "serviceAccountName": "runner",
            "containers": [{ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }],
        },
    })
}

pub(crate) async fn next(watch: &mut Watch) -> Change {
    let next = std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await;
    next.expect("no end").expect("no error")
}

/// What must be there.
pub(crate) async fn got<R: Resource>(store: &Store, name: impl Into<Name>) -> Versioned<R> {
    let found = store.get::<R>(name).await.expect("an answer");
    found.expect("it is there")
}

/// A cluster with three pods, one of them in its node's own network.
fn with_pods() -> (ApiServer, Store) {
    let (server, store) = server(&ApiGroup::v3());
    let mut elsewhere = pod("host", "node-1");
    elsewhere["spec"]["hostNetwork"] = true.into();
    for pod in [pod("web-1", "node-1"), pod("db", "node-2"), elsewhere] {
        server.apply(pod).expect("a pod");
    }
    (server, store)
}

const WEB: (&str, &str) = ("default", "node--1-k8s-web--1-eth0");

#[tokio::test(start_paused = true)]
async fn pods_are_endpoints() {
    let (_server, store) = with_pods();
    let listed = store.list::<WorkloadEndpoint>().await.expect("a listing");
    let names = listed.iter().map(|one| one.metadata.name.as_str());
    let found: Vec<&str> = names.collect();
    assert_eq!(found, ["node--1-k8s-web--1-eth0", "node--2-k8s-db-eth0"]);
    // Those of a node, and nothing else, are asked for.
    let scope = Scope::all(Kind::WorkloadEndpoint).with_prefix("node--1-k8s-");
    let of_node = store.list_scope::<WorkloadEndpoint>(&scope).await;
    assert_eq!(of_node.expect("a listing").len(), 1);
    let endpoint = got::<WorkloadEndpoint>(&store, WEB).await;
    let link = endpoint.spec.interface_name.as_deref().map(str::len);
    assert_eq!(link, Some(15));
    let profiles = ["kns.default", "ksa.default.runner"];
    assert_eq!(endpoint.spec.profiles, profiles);

    let named = |name: &str| WorkloadEndpoint {
        metadata: Metadata::namespaced("default", name),
        ..WorkloadEndpoint::default()
    };
    let error = store.put(named("node--1-cni-x-eth0")).await;
    let error = error.expect_err("no pod has it");
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error}");
    let error = store.put(named("node--1-k8s-none-eth0")).await;
    assert!(matches!(error, Err(StoreError::Missing { .. })));
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_written_as_notes_on_pods() {
    let (server, store) = with_pods();
    let scope = Scope::all(Kind::WorkloadEndpoint).with_prefix("node--1-k8s-");
    let since = Revision(server.revision());
    let watch = store.backend().watch(&scope, since).await;
    let mut watch = watch.expect("a watch");
    let mut endpoint = got::<WorkloadEndpoint>(&store, WEB).await;
    endpoint.spec.container_id = Some("c1".to_owned());
    endpoint.spec.ip_networks = vec!["10.0.0.7/32".to_owned(), "fd00::7/128".to_owned()];
    let stale = endpoint.clone();
    let written = store.update(endpoint).await.expect("a write");
    assert_eq!(written.spec.ip_networks.len(), 2);
    let refused = store.update(stale).await.expect_err("an old revision");
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    let noted = server.object("/api/v1/namespaces/default/pods/web-1");
    let notes = &noted.expect("the pod")["metadata"]["annotations"];
    let of = |name: &str| notes[format!("cni.projectcalico.org/{name}")].clone();
    assert_eq!(of("podIP"), "10.0.0.7/32");
    assert_eq!(of("podIPs"), "10.0.0.7/32,fd00::7/128");
    assert_eq!(of("containerID"), "c1");
    assert_eq!(server.count("patch", "pods/status"), 2);
    let told = next(&mut watch).await;
    assert_eq!(told.revision(), written.revision);

    let gone = store.delete::<WorkloadEndpoint>(WEB, Some(written.revision));
    assert!(gone.await.expect("a deletion") > written.revision);
    let left = got::<WorkloadEndpoint>(&store, WEB).await;
    assert!(left.spec.container_id.is_none() && left.spec.ip_networks.is_empty());
}

fn with_node() -> (ApiServer, Store) {
    let (server, store) = server(&ApiGroup::v1());
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "labels": { "zone": "a" } },
        "spec": { "podCIDRs": ["10.1.0.0/24"] },
    });
    server.apply(node).expect("a node");
    (server, store)
}

const N1: &str = "/api/v1/nodes/n1";

#[tokio::test(start_paused = true)]
async fn nodes_are_annotations() {
    let (server, store) = with_node();
    let node = store.modify("n1", |node: &mut Node| {
        node.spec.bgp = Some(NodeBgp {
            ipv4_address: Some("10.0.0.1/24".to_owned()),
            ..NodeBgp::default()
        });
        node.spec.ipv4_vxlan_tunnel_addr = Some("10.10.0.1".to_owned());
        let labels = &mut node.metadata.labels;
        labels.insert("rack".to_owned(), "r1".to_owned());
    });
    let node = node.await.expect("a write");
    assert_eq!(node.metadata.labels.len(), 2);
    let stored = server.object(N1).expect("the node");
    let notes = &stored["metadata"]["annotations"];
    assert_eq!(notes["projectcalico.org/IPv4Address"], "10.0.0.1/24");
    assert_eq!(notes["projectcalico.org/IPv4VXLANTunnelAddr"], "10.10.0.1");
    assert_eq!(stored["metadata"]["labels"], json!({ "zone": "a" }));
    assert_eq!(stored["spec"]["podCIDRs"][0], "10.1.0.0/24");
    assert_eq!(got::<Node>(&store, "n1").await.value, node.value);

    let change = |node: &mut Node| node.spec.ipv4_vxlan_tunnel_addr = None;
    store.modify("n1", change).await.expect("a write");
    let stored = server.object(N1).expect("the node");
    let notes = &stored["metadata"]["annotations"];
    assert!(notes.get("projectcalico.org/IPv4VXLANTunnelAddr").is_none());
    store.delete::<Node>("n1", None).await.expect("a deletion");
    assert!(server.object(N1).is_some());
    assert!(got::<Node>(&store, "n1").await.spec.bgp.is_none());
}

#[tokio::test(start_paused = true)]
async fn conditions_are_written_through_the_status() {
    let (server, store) = with_node();
    let condition = KubeCondition {
        r#type: "NetworkUnavailable".to_owned(),
        status: "False".to_owned(),
        ..KubeCondition::default()
    };
    let change = |node: &mut KubeNode| node.status.conditions = vec![condition.clone()];
    store.modify("n1", change).await.expect("a write");
    let stored = server.object(N1).expect("the node");
    assert_eq!(stored["status"]["conditions"][0]["status"], "False");
    assert_eq!(server.count("update", "nodes/status"), 1);
    assert_eq!(server.count("update", "nodes"), 0);
}

fn account(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "default", "labels": { "a": "b" } },
    })
}

async fn profiles(store: &Store, prefix: &str) -> (Vec<String>, Revision) {
    let scope = Scope::all(Kind::Profile).with_prefix(prefix);
    let listing = store.backend().list(&scope).await.expect("a listing");
    let names = listing.objects.into_iter().map(|object| object.name);
    (names.collect(), listing.revision)
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_accounts_are_profiles() {
    let (server, store) = server(&ApiGroup::v3());
    server.apply(account("runner")).expect("an account");
    let (names, _) = profiles(&store, "").await;
    let wanted = ["kns.default", "kns.kube-system", "ksa.default.runner"];
    assert_eq!(names, wanted);
    let profile = got::<Profile>(&store, "ksa.default.runner").await;
    assert_eq!(profile.spec.labels_to_apply["pcsa.a"], "b");
    for none in ["ksa.default.none", "other"] {
        let found = store.get::<Profile>(none).await.expect("an answer");
        assert!(found.is_none(), "{none}");
    }
    let refused = store.update(profile).await.expect_err("read-only");
    let unsupported = matches!(refused, StoreError::Unsupported { .. });
    assert!(unsupported, "{refused}");
    server.reset_requests();
    assert_eq!(profiles(&store, "kns.").await.0.len(), 2);
    assert_eq!(server.count("list", "serviceaccounts"), 0);
}

#[tokio::test(start_paused = true)]
async fn profiles_are_watched_as_one() {
    let (server, store) = server(&ApiGroup::v3());
    let (_, since) = profiles(&store, "").await;
    let scope = Scope::all(Kind::Profile);
    let watch = store.backend().watch(&scope, since).await;
    let mut watch = watch.expect("a watch");
    for number in 0..5 {
        let name = format!("ns-{number}");
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        server.apply(namespace).expect("a namespace");
        let Change::Put(told) = next(&mut watch).await else {
            panic!("no news")
        };
        assert_eq!(told.name, format!("kns.{name}"));
        server.apply(account(&name)).expect("an account");
        let Change::Put(told) = next(&mut watch).await else {
            panic!("no news")
        };
        assert_eq!(told.name, format!("ksa.default.{name}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_apart() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let (_server, store) = server(&group);
        let mut pool = IpPool {
            metadata: Metadata::named("p"),
            ..IpPool::default()
        };
        pool.metadata.labels.insert("a".to_owned(), "b".to_owned());
        pool.spec.cidr = "10.0.0.0/16".to_owned();
        pool.status = Some(IpPoolStatus::default());
        let made = store.create(pool).await.expect("a write");
        assert_eq!(made.metadata.labels["a"], "b");
        let condition = json!({ "type": "Allocatable", "status": "True", "reason": "OK", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let condition: ocicat_datastore::model::Condition =
            serde_json::from_value(condition).expect("a condition");
        let changed = store.modify("p", |pool: &mut IpPool| {
            pool.status.get_or_insert_default().conditions = vec![condition.clone()];
        });
        let changed = changed.await.expect("a write");
        assert!(changed.revision > made.revision);
        let found = store
            .get::<IpPool>("p")
            .await
            .expect("an answer")
            .expect("a pool");
        assert_eq!(
            found.status.as_ref().map(|status| status.conditions.len()),
            Some(1)
        );
        assert_eq!(found.revision, changed.revision);
    }
}
