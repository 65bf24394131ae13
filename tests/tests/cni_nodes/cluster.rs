//! What is in the datastore: pools, pods, policies; and what IPAM thinks of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ocicat_datastore::model::{self, WorkloadEndpoint};
use ocicat_datastore::{Resource, Store, ipam::StoreIpam};
use ocicat_ipam::{BlockAffine, Census, InUse, Ipam};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A datastore in a file, and the calls on it without `async`.
pub(crate) struct Cluster {
    pub(crate) url: String,
    store: Store,
    runtime: Runtime,
}

impl Cluster {
    /// A datastore in this folder with pool 10.244.0.0/16, whose pods may reach all and be reached by all.
    pub(crate) fn new(folder: &Path) -> Self {
        let url = format!("sqlite:{}", folder.join("ocicat.db").display());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let store = Store::new(ocicat_datastore::open(&url).unwrap());
        drop(entered);
        let cluster = Self {
            url,
            store,
            runtime,
        };
        cluster.put::<model::IpPool>(json!({"metadata": {"name": "pods"},
            "spec": {"cidr": "10.244.0.0/16", "natOutgoing": true}}));
        for profile in ["kns.shop", "kns.default", "k8s-pod-network"] {
            cluster.put::<model::Profile>(json!({"metadata": {"name": profile},
                "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]}}));
        }
        cluster
    }

    /// Writes an object.
    pub(crate) fn put<R: Resource + serde::de::DeserializeOwned>(&self, value: Value) {
        let resource: R = serde_json::from_value(value).unwrap();
        let written = self.runtime.block_on(self.store.put(resource));
        written.unwrap();
    }

    /// A pod of Kubernetes, for its labels and annotations.
    pub(crate) fn pod(&self, name: &str, labels: Value, annotations: Value) {
        self.put::<model::Pod>(json!({"metadata": {"name": name, "namespace": "shop",
            "labels": labels, "annotations": annotations}}));
    }

    /// Every endpoint.
    pub(crate) fn endpoints(&self) -> Vec<WorkloadEndpoint> {
        let listed = self.runtime.block_on(self.store.list::<WorkloadEndpoint>());
        let items = listed.unwrap().items.into_iter();
        items.map(|one| one.value).collect()
    }

    fn ipam(&self) -> Ipam {
        let port = StoreIpam::new(self.store.clone());
        Ipam::new(Arc::new(port), Box::new(BlockAffine))
    }

    /// What is held, by handle; the tunnels' addresses left out.
    pub(crate) fn held(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let ipam = self.ipam();
        let blocks = self.runtime.block_on(ipam.store().all_blocks()).unwrap();
        let mut held: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for block in &blocks.records {
            for (ordinal, allocation) in block.value.held() {
                let handle = allocation.handle.as_ref().unwrap().to_string();
                let address = block.value.address(ordinal).unwrap();
                held.entry(handle).or_default().push(address);
            }
        }
        held
    }

    /// What `ipam check` finds wrong, given the endpoints that there are.
    pub(crate) fn ipam_findings(&self) -> Vec<String> {
        let endpoints = self.endpoints();
        let in_use = endpoints.iter().flat_map(|one| {
            let texts = one.spec.ip_networks.iter();
            let name = &one.metadata.name;
            texts.map(move |text| {
                let address = text.split('/').next().unwrap().parse().unwrap();
                InUse::new(address, format!("WorkloadEndpoint {name}"))
            })
        });
        let nodes = self.runtime.block_on(self.store.list::<model::Node>());
        let nodes = nodes.unwrap().items.into_iter();
        let nodes = nodes.map(|node| node.value.metadata.name);
        let census = Census::new(in_use.collect(), nodes);
        let report = self.runtime.block_on(self.ipam().check(&census)).unwrap();
        report
            .findings
            .iter()
            .map(|one| format!("{one:?}"))
            .collect()
    }

    /// What remains when every pod is gone: nothing held, no endpoint, nothing to find.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.held(), BTreeMap::new());
        let endpoints = self.endpoints();
        assert!(endpoints.is_empty(), "{endpoints:?}");
        assert_eq!(self.ipam_findings(), Vec::<String>::new());
    }
}
