//! Which addresses a pod gets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use ocicat_datastore::model::WorkloadEndpoint;
use ocicat_ipam::{AssignIp, AssignRequest, Audience, Family, Owner, Pool, PoolRef, Use};

use super::{AttachmentError, Attachments, addresses_of};
use crate::pod::Pod;

/// The attribute of an address with the name of the CNI network that it was assigned for.
pub(super) const NETWORK: &str = "network";

/// The attribute of an address with the name of the link to its pod: what tells that the pod is gone. An address that
/// was lent to another plugin has none.
pub(crate) const LINK: &str = "link";

impl Attachments {
    /// The addresses of a pod: another plugin's, those that were asked for, or any.
    pub(super) async fn addresses(
        &self,
        pod: &Pod,
        existing: Option<&WorkloadEndpoint>,
    ) -> Result<Vec<IpAddr>, AttachmentError> {
        if !pod.wishes.delegated.is_empty() {
            self.permit_addresses(pod, &pod.wishes.delegated).await?;
            return Ok(pod.wishes.delegated.clone());
        }
        if pod.wishes.foreign_ipam {
            return Err(AttachmentError::NoDelegated);
        }
        self.assign(pod, existing).await
    }

    /// Takes addresses under the pod's handle.
    pub(super) async fn assign(
        &self,
        pod: &Pod,
        existing: Option<&WorkloadEndpoint>,
    ) -> Result<Vec<IpAddr>, AttachmentError> {
        if !pod.wishes.addresses.is_empty() {
            return self.assign_asked(pod, existing).await;
        }
        let request = self.request(pod).await?;
        let assignment = self
            .assigner
            .assign(request)
            .await
            .ok_or(AttachmentError::Ending)??;
        let mut addresses: Vec<IpAddr> =
            assignment.addresses.iter().map(|one| one.address).collect();
        addresses.sort_by_key(|address| address.is_ipv4() == pod.wishes.v6_first);
        Ok(addresses)
    }

    /// What IPAM is asked for when the pod asks for no address in particular.
    pub(super) async fn request(&self, pod: &Pod) -> Result<AssignRequest, AttachmentError> {
        let wishes = &pod.wishes;
        let refs = |names: &[String]| -> Vec<PoolRef> {
            names.iter().map(|name| name.as_str().into()).collect()
        };
        let (v4, v6) = (refs(&wishes.pools_v4), refs(&wishes.pools_v6));
        self.permit_pools(pod, &v4).await?;
        self.permit_pools(pod, &v6).await?;
        let mut request = AssignRequest::new(Owner::host(&self.node), pod.handle().as_str())
            .v4(u32::from(wishes.wants_v4))
            .v6(u32::from(wishes.wants_v6))
            .pools(Family::V4, v4)
            .pools(Family::V6, v6)
            .namespace(&pod.namespace);
        if let Some(workload) = workload(pod) {
            request = request.workload(&workload);
        }
        request.attributes = self.attributes(pod);
        Ok(request)
    }

    async fn assign_asked(
        &self,
        pod: &Pod,
        existing: Option<&WorkloadEndpoint>,
    ) -> Result<Vec<IpAddr>, AttachmentError> {
        let asked = &pod.wishes.addresses;
        self.permit_addresses(pod, asked).await?;
        if let Some(handle) = existing.and_then(|old| outdated(pod, old)) {
            // A new container of the same pod with a fixed address: the old one's hold on it ends here.
            self.release(&handle).await?;
        }
        let held = self.held(pod).await?;
        for address in asked {
            if held.contains(address) {
                continue;
            }
            let mut request =
                AssignIp::new(*address, Owner::host(&self.node), pod.handle().as_str())
                    .intended_use(Use::Workload);
            if let Some(workload) = workload(pod) {
                request = request.workload(&workload);
            }
            request.attributes = self.attributes(pod);
            if let Err(error) = self.ipam.assign_ip(&request, SystemTime::now()).await {
                let error = AttachmentError::from(error);
                return Err(match self.release(&pod.handle()).await {
                    Ok(()) => error,
                    Err(then) => error.and(then),
                });
            }
        }
        Ok(asked.clone())
    }

    fn attributes(&self, pod: &Pod) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::from([
            ("node".to_owned(), self.node.clone()),
            (NETWORK.to_owned(), pod.network.clone()),
        ]);
        if !pod.wishes.lent {
            attributes.insert(LINK.to_owned(), Self::host_link(pod).to_string());
        }
        if pod.is_kubernetes() {
            attributes.insert("pod".to_owned(), pod.name.clone());
            attributes.insert("namespace".to_owned(), pod.namespace.clone());
        }
        attributes
    }

    /// With `enforcePoolSelectors`: every pool that is named has to select the node and the namespace.
    async fn permit_pools(&self, pod: &Pod, named: &[PoolRef]) -> Result<(), AttachmentError> {
        if !pod.wishes.enforce_pool_selectors || named.is_empty() {
            return Ok(());
        }
        let pools = self.pools_for(pod).await?;
        for name in named {
            let pool = pools.iter().find(|pool| match name {
                PoolRef::Name(name) => pool.name == *name,
                PoolRef::Cidr(cidr) => pool.cidr == *cidr,
            });
            // A pool that is not there is the allocator's error.
            pool.map_or(Ok(()), |pool| permit(pod, pool))?;
        }
        Ok(())
    }

    /// Likewise for every address that is asked for, by the pool that it is in.
    async fn permit_addresses(&self, pod: &Pod, asked: &[IpAddr]) -> Result<(), AttachmentError> {
        if !pod.wishes.enforce_pool_selectors || pod.wishes.foreign_ipam {
            return Ok(());
        }
        let pools = self.pools_for(pod).await?;
        for address in asked {
            let pool = pools.iter().find(|pool| pool.cidr.contains(*address));
            pool.map_or(Ok(()), |pool| permit(pod, pool))?;
        }
        Ok(())
    }

    async fn pools_for(&self, pod: &Pod) -> Result<Vec<Pool>, AttachmentError> {
        let audience = Audience::new(Owner::host(&self.node), Some(pod.namespace.clone()));
        Ok(self.ipam.store().pools(&audience).await?)
    }
}

/// By what a pod that comes back is known, for pools that keep its addresses for a while.
fn workload(pod: &Pod) -> Option<String> {
    pod.is_kubernetes()
        .then(|| format!("{}/{}", pod.namespace, pod.name))
}

/// The handle of another container of the same pod that has an address that is asked for.
fn outdated(pod: &Pod, old: &WorkloadEndpoint) -> Option<String> {
    let container = old.spec.container_id.as_deref()?;
    let had = addresses_of(old);
    let asks = pod.wishes.addresses.iter().any(|one| had.contains(one));
    asks.then(|| crate::pod::handle(&pod.network, container, &pod.interface))
}

fn permit(pod: &Pod, pool: &Pool) -> Result<(), AttachmentError> {
    let refuse = |field| AttachmentError::Forbidden {
        pool: pool.name.clone(),
        field,
        namespace: pod.namespace.clone(),
    };
    if !pool.selects_owner {
        return Err(refuse("nodeSelector"));
    }
    if !pool.selects_namespace {
        return Err(refuse("namespaceSelector"));
    }
    Ok(())
}
