//! What a network's garbage is, and what is not.

use std::collections::BTreeSet;

use super::*;

async fn collect(bench: &Bench, network: &str, keep: &[(&str, &str)]) {
    let mut request = NetworkRequest::new(request_of(named(network), "x", "eth0").network);
    request.keep = keep
        .iter()
        .map(|(id, ifname)| request_of(named(network), id, ifname).attachment)
        .collect();
    bench.server.gc(request).await.unwrap();
}

fn named(name: &str) -> Value {
    network(name, json!({}))
}

async fn places(bench: &Bench) -> BTreeSet<(String, String)> {
    let endpoints = bench.endpoints().await.into_iter();
    endpoints
        .map(|one| (one.spec.container_id.unwrap(), one.spec.endpoint))
        .collect()
}

#[tokio::test]
async fn only_this_networks_own_places_are_released() {
    let bench = bench().await;
    let web = |id, net, ifname| of_pod(request_of(named(net), id, ifname), "shop", id);
    // Two pods with two interfaces of one network, one of another (multus), one container without Kubernetes.
    for id in ["a", "b"] {
        for (net, ifname) in [("net", "eth0"), ("net", "net1"), ("other", "net2")] {
            bench.add(&web(id, net, ifname)).await.unwrap();
        }
    }
    bench
        .add(&request_of(named("net"), "c", "eth0"))
        .await
        .unwrap();
    collect(&bench, "net", &[("a", "eth0"), ("b", "net1")]).await;
    let left = [("a", "eth0"), ("a", "net2"), ("b", "net1"), ("b", "net2")];
    let left: BTreeSet<_> = left
        .map(|(id, ifname)| (id.to_owned(), ifname.to_owned()))
        .into();
    assert_eq!(places(&bench).await, left);
    let held: Vec<_> = bench.held().await.into_keys().collect();
    assert_eq!(
        held,
        ["net.a", "net.b.net1", "other.a.net2", "other.b.net2"]
    );
    assert_eq!(bench.links(), 4);
    // Networks whose names begin like another's.
    collect(&bench, "ne", &[]).await;
    collect(&bench, "net.a", &[]).await;
    assert_eq!(bench.links(), 4);
    collect(&bench, "other", &[]).await;
    collect(&bench, "net", &[]).await;
    assert!(bench.held().await.is_empty());
    assert_eq!((bench.endpoints().await.len(), bench.links()), (0, 0));
}

/// What an agent leaves that is killed after it took the address, and what an attachment with another plugin's
/// addresses leaves.
#[tokio::test]
async fn leftovers_of_every_kind_are_found() {
    let bench = bench().await;
    let only = json!({"ipam": {"type": "ocicat-ipam", "prefix": "host"}});
    let killed = of_pod(
        request_of(network("net", only), "k", "eth0"),
        "shop",
        "killed",
    );
    bench.lend(&killed).await.unwrap();
    let foreign = network("net", json!({"ipam": {"type": "host-local"}}));
    let foreign = of_pod(request_of(foreign, "h", "eth0"), "shop", "hosted");
    let theirs = AddResult::new().ip(IpConfig::new("10.9.0.2/24".parse().unwrap()));
    bench.add(&foreign.ipam_result(theirs)).await.unwrap();
    collect(&bench, "other", &[]).await;
    assert_eq!((bench.held().await.len(), bench.links()), (1, 1));
    collect(&bench, "net", &[("h", "eth0"), ("k", "eth0")]).await;
    assert_eq!((bench.held().await.len(), bench.links()), (1, 1));
    collect(&bench, "net", &[]).await;
    assert_eq!((bench.held().await.len(), bench.links()), (0, 0));
    assert!(bench.endpoints().await.is_empty());
}

#[tokio::test]
async fn calicos_records_are_read_where_they_say_enough() {
    let bench = bench().await;
    let now = std::time::SystemTime::now();
    let ipam = &bench.server.attachments.ipam;
    for handle in ["net.0123ab", "net.x.0123ab"] {
        let request = ocicat_ipam::AssignRequest::new(ocicat_ipam::Owner::host("n1"), handle).v4(1);
        ipam.assign(&request, now).await.unwrap();
    }
    let elsewhere =
        ocicat_ipam::AssignRequest::new(ocicat_ipam::Owner::host("n2"), "net.4567cd").v4(1);
    ipam.assign(&elsewhere, now).await.unwrap();
    collect(&bench, "net", &[]).await;
    let held: Vec<_> = bench.held().await.into_keys().collect();
    assert_eq!(held, ["net.4567cd", "net.x.0123ab"]);
}

#[tokio::test]
async fn an_answer_that_nobody_took_is_undone_and_counted() {
    let bench = bench().await;
    let request = of_pod(request_of(named("net"), "a", "eth0"), "shop", "web");
    let result = bench.add(&request).await.unwrap();
    bench.server.abandoned(request, result).await.unwrap();
    assert!(bench.held().await.is_empty() && bench.endpoints().await.is_empty());
    let counts = &bench.server.attachments.counts;
    assert_eq!(counts.abandoned.load(Ordering::Relaxed), 1);
}
