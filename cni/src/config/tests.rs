use serde_json::json;

use super::*;

#[test]
fn known_and_unknown_keys() {
    let raw = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "ocicat", "ipMasq": true, "mtu": 1450,
        "ipam": {"type": "host-local", "subnet": "10.0.0.0/24"},
        "dns": {"nameservers": ["1.1.1.1"]},
        "args": {"cni": {"labels": [{"key": "app", "value": "web"}, 5, {"key": "x"}],
            "namespaceLabels": [{"key": "stage", "value": "prod"}]}},
        "runtimeConfig": {
            "ips": ["10.0.0.7/24", "fd00::7"], "mac": "02:00:00:00:00:07",
            "portMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""},
                             {"hostPort": 53, "containerPort": 53}],
            "bandwidth": {"ingressRate": 1000},
            "io.kubernetes.cri.pod-annotations": {"a": "b"},
            "infinibandGUID": "x",
        },
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.7/24"}]},
    });
    let config = NetworkConfig::parse(raw.to_string().as_bytes()).unwrap();
    assert_eq!(config.version, Version::V1_1_0);
    assert_eq!(config.ipam.as_ref().unwrap().as_str(), "host-local");
    assert_eq!(config.labels()["app"], "web");
    assert_eq!(config.labels()["x"], "");
    assert_eq!(config.namespace_labels()["stage"], "prod");
    assert_eq!(
        config.runtime_config.addresses().unwrap()[0].to_string(),
        "10.0.0.7"
    );
    assert_eq!(config.runtime_config.port_mappings[0].container_port, 8080);
    assert_eq!(config.runtime_config.bandwidth.unwrap().ingress_rate, 1000);
    assert_eq!(config.runtime_config.pod_annotations["a"], "b");
    assert_eq!(config.runtime_config.extra["infinibandGUID"], "x");
    assert_eq!(config.prev_result.as_ref().unwrap().ips.len(), 1);
    assert!(config.ip_masq);
    assert_eq!(config.raw, raw);
}

#[test]
fn both_spellings_of_the_attachments_to_keep() {
    let list = json!([{"containerID": "a", "ifname": "eth0"}]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let raw = json!({"cniVersion": "1.1.0", "name": "n", "type": "t", key: list});
        let keep = NetworkConfig::from_value(raw)
            .unwrap()
            .valid_attachments
            .unwrap();
        assert_eq!(keep[0].to_string(), "a/eth0");
    }
}

#[test]
fn every_fault_has_its_number() {
    let base = |key: &str, value: Value| {
        let mut raw = json!({"cniVersion": "1.0.0", "name": "n", "type": "t"});
        raw[key] = value;
        raw.to_string()
    };
    for (json, code) in [
        (String::new(), 6),
        ("{".to_owned(), 6),
        ("[]".to_owned(), 6),
        ("null".to_owned(), 6),
        ("{}x".to_owned(), 6),
        ("{}".to_owned(), 1),
        (base("cniVersion", json!("0.1.0")), 1),
        (base("cniVersion", json!("0.2.0")), 1),
        (base("cniVersion", json!("1.2.0")), 1),
        (base("cniVersion", json!(1)), 6),
        (base("cniVersion", Value::Null), 1),
        (base("name", Value::Null), 7),
        (base("name", json!("-x")), 7),
        (base("name", json!("a/b")), 7),
        (base("type", Value::Null), 7),
        (base("type", json!("../x")), 7),
        (base("ipam", json!({"type": "/bin/sh"})), 7),
        (base("ipam", json!({"type": 1})), 7),
        (base("dns", json!({"nameservers": 1})), 7),
        (base("runtimeConfig", json!({"ips": 1})), 7),
        (base("prevResult", json!({"ips": 1})), 6),
        (base("cni.dev/attachments", json!([{"containerID": ""}])), 7),
    ] {
        let error = NetworkConfig::parse(json.as_bytes()).unwrap_err();
        assert_eq!(error.code, code, "{json}: {error}");
    }
    for fine in [json!({}), json!({"type": ""}), Value::Null] {
        let config = NetworkConfig::parse(base("ipam", fine).as_bytes()).unwrap();
        assert_eq!(config.ipam, None);
    }
}

/// containerd hands over the annotations of a pod that has none as `null`.
#[test]
fn null_is_as_good_as_absent() {
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "t", "ipMasq": null,
        "ipam": null, "dns": null, "prevResult": null, "args": null, "cni.dev/attachments": null,
        "runtimeConfig": {"ips": null, "mac": null, "portMappings": null, "bandwidth": null,
            "io.kubernetes.cri.pod-annotations": null}});
    let config = NetworkConfig::from_value(config).unwrap();
    assert_eq!(config.runtime_config, RuntimeConfig::default());
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "t", "runtimeConfig": {
        "portMappings": [{"HostPort": 1, "ContainerPort": 2, "Protocol": null, "HostIP": null}],
        "bandwidth": {"ingressRate": null, "egressRate": 5}}});
    let config = NetworkConfig::from_value(config).unwrap();
    assert_eq!(config.runtime_config.port_mappings[0].protocol, "");
    assert_eq!(config.runtime_config.bandwidth.unwrap().egress_rate, 5);
}
