//! The typed handle and following, over the store in memory.

use std::sync::Arc;

use ocicat_datastore::model::{GlobalNetworkSet, IpPool, NetworkSetSpec};
use ocicat_datastore::{
    Backend, Call, Event, Fate, Kind, Memory, Metadata, Object, Op, Store, StoreError, follow,
};
use serde_json::json;

fn set(name: &str) -> GlobalNetworkSet {
    GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable {
        reason: "on demand".to_owned(),
    }
}

fn store() -> (Arc<Memory>, Store) {
    let memory = Arc::new(Memory::new());
    (Arc::clone(&memory), Store::new(memory))
}

#[tokio::test]
async fn unknown_fields_survive_a_change() {
    let (memory, store) = store();
    let value = json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkPolicy",
        "metadata": {
            "name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{ "manager": "x" }],
        },
        "spec": {
            "order": 10,
            "future": true,
            "ingress": [
                { "action": "Allow", "source": { "nets": ["10.0.0.0/8"], "future": 1 }, "future": 2 },
                { "action": "Deny", "protocol": "TCP" },
                { "action": "Deny", "source": { "ports": 80 } },
            ],
        },
    });
    let object = Object::from_value(value.clone()).expect("an object");
    memory
        .write(vec![Op::Create(object)])
        .await
        .remove(0)
        .expect("a write");
    let changed = store
        .modify(
            "p",
            |policy: &mut ocicat_datastore::model::GlobalNetworkPolicy| {
                policy.spec.ingress[0]
                    .source
                    .nets
                    .push("192.168.0.0/16".to_owned());
                policy.spec.order = None;
                assert!(policy.spec.ingress[2].malformed.is_some());
            },
        )
        .await
        .expect("a change");
    let mut expected = value;
    expected["spec"]["ingress"][0]["source"]["nets"] = json!(["10.0.0.0/8", "192.168.0.0/16"]);
    expected["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("order");
    assert_eq!(changed.raw().value, expected);
    let same = store
        .modify(
            "p",
            |_: &mut ocicat_datastore::model::GlobalNetworkPolicy| {},
        )
        .await;
    assert_eq!(same.expect("no change").revision, changed.revision);
}

#[tokio::test]
async fn a_malformed_object_hides_no_other() {
    let (memory, store) = store();
    store.create(set("good")).await.expect("a write");
    let bad = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
        "metadata": { "name": "bad" }, "spec": { "nets": "10.0.0.0/8" },
    });
    let bad = Object::from_value(bad).expect("an object");
    memory
        .write(vec![Op::Create(bad)])
        .await
        .remove(0)
        .expect("a write");
    let listed = store.list::<GlobalNetworkSet>().await.expect("a listing");
    assert_eq!(listed.len(), 1);
    let errors: Vec<String> = listed.malformed.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].starts_with("GlobalNetworkSet/bad: spec.nets: "),
        "{errors:?}"
    );
}

#[tokio::test]
async fn nulls_are_absent() {
    let value = json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool",
        "metadata": { "name": "p", "creationTimestamp": null },
        "spec": { "cidr": "10.0.0.0/16", "blockSize": null, "disabled": null },
    });
    let pool: IpPool = Object::from_value(value)
        .expect("an object")
        .decode()
        .expect("a pool");
    assert_eq!((pool.spec.block_size, pool.spec.disabled), (None, false));
}

/// The events up to and with the next `InSync`.
async fn until_in_sync(follow: &mut ocicat_datastore::Follow) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match follow.next().await {
            Event::Put(object) => seen.push(format!("put {}", object.name)),
            Event::Deleted(key, _) => seen.push(format!("deleted {}", key.name)),
            Event::Disconnected { error, .. } => seen.push(format!("disconnected: {error}")),
            Event::InSync { .. } => return seen,
            other => seen.push(format!("{other:?}")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn following_goes_on_after_errors() {
    let (memory, store) = store();
    for name in ["a", "b"] {
        store.create(set(name)).await.expect("a write");
    }
    memory.fail_next(2, unavailable());
    let mut follow = follow(&store, [Kind::GlobalNetworkSet]);
    let error = format!("disconnected: {}", unavailable());
    assert_eq!(
        until_in_sync(&mut follow).await,
        [&*error, &*error, "put a", "put b"]
    );

    // Polled once, so that the watch is open.
    tokio::select! {
        biased;
        event = follow.next() => panic!("{event:?}"),
        () = std::future::ready(()) => {}
    }
    // Cut off while the history goes: only the difference is told.
    memory.disconnect(&unavailable());
    store
        .delete::<GlobalNetworkSet>("a", None)
        .await
        .expect("a deletion");
    store.create(set("c")).await.expect("a write");
    memory.compact(memory.revision());
    let seen = until_in_sync(&mut follow).await;
    assert_eq!(seen[0], error);
    assert!(seen[1].contains("is gone"), "{seen:?}");
    assert_eq!(seen[2..], ["put c", "deleted a"]);

    // Cut off while the history is there: the watch goes on, without a listing.
    tokio::select! {
        biased;
        event = follow.next() => panic!("{event:?}"),
        () = std::future::ready(()) => {}
    }
    memory.disconnect(&unavailable());
    memory.set_hook(|call| match call {
        Call::List(_) => Fate::Fail(unavailable()),
        _ => Fate::Proceed,
    });
    store.create(set("d")).await.expect("a write");
    assert!(matches!(follow.next().await, Event::Disconnected { .. }));
    let event = follow.next().await;
    assert!(matches!(event, Event::Progress { .. }), "{event:?}");
    let event = follow.next().await;
    assert!(
        matches!(&event, Event::Put(object) if object.name == "d"),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_lost_answer_is_a_write_all_the_same() {
    let (memory, store) = store();
    memory.set_hook(|call| match call {
        Call::Write(_) => Fate::LoseAnswer(unavailable()),
        _ => Fate::Proceed,
    });
    let lost = store.create(set("a")).await;
    assert_eq!(lost.map(|set| set.revision), Err(unavailable()));
    memory.clear_hook();
    assert!(matches!(
        store.create(set("a")).await,
        Err(StoreError::Exists { .. })
    ));
}
