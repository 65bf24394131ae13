use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;

const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
const ACCOUNT: &str = "projectcalico.org/serviceaccount";

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn annotation(name: &str) -> String {
    format!("cni.projectcalico.org/{name}")
}

/// A request of a pod `shop/web-0` with these annotations, under this configuration.
fn wishes(mut config: Value, annotations: &[(&str, &str)]) -> Result<Wishes, PodError> {
    config["name"] = json!("net");
    for (name, text) in annotations {
        config["runtimeConfig"][CAPABILITY][annotation(name)] = json!(text);
    }
    read(&config, &[], &Known::default()).map(|pod| pod.wishes)
}

fn read(config: &Value, arguments: &[(&str, &str)], known: &Known) -> Result<Pod, PodError> {
    let mut all = pairs(&[("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-0")]);
    all.extend(pairs(arguments));
    let mut pod = Pod::identify(config, &all, "c1", "eth0");
    pod.wish(config, &all, known).map(|()| pod)
}

#[test]
fn a_kubernetes_pod_is_read_from_a_request() {
    let config = json!({
        "name": "k8s-pod-network",
        "ipam": {"type": "ocicat-ipam", "ipv4_pools": ["from-config"]},
        "args": {"cni": {
            "labels": [{"key": "app", "value": "web"}, {"key": ACCOUNT, "value": "robot"}],
            "ports": [{"name": "http", "port": 8080}],
        }},
        "runtimeConfig": {CAPABILITY: {"cni.projectcalico.org/ipAddrs": "[\"10.0.0.9\"]"}},
    });
    let known = Known {
        namespace: pairs(&[("cni.projectcalico.org/ipv4pools", "[\"rack-a\"]")]),
        ..Known::default()
    };
    let pod = read(&config, &[], &known).unwrap();
    assert_eq!(pod.endpoint_name("node-1"), "node--1-k8s-web--0-eth0");
    assert_eq!(pod.handle(), "k8s-pod-network.c1");
    let wishes = pod.wishes;
    assert_eq!(wishes.labels, pairs(&[("app", "web")]));
    assert_eq!(wishes.service_account.as_deref(), Some("robot"));
    assert_eq!(wishes.pools_v4, ["rack-a"]);
    assert_eq!(wishes.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(wishes.ports[0].protocol, "TCP");
    assert!(wishes.wants_v4 && !wishes.wants_v6 && !wishes.foreign_ipam);
}

#[test]
fn a_container_without_kubernetes_is_its_id() {
    let arguments = pairs(&[("K8S_POD_NAME", "x")]);
    let pod = Pod::identify(&json!({"name": "n"}), &arguments, "abc", "eth1");
    assert_eq!((pod.orchestrator, pod.name.as_str()), ("cni", "abc"));
    assert_eq!(pod.endpoint_name("n1"), "n1-cni-abc-eth1");
    assert_eq!(pod.handle(), "n.abc.eth1");
}

#[test]
fn the_apis_word_counts_instead_of_the_runtimes() {
    let pod: ocicat_datastore::model::Pod = serde_json::from_value(json!({
        "metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "api"},
            "annotations": {"cni.projectcalico.org/hwAddr": "02:00:00:00:00:01"}},
        "spec": {"serviceAccountName": "robot", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9}]}]},
    }))
    .unwrap();
    let config = json!({
        "name": "net",
        "args": {"cni": {"labels": [{"key": "app", "value": "forged"}]}},
        "runtimeConfig": {CAPABILITY: {
            "cni.projectcalico.org/hwAddr": "02:00:00:00:00:99",
            "cni.projectcalico.org/ipAddrs": "[\"10.0.0.9\"]"}},
    });
    let known = Known {
        pod: Some(pod),
        ..Known::default()
    };
    let wishes = read(&config, &[], &known).unwrap().wishes;
    assert_eq!(wishes.labels, pairs(&[("app", "api")]));
    assert_eq!(wishes.mac.unwrap().to_string(), "02:00:00:00:00:01");
    assert!(wishes.addresses.is_empty());
    assert_eq!(wishes.service_account.as_deref(), Some("robot"));
    assert_eq!((wishes.ports.len(), wishes.ports[0].port), (1, 8080));
}

/// Of each wish: all its sources, the strongest first, each in a request of its own with all the weaker ones.
#[test]
fn the_most_particular_word_counts() {
    let annotations =
        |name: &str, text: &str| json!({"runtimeConfig": {CAPABILITY: {annotation(name): text}}});
    let addresses = [
        annotations("ipAddrs", "[\"10.0.0.1\"]"),
        json!({"args": {"cni": {"annotations": {annotation("ipAddrs"): "[\"10.0.0.2\"]"}}}}),
        json!({"runtimeConfig": {"ips": ["10.0.0.3/24"]}}),
        json!({"args": {"cni": {"ips": ["10.0.0.4"]}}}),
        json!({}),
    ];
    for first in 0..addresses.len() {
        let mut config = json!({"name": "net"});
        for layer in addresses[first..].iter().rev() {
            merge(&mut config, layer);
        }
        let pod = read(&config, &[("IP", "10.0.0.5")], &Known::default()).unwrap();
        let expected = format!("10.0.0.{}", first + 1);
        assert_eq!(pod.wishes.addresses[0].to_string(), expected);
    }
    let macs = [
        annotations("hwAddr", "02:00:00:00:00:01"),
        json!({"runtimeConfig": {"mac": "02:00:00:00:00:02"}}),
        json!({"args": {"cni": {"mac": "02:00:00:00:00:03"}}}),
        json!({}),
    ];
    for first in 0..macs.len() {
        let mut config = json!({"name": "net"});
        for layer in macs[first..].iter().rev() {
            merge(&mut config, layer);
        }
        let pod = read(&config, &[("MAC", "02:00:00:00:00:04")], &Known::default()).unwrap();
        let expected = format!("02:00:00:00:00:0{}", first + 1);
        assert_eq!(pod.wishes.mac.unwrap().to_string(), expected);
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

#[test]
fn families_are_a_choice_of_what_the_network_offers() {
    let both = json!({"ipam": {"assign_ipv4": "true", "assign_ipv6": "true"}});
    let read = |text| {
        let wishes = wishes(both.clone(), &[("ipFamilies", text)])?;
        Ok::<_, PodError>((wishes.wants_v4, wishes.wants_v6, wishes.v6_first))
    };
    assert_eq!(read("[\"IPv4\"]"), Ok((true, false, false)));
    assert_eq!(read("[\"IPv6\"]"), Ok((false, true, false)));
    assert_eq!(read("[\"ipv6\", \"ipv4\"]"), Ok((true, true, true)));
    for wrong in ["[]", "[\"IPv5\"]", "[\"IPv4\", \"IPv4\"]", "IPv4"] {
        assert_eq!(read(wrong).unwrap_err().field, annotation("ipFamilies"));
    }
    let error = wishes(json!({}), &[("ipFamilies", "[\"IPv6\"]")]).unwrap_err();
    assert!(error.reason.contains("assign_ipv6"), "{error}");
}

#[test]
fn what_the_configuration_must_allow_is_refused_without() {
    let asked = [("ipAddrsNoIpam", "[\"192.0.2.7\"]")];
    let error = wishes(json!({}), &asked).unwrap_err();
    assert!(error.reason.contains("ip_addrs_no_ipam"), "{error}");
    let allowed = json!({"feature_control": {"ip_addrs_no_ipam": true}});
    let read = wishes(allowed.clone(), &asked).unwrap();
    assert_eq!(read.delegated, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    let both = [asked[0], ("ipAddrs", "[\"10.0.0.1\"]")];
    wishes(allowed, &both).unwrap_err();
}

#[test]
fn other_sources_count_only_where_they_may() {
    let config = json!({"name": "net", "runtimeConfig": {CAPABILITY: {
        annotation("allowedSourcePrefixes"): "[\"192.0.2.0/24\"]"}}});
    for (source_spoofing, expected) in [(false, &[][..]), (true, &["192.0.2.0/24"][..])] {
        let known = Known {
            source_spoofing,
            ..Known::default()
        };
        let wishes = read(&config, &[], &known).unwrap().wishes;
        assert_eq!(wishes.allowed_sources, expected);
    }
}

#[test]
fn settings_of_the_configuration() {
    let config = json!({"mtu": 1400, "policy_setup_timeout_seconds": 3,
        "container_settings": {"allow_ip_forwarding": true},
        "ipam": {"type": "host-local", "enforcePoolSelectors": true}});
    let read = wishes(config, &[]).unwrap();
    assert!(read.ip_forward && read.enforce_pool_selectors && read.foreign_ipam);
    assert_eq!((read.mtu, read.policy_timeout), (Some(1400), Some(3)));
    let read = wishes(json!({"mtu": 0, "policy_setup_timeout_seconds": 0}), &[]).unwrap();
    assert_eq!((read.mtu, read.policy_timeout), (None, None));
    for (number, queues) in [(json!(null), None), (json!(0), None), (json!(4), Some(4))] {
        let read = wishes(json!({"num_queues": number}), &[]).unwrap();
        assert_eq!(read.queues, queues);
    }
    for wrong in [json!(4097), json!(-1), json!("many")] {
        let error = wishes(json!({"num_queues": wrong}), &[]).unwrap_err();
        assert_eq!(error.field, "num_queues");
    }
}

#[test]
fn errors_name_the_field() {
    for (name, text) in [
        ("ipAddrs", "10.0.0.9"),
        ("ipAddrs", "[\"x\"]"),
        ("ipAddrs", "[\"10.0.0.1\", \"10.0.0.2\"]"),
        ("ipv4pools", "rack-a"),
        ("ipv6pools", "{}"),
        ("hwAddr", "02:00"),
        ("hwAddr", "01:00:00:00:00:01"),
        ("hwAddr", "00:00:00:00:00:00"),
        ("allowedSourcePrefixes", "[\"x\"]"),
    ] {
        let error = wishes(json!({}), &[(name, text)]).unwrap_err();
        assert_eq!(error.field, annotation(name), "{text}");
    }
    let two = [("IP", "10.0.0.1,10.0.0.2")];
    let error = read(&json!({}), &two, &Known::default()).unwrap_err();
    assert_eq!(error.field, "CNI_ARGS IP");
    let labels = json!({"args": {"cni": {"labels": [{"key": "a"}]}}});
    let error = read(&labels, &[], &Known::default()).unwrap_err();
    assert_eq!(error.field, "args.cni.labels");
}
