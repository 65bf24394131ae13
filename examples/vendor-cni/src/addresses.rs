//! Which address a pod gets, and where that is written down.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnetwork::Ipv4Network;
use ocicat_cni::{AttachmentId, CniError};
use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, IpPoolSpec, Metadata};
use ocicat_datastore::{Store, StoreError};
use ocicat_ipam::{
    Ask, AssignRequest, BlockAffine, Family, HandleId, HostReserved, Ipam, PoolRef, Step, Strategy,
    View,
};
use tokio::runtime::Runtime;

/// A pod that comes back gets the address that it had, unless somebody has it: its name decides where the search starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

impl Strategy for Sticky {
    fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
        let Some(block) = ask.pools.iter().find_map(|pool| view.open_in(pool).next()) else {
            // Claiming a block is the same for everybody.
            return BlockAffine.next(ask, view);
        };
        let pod = ask.request.attributes.get("pod").map_or("", String::as_str);
        let hash = pod
            .bytes()
            .fold(5381_u32, |hash, b| hash.wrapping_mul(33) ^ u32::from(b));
        let start = hash % u32::from(block.size());
        let mut free: Vec<_> = view.usable(&block.cidr()).collect();
        free.sort_by_key(|at| (u32::from(at.value()) < start, *at));
        free.truncate(ask.missing as usize);
        Step::Take {
            block: block.cidr(),
            ordinals: free,
        }
    }
}

/// The addresses of one network on this host.
pub(crate) struct Addresses {
    network: String,
    ipam: Ipam,
    runtime: Runtime,
}

/// Names what failed.
fn at<E: std::error::Error>(what: &str) -> impl Fn(E) -> CniError + '_ {
    move |cause| CniError::io(what, cause)
}

impl Addresses {
    /// The network's range becomes a pool with a single block: everything is on one host, behind one bridge.
    pub(crate) fn open(url: &str, network: &str, range: Ipv4Network) -> Result<Self, CniError> {
        let runtime = crate::runtime()?;
        let store = ocicat_datastore::open(url).map_err(at("opening the datastore"))?;
        let store = Store::new(store);
        let mut pool = IpPool {
            spec: IpPoolSpec::default(),
            ..IpPool::default()
        };
        pool.metadata = Metadata {
            name: network.to_owned(),
            ..Metadata::default()
        };
        pool.spec.cidr = range.to_string();
        pool.spec.block_size = Some(range.prefix());
        match runtime.block_on(store.create(pool)) {
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(at("writing the pool")(error)),
        }
        let ipam = Ipam::new(Arc::new(StoreIpam::new(store)), Box::new(Sticky));
        Ok(Self {
            network: network.to_owned(),
            ipam,
            runtime,
        })
    }

    /// The name by which an attachment's address is found again; a network's name cannot hold a colon.
    fn handle(&self, at: &AttachmentId) -> HandleId {
        HandleId::new(&format!(
            "{}:{}:{}",
            self.network, at.container_id, at.ifname
        ))
    }

    /// One address. The first two and the last of the range are the network's, the bridge's and the broadcast address.
    pub(crate) fn assign(&self, attachment: &AttachmentId, pod: &str) -> Result<IpAddr, CniError> {
        let mut request = AssignRequest::new("localhost", self.handle(attachment))
            .v4(1)
            .pools(Family::V4, [PoolRef::Name(self.network.clone())])
            .attribute("pod", pod)
            .max_per_handle(1);
        request.host_reserved = HostReserved::new(2, 1);
        let assigned = self
            .runtime
            .block_on(self.ipam.assign(&request, SystemTime::now()));
        let assigned = assigned.map_err(at("assigning an address"))?;
        let first = assigned.addresses.first().map(|assigned| assigned.address);
        first.ok_or_else(|| CniError::internal("no address was assigned"))
    }

    /// Nothing held is a success.
    pub(crate) fn release(&self, attachment: &AttachmentId) -> Result<(), CniError> {
        let handle = self.handle(attachment);
        let released = self.ipam.release_handle(&handle, SystemTime::now());
        self.runtime
            .block_on(released)
            .map(drop)
            .map_err(at("releasing an address"))
    }

    pub(crate) fn held_by(&self, attachment: &AttachmentId) -> Result<Vec<IpAddr>, CniError> {
        let handle = self.handle(attachment);
        self.runtime
            .block_on(self.ipam.addresses_of(&handle))
            .map_err(at("reading addresses"))
    }

    /// The attachments of this network that hold addresses, or began to.
    pub(crate) fn attachments(&self) -> Result<Vec<AttachmentId>, CniError> {
        let handles = self.runtime.block_on(self.ipam.store().all_handles());
        let handles = handles.map_err(at("reading addresses"))?.records;
        let attachment = |handle: &HandleId| {
            let rest = handle
                .as_str()
                .strip_prefix(&self.network)?
                .strip_prefix(':')?;
            let (container, interface) = rest.split_once(':')?;
            Some(AttachmentId::new(
                container.parse().ok()?,
                interface.parse().ok()?,
            ))
        };
        Ok(handles
            .iter()
            .filter_map(|handle| attachment(&handle.value.id))
            .collect())
    }
}
