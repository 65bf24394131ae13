//! What is written down: addresses, and an endpoint for each pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ocicat_cni::{Args, AttachmentId, CniError};
use ocicat_dataplane::Attached;
use ocicat_dataplane::state::LinkName;
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, WorkloadEndpoint, names};
use ocicat_datastore::{Store, StoreError};
use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, BlockAffine, Family, HandleId, Ipam, Owner, PoolRef,
};
use tokio::runtime::Runtime;

use super::DirectConfig;
use super::uphold::Live;

/// An attachment, and the pod that it is of.
pub(super) struct Pod {
    pub(super) attachment: AttachmentId,
    /// Namespace and name, under Kubernetes.
    pub(super) name: Option<(String, String)>,
}

impl Pod {
    pub(super) fn of(attachment: &AttachmentId, args: &Args) -> Self {
        let text = |key| {
            args.get(key)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let name = text("K8S_POD_NAMESPACE").zip(text("K8S_POD_NAME"));
        Self {
            attachment: attachment.clone(),
            name,
        }
    }

    fn namespace(&self) -> &str {
        self.name
            .as_ref()
            .map_or("default", |(namespace, _)| namespace)
    }

    fn workload(&self) -> (&str, &str) {
        match &self.name {
            Some((_, name)) => ("k8s", name),
            None => ("cni", self.attachment.container_id.as_str()),
        }
    }
}

/// The records of one network on this host.
pub(super) struct Records {
    node: String,
    network: String,
    store: Store,
    ipam: Ipam,
    runtime: Runtime,
}

fn failed<E: std::error::Error>(what: &str) -> impl Fn(E) -> CniError + '_ {
    move |cause| {
        let error = CniError::io(what, &cause);
        std::iter::successors(cause.source(), |cause| cause.source())
            .fold(error, |error, cause| error.with_details(cause.to_string()))
    }
}

impl Records {
    pub(super) fn open(config: &DirectConfig, node: &str, network: &str) -> Result<Self, CniError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|cause| CniError::io("starting a runtime", cause))?;
        let store =
            ocicat_datastore::open(&config.datastore).map_err(failed("opening the datastore"))?;
        let store = Store::new(store);
        let ipam = Ipam::new(
            Arc::new(StoreIpam::new(store.clone())),
            Box::new(BlockAffine),
        );
        let records = Self {
            node: node.to_owned(),
            network: network.to_owned(),
            store,
            ipam,
            runtime,
        };
        records.ensure_pool(config.pool.as_deref())?;
        Ok(records)
    }

    fn ensure_pool(&self, range: Option<&str>) -> Result<(), CniError> {
        let pools = self.runtime.block_on(self.store.list::<IpPool>());
        let pools = pools.map_err(failed("reading the pools"))?;
        if !pools.items.is_empty() || !pools.malformed.is_empty() {
            return Ok(());
        }
        let range = range.ok_or_else(|| {
            CniError::config(
                "there is no pool: set pool to a range such as 10.244.0.0/16, or apply an IPPool",
            )
        })?;
        let mut pool = IpPool::default();
        "default-ipv4-ippool".clone_into(&mut pool.metadata.name);
        range.clone_into(&mut pool.spec.cidr);
        match self.runtime.block_on(self.store.create(pool)) {
            Ok(_) | Err(StoreError::Exists { .. }) => Ok(()),
            Err(error) => Err(failed("writing the pool")(error)),
        }
    }

    /// Calico's for `eth0`; other interfaces of a container hold addresses of their own.
    fn handle(&self, at: &AttachmentId) -> HandleId {
        let container = format!("{}.{}", self.network, at.container_id);
        match at.ifname.as_str() {
            "eth0" => HandleId::new(&container),
            other => HandleId::new(&format!("{container}.{other}")),
        }
    }

    pub(super) fn assign(&self, pod: &Pod, pools: &[String]) -> Result<Vec<IpAddr>, CniError> {
        let at = &pod.attachment;
        let pools = pools.iter().map(|pool| PoolRef::from(pool.as_str()));
        let mut request = AssignRequest::new(Owner::host(&self.node), self.handle(at))
            .v4(1)
            .pools(Family::V4, pools)
            .namespace(pod.namespace())
            .max_per_handle(1)
            .attribute("network", &self.network)
            .attribute("container", at.container_id.as_str())
            .attribute("interface", at.ifname.as_str());
        if let Some((namespace, name)) = &pod.name {
            request = request
                .attribute("namespace", namespace)
                .attribute("pod", name);
        }
        let assigned = self
            .runtime
            .block_on(self.ipam.assign(&request, SystemTime::now()));
        let assigned = assigned.map_err(failed("assigning an address"))?;
        Ok(assigned
            .addresses
            .iter()
            .map(|assigned| assigned.address)
            .collect())
    }

    /// Writes down the addresses of containers that run, under their own handles, where they are not held.
    pub(super) fn uphold(&self, live: &[Live]) -> Result<(), CniError> {
        if live.is_empty() {
            return Ok(());
        }
        let blocks = self.runtime.block_on(self.ipam.store().all_blocks());
        let blocks = blocks.map_err(failed("reading addresses"))?.records;
        let is_held = |address: IpAddr| {
            let mut held = blocks.iter().flat_map(|block| {
                let held = block.value.held();
                held.filter_map(|(ordinal, _)| block.value.address(ordinal))
            });
            held.any(|other| other == address)
        };
        for one in live.iter().filter(|one| !is_held(one.address)) {
            let at = &one.attachment;
            let request = AssignIp::new(one.address, Owner::host(&self.node), self.handle(at))
                .attribute("network", &self.network)
                .attribute("node", &self.node)
                .attribute("container", at.container_id.as_str())
                .attribute("interface", at.ifname.as_str());
            let upheld = self.ipam.assign_ip(&request, SystemTime::now());
            match self.runtime.block_on(upheld) {
                // Of no pool, so nobody gets it from here; or somebody else has written it down by now.
                Ok(_) | Err(AssignError::OutsidePools(_) | AssignError::Taken { .. }) => {}
                Err(error) => return Err(failed("writing down an address in use")(error)),
            }
        }
        Ok(())
    }

    /// Nothing held is a success.
    pub(super) fn release(&self, at: &AttachmentId) -> Result<(), CniError> {
        let handle = self.handle(at);
        let released = self.ipam.release_handle(&handle, SystemTime::now());
        self.runtime
            .block_on(released)
            .map(drop)
            .map_err(failed("releasing addresses"))
    }

    pub(super) fn held_by(&self, at: &AttachmentId) -> Result<Vec<IpAddr>, CniError> {
        let handle = self.handle(at);
        self.runtime
            .block_on(self.ipam.addresses_of(&handle))
            .map_err(failed("reading addresses"))
    }

    /// The pods of this network that hold addresses on this host.
    pub(super) fn pods(&self) -> Result<Vec<Pod>, CniError> {
        let blocks = self.runtime.block_on(self.ipam.store().all_blocks());
        let blocks = blocks.map_err(failed("reading addresses"))?.records;
        let held = blocks.iter().flat_map(|block| block.value.held());
        Ok(held
            .filter_map(|(_, held)| self.pod_of(&held.attributes))
            .collect())
    }

    fn pod_of(&self, attributes: &BTreeMap<String, String>) -> Option<Pod> {
        let text = |key: &str| attributes.get(key).cloned();
        if text("network")? != self.network || text("node")? != self.node {
            return None;
        }
        let (container, interface) = (text("container")?, text("interface")?);
        let attachment = AttachmentId::new(container.parse().ok()?, interface.parse().ok()?);
        Some(Pod {
            attachment,
            name: text("namespace").zip(text("pod")),
        })
    }

    fn endpoint_name(&self, pod: &Pod) -> String {
        let (orchestrator, workload) = pod.workload();
        let interface = pod.attachment.ifname.as_str();
        names::workload_endpoint_name(&self.node, orchestrator, workload, interface)
    }

    /// Writes the endpoint, replacing that of an earlier container of the pod.
    pub(super) fn remember(
        &self,
        pod: &Pod,
        addresses: &[IpAddr],
        link: &LinkName,
        attached: &Attached,
    ) -> Result<(), CniError> {
        let (orchestrator, workload) = pod.workload();
        let mut endpoint = WorkloadEndpoint::default();
        endpoint.metadata.name = self.endpoint_name(pod);
        endpoint.metadata.namespace = Some(pod.namespace().to_owned());
        let labels = &mut endpoint.metadata.labels;
        labels.insert(
            "projectcalico.org/namespace".to_owned(),
            pod.namespace().to_owned(),
        );
        labels.insert(
            "projectcalico.org/orchestrator".to_owned(),
            orchestrator.to_owned(),
        );
        let spec = &mut endpoint.spec;
        orchestrator.clone_into(&mut spec.orchestrator);
        spec.node.clone_from(&self.node);
        spec.container_id = Some(pod.attachment.container_id.to_string());
        match &pod.name {
            Some((_, name)) => spec.pod = Some(name.clone()),
            None => spec.workload = Some(workload.to_owned()),
        }
        pod.attachment
            .ifname
            .as_str()
            .clone_into(&mut spec.endpoint);
        spec.ip_networks = addresses
            .iter()
            .map(|address| format!("{address}/32"))
            .collect();
        spec.profiles = vec![names::namespace_profile(pod.namespace())];
        spec.interface_name = Some(link.to_string());
        spec.mac = Some(attached.container_mac.to_string());
        let written = self.runtime.block_on(self.store.put(endpoint));
        written.map(drop).map_err(failed("writing the endpoint"))
    }

    /// Deletes the endpoint, if it is this container's: a late removal leaves the newer container's alone.
    pub(super) fn forget(&self, pod: &Pod) -> Result<(), CniError> {
        let failed = failed("deleting the endpoint");
        let name = self.endpoint_name(pod);
        let key = (pod.namespace(), name.as_str());
        self.runtime.block_on(async {
            let found = self
                .store
                .get::<WorkloadEndpoint>(key)
                .await
                .map_err(&failed)?;
            let own = pod.attachment.container_id.as_str();
            let Some(found) = found.filter(|found| found.spec.container_id.as_deref() == Some(own))
            else {
                return Ok(());
            };
            match self
                .store
                .delete::<WorkloadEndpoint>(key, Some(found.revision))
                .await
            {
                // Deleted by somebody else; or written since, and then it is the newer container's.
                Err(StoreError::Missing { .. }) => Ok(()),
                Err(error) if error.is_conflict() => Ok(()),
                outcome => outcome.map(drop).map_err(&failed),
            }
        })
    }
}
