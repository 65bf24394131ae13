//! What the datastore should know of this node's pods and may have forgotten: it can have been replaced by an older copy
//! of itself while the agent was away. What the node's own snapshot says of pods whose links are still there wins.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ocicat_dataplane::Prefix;
use ocicat_dataplane::interfaces::Interface;
use ocicat_datastore::model::{AllocationAttribute, IpamBlock, Kind, KubeNode, WorkloadEndpoint};
use ocicat_datastore::{Object, Op, Revision, Store, StoreError};
use ocicat_ipam::{Attached, Ipam, Owner};

use crate::snapshot::Snapshot;

/// Pods of the last run that are still there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remains {
    attached: Vec<Attached>,
    endpoints: Vec<(Object, WorkloadEndpoint)>,
}

impl Remains {
    /// The endpoints of a snapshot whose links the kernel has, for the same containers.
    pub(crate) fn of(snapshot: &Snapshot, interfaces: &[Interface]) -> Self {
        let mut remains = Self::default();
        let mut blocks: BTreeMap<Prefix, IpamBlock> = BTreeMap::new();
        for object in snapshot.objects() {
            match object.kind {
                Kind::IpamBlock => {
                    if let Ok(block) = object.decode::<IpamBlock>()
                        && let Ok(range) = block.spec.cidr.parse()
                    {
                        blocks.insert(range, block);
                    }
                }
                Kind::WorkloadEndpoint => {
                    if let Ok(endpoint) = object.decode::<WorkloadEndpoint>()
                        && is_there(&endpoint, interfaces)
                    {
                        remains.endpoints.push((object, endpoint));
                    }
                }
                _ => {}
            }
        }
        for (_, endpoint) in &remains.endpoints {
            for address in addresses(endpoint) {
                let Some(attribute) = holder(&blocks, address) else {
                    continue;
                };
                let Some(handle) = &attribute.handle_id else {
                    continue;
                };
                let attached = Attached::new(address, Owner::host(&snapshot.node), handle.as_str());
                let attached = attribute
                    .secondary
                    .iter()
                    .fold(attached, |attached, (name, value)| {
                        attached.attribute(name, value)
                    });
                remains.attached.push(attached);
            }
        }
        remains
    }

    /// Makes the datastore agree; with `unsettled`, ends claims of blocks that were left half done. The revision is that
    /// of the last endpoint that had to be written.
    ///
    /// # Errors
    /// When the datastore fails, or an address could not be seen to: the call is to be repeated, and no pod added.
    pub(crate) async fn restore(
        &self,
        store: &Store,
        ipam: &Ipam,
        node: &str,
        unsettled: bool,
    ) -> Result<Revision, StoreError> {
        let now = SystemTime::now();
        if unsettled {
            ipam.settle_host(&Owner::host(node), now)
                .await
                .map_err(unavailable)?;
        }
        if self.attached.is_empty() {
            return self.restore_endpoints(store, node).await;
        }
        let upheld = ipam
            .uphold(&self.attached, now)
            .await
            .map_err(unavailable)?;
        if !(upheld.taken.is_empty() && upheld.ousted.is_empty() && upheld.contested.is_empty()) {
            tracing::warn!(
                taken = ?upheld.taken, ousted = ?upheld.ousted, contested = ?upheld.contested, outside = ?upheld.outside,
                "the datastore had forgotten addresses of pods that are there; they are held again"
            );
        }
        if let Some((address, error)) = upheld.failed.first() {
            return Err(unavailable(format!("{address}: {error}")));
        }
        self.restore_endpoints(store, node).await
    }

    /// In Kubernetes an endpoint is a pod, which nobody else can bring back.
    async fn restore_endpoints(&self, store: &Store, node: &str) -> Result<Revision, StoreError> {
        let mut last = Revision::NONE;
        if self.endpoints.is_empty() || is_kubernetes(store, node).await? {
            return Ok(last);
        }
        for (object, endpoint) in &self.endpoints {
            let name = (
                object.namespace.clone().unwrap_or_default(),
                object.name.clone(),
            );
            let found = store.get::<WorkloadEndpoint>(name).await?;
            let same = |found: &WorkloadEndpoint| {
                found.spec.container_id == endpoint.spec.container_id
                    && found.spec.node == endpoint.spec.node
            };
            if found.is_some_and(|found| same(&found.value)) {
                continue;
            }
            tracing::warn!(endpoint = %object.key(), "the datastore had forgotten a pod that is there");
            let written = store
                .backend()
                .write(vec![Op::Put(object.clone())])
                .await
                .pop();
            last = last.max(
                written
                    .transpose()?
                    .map_or(Revision::NONE, |written| written.revision),
            );
        }
        Ok(last)
    }
}

async fn is_kubernetes(store: &Store, node: &str) -> Result<bool, StoreError> {
    match store.get::<KubeNode>(node).await {
        Err(StoreError::NoSuchKind { .. }) => Ok(false),
        found => Ok(found?.is_some()),
    }
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable {
        reason: error.to_string(),
    }
}

/// A link of another container with the same name is somebody else's.
fn is_there(endpoint: &WorkloadEndpoint, interfaces: &[Interface]) -> bool {
    let spec = &endpoint.spec;
    let (Some(link), Some(container)) = (&spec.interface_name, &spec.container_id) else {
        return false;
    };
    let alias = ocicat_dataplane::names::alias(container, &spec.endpoint);
    interfaces
        .iter()
        .any(|one| one.name.as_str() == link && one.alias.as_deref() == Some(alias.as_str()))
}

fn addresses(endpoint: &WorkloadEndpoint) -> impl Iterator<Item = IpAddr> + '_ {
    let texts = endpoint.spec.ip_networks.iter();
    texts.filter_map(|text| text.split('/').next()?.parse().ok())
}

fn holder(blocks: &BTreeMap<Prefix, IpamBlock>, address: IpAddr) -> Option<&AllocationAttribute> {
    let (range, block) = blocks.iter().find(|(range, _)| range.contains(address))?;
    let ordinal = match (range.address(), address) {
        (IpAddr::V4(first), IpAddr::V4(own)) => u128::from(u32::from(own) - u32::from(first)),
        (IpAddr::V6(first), IpAddr::V6(own)) => u128::from(own) - u128::from(first),
        _ => return None,
    };
    let index = (*block.spec.allocations.get(usize::try_from(ordinal).ok()?)?)?;
    let attribute = block.spec.attributes.get(usize::try_from(index).ok()?)?;
    attribute.released_at.is_none().then_some(attribute)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ocicat_datastore::Memory;
    use ocicat_datastore::ipam::StoreIpam;
    use ocicat_datastore::model::IpPool;
    use ocicat_ipam::{AssignRequest, BlockAffine};
    use serde_json::json;

    use super::*;

    fn object(kind: &str, name: &str, spec: serde_json::Value) -> Object {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        Object::from_value(value).unwrap()
    }

    async fn cluster() -> (Store, Ipam) {
        let store = Store::new(Arc::new(Memory::new()));
        let mut pool = IpPool::default();
        "p".clone_into(&mut pool.metadata.name);
        "10.0.0.0/24".clone_into(&mut pool.spec.cidr);
        store.create(pool).await.unwrap();
        let ipam = Ipam::new(
            Arc::new(StoreIpam::new(store.clone())),
            Box::new(BlockAffine),
        );
        (store, ipam)
    }

    fn endpoint(container: &str, address: IpAddr) -> Object {
        object(
            "WorkloadEndpoint",
            "node1-cni-web-eth0",
            json!({"node": "node1", "containerID": container,
            "endpoint": "eth0", "interfaceName": "cali1", "ipNetworks": [format!("{address}/32")],
            "orchestrator": "cni", "workload": "web"}),
        )
    }

    /// What a run that had one pod left on disk.
    async fn left() -> (Snapshot, IpAddr) {
        let (store, ipam) = cluster().await;
        let request = AssignRequest::new(Owner::host("node1"), "net.abc")
            .v4(1)
            .attribute("network", "net");
        let address = ipam
            .assign(&request, SystemTime::now())
            .await
            .unwrap()
            .addresses[0]
            .address;
        let block = store.list::<IpamBlock>().await.unwrap();
        let mut snapshot = Snapshot {
            node: "node1".to_owned(),
            ..Snapshot::default()
        };
        for object in [block[0].raw().clone(), endpoint("abc", address)] {
            let text = object.value.to_string().into();
            snapshot
                .objects
                .insert(object.key(), (object.revision, text));
        }
        (snapshot, address)
    }

    fn links(alias: &str) -> Vec<Interface> {
        let mut link = Interface::new(7, "cali1".parse().unwrap());
        link.alias = Some(alias.to_owned());
        vec![link]
    }

    #[tokio::test]
    async fn a_store_that_forgot_a_pod_is_told_of_it() {
        let (snapshot, address) = left().await;
        let remains = Remains::of(&snapshot, &links("abc/eth0"));
        assert_eq!(remains.attached.len(), 1);
        let (store, ipam) = cluster().await;
        // Somebody else's pod has the address, says the older copy.
        let other = ocicat_ipam::AssignIp::new(address, Owner::host("node2"), "net.other");
        ipam.assign_ip(&other, SystemTime::now()).await.unwrap();
        let revision = remains.restore(&store, &ipam, "node1", true).await.unwrap();
        assert!(revision > Revision::NONE);
        assert_eq!(
            ipam.addresses_of(&"net.abc".into()).await.unwrap(),
            [address]
        );
        assert_eq!(
            ipam.addresses_of(&"net.other".into()).await.unwrap(),
            Vec::<IpAddr>::new()
        );
        let found = store.list::<WorkloadEndpoint>().await.unwrap();
        assert_eq!(found[0].spec.container_id.as_deref(), Some("abc"));
        // Once more: nothing to do.
        let again = remains.restore(&store, &ipam, "node1", true).await.unwrap();
        assert_eq!(again, Revision::NONE);
    }

    #[tokio::test]
    async fn what_is_not_in_the_kernel_is_not_brought_back() {
        let (snapshot, _) = left().await;
        for interfaces in [Vec::new(), links("another/eth0")] {
            let remains = Remains::of(&snapshot, &interfaces);
            assert!(remains.attached.is_empty() && remains.endpoints.is_empty());
        }
    }

    #[tokio::test]
    async fn in_kubernetes_pods_are_not_brought_back() {
        let (snapshot, address) = left().await;
        let (store, ipam) = cluster().await;
        let mut node = KubeNode::default();
        "node1".clone_into(&mut node.metadata.name);
        store.create(node).await.unwrap();
        let remains = Remains::of(&snapshot, &links("abc/eth0"));
        remains.restore(&store, &ipam, "node1", true).await.unwrap();
        assert_eq!(
            ipam.addresses_of(&"net.abc".into()).await.unwrap(),
            [address]
        );
        assert!(store.list::<WorkloadEndpoint>().await.unwrap().is_empty());
    }
}
