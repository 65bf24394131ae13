//! What goes wrong in the double, on demand, and what the store makes of it.

use std::sync::Arc;
use std::time::Duration;

use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::testing::kubernetes::{ApiServer, Fault, Trouble};
use ocicat_datastore::{
    ApiGroup, Change, Event, Kind, Metadata, Revision, Scope, Store, StoreError, follow,
};
use serde_json::{Value, json};

use crate::raw;

const SETS: &str = "globalnetworksets.projectcalico.org";

fn server() -> (ApiServer, Store) {
    let server = ApiServer::with_calico(&ApiGroup::v3());
    let store = Store::new(Arc::new(server.store()));
    (server, store)
}

fn set(name: &str) -> GlobalNetworkSet {
    GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    }
}

fn all() -> Scope {
    Scope::all(Kind::GlobalNetworkSet)
}

/// Puts this many sets into the server, past the store.
fn fill(server: &ApiServer, count: usize) {
    for number in 0..count {
        let value = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
            "metadata": { "name": format!("set-{number:04}") }, "spec": {},
        });
        server.apply(value).expect("a set");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages_of_one_moment() {
    let (server, store) = server();
    fill(&server, 1201);
    let listed = store.list::<GlobalNetworkSet>().await.expect("a listing");
    assert_eq!(listed.len(), 1201);
    assert_eq!(listed.revision, Revision(server.revision()));
    assert_eq!(server.count("list", SETS), 3);

    // Between two pages something is written: it is not seen, and the watch from there tells it.
    server.add_fault(Fault::new(Trouble::Late(Duration::from_secs(1))).verb("list"));
    let late = server.clone();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        fill(&late, 1202);
    });
    let listing = store.backend().list(&all()).await.expect("a listing");
    writer.await.expect("the writer");
    assert_eq!(listing.objects.len(), 1201);
    let mut watch = store
        .backend()
        .watch(&all(), listing.revision)
        .await
        .expect("a watch");
    let next = std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await;
    assert!(matches!(next, Some(Ok(Change::Put(object))) if object.name == "set-1201"));
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_too_old_begin_again_as_an_error() {
    let (server, store) = server();
    fill(&server, 600);
    server.add_fault(Fault::new(Trouble::Late(Duration::from_secs(1))).verb("list"));
    let late = server.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        fill(&late, 1);
        late.apply(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet",
            "metadata": { "name": "new" }, "spec": {},
        }))
        .expect("a set");
        late.compact();
    });
    let error = store
        .backend()
        .list(&all())
        .await
        .expect_err("a page of a moment that is gone");
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    // A follower's listing is made again at once.
    assert_eq!(
        store
            .backend()
            .list_since(&all(), Revision::NONE)
            .await
            .expect("a listing")
            .objects
            .len(),
        601
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_patience_gets_it() {
    let (server, store) = server();
    let patience = Trouble::Refused {
        code: 429,
        retry_after: Some(2),
    };
    server.add_fault(Fault::new(patience.clone()).resource(SETS).times(2));
    let before = tokio::time::Instant::now();
    store
        .create(set("a"))
        .await
        .expect("a write after two refusals");
    assert!(before.elapsed() >= Duration::from_secs(4));
    assert_eq!(server.count("create", SETS), 3);
    // But not for ever, and not where it does not ask.
    server.add_fault(Fault::new(patience).resource(SETS));
    assert!(
        store
            .create(set("b"))
            .await
            .expect_err("no end of refusals")
            .is_transient()
    );
    server.clear_faults();
    server.reset_requests();
    let trouble = Trouble::Refused {
        code: 500,
        retry_after: None,
    };
    server.add_fault(Fault::new(trouble).times(1));
    assert!(
        store
            .create(set("b"))
            .await
            .expect_err("500")
            .is_transient()
    );
    assert_eq!(server.count("create", SETS), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_name_verb_and_resource() {
    let (server, store) = server();
    store.create(set("a")).await.expect("a write");
    for code in [401, 403] {
        let trouble = Trouble::Refused {
            code,
            retry_after: None,
        };
        server.add_fault(Fault::new(trouble).verb("list").times(1));
        let error = store.list::<GlobalNetworkSet>().await.expect_err("refused");
        assert!(matches!(error, StoreError::Unauthorised { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("list {SETS}")),
            "{error}"
        );
    }
    let mut bad = set("b");
    bad.metadata.labels.insert("a".to_owned(), "ü".to_owned());
    let error = store.create(bad).await.expect_err("invalid");
    assert!(
        matches!(&error, StoreError::Invalid { field, .. } if field == "metadata.labels"),
        "{error}"
    );
    let empty = ApiServer::new();
    let error = Store::new(Arc::new(empty.store()))
        .list::<GlobalNetworkSet>()
        .await;
    let error = error.expect_err("no definitions");
    assert!(
        matches!(error, StoreError::NoSuchKind { .. }) && error.to_string().contains("deploy/crds"),
        "{error}"
    );
}

type Act = fn(&ApiServer);

#[tokio::test(start_paused = true)]
async fn following_goes_on_after_every_trouble() {
    let (server, store) = server();
    let mut events = follow(&store, [Kind::GlobalNetworkSet]);
    assert!(matches!(events.next().await, Event::InSync { .. }));
    let cases: [(&str, Act); 4] = [
        ("ended", |server| server.end_watches()),
        ("cut", |server| server.cut_watches()),
        ("compacted", |server| {
            server.cut_watches();
            fill(server, 3);
            server.compact();
        }),
        ("refused", |server| {
            let trouble = Trouble::Refused {
                code: 503,
                retry_after: None,
            };
            server.add_fault(Fault::new(trouble).verb("watch").times(7));
            server.cut_watches();
        }),
    ];
    for (name, trouble) in cases {
        trouble(&server);
        store.create(set(name)).await.expect("a write");
        loop {
            match events.next().await {
                Event::Put(object) if object.name == name => break,
                Event::Disconnected { .. } => assert_ne!(name, "ended"),
                _ => {}
            }
        }
    }
    // Past the waits of the last trouble.
    let quiet = tokio::time::timeout(Duration::from_secs(50), async {
        loop {
            events.next().await;
        }
    });
    assert!(quiet.await.is_err());
    assert_eq!(server.watches(), 1);
    drop(events);
    assert_eq!(server.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_keep_a_quiet_watch_young() {
    let (server, store) = server();
    server.set_bookmarks(Duration::from_secs(10));
    let mut events = follow(&store, [Kind::GlobalNetworkSet]);
    assert!(matches!(events.next().await, Event::InSync { .. }));
    // Something else happens, for long.
    let value = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "busy" } });
    server.apply(value).expect("a namespace");
    let event = events.next().await;
    let now = Revision(server.revision());
    assert!(
        matches!(event, Event::Progress { revision, .. } if revision == now),
        "{event:?}"
    );
    server.compact();
    server.end_watches();
    store.create(set("a")).await.expect("a write");
    // No new listing was needed.
    loop {
        match events.next().await {
            Event::Put(object) if object.name == "a" => break,
            Event::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.count("list", SETS), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_was_a_write() {
    let (server, store) = server();
    server.add_fault(Fault::new(Trouble::AnswerLost).verb("create").times(1));
    assert!(
        store
            .create(set("a"))
            .await
            .expect_err("a lost answer")
            .is_transient()
    );
    let again = store.create(set("a")).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn served_on_a_port_it_is_a_cluster() {
    let (server, _) = server();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(listener).await });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config");
    std::fs::write(&path, ApiServer::kubeconfig(address)).expect("a kubeconfig");
    let backend =
        ocicat_datastore::open(&format!("kubernetes:{}", path.display())).expect("a store");
    let about = backend.describe().await.expect("a description");
    assert!(about.contains("projectcalico.org/v3"), "{about}");
    let store = Store::new(backend);
    store.create(set("a")).await.expect("a write");
    assert_eq!(
        server
            .object("/apis/projectcalico.org/v3/globalnetworksets/a")
            .map(|object| object["kind"].clone()),
        Some("GlobalNetworkSet".into())
    );
    let mut events = follow(&store, [Kind::GlobalNetworkSet]);
    assert!(matches!(events.next().await, Event::Put(_)));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_group_is_found_out() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let server = ApiServer::with_calico(&group);
        assert_eq!(server.store().group().await, Ok(group));
    }
    // Both are defined: the one that has objects, else the newer.
    let both = ApiServer::with_calico(&ApiGroup::v1());
    for definition in ocicat_datastore::crds::definitions(&ApiGroup::v3()) {
        both.apply(definition).expect("a definition");
    }
    assert_eq!(both.store().group().await, Ok(ApiGroup::v3()));
    let pool = |version: &str| json!({ "apiVersion": version, "kind": "IPPool", "metadata": { "name": "p" }, "spec": { "cidr": "10.0.0.0/8" } });
    both.apply(pool("crd.projectcalico.org/v1"))
        .expect("a pool");
    assert_eq!(both.store().group().await, Ok(ApiGroup::v1()));
    both.apply(pool("projectcalico.org/v3")).expect("a pool");
    let error = both.store().group().await.expect_err("both are written");
    assert!(
        error
            .to_string()
            .contains("both crd.projectcalico.org/v1 and projectcalico.org/v3"),
        "{error}"
    );
    let named = both.store_in(Some(ApiGroup::v3()));
    assert_eq!(named.group().await, Ok(ApiGroup::v3()));
}

/// A definition made by hand is one, and an unknown one is not there.
#[tokio::test(start_paused = true)]
async fn definitions_define() {
    let server = ApiServer::new();
    let client = raw::of_double(&server);
    let cats = "/apis/cats.example/v1/cats";
    assert_eq!(raw::send(&client, "GET", cats, &Value::Null).await.0, 404);
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "cats.cats.example" },
        "spec": {
            "group": "cats.example", "scope": "Cluster", "names": { "plural": "cats", "kind": "Cat" },
            "versions": [{ "name": "v1", "schema": { "openAPIV3Schema": {
                "type": "object", "properties": { "legs": { "type": "integer", "maximum": 4 } },
            }}}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(
        raw::send(&client, "POST", definitions, &definition).await.0,
        201
    );
    let cat = |legs: u32| json!({ "apiVersion": "cats.example/v1", "kind": "Cat", "metadata": { "name": "tom" }, "legs": legs });
    assert_eq!(raw::send(&client, "POST", cats, &cat(5)).await.0, 422);
    assert_eq!(raw::send(&client, "POST", cats, &cat(4)).await.0, 201);
    let path = format!("{definitions}/cats.cats.example");
    assert_eq!(
        raw::send(&client, "DELETE", &path, &Value::Null).await.0,
        200
    );
    assert_eq!(raw::send(&client, "GET", cats, &Value::Null).await.0, 404);
}
