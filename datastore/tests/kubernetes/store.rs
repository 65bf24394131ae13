//! Pods, nodes, profiles and the records of address management, through the store.

use std::sync::Arc;

use ocicat_datastore::model::{
    BlockAffinity, IpPool, IpPoolStatus, IpamHandle, KubeCondition, KubeNode, Node, NodeBgp,
    Profile, WorkloadEndpoint, names,
};
use ocicat_datastore::testing::kubernetes::{ApiServer, Fault, Trouble};
use ocicat_datastore::{
    ApiGroup, Change, Key, Kind, Metadata, Object, Op, Scope, Store, StoreError, Watch,
};
use serde_json::{Value, json};

fn server(group: &ApiGroup) -> (ApiServer, Store) {
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

async fn next(watch: &mut Watch) -> Change {
    let next = std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await;
    next.expect("no end").expect("no error")
}

#[tokio::test(start_paused = true)]
async fn pods_are_endpoints() {
    let (server, store) = server(&ApiGroup::v3());
    server.apply(pod("web-1", "node-1")).expect("a pod");
    server.apply(pod("db", "node-2")).expect("a pod");
    let mut elsewhere = pod("host", "node-1");
    elsewhere["spec"]["hostNetwork"] = true.into();
    server
        .apply(elsewhere)
        .expect("a pod of the host's network");

    let listed = store.list::<WorkloadEndpoint>().await.expect("a listing");
    let found: Vec<&str> = listed
        .iter()
        .map(|one| one.metadata.name.as_str())
        .collect();
    assert_eq!(found, ["node--1-k8s-web--1-eth0", "node--2-k8s-db-eth0"]);
    // Those of a node, and nothing else, are asked for.
    let scope = Scope::all(Kind::WorkloadEndpoint).with_prefix("node--1-k8s-");
    let of_node = store
        .list_scope::<WorkloadEndpoint>(&scope)
        .await
        .expect("a listing");
    assert_eq!(of_node.len(), 1);
    let mut watch = store
        .backend()
        .watch(&scope, of_node.revision)
        .await
        .expect("a watch");

    let key = ("default", "node--1-k8s-web--1-eth0");
    let mut endpoint = store
        .get::<WorkloadEndpoint>(key)
        .await
        .expect("an answer")
        .expect("an endpoint");
    assert_eq!(
        endpoint
            .spec
            .interface_name
            .as_deref()
            .map(|name| name.len()),
        Some(15)
    );
    assert_eq!(
        endpoint.spec.profiles,
        ["kns.default", "ksa.default.runner"]
    );
    endpoint.spec.container_id = Some("c1".to_owned());
    endpoint.spec.ip_networks = vec!["10.0.0.7/32".to_owned(), "fd00::7/128".to_owned()];
    let stale = endpoint.clone();
    let written = store.update(endpoint).await.expect("a write");
    assert_eq!(written.spec.ip_networks.len(), 2);
    let refused = store.update(stale).await.expect_err("an old revision");
    assert!(matches!(refused, StoreError::Conflict { .. }), "{refused}");
    let noted = server
        .object("/api/v1/namespaces/default/pods/web-1")
        .expect("the pod");
    let notes = &noted["metadata"]["annotations"];
    assert_eq!(notes["cni.projectcalico.org/podIP"], "10.0.0.7/32");
    assert_eq!(
        notes["cni.projectcalico.org/podIPs"],
        "10.0.0.7/32,fd00::7/128"
    );
    assert_eq!(notes["cni.projectcalico.org/containerID"], "c1");
    assert_eq!(server.count("patch", "pods/status"), 2);
    let Change::Put(told) = next(&mut watch).await else {
        panic!("no change")
    };
    assert_eq!(
        (told.name.as_str(), told.revision),
        (key.1, written.revision)
    );

    let gone = store
        .delete::<WorkloadEndpoint>(key, Some(written.revision))
        .await
        .expect("a deletion");
    assert!(gone > written.revision);
    let left = store
        .get::<WorkloadEndpoint>(key)
        .await
        .expect("an answer")
        .expect("the pod is there");
    assert!(left.spec.container_id.is_none() && left.spec.ip_networks.is_empty());

    let foreign = WorkloadEndpoint {
        metadata: Metadata::namespaced("default", "node--1-cni-x-eth0"),
        ..WorkloadEndpoint::default()
    };
    let error = store.put(foreign).await.expect_err("no pod has it");
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error}");
    let gone = WorkloadEndpoint {
        metadata: Metadata::namespaced("default", "node--1-k8s-none-eth0"),
        ..WorkloadEndpoint::default()
    };
    assert!(matches!(
        store.put(gone).await,
        Err(StoreError::Missing { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn nodes_are_annotations() {
    let (server, store) = server(&ApiGroup::v1());
    server
        .apply(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "labels": { "zone": "a" } }, "spec": { "podCIDRs": ["10.1.0.0/24"] } }))
        .expect("a node");
    let node = store.modify("n1", |node: &mut Node| {
        node.spec.bgp = Some(NodeBgp {
            ipv4_address: Some("10.0.0.1/24".to_owned()),
            ..NodeBgp::default()
        });
        node.spec.ipv4_vxlan_tunnel_addr = Some("10.10.0.1".to_owned());
        node.metadata
            .labels
            .insert("rack".to_owned(), "r1".to_owned());
    });
    let node = node.await.expect("a write");
    assert_eq!(node.metadata.labels.len(), 2);
    let stored = server.object("/api/v1/nodes/n1").expect("the node");
    assert_eq!(
        stored["metadata"]["annotations"]["projectcalico.org/IPv4Address"],
        "10.0.0.1/24"
    );
    assert_eq!(
        stored["metadata"]["annotations"]["projectcalico.org/IPv4VXLANTunnelAddr"],
        "10.10.0.1"
    );
    assert_eq!(stored["metadata"]["labels"], json!({ "zone": "a" }));
    assert_eq!(stored["spec"]["podCIDRs"][0], "10.1.0.0/24");
    let again = store
        .get::<Node>("n1")
        .await
        .expect("an answer")
        .expect("a node");
    assert_eq!(again.value, node.value);
    store
        .modify("n1", |node: &mut Node| {
            node.spec.ipv4_vxlan_tunnel_addr = None
        })
        .await
        .expect("a write");
    let stored = server.object("/api/v1/nodes/n1").expect("the node");
    assert!(
        stored["metadata"]["annotations"]
            .get("projectcalico.org/IPv4VXLANTunnelAddr")
            .is_none()
    );

    // Conditions are written through the status.
    let condition = KubeCondition {
        r#type: "NetworkUnavailable".to_owned(),
        status: "False".to_owned(),
        ..KubeCondition::default()
    };
    store
        .modify("n1", |node: &mut KubeNode| {
            node.status.conditions = vec![condition.clone()]
        })
        .await
        .expect("a write");
    let stored = server.object("/api/v1/nodes/n1").expect("the node");
    assert_eq!(stored["status"]["conditions"][0]["status"], "False");
    assert_eq!(
        (
            server.count("update", "nodes/status"),
            server.count("update", "nodes")
        ),
        (1, 0)
    );
    store.delete::<Node>("n1", None).await.expect("a deletion");
    assert!(server.object("/api/v1/nodes/n1").is_some());
    assert!(
        store
            .get::<Node>("n1")
            .await
            .expect("an answer")
            .expect("a node")
            .spec
            .bgp
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn namespaces_and_accounts_are_profiles() {
    let (server, store) = server(&ApiGroup::v3());
    let account = |name: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "default", "labels": { "a": "b" } } });
    server.apply(account("runner")).expect("an account");
    let listing = store
        .backend()
        .list(&Scope::all(Kind::Profile))
        .await
        .expect("a listing");
    let names: Vec<&str> = listing
        .objects
        .iter()
        .map(|object| object.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["kns.default", "kns.kube-system", "ksa.default.runner"]
    );
    let profile = store
        .get::<Profile>("ksa.default.runner")
        .await
        .expect("an answer")
        .expect("a profile");
    assert_eq!(profile.spec.labels_to_apply["pcsa.a"], "b");
    assert!(
        store
            .get::<Profile>("ksa.default.none")
            .await
            .expect("an answer")
            .is_none()
    );
    assert!(
        store
            .get::<Profile>("other")
            .await
            .expect("an answer")
            .is_none()
    );
    let refused = store.update(profile).await.expect_err("read-only");
    assert!(
        matches!(refused, StoreError::Unsupported { .. }),
        "{refused}"
    );

    let mut watch = store
        .backend()
        .watch(&Scope::all(Kind::Profile), listing.revision)
        .await
        .expect("a watch");
    for number in 0..5 {
        let name = format!("ns-{number}");
        server
            .apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
            .expect("a namespace");
        assert!(
            matches!(next(&mut watch).await, Change::Put(object) if object.name == format!("kns.{name}"))
        );
        server.apply(account(&name)).expect("an account");
        assert!(
            matches!(next(&mut watch).await, Change::Put(object) if object.name == format!("ksa.default.{name}"))
        );
    }
    let prefix = Scope::all(Kind::Profile).with_prefix("kns.");
    server.reset_requests();
    assert_eq!(
        store
            .backend()
            .list(&prefix)
            .await
            .expect("a listing")
            .objects
            .len(),
        7
    );
    assert_eq!(server.count("list", "serviceaccounts"), 0);
}

fn affinity(node: &str, cidr: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BlockAffinity", "metadata": {},
        "spec": { "state": "confirmed", "node": node, "type": "host", "cidr": cidr },
    }))
    .expect("an affinity")
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_in_two_steps() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let (server, store) = server(&group);
        let path = format!("/apis/{group}/blockaffinities/node-1-10-0-0-0-26");
        let object = affinity("node-1", "10.0.0.0/26");
        let (key, backend) = (object.key(), store.backend());
        let made = backend
            .write(vec![Op::Create(object.clone())])
            .await
            .remove(0)
            .expect("a write");
        let text = group.is_annotated();
        let flag = |deleted: bool| {
            if text {
                json!(deleted.to_string())
            } else {
                json!(deleted)
            }
        };
        assert_eq!(
            server.object(&path).expect("it is there")["spec"]["deleted"],
            flag(false)
        );
        let scope = Scope::all(Kind::BlockAffinity);
        let mut watch = backend.watch(&scope, made.revision).await.expect("a watch");

        // The second step fails: it counts as gone all the same.
        let trouble = Trouble::Refused {
            code: 500,
            retry_after: None,
        };
        server.add_fault(Fault::new(trouble.clone()).verb("delete"));
        let delete = |revision| {
            vec![Op::Delete {
                key: key.clone(),
                revision,
            }]
        };
        let gone = backend
            .write(delete(Some(made.revision)))
            .await
            .remove(0)
            .expect("a deletion");
        assert_eq!(
            server.object(&path).expect("what is left")["spec"]["deleted"],
            flag(true)
        );
        assert!(
            matches!(next(&mut watch).await, Change::Deleted { revision, .. } if revision == gone.revision)
        );
        assert!(
            backend
                .list(&scope)
                .await
                .expect("a listing")
                .objects
                .is_empty()
        );
        assert!(backend.get(&key).await.expect("an answer").is_none());
        assert!(matches!(
            backend.write(delete(None)).await.remove(0),
            Err(StoreError::Missing { .. })
        ));
        server.clear_faults();
        // Whoever meets it finishes it; and it can be made again.
        assert!(backend.get(&key).await.expect("an answer").is_none());
        assert!(server.object(&path).is_none());
        assert!(matches!(next(&mut watch).await, Change::Bookmark(_)));

        let again = backend
            .write(vec![Op::Create(object.clone())])
            .await
            .remove(0)
            .expect("a write");
        server.add_fault(Fault::new(trouble).verb("delete").times(1));
        backend
            .write(delete(Some(again.revision)))
            .await
            .remove(0)
            .expect("a deletion");
        let third = backend
            .write(vec![Op::Create(object)])
            .await
            .remove(0)
            .expect("made over what was left");
        assert!(third.revision > again.revision);
        assert!(matches!(next(&mut watch).await, Change::Put(_)));
    }
}

/// Calico's older affinities have no labels of ours; a node finds them as well.
#[tokio::test(start_paused = true)]
async fn affinities_of_a_node_are_asked_for_by_label() {
    let (server, store) = server(&ApiGroup::v1());
    let backend = store.backend();
    for (node, cidr) in [
        ("n1", "10.0.0.0/26"),
        ("n1", "fd00::40/122"),
        ("n2", "10.0.0.64/26"),
    ] {
        backend
            .write(vec![Op::Create(affinity(node, cidr))])
            .await
            .remove(0)
            .expect("a write");
    }
    server.apply(json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": { "name": "n1-10-0-0-128-26" },
        "spec": { "state": "confirmed", "node": "n1", "cidr": "10.0.0.128/26", "deleted": "false" },
    }))
    .expect("Calico's");
    let scope = Scope::all(Kind::BlockAffinity).with_prefix(names::affinity_prefix("host", "n1"));
    let found = store
        .list_scope::<BlockAffinity>(&scope)
        .await
        .expect("a listing");
    assert_eq!(found.len(), 3);
    let key = Key::cluster(Kind::BlockAffinity, "host:n1:10-0-0-128-26");
    assert!(backend.get(&key).await.expect("an answer").is_some());
    let other = Key::cluster(Kind::BlockAffinity, "virtual:n1:10-0-0-128-26");
    assert!(backend.get(&other).await.expect("an answer").is_none());
}

#[tokio::test(start_paused = true)]
async fn handles_keep_their_case() {
    let (server, store) = server(&ApiGroup::v3());
    let mut handle = IpamHandle {
        metadata: Metadata::named("Net_1.ABC"),
        ..IpamHandle::default()
    };
    handle.spec.handle_id = "Net_1.ABC".to_owned();
    store.create(handle).await.expect("a write");
    let found = store
        .get::<IpamHandle>("Net_1.ABC")
        .await
        .expect("an answer")
        .expect("a handle");
    assert_eq!(found.spec.handle_id, "Net_1.ABC");
    assert!(
        store
            .get::<IpamHandle>("net_1.abc")
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(server.count("create", "ipamhandles.projectcalico.org"), 1);
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
