//! Addresses for other plugins.

use super::*;

/// A request as `bridge` and others make it: their own `type`, ours under `ipam`.
fn of_plugin(plugin: &str, ipam: Value, id: &str) -> Request {
    let mut config = network("net", json!({"type": plugin}));
    for (key, value) in ipam.as_object().unwrap() {
        config["ipam"][key] = value.clone();
    }
    request_of(config, id, "eth0")
}

#[tokio::test]
async fn an_address_has_its_blocks_length_and_a_gateway() {
    let bench = bench().await;
    bench.pool("l2", "10.4.0.0/22", json!({})).await;
    let only = json!({"ipv4_pools": ["l2"]});
    let of = |plugin, id: &str| of_plugin(plugin, only.clone(), id);
    let result = bench.lend(&of("ptp", "a")).await.unwrap();
    let ip = &result.ips[0];
    assert_eq!(ip.address.prefix(), 26);
    let gateway = ip.gateway.unwrap();
    assert_eq!(
        Some(gateway),
        ip.address.iter().nth(1),
        "the block's second address"
    );
    // A container that asks again keeps what it has.
    let again = bench.lend(&of("ptp", "a")).await.unwrap();
    assert_eq!(texts(&again), texts(&result));
    // Nobody gets the block's first two addresses or its last.
    for id in 0..60 {
        let request = of("bridge", &format!("c{id}"));
        let ip = bench.lend(&request).await.unwrap().ips[0].clone();
        let (host, range) = (ip.address.ip(), ip.address);
        assert_eq!(ip.gateway, Some(gateway), "{id}: still the first block");
        assert!(host != range.network() && host != range.broadcast() && host != gateway);
    }
    let next = bench.lend(&of("ptp", "last")).await.unwrap();
    assert_ne!(next.ips[0].gateway, Some(gateway), "a second block");
    bench.server.ipam_del(of("ptp", "a")).await.unwrap();
    assert!(!bench.held().await.contains_key("net.a"));
}

#[tokio::test]
async fn the_form_is_the_plugins_or_the_configurations() {
    let bench = bench().await;
    bench.pool("l2", "10.4.0.0/22", json!({})).await;
    for (plugin, more, length, gateway) in [
        ("ptp", json!({"prefix": "block"}), 26, Some("10.4.")),
        ("macvlan", json!({}), 22, None),
        (
            "ipvlan",
            json!({"gateway": "10.4.0.1"}),
            22,
            Some("10.4.0.1"),
        ),
        (
            "bridge",
            json!({"gateway": "10.4.0.1"}),
            22,
            Some("10.4.0.1"),
        ),
        ("bridge", json!({"prefix": "pool"}), 22, None),
        ("calico", json!({"prefix": "host"}), 32, None),
    ] {
        let mut ipam = json!({"ipv4_pools": ["l2"], "routes": [{"dst": "0.0.0.0/0"}]});
        for (key, value) in more.as_object().unwrap() {
            ipam[key] = value.clone();
        }
        let request = of_plugin(plugin, ipam, "a");
        let result = bench.lend(&request).await.unwrap();
        let ip = &result.ips[0];
        assert_eq!(ip.address.prefix(), length, "{plugin} {more}");
        let told = ip.gateway.map(|gateway| gateway.to_string());
        match gateway {
            None => assert_eq!(told, None, "{plugin} {more}"),
            Some(start) => assert!(told.unwrap().starts_with(start), "{plugin} {more}"),
        }
        assert_eq!(result.routes[0].dst.to_string(), "0.0.0.0/0");
        bench.server.ipam_del(request).await.unwrap();
    }
    for (wrong, field) in [
        (json!({"prefix": "subnet"}), "ipam.prefix"),
        (json!({"gateway": "x"}), "ipam.gateway"),
        (
            json!({"prefix": "host", "gateway": "10.4.0.1"}),
            "ipam.gateway",
        ),
        (json!({"routes": 1}), "ipam.routes"),
    ] {
        let error = bench.lend(&of_plugin("ptp", wrong, "a")).await.unwrap_err();
        assert_eq!(error.code, CniError::INVALID_CONFIG);
        assert!(error.msg.contains(field), "{error:?}");
    }
}

#[tokio::test]
async fn a_block_without_a_gateway_is_refused_with_the_remedy() {
    let bench = bench().await;
    // A pod of the agent's own claims the block, without a thought of gateways.
    let pod = request_of(network("net", json!({})), "pod", "eth0");
    bench.add(&pod).await.unwrap();
    let request = of_plugin("ptp", json!({}), "a");
    let error = bench.lend(&request).await.unwrap_err();
    assert!(error.msg.contains("ipam.ipv4_pools"), "{error:?}");
    assert!(!bench.held().await.contains_key("net.a"), "nothing is kept");
    let host = of_plugin("ptp", json!({"prefix": "host"}), "a");
    bench.lend(&host).await.unwrap();
    // An attempt that fails leaves alone what the container has from before.
    bench.lend(&request).await.unwrap_err();
    assert!(bench.held().await.contains_key("net.a"));
}

#[tokio::test]
async fn a_check_knows_what_is_lent() {
    let bench = bench().await;
    let request = of_plugin("ptp", json!({}), "a");
    let result = bench.lend(&request).await.unwrap();
    let mut check = request.clone();
    check.network.prev_result = Some(result);
    bench.server.ipam_check(check.clone()).await.unwrap();
    let mut other = check.clone();
    let foreign = IpConfig::new("10.0.0.200/26".parse().unwrap());
    other.network.prev_result = Some(AddResult::new().ip(foreign));
    let error = bench.server.ipam_check(other).await.unwrap_err();
    assert!(error.msg.contains("10.0.0.200"), "{error:?}");
    bench.server.ipam_del(request).await.unwrap();
    bench.server.ipam_check(check).await.unwrap_err();
}
