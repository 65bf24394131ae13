use std::sync::Arc;

use ocicat_datastore::ApiGroup;
use ocicat_datastore::testing::kubernetes::ApiServer;
use serde_json::json;

use crate::bench::{HEALTH, Running, asked, node, put};

/// Thousands of agents may start at once, after a failure of power, say: what each reads is read once, and as the API
/// server has it in memory. Addresses, those of tunnels too, are taken from what the datastore has then, which is why there is
/// no tunnel here.
#[test]
fn a_start_lists_each_kind_once() {
    node(async || {
        let server = ApiServer::with_calico(&ApiGroup::v3());
        // More than a page of them, if anybody lists page by page.
        for number in 1..=600 {
            let address = format!("192.0.{}.{}/20", 2 + number / 250, 1 + number % 250);
            let annotations = json!({"projectcalico.org/IPv4Address": address});
            let node = json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("node{number}"), "annotations": annotations}});
            let node = if number == 1 {
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
            } else {
                node
            };
            server.apply(node).unwrap();
        }
        let store = ocicat_datastore::Store::new(Arc::new(server.store()));
        put(&store, "IPPool", "main", json!({"cidr": "10.0.0.0/16"})).await;
        put(
            &store,
            "BGPConfiguration",
            "default",
            json!({"nodeToNodeMeshEnabled": false}),
        )
        .await;
        server.reset_requests();
        let folder = tempfile::tempdir().unwrap();
        let agent = Running::start(folder.path(), Arc::new(server.store()));
        asked(HEALTH, "/readiness", |status, _| status == 200).await;
        let lists = server.requests().into_iter();
        let lists: Vec<(String, u64)> = lists
            .filter(|((verb, _), _)| verb == "list")
            .map(|((_, resource), count)| (resource, count))
            .collect();
        assert!(lists.len() >= 20, "{lists:?}");
        let again: Vec<_> = lists.iter().filter(|(_, count)| *count > 1).collect();
        assert!(again.is_empty(), "listed more than once: {again:?}");
        agent.stop().await;
    });
}
