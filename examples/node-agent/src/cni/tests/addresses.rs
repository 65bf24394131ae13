//! Which addresses, and what else the annotations ask for.

use super::*;

/// A pod of `namespace` on a network with this configuration and these annotations.
fn pod(config: Value, annotations: &[(&str, &str)], namespace: &str) -> Request {
    of_pod(
        request_of(annotated(config, annotations), "a", "eth0"),
        namespace,
        "web",
    )
}

#[tokio::test]
async fn a_pods_annotations_are_in_what_it_gets() {
    let bench = bench().await;
    bench.facts.send_modify(|facts| {
        let mut changed = (**facts).clone();
        changed.source_spoofing = true;
        *facts = Arc::new(changed);
    });
    bench.pool("rack-a", "10.1.0.0/24", json!({})).await;
    bench.pool("six", "fd00::/64", json!({})).await;
    let both = json!({"ipam": {"type": "ocicat-ipam", "assign_ipv6": "true"}});
    let annotations = [
        ("ipv4pools", "[\"rack-a\"]"),
        ("ipv6pools", "[\"fd00::/64\"]"),
        ("ipFamilies", "[\"IPv6\", \"IPv4\"]"),
        ("hwAddr", "02:00:00:00:00:42"),
        ("allowedSourcePrefixes", "[\"192.0.2.0/24\"]"),
    ];
    let result = bench
        .add(&pod(network("net", both), &annotations, "shop"))
        .await
        .unwrap();
    assert!(result.ips[0].address.is_ipv6());
    assert!(texts(&result)[1].starts_with("10.1.0."), "{result:?}");
    let mac = result.interfaces[1].mac.as_deref();
    assert_eq!(mac, Some("02:00:00:00:00:42"));
    let endpoint = &bench.endpoints().await[0];
    let spec = &endpoint.spec;
    assert_eq!(spec.mac.as_deref(), Some("02:00:00:00:00:42"));
    assert_eq!(spec.allow_spoofed_source_prefixes, ["192.0.2.0/24"]);
}

#[tokio::test]
async fn an_address_without_ipam_is_in_no_block() {
    let bench = bench().await;
    let allowed = json!({"feature_control": {"ip_addrs_no_ipam": true}});
    let asked = [("ipAddrsNoIpam", "[\"192.0.2.7\"]")];
    let request = pod(network("net", allowed), &asked, "shop");
    let result = bench.add(&request).await.unwrap();
    assert_eq!(texts(&result), ["192.0.2.7/32"]);
    assert!(bench.held().await.is_empty());
    let mut check = request.clone();
    check.network.prev_result = Some(result);
    bench.server.check(check, namespace()).await.unwrap();
    bench.server.del(request, None).await.unwrap();
    assert!(bench.endpoints().await.is_empty());
}

#[tokio::test]
async fn an_asked_address_goes_over_to_the_pods_next_container() {
    let bench = bench().await;
    let config = annotated(network("net", json!({})), &[("ipAddrs", "[\"10.0.0.9\"]")]);
    let of = |id, name| of_pod(request_of(config.clone(), id, "eth0"), "shop", name);
    bench.add(&of("old", "web")).await.unwrap();
    bench.add(&of("new", "web")).await.unwrap();
    assert_eq!(bench.held().await["net.new"], ["10.0.0.9"]);
    // Another pod does not get it, and nothing of its attempt stays.
    let error = bench.add(&of("other", "api")).await.unwrap_err();
    assert!(error.msg.contains("10.0.0.9"), "{error:?}");
    assert_eq!(bench.held().await.len(), 1);
    assert_eq!((bench.endpoints().await.len(), bench.links()), (1, 1));
}

/// Namespace `shop` is tenant a's; pool `b` is for tenant b's namespaces, pool `rack` for other nodes.
#[tokio::test]
async fn pools_that_select_others_can_be_closed_to_a_pods_author() {
    let bench = bench().await;
    for (namespace, tenant) in [("shop", "a"), ("bank", "b")] {
        let profile: Profile = serde_json::from_value(json!({
            "metadata": {"name": format!("kns.{namespace}")},
            "spec": {"labelsToApply": {"pcns.tenant": tenant}}}))
        .unwrap();
        bench.store.put(profile).await.unwrap();
    }
    let of_b = json!({"namespaceSelector": "tenant == 'b'"});
    bench.pool("b", "10.2.0.0/24", of_b).await;
    let rack = json!({"nodeSelector": "rack == 'x'"});
    bench.pool("rack", "10.3.0.0/24", rack).await;
    let asks = [
        (("ipv4pools", "[\"b\"]"), "namespaceSelector"),
        (("ipv4pools", "[\"10.2.0.0/24\"]"), "namespaceSelector"),
        (("ipAddrs", "[\"10.2.0.7\"]"), "namespaceSelector"),
        (("ipAddrsNoIpam", "[\"10.2.0.7\"]"), "namespaceSelector"),
        (("ipv4pools", "[\"rack\"]"), "nodeSelector"),
        (("ipAddrs", "[\"10.3.0.7\"]"), "nodeSelector"),
    ];
    for enforced in [false, true] {
        let config = network(
            "net",
            json!({"feature_control": {"ip_addrs_no_ipam": true},
                "ipam": {"type": "ocicat-ipam", "enforcePoolSelectors": enforced}}),
        );
        for (annotation, selector) in asks {
            let request = pod(config.clone(), &[annotation], "shop");
            let outcome = bench.add(&request).await;
            if enforced {
                let error = outcome.unwrap_err();
                assert!(error.msg.contains(selector), "{annotation:?}: {error:?}");
                assert!(error.msg.contains("shop/web"), "{error:?}");
            } else {
                outcome.unwrap_or_else(|error| panic!("{annotation:?}: {error:?}"));
            }
            bench.server.del(request, None).await.unwrap();
            assert!(bench.held().await.is_empty(), "{annotation:?}");
        }
        // Whom the pool is for gets it either way.
        let request = pod(config, &[("ipv4pools", "[\"b\"]")], "bank");
        bench.add(&request).await.unwrap();
        bench.server.del(request, None).await.unwrap();
    }
}

#[tokio::test]
async fn labels_and_ports_come_without_kubernetes() {
    let bench = bench().await;
    let args = json!({"args": {"cni": {"labels": [{"key": "app", "value": "web"}],
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}}});
    let request = request_of(network("net", args), "a", "eth0");
    bench.add(&request).await.unwrap();
    let endpoint = &bench.endpoints().await[0];
    assert_eq!(endpoint.metadata.labels["app"], "web");
    assert_eq!(endpoint.spec.ports[0].name.as_deref(), Some("dns"));
    assert_eq!(endpoint.spec.profiles, ["net"]);
}

#[tokio::test]
async fn a_namespaces_labels_come_without_kubernetes() {
    let bench = bench().await;
    let with =
        |labels: Value| network("net", json!({"args": {"cni": {"namespaceLabels": labels}}}));
    let labels = json!([{"key": "stage", "value": "prod"}]);
    bench
        .add(&request_of(with(labels.clone()), "a", "eth0"))
        .await
        .unwrap();
    let endpoint = &bench.endpoints().await[0];
    assert_eq!(endpoint.metadata.labels["pcns.stage"], "prod");
    assert_eq!(
        endpoint.metadata.labels["pcns.projectcalico.org/name"],
        "default"
    );
    // A pod of Kubernetes has them from its namespace; and its own cannot pass for them.
    let of_kubernetes = of_pod(request_of(with(labels), "b", "eth0"), "shop", "web");
    let own = json!({"args": {"cni": {"labels": [{"key": "pcns.stage", "value": "prod"}]}}});
    let own = request_of(network("net", own), "c", "eth0");
    let wrong = request_of(with(json!({"stage": "prod"})), "d", "eth0");
    for (request, says) in [
        (of_kubernetes, "Profile kns.shop"),
        (own, "say stage in args.cni.namespaceLabels"),
        (wrong, "args.cni.namespaceLabels: expected a list"),
    ] {
        let error = bench.add(&request).await.unwrap_err();
        assert_eq!(error.code, CniError::INVALID_CONFIG, "{error:?}");
        assert!(error.msg.contains(says), "{error:?}");
    }
    assert_eq!(
        (bench.endpoints().await.len(), bench.held().await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn an_ipam_plugin_that_gave_nothing_is_named() {
    let bench = bench().await;
    let config = network("net", json!({"ipam": {"type": "host-local"}}));
    let request = request_of(config, "a", "eth0");
    let error = bench.add(&request).await.unwrap_err();
    assert!(error.msg.contains("ipam.type"), "{error:?}");
    let result = AddResult::new().ip(IpConfig::new("10.9.0.2/24".parse().unwrap()));
    let result = bench.add(&request.ipam_result(result)).await.unwrap();
    assert_eq!(texts(&result), ["10.9.0.2/32"]);
    assert!(bench.held().await.is_empty());
}
