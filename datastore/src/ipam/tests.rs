use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, BlockAffine, Family, HandleId, Ipam, PoolRef, Release,
};
use serde_json::json;

use super::*;
use crate::model::{IpPool, IpReservation, IpamConfig as StoredConfig, Metadata, Node, Profile};
use crate::{Backend, Memory as Backing};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_443_480)
}

fn store() -> Store {
    Store::new(Arc::new(Backing::new()))
}

fn ipam(store: &Store) -> (Arc<StoreIpam>, Ipam) {
    let port = Arc::new(StoreIpam::new(store.clone()));
    (Arc::clone(&port), Ipam::new(port, Box::new(BlockAffine)))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn put_pool(store: &Store, name: &str, spec: serde_json::Value) {
    let spec = serde_json::from_value(spec).unwrap();
    let pool = IpPool {
        metadata: Metadata::named(name),
        spec,
        status: None,
    };
    store.put(pool).await.unwrap();
}

async fn cluster() -> Store {
    let store = store();
    for (name, rack) in [("n1", "a"), ("n2", "b")] {
        let mut node = Node {
            metadata: Metadata::named(name),
            ..Node::default()
        };
        node.metadata.labels = labels(&[("rack", rack)]);
        store.put(node).await.unwrap();
    }
    let mut profile = Profile {
        metadata: Metadata::named("kns.shop"),
        ..Profile::default()
    };
    profile.spec.labels_to_apply = labels(&[("pcns.team", "shop"), ("pcsa.team", "none")]);
    store.put(profile).await.unwrap();
    let rack_a = json!({"cidr": "10.1.0.0/24", "nodeSelector": "rack == 'a'"});
    let rack_b = json!({"cidr": "10.2.0.0/24", "nodeSelector": "rack == 'b'", "blockSize": 28});
    let team = json!({"cidr": "10.0.0.0/24", "namespaceSelector": "team == 'shop'"});
    let manual = json!({"cidr": "10.3.0.0/24", "assignmentMode": "Manual"});
    let off = json!({"cidr": "10.4.0.0/24", "disabled": true});
    let tunnel = json!({"cidr": "10.5.0.0/24", "allowedUses": ["Tunnel"]});
    for (name, spec) in [
        ("z-rack-a", rack_a),
        ("z-rack-b", rack_b),
        ("team", team),
        ("manual", manual),
        ("off", off),
        ("tunnel", tunnel),
    ] {
        put_pool(&store, name, spec).await;
    }
    store
}

#[tokio::test]
async fn pools_serve_whom_they_select() {
    let store = cluster().await;
    let (_, ipam) = ipam(&store);
    let plain = |node: &str| AssignRequest::new(node, "h").v4(1);
    let named = |name: &str| plain("n2").pools(Family::V4, [PoolRef::from(name)]);
    for (request, expected) in [
        (plain("n1"), Some("z-rack-a")),
        (plain("n2").namespace("shop"), Some("team")),
        (plain("n2"), Some("z-rack-b")),
        (plain("n2").namespace("other"), Some("z-rack-b")),
        (plain("n3"), None),
        (plain("n3").namespace("shop"), Some("team")),
        (named("manual"), Some("manual")),
        (named("off"), None),
        (named("tunnel"), None),
    ] {
        let got = ipam.assign(&request, now()).await.ok();
        let pool = got.map(|got| got.addresses[0].pool.clone());
        assert_eq!(pool.as_deref(), expected, "{request:?}");
    }
}

#[tokio::test]
async fn what_is_stored_is_calicos_and_goes_away_again() {
    let store = cluster().await;
    let (_, ipam) = ipam(&store);
    let request = AssignRequest::new("n1", "net.abc")
        .v4(2)
        .attribute("pod", "web");
    let got = ipam.assign(&request, now()).await.unwrap();
    let cidr = got.addresses[0].block.to_string();
    let name = names::block_name(&cidr);
    let block = store
        .get::<model::IpamBlock>(name.as_str())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(block.raw().value["metadata"]["name"], name.as_str());
    assert_eq!(block.spec.affinity.as_deref(), Some("host:n1"));
    assert_eq!(
        block.spec.affinity_claim_time.as_deref(),
        Some("2026-11-23T14:18:00Z")
    );
    assert_eq!(
        block.spec.attributes[0].handle_id.as_deref(),
        Some("net.abc")
    );
    assert_eq!(block.spec.attributes[0].secondary["node"], "n1");
    assert_eq!(block.spec.attributes[0].secondary["pod"], "web");
    let claim = names::affinity_name("host", "n1", &cidr);
    let claim = store
        .get::<model::BlockAffinity>(claim)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (claim.spec.state.as_str(), claim.spec.node.as_str()),
        ("confirmed", "n1")
    );
    let handle = store
        .get::<model::IpamHandle>("net.abc")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(handle.spec.block[&cidr], 2);
    ipam.release_handle(&HandleId::new("net.abc"), now())
        .await
        .unwrap();
    assert!(
        store
            .get::<model::IpamHandle>("net.abc")
            .await
            .unwrap()
            .is_none()
    );
    ipam.remove_host(&Owner::host("n1"), now()).await.unwrap();
    assert!(store.list::<model::IpamBlock>().await.unwrap().is_empty());
    assert!(
        store
            .list::<model::BlockAffinity>()
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn unknown_fields_survive_an_assignment() {
    let store = cluster().await;
    let (_, first) = ipam(&store);
    let got = first
        .assign(&AssignRequest::new("n1", "a").v4(1), now())
        .await
        .unwrap();
    let name = names::block_name(&got.addresses[0].block.to_string());
    let key = Key::cluster(Kind::IpamBlock, name);
    let mut object = store.backend().get(&key).await.unwrap().unwrap();
    object.value["spec"]["fromTheFuture"] = json!({"deep": [1, 2]});
    object.value["spec"]["attributes"][0]["alsoNew"] = json!(true);
    store
        .backend()
        .write(vec![Op::Update(object)])
        .await
        .remove(0)
        .unwrap();
    // The first allocator knows an older version: it loses, reads again and keeps the field as well.
    first
        .assign(&AssignRequest::new("n1", "b").v4(1), now())
        .await
        .unwrap();
    let object = store.backend().get(&key).await.unwrap().unwrap();
    assert_eq!(
        object.value["spec"]["fromTheFuture"],
        json!({"deep": [1, 2]})
    );
    assert_eq!(object.value["spec"]["allocations"][1], json!(1));
    assert_eq!(
        object.value["spec"]["attributes"][0]["alsoNew"],
        json!(true)
    );
    let block = convert::block(&object.decode().unwrap()).unwrap();
    let mut plain = model::IpamBlock::default();
    convert::store_block(&block, &mut plain);
    let mut expected = Object::encode(&plain).unwrap().value["spec"].clone();
    expected["fromTheFuture"] = json!({"deep": [1, 2]});
    expected["attributes"][0]["alsoNew"] = json!(true);
    assert_eq!(object.value["spec"], expected, "written as any resource is");
}

#[tokio::test]
async fn reservations_and_settings_hold() {
    let store = cluster().await;
    let mut reservation = IpReservation {
        metadata: Metadata::named("r"),
        ..IpReservation::default()
    };
    reservation.spec.reserved_cidrs = vec!["10.1.0.0/25".into(), "10.1.0.130".into()];
    store.put(reservation).await.unwrap();
    let mut config = StoredConfig {
        metadata: Metadata::named("default"),
        ..StoredConfig::default()
    };
    config.spec.strict_affinity = true;
    config.spec.max_blocks_per_host = Some(1);
    store.put(config).await.unwrap();
    let (port, ipam) = ipam(&store);
    let all = AssignRequest::new("n1", "a").v4(200).partial();
    let got = ipam.assign(&all, now()).await.unwrap();
    assert!(
        got.addresses
            .iter()
            .all(|one| !port_reserved(&one.address.to_string()))
    );
    assert!(matches!(got.addresses.len(), 63 | 64), "one block");
    let chosen = AssignIp::new("10.1.0.130".parse().unwrap(), "n1", "s");
    let error = ipam.assign_ip(&chosen, now()).await.unwrap_err();
    assert!(matches!(error, AssignError::Reserved(_)), "{error}");
    let mut bad = store.get::<IpReservation>("r").await.unwrap().unwrap();
    bad.value.spec.reserved_cidrs = vec!["10.1.0.0/99".into()];
    store.update(bad).await.unwrap();
    assert_eq!(
        port.reservations().await.unwrap().len(),
        2,
        "the last that was understood"
    );
    let problems = port.problems();
    assert!(problems[0].starts_with("IPReservation r: spec.reservedCIDRs: \"10.1.0.0/99\""));
}

fn port_reserved(address: &str) -> bool {
    let range: Prefix = "10.1.0.0/25".parse().unwrap();
    range.contains(address.parse().unwrap()) || address == "10.1.0.130"
}

#[tokio::test]
async fn what_cannot_be_understood_serves_nobody_and_stops_nobody() {
    let store = cluster().await;
    put_pool(
        &store,
        "bad",
        json!({"cidr": "10.9.0.0/24", "nodeSelector": "rack =="}),
    )
    .await;
    let key = Key::cluster(Kind::IpamBlock, "10-1-0-0-26");
    let mut object = Object::encode(&model::IpamBlock {
        metadata: Metadata::named("10-1-0-0-26"),
        ..model::IpamBlock::default()
    })
    .unwrap();
    object.value["spec"] = json!({"cidr": "10.1.0.0/26", "allocations": [null]});
    store
        .backend()
        .write(vec![Op::Create(object)])
        .await
        .remove(0)
        .unwrap();
    let (port, ipam) = ipam(&store);
    let got = ipam
        .assign(&AssignRequest::new("n1", "a").v4(192), now())
        .await
        .unwrap();
    assert!(
        got.addresses
            .iter()
            .all(|one| one.block.to_string() != "10.1.0.0/26")
    );
    assert!(port.problems()[0].starts_with("IPPool bad: spec.nodeSelector:"));
    let listed = port.all_blocks().await.unwrap();
    assert_eq!(listed.unreadable[0].key, key.to_string());
    assert!(
        listed.unreadable[0].reason.contains("1 entries for 64"),
        "{listed:?}"
    );
    let release = Release::new("10.1.0.5".parse().unwrap());
    let released = ipam.release_ips(&[release], now()).await.unwrap();
    assert_eq!(released.failed.len(), 1);
}

#[tokio::test]
async fn a_deletion_that_was_left_half_done_is_completed() {
    let store = cluster().await;
    let (port, ipam) = ipam(&store);
    ipam.assign(&AssignRequest::new("n1", "a").v4(1), now())
        .await
        .unwrap();
    let mut handle = store.get::<model::IpamHandle>("a").await.unwrap().unwrap();
    handle.value.spec.deleted = true;
    store.update(handle).await.unwrap();
    assert!(port.all_handles().await.unwrap().records.is_empty());
    assert!(port.handles(&[HandleId::new("a")]).await.unwrap()[0].is_none());
    assert!(store.get::<model::IpamHandle>("a").await.unwrap().is_none());
}

#[test]
fn the_port_is_shared_between_threads() {
    fn shared<T: Send + Sync + ?Sized>() {}
    shared::<StoreIpam>();
    shared::<Ipam>();
    shared::<dyn Backend>();
}

#[tokio::test]
async fn a_port_that_remembers_reads_nothing_until_it_is_told() {
    let store = cluster().await;
    let port = Arc::new(StoreIpam::new(store.clone()).remembering());
    let ipam = Ipam::new(
        Arc::clone(&port) as Arc<dyn IpamStore>,
        Box::new(BlockAffine),
    );
    let request = |handle: &str| AssignRequest::new("n1", handle).v4(1);
    ipam.assign(&request("a"), now()).await.unwrap();
    store
        .modify::<IpPool>("z-rack-a", |pool| pool.spec.disabled = true)
        .await
        .unwrap();
    let got = ipam.assign(&request("b"), now()).await.unwrap();
    assert_eq!(got.addresses[0].pool, "z-rack-a");
    port.changed(Kind::IpPool);
    let error = ipam.assign(&request("c"), now()).await.unwrap_err();
    assert!(
        matches!(error, AssignError::NoQualifiedPool { .. }),
        "{error}"
    );
    let mut node = store.get::<Node>("n1").await.unwrap().unwrap();
    node.value.metadata.labels = labels(&[("rack", "b")]);
    store.update(node).await.unwrap();
    port.changed(Kind::Node);
    let got = ipam.assign(&request("d"), now()).await.unwrap();
    assert_eq!(got.addresses[0].pool, "z-rack-b");
}
