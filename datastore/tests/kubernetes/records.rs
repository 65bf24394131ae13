//! The records of address management, as custom resources.

use std::sync::Arc;

use ocicat_datastore::model::{BlockAffinity, IpamHandle, names};
use ocicat_datastore::testing::kubernetes::{ApiServer, Fault, Trouble};
use ocicat_datastore::{
    ApiGroup, Backend, Change, Key, Kind, Metadata, Object, Op, Revision, Scope, StoreError, Watch,
};
use serde_json::{Value, json};

use crate::store::{next, server};

fn affinity(node: &str, cidr: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BlockAffinity", "metadata": {},
        "spec": { "state": "confirmed", "node": node, "type": "host", "cidr": cidr },
    }))
    .expect("an affinity")
}

/// One affinity, which is made and deleted.
struct Life {
    server: ApiServer,
    backend: Arc<dyn Backend>,
    object: Object,
    path: String,
    text: bool,
}

impl Life {
    fn new(group: &ApiGroup) -> Self {
        let (server, store) = server(group);
        Self {
            server,
            backend: Arc::clone(store.backend()),
            object: affinity("node-1", "10.0.0.0/26"),
            path: format!("/apis/{group}/blockaffinities/node-1-10-0-0-0-26"),
            text: group.is_annotated(),
        }
    }

    async fn create(&self) -> Revision {
        let made = self.backend.write(vec![Op::Create(self.object.clone())]);
        made.await.remove(0).expect("a write").revision
    }

    async fn delete(&self, revision: Option<Revision>) -> Result<Revision, StoreError> {
        let key = self.object.key();
        let gone = self.backend.write(vec![Op::Delete { key, revision }]);
        gone.await.remove(0).map(|gone| gone.revision)
    }

    async fn watch(&self, since: Revision) -> Watch {
        let scope = Scope::all(Kind::BlockAffinity);
        let watch = self.backend.watch(&scope, since).await;
        watch.expect("a watch")
    }

    async fn is_found(&self) -> bool {
        let scope = Scope::all(Kind::BlockAffinity);
        let listed = self.backend.list(&scope).await.expect("a listing");
        let found = self.backend.get(&self.object.key()).await;
        let found = found.expect("an answer").is_some();
        assert_eq!(found, !listed.objects.is_empty());
        found
    }

    /// Whether the custom resource is marked; none when it is not there.
    fn marked(&self) -> Option<bool> {
        let stored = self.server.object(&self.path)?;
        let flag = &stored["spec"]["deleted"];
        let marked = |flag: &Value| flag == true || flag == "true";
        assert_eq!(flag.is_string(), self.text);
        Some(marked(flag))
    }

    /// Removals fail, these times.
    fn trouble(&self, times: u32) {
        let trouble = Trouble::Refused {
            code: 500,
            retry_after: None,
        };
        let fault = Fault::new(trouble).verb("delete").times(times);
        self.server.add_fault(fault);
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_in_two_steps() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let life = Life::new(&group);
        let made = life.create().await;
        assert_eq!(life.marked(), Some(false));
        let mut watch = life.watch(made).await;
        // The second step fails: it counts as gone all the same.
        life.trouble(3);
        let gone = life.delete(Some(made)).await.expect("a deletion");
        assert_eq!(life.marked(), Some(true));
        let told = next(&mut watch).await;
        assert!(matches!(told, Change::Deleted { revision, .. } if revision == gone));
        assert!(!life.is_found().await);
        let again = life.delete(None).await;
        assert!(matches!(again, Err(StoreError::Missing { .. })));
        // Whoever meets it finishes it.
        assert_eq!(life.marked(), Some(true));
        assert!(!life.is_found().await);
        assert_eq!(life.marked(), None);
        assert!(matches!(next(&mut watch).await, Change::Bookmark(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_made_over_what_is_left_of_them() {
    for group in [ApiGroup::v1(), ApiGroup::v3()] {
        let life = Life::new(&group);
        let first = life.create().await;
        life.trouble(1);
        life.delete(Some(first)).await.expect("a deletion");
        assert_eq!(life.marked(), Some(true));
        assert!(life.create().await > first);
        assert_eq!(life.marked(), Some(false));
        assert!(life.is_found().await);
    }
}

/// Calico's older affinities have no labels of ours; a node finds them as well.
#[tokio::test(start_paused = true)]
async fn affinities_of_a_node_are_asked_for_by_label() {
    let (server, store) = server(&ApiGroup::v1());
    let backend = store.backend();
    for (node, cidr) in [
        ("n1", "10.0.0.0/26"),
        ("n1", "fd00::40/122"),
        ("n2", "10.0.0.64/26"),
    ] {
        backend
            .write(vec![Op::Create(affinity(node, cidr))])
            .await
            .remove(0)
            .expect("a write");
    }
    server.apply(json!({
        "apiVersion": "crd.projectcalico.org/v1", "kind": "BlockAffinity", "metadata": { "name": "n1-10-0-0-128-26" },
        "spec": { "state": "confirmed", "node": "n1", "cidr": "10.0.0.128/26", "deleted": "false" },
    }))
    .expect("Calico's");
    let scope = Scope::all(Kind::BlockAffinity).with_prefix(names::affinity_prefix("host", "n1"));
    let found = store
        .list_scope::<BlockAffinity>(&scope)
        .await
        .expect("a listing");
    assert_eq!(found.len(), 3);
    let key = Key::cluster(Kind::BlockAffinity, "host:n1:10-0-0-128-26");
    assert!(backend.get(&key).await.expect("an answer").is_some());
    let other = Key::cluster(Kind::BlockAffinity, "virtual:n1:10-0-0-128-26");
    assert!(backend.get(&other).await.expect("an answer").is_none());
}

#[tokio::test(start_paused = true)]
async fn handles_keep_their_case() {
    let (server, store) = server(&ApiGroup::v3());
    let mut handle = IpamHandle {
        metadata: Metadata::named("Net_1.ABC"),
        ..IpamHandle::default()
    };
    handle.spec.handle_id = "Net_1.ABC".to_owned();
    store.create(handle).await.expect("a write");
    let found = store
        .get::<IpamHandle>("Net_1.ABC")
        .await
        .expect("an answer")
        .expect("a handle");
    assert_eq!(found.spec.handle_id, "Net_1.ABC");
    assert!(
        store
            .get::<IpamHandle>("net_1.abc")
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(server.count("create", "ipamhandles.projectcalico.org"), 1);
}
