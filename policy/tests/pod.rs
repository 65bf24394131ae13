//! Pods as endpoints.

use ocicat_datastore::Object;
use ocicat_datastore::model::{Pod, WorkloadEndpoint};
use ocicat_policy::{Flow, Graph, Model, Update, kubernetes};
use serde_json::{Value, json};

/// A pod `web-1` on `node-1` with these metadata, specification and status besides.
fn pod(metadata: Value, spec: Value, status: Value) -> Pod {
    let mut value = json!({
        "metadata": {"name": "web-1", "namespace": "shop"},
        "spec": {"nodeName": "node-1"},
        "status": status,
    });
    for (part, more) in [("metadata", metadata), ("spec", spec)] {
        let more = more.as_object().unwrap().clone();
        value[part].as_object_mut().unwrap().extend(more);
    }
    serde_json::from_value(value).unwrap()
}

fn convert(metadata: Value, spec: Value, status: Value) -> WorkloadEndpoint {
    kubernetes::workload_endpoint(&pod(metadata, spec, status)).unwrap()
}

#[test]
fn the_endpoint_itself() {
    let endpoint = convert(
        json!({
            "labels": {"app": "web", "projectcalico.org/namespace": "kube-system"},
            "annotations": {"cni.projectcalico.org/containerID": "c0ffee"},
        }),
        json!({"serviceAccountName": "clerk"}),
        json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
    );
    let expected = json!({
        "metadata": {
            "name": "node--1-k8s-web--1-eth0",
            "namespace": "shop",
            "labels": {
                "app": "web",
                "projectcalico.org/namespace": "shop",
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "clerk",
            },
        },
        "spec": {
            "orchestrator": "k8s",
            "node": "node-1",
            "containerID": "c0ffee",
            "pod": "web-1",
            "endpoint": "eth0",
            "serviceAccountName": "clerk",
            "ipNetworks": ["10.0.0.1/32", "fd00::1/128"],
            "profiles": ["kns.shop", "ksa.shop.clerk"],
            "interfaceName": ocicat_dataplane::names::pod_link("shop", "web-1").as_str(),
        },
    });
    assert_eq!(serde_json::to_value(&endpoint).unwrap(), expected);
}

#[test]
fn who_has_no_endpoint() {
    let none = |spec| kubernetes::workload_endpoint(&pod(json!({}), spec, json!({}))).is_none();
    assert!(none(json!({"hostNetwork": true})));
    assert!(none(json!({"nodeName": ""})));
    assert!(none(json!({"nodeName": null})));
    assert!(!none(json!({})));
}

#[test]
fn a_service_account_too_long_for_a_label_is_a_profile_only() {
    for (length, labelled) in [(0, false), (1, true), (62, true), (63, false)] {
        let account = "a".repeat(length);
        let endpoint = convert(json!({}), json!({"serviceAccountName": account}), json!({}));
        let label = endpoint
            .metadata
            .labels
            .get("projectcalico.org/serviceaccount");
        assert_eq!(label.is_some(), labelled, "{length}");
        assert_eq!(
            endpoint.spec.profiles.len(),
            if length == 0 { 1 } else { 2 }
        );
    }
}

#[test]
fn addresses_come_from_the_first_place_that_says_any() {
    let (ips, ip, aws) = (
        "cni.projectcalico.org/podIPs",
        "cni.projectcalico.org/podIP",
        "vpc.amazonaws.com/pod-ips",
    );
    let all = json!({ips: "10.0.0.3/32,fd00::3/128", ip: "10.0.0.4/32", aws: "10.0.0.5, fd00::5"});
    let without = |names: &[&str]| {
        let mut annotations = all.clone();
        let object = annotations.as_object_mut().unwrap();
        names.iter().for_each(|name| drop(object.remove(*name)));
        annotations
    };
    let table = [
        (
            json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
            all.clone(),
            vec!["10.0.0.1/32", "fd00::1/128"],
        ),
        (
            json!({"podIP": "10.0.0.2"}),
            all.clone(),
            vec!["10.0.0.2/32"],
        ),
        (json!({}), all.clone(), vec!["10.0.0.3/32", "fd00::3/128"]),
        (
            json!({"podIP": "", "podIPs": [{"ip": ""}]}),
            all.clone(),
            vec!["10.0.0.3/32", "fd00::3/128"],
        ),
        (json!({}), without(&[ips]), vec!["10.0.0.4/32"]),
        (
            json!({}),
            without(&[ips, ip]),
            vec!["10.0.0.5/32", "fd00::5/128"],
        ),
        (json!({}), without(&[ips, ip, aws]), vec![]),
        // What is no address stays, to be reported.
        (json!({"podIP": "ten"}), json!({}), vec!["ten"]),
    ];
    for (status, annotations, expected) in table {
        let endpoint = convert(
            json!({ "annotations": annotations }),
            json!({}),
            status.clone(),
        );
        assert_eq!(
            endpoint.spec.ip_networks, expected,
            "{status} {annotations}"
        );
    }
}

#[test]
fn pods_that_have_ended_have_no_addresses() {
    let (deleted, empty, set) = (
        json!("2026-01-01T00:00:00Z"),
        json!({"cni.projectcalico.org/podIP": ""}),
        json!({"cni.projectcalico.org/podIP": "10.0.0.1/32"}),
    );
    let table = [
        ("Running", Value::Null, &set, true),
        ("Pending", Value::Null, &empty, true),
        ("Running", deleted.clone(), &set, true),
        ("Running", deleted.clone(), &json!({}), true),
        ("Running", deleted, &empty, false),
        ("Succeeded", Value::Null, &set, false),
        ("Failed", Value::Null, &set, false),
        ("Unknown", Value::Null, &set, true),
    ];
    for (phase, deletion, annotations, addressed) in table {
        let endpoint = convert(
            json!({"deletionTimestamp": deletion, "annotations": annotations}),
            json!({}),
            json!({"phase": phase, "podIP": "10.0.0.1"}),
        );
        let case = format!("{phase} {deletion} {annotations}");
        assert_eq!(!endpoint.spec.ip_networks.is_empty(), addressed, "{case}");
    }
}

#[test]
fn named_ports_are_those_of_containers_and_sidecars() {
    let endpoint = convert(
        json!({}),
        json!({
            "containers": [
                {"name": "a", "ports": [
                    {"name": "http", "containerPort": 8080},
                    {"containerPort": 8081},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    {"name": "odd", "containerPort": 1, "protocol": "DCCP"},
                ]},
                {"name": "b", "ports": [
                    {"containerPort": 80, "hostPort": 8000, "hostIP": "192.0.2.1", "protocol": "SCTP"},
                ]},
            ],
            "initContainers": [
                {"name": "once", "ports": [{"name": "setup", "containerPort": 2}]},
                {"name": "beside", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9090}]},
            ],
        }),
        json!({}),
    );
    let expected = json!([
        {"name": "http", "protocol": "TCP", "port": 8080},
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"protocol": "SCTP", "port": 80, "hostPort": 8000, "hostIP": "192.0.2.1"},
        {"name": "metrics", "protocol": "TCP", "port": 9090},
    ]);
    assert_eq!(
        serde_json::to_value(&endpoint.spec.ports).unwrap(),
        expected
    );
}

/// A pod comes, is replaced on another node, and ends; policy follows it all the way.
#[test]
fn graph_and_model_follow_pods() {
    let update = |value: Value| {
        Update::of(&Object::from_value(value).unwrap())
            .unwrap()
            .unwrap()
    };
    let web = |node: &str, address: &str, phase: &str| {
        update(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": phase, "podIP": address},
        }))
    };
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": "http"}]}]},
    });
    let (mut graph, mut model) = (Graph::new("n1"), Model::new());
    let mut state = ocicat_dataplane::State::default();
    let outside = "192.0.2.1".parse().unwrap();
    // (node, address, phase, workloads on n1, port 8080 of 10.0.0.1 and 22 of 10.0.0.2 are open)
    let table = [
        ("n1", "10.0.0.1", "Running", 1, true, true),
        ("n1", "10.0.0.1", "Succeeded", 1, true, true),
        ("n2", "10.0.0.2", "Running", 0, true, false),
        ("n1", "10.0.0.2", "Running", 1, true, false),
    ];
    graph.update(update(policy.clone()));
    model.update(update(policy));
    for (node, address, phase, workloads, first, second) in table {
        graph.update(web(node, address, phase));
        model.update(web(node, address, phase));
        graph.flush(&mut state);
        assert_eq!(state.workloads.len(), workloads, "{node} {address}");
        for (to, port, open) in [("10.0.0.1", 8080, first), ("10.0.0.2", 22, second)] {
            let flow = Flow::tcp(outside, to.parse().unwrap(), port);
            assert_eq!(model.evaluate(&flow).is_allowed(), open, "{node} {to}");
        }
    }
    let flow = Flow::tcp(outside, "10.0.0.2".parse().unwrap(), 22);
    let text = model.evaluate(&flow).to_string();
    assert!(text.contains("ingress of Pod/shop/web"), "{text}");
    let gone = Update::gone(web("n1", "10.0.0.2", "Running").key()).unwrap();
    graph.update(gone.clone());
    model.update(gone);
    graph.flush(&mut state);
    assert!(state.workloads.is_empty());
    assert!(model.evaluate(&flow).is_allowed());
}
