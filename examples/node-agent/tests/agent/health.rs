use std::sync::Arc;

use ocicat_datastore::{Call, Fate, Memory, Store, StoreError};
use serde_json::json;

use crate::bench::{HEALTH, METRICS, Running, asked, node, put, run};

/// The value of a metric, by its name and labels.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    let text = line.and_then(|rest| rest.strip_prefix(' '));
    text.unwrap_or_else(|| panic!("{name} in {page}"))
        .parse()
        .unwrap()
}

#[test]
fn an_agent_is_asked_over_http_how_it_is() {
    node(async || {
        let memory = Arc::new(Memory::new());
        let store = Store::new(Arc::clone(&memory) as _);
        put(&store, "IPPool", "more", json!({"cidr": "10.7.0.0/16"})).await;
        let away = StoreError::Unavailable {
            reason: "the datastore sleeps".to_owned(),
        };
        memory.set_hook(move |_: Call<'_>| Fate::Fail(away.clone()));
        let folder = tempfile::tempdir().unwrap();
        let agent = Running::start(folder.path(), Arc::clone(&memory) as _);

        waits_for_its_datastore().await;
        memory.clear_hook();
        let (ready, listed) = is_ready().await;
        follows_what_happens(&store, &ready, listed).await;
        agent.stop().await;
    });
}

const CHAINS: &str = "felix_nft_chains{ip_version=\"inet\",table=\"ocicat\"}";
const RULES: &str = "felix_nft_rules{ip_version=\"inet\",table=\"ocicat\"}";

/// It is alive then, and not ready.
async fn waits_for_its_datastore() {
    asked(HEALTH, "/liveness", |status, body| {
        status == 200 && body == "alive\n"
    })
    .await;
    asked(HEALTH, "/readiness", |status, body| {
        status == 503 && body.contains("the datastore sleeps")
    })
    .await;
    let before = asked(METRICS, "/metrics", |status, _| status == 200).await;
    assert_eq!(value(&before, "ocicat_ready"), 0.0);
    assert_eq!(value(&before, "felix_resync_state"), 1.0);
}

/// The metrics then, and how many chains nft lists.
async fn is_ready() -> (String, f64) {
    asked(HEALTH, "/readiness", |status, body| {
        status == 200 && body.starts_with("ready\n")
    })
    .await;
    let ready = asked(METRICS, "/metrics", |_, page| {
        page.contains("ocicat_ready 1")
    })
    .await;
    for (name, expected) in [
        ("felix_resync_state", 3.0),
        ("felix_cluster_num_hosts", 1.0),
        ("felix_cluster_num_policies", 0.0),
        ("felix_active_local_endpoints", 0.0),
        ("ocicat_datastore_connected", 1.0),
        ("ocicat_ipam_blocks", 0.0),
        ("ocicat_datastore_locked", 0.0),
        ("felix_nft_errors", 0.0),
    ] {
        assert_eq!(value(&ready, name), expected, "{name}");
    }
    let table = run("nft list table inet ocicat") + &run("nft list tables");
    let arp = table.contains("table arp ocicat");
    let arp = if arp {
        run("nft list table arp ocicat")
    } else {
        String::new()
    };
    let listed = table.matches("\tchain ").count() + arp.matches("\tchain ").count();
    assert_eq!(value(&ready, CHAINS), listed as f64, "{table}");
    assert!(value(&ready, RULES) >= value(&ready, CHAINS) / 2.0);

    (ready, listed as f64)
}

async fn follows_what_happens(store: &Store, ready: &str, listed: f64) {
    let peer = json!({"bgp": {"ipv4Address": "192.0.2.2/24"}});
    put(store, "Node", "node2", peer).await;
    let policy = json!({"selector": "all()", "types": ["Ingress"]});
    put(store, "NetworkPolicy", "closed", policy).await;
    let claim =
        json!({"cidr": "10.7.0.0/26", "node": "node1", "state": "confirmed", "type": "host"});
    put(store, "BlockAffinity", "host:node1:10-7-0-0-26", claim).await;
    run("ip link add cali1 type veth peer name pod1");
    run("ip link set cali1 up");
    let pod = json!({"node": "node1", "pod": "a", "orchestrator": "k8s", "endpoint": "eth0",
            "interfaceName": "cali1", "ipNetworks": ["10.7.0.2/32"], "containerID": "c"});
    put(store, "WorkloadEndpoint", "node1-k8s-a-eth0", pod).await;
    let after = asked(METRICS, "/metrics", |_, page| {
        value(page, "felix_active_local_endpoints") == 1.0 && value(page, CHAINS) > listed
    })
    .await;
    for (name, expected) in [
        ("felix_cluster_num_hosts", 2.0),
        ("felix_cluster_num_policies", 1.0),
        ("felix_cluster_num_workload_endpoints", 1.0),
        ("felix_active_local_policies", 1.0),
        ("ocicat_ipam_blocks", 1.0),
        ("ocicat_bgp_routes_announced", 1.0),
        ("ipam_ippool_size{ippool=\"more\"}", 65536.0),
        (
            "ocicat_bgp_peer_established{peer=\"192.0.2.2\",type=\"node-to-node mesh\"}",
            0.0,
        ),
    ] {
        assert_eq!(value(&after, name), expected, "{name}");
    }
    for name in [
        RULES,
        "ocicat_applies_total",
        "felix_calc_graph_updates_processed",
    ] {
        assert!(value(&after, name) > value(ready, name), "{name}");
    }
}
