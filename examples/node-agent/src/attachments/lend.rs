//! Addresses without links: for `ptp`, `bridge`, `macvlan` and other plugins that name `ocicat-ipam` as their IPAM.

use std::net::IpAddr;
use std::time::SystemTime;

use ipnetwork::IpNetwork;
use ocicat_ipam::{Assigned, Block, HostReserved, Prefix};
use serde_json::Value;

use super::{AttachmentError, Attachments};
use crate::pod::Pod;

/// At the start of a block: its own address and the gateway; at the end the broadcast address.
const KEPT: HostReserved = HostReserved::new(2, 1);

/// How an address is told to the plugin that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With the length of its block, and the block's second address as gateway, which no container gets.
    Block,
    /// With the length of its pool, and this gateway if the configuration names one.
    Pool(Option<IpAddr>),
    /// /32 or /128, without a gateway: as Calico's IPAM answers.
    Host,
}

/// A lent address with its length, and the gateway beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) address: IpNetwork,
    pub(crate) gateway: Option<IpAddr>,
}

impl Form {
    /// What the keys `ipam.prefix` and `ipam.gateway` say; without, what the calling plugin needs: containers of `macvlan`
    /// and `ipvlan` share their segment with other nodes, those of the others are behind this node.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub(crate) fn of(config: &Value) -> Result<Self, String> {
        let ipam = &config["ipam"];
        let gateway = match ipam["gateway"].as_str() {
            None | Some("") => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| format!("ipam.gateway: {text:?} is no IP address"))?,
            ),
        };
        let shares = matches!(config["type"].as_str(), Some("macvlan" | "ipvlan"));
        let default = if shares || gateway.is_some() {
            "pool"
        } else {
            "block"
        };
        let prefix = ipam["prefix"].as_str().filter(|text| !text.is_empty());
        match (prefix.unwrap_or(default), gateway) {
            ("pool", gateway) => Ok(Self::Pool(gateway)),
            ("block", None) => Ok(Self::Block),
            ("host", None) => Ok(Self::Host),
            ("block" | "host", Some(_)) => {
                Err("ipam.gateway: goes with \"prefix\": \"pool\" only".to_owned())
            }
            (other, _) => Err(format!("ipam.prefix: {other:?} is not block, pool or host")),
        }
    }
}

impl Attachments {
    /// Takes addresses for a container that another plugin connects. One that has some already keeps them.
    pub(crate) async fn lend(&self, pod: &Pod, form: Form) -> Result<Vec<Lent>, AttachmentError> {
        let facts = self.facts.borrow().clone();
        super::admits(&facts)?;
        let _turn = self.busy.lock(&pod.handle()).await;
        let before = self.held(pod).await?;
        match self.lend_some(pod, form).await {
            Ok(lent) => Ok(lent),
            // What a container has from before stays its own.
            Err(error) if !before.is_empty() => Err(error),
            Err(error) => Err(match self.release(&pod.handle()).await {
                Ok(()) => error,
                Err(then) => error.and(then),
            }),
        }
    }

    async fn lend_some(&self, pod: &Pod, form: Form) -> Result<Vec<Lent>, AttachmentError> {
        let asked = &pod.wishes.addresses;
        let addresses = if asked.is_empty() {
            let mut request = self.request(pod).await?.max_per_handle(1);
            if form == Form::Block {
                request.host_reserved = KEPT;
            }
            let assigned = self.assigner.assign(request).await;
            let assigned = assigned.ok_or(AttachmentError::Ending)??.addresses;
            assigned.iter().map(|one: &Assigned| one.address).collect()
        } else {
            self.assign(pod, None).await?
        };
        let mut lent = Vec::new();
        for address in addresses {
            lent.push(self.told(address, form).await?);
        }
        lent.sort_by_key(|one| one.address.is_ipv4() == pod.wishes.v6_first);
        Ok(lent)
    }

    async fn told(&self, address: IpAddr, form: Form) -> Result<Lent, AttachmentError> {
        let gateway = match form {
            Form::Host => None,
            Form::Pool(gateway) => gateway.filter(|one| one.is_ipv4() == address.is_ipv4()),
            Form::Block => {
                let block = self.block_of(address).await?;
                return with_gateway(address, &block, &self.node);
            }
        };
        let length = match form {
            Form::Pool(_) => self.pool_of(address).await?.length(),
            _ if address.is_ipv4() => 32,
            _ => 128,
        };
        Ok(Lent {
            address: network(address, length),
            gateway,
        })
    }

    async fn pool_of(&self, address: IpAddr) -> Result<Prefix, AttachmentError> {
        let nobody = ocicat_ipam::Audience::new(ocicat_ipam::Owner::host(&self.node), None);
        let pools = self.ipam.store().pools(&nobody).await?;
        let pool = pools.iter().find(|pool| pool.cidr.contains(address));
        pool.map(|pool| pool.cidr)
            .ok_or(AttachmentError::Vanished(address))
    }

    async fn block_of(&self, address: IpAddr) -> Result<Block, AttachmentError> {
        let nobody = ocicat_ipam::Audience::new(ocicat_ipam::Owner::host(&self.node), None);
        let pools = self.ipam.store().pools(&nobody).await?;
        let pool = pools.iter().find(|pool| pool.cidr.contains(address));
        let cidr = pool.and_then(|pool| Prefix::containing(address, pool.block_size).ok());
        let cidr = cidr.ok_or(AttachmentError::Vanished(address))?;
        let found = self.ipam.store().blocks(&[cidr]).await?.pop().flatten();
        found
            .map(|stored| stored.value)
            .ok_or(AttachmentError::Vanished(address))
    }

    /// Gives back the addresses of a container that another plugin connected.
    pub(crate) async fn take_back(&self, pod: &Pod) -> Result<(), AttachmentError> {
        let _turn = self.busy.lock(&pod.handle()).await;
        self.release(&pod.handle()).await
    }

    /// The addresses that are held for a pod.
    pub(crate) async fn held(&self, pod: &Pod) -> Result<Vec<IpAddr>, AttachmentError> {
        Ok(self
            .ipam
            .addresses_of(&pod.handle().as_str().into())
            .await?)
    }

    /// Releases every address of a handle; none is fine.
    pub(super) async fn release(&self, handle: &str) -> Result<(), AttachmentError> {
        self.ipam
            .release_handle(&handle.into(), SystemTime::now())
            .await?;
        Ok(())
    }
}

/// The gateway must have been set aside when the block was claimed, or a container may have it.
fn with_gateway(address: IpAddr, block: &Block, node: &str) -> Result<Lent, AttachmentError> {
    let unfit = |why| AttachmentError::NoGateway {
        block: block.cidr(),
        why,
    };
    if block.owner().and_then(|owner| owner.node()) != Some(node) {
        return Err(unfit("the block is another node's"));
    }
    let gateway = ocicat_ipam::Ordinal::new(1);
    let kept = block.allocation(gateway).is_some_and(|held| {
        let handle = held.handle.as_ref();
        handle.is_some_and(|handle| handle.as_str() == HostReserved::HANDLE)
    });
    let gateway = block.address(gateway).filter(|_| kept);
    let gateway = gateway.ok_or_else(|| unfit("it was claimed for pods without one"))?;
    Ok(Lent {
        address: network(address, block.cidr().length()),
        gateway: Some(gateway),
    })
}

fn network(address: IpAddr, length: u8) -> IpNetwork {
    // A pool's length always fits its family.
    IpNetwork::new(address, length).unwrap_or_else(|_| IpNetwork::from(address))
}
