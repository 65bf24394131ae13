use std::net::IpAddr;
use std::time::SystemTime;

use crate::{
    AssignError, AssignRequest, Block, Family, HandleId, Ipam, Owner, PoolRef, Prefix,
    ReleaseError, Use,
};

/// The tunnel device of a node that needs an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Tunnel {
    /// WireGuard over IPv4.
    Wireguard,
    /// WireGuard over IPv6.
    WireguardV6,
    /// IP in IP.
    Ipip,
    /// VXLAN for IPv4.
    Vxlan,
    /// VXLAN for IPv6.
    VxlanV6,
}

impl Tunnel {
    /// Every kind of tunnel, in the order in which a node gets their addresses.
    pub const ALL: [Self; 5] = [
        Self::Wireguard,
        Self::WireguardV6,
        Self::Ipip,
        Self::Vxlan,
        Self::VxlanV6,
    ];

    /// The family of the tunnel's address.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Wireguard | Self::Ipip | Self::Vxlan => Family::V4,
            Self::WireguardV6 | Self::VxlanV6 => Family::V6,
        }
    }

    /// The value of the attribute `type` of its address.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Wireguard => "wireguardTunnelAddress",
            Self::WireguardV6 => "wireguardV6TunnelAddress",
            Self::Ipip => "ipipTunnelAddress",
            Self::Vxlan => "vxlanTunnelAddress",
            Self::VxlanV6 => "vxlanV6TunnelAddress",
        }
    }

    /// The handle of its address on a node.
    #[must_use]
    pub fn handle(self, node: &str) -> HandleId {
        let kind = match self {
            Self::Wireguard => "wireguard",
            Self::WireguardV6 => "wireguard-v6",
            Self::Ipip => "ipip",
            Self::Vxlan => "vxlan",
            Self::VxlanV6 => "vxlan-v6",
        };
        HandleId::from(format!("{kind}-tunnel-addr-{node}"))
    }
}

/// The address of a node's tunnel device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether it is another than the node had: then it must be written to the Node, and
    /// [`release_tunnel_address`](Ipam::release_tunnel_address) takes it back when that fails.
    pub changed: bool,
}

impl Ipam {
    /// The address of a node's tunnel device: the one that it has when that is held for this tunnel of this node in
    /// one of the pools that need the tunnel, else a new one of them.
    ///
    /// `pools` are the ranges of the enabled pools whose encapsulation needs the tunnel, in the order of their use.
    ///
    /// # Errors
    /// As [`assign`](Self::assign).
    ///
    /// # Cancel safety
    /// A dropped call may leave the node with an old address released, or a new one held and not returned; the next
    /// call puts either right.
    pub async fn tunnel_address(
        &self,
        node: &str,
        tunnel: Tunnel,
        current: Option<IpAddr>,
        pools: &[Prefix],
        now: SystemTime,
    ) -> Result<TunnelAddress, AssignError> {
        let handle = tunnel.handle(node);
        let held = self.blocks_of(&handle).await?;
        let suits = |address: IpAddr| {
            pools.iter().any(|pool| pool.contains(address))
                && held
                    .iter()
                    .any(|block| is_for(block, address, &handle, tunnel, node))
        };
        let held_addresses = || {
            held.iter()
                .flat_map(|block| block.held_by(&handle).filter_map(|at| block.address(at)))
        };
        // One that was taken and not written to the Node is as good as the current one.
        let kept = current.filter(|address| suits(*address));
        let kept = kept.or_else(|| held_addresses().find(|address| suits(*address)));
        if let Some(address) = kept {
            for other in held_addresses().filter(|other| *other != address) {
                let release = crate::Release::new(other).held_by(&handle);
                self.release_ips(&[release], now).await.map_err(as_assign)?;
            }
            return Ok(TunnelAddress {
                address,
                changed: current != Some(address),
            });
        }
        self.release_handle(&handle, now).await.map_err(as_assign)?;
        let family = tunnel.family();
        let pools = pools.iter().filter(|pool| pool.family() == family).copied();
        let pools: Vec<_> = pools.map(PoolRef::Cidr).collect();
        if pools.is_empty() {
            let (owner, intended_use) = (Owner::host(node), Use::Tunnel);
            return Err(AssignError::NoQualifiedPool {
                owner,
                family,
                intended_use,
            });
        }
        let request = AssignRequest::new(Owner::host(node), handle)
            .attribute("type", tunnel.attribute())
            .intended_use(Use::Tunnel)
            .pools(family, pools);
        let request = match family {
            Family::V4 => request.v4(1),
            Family::V6 => request.v6(1),
        };
        let assignment = self.assign(&request, now).await?;
        match assignment.addresses.first() {
            Some(one) => Ok(TunnelAddress {
                address: one.address,
                changed: true,
            }),
            None => Err(AssignError::Short(assignment.shortfalls)),
        }
    }

    /// Releases the address of a node's tunnel device, when no pool needs the tunnel any more or the Node could not be
    /// written.
    ///
    /// # Errors
    /// As [`release_handle`](Self::release_handle).
    pub async fn release_tunnel_address(
        &self,
        node: &str,
        tunnel: Tunnel,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, ReleaseError> {
        self.release_handle(&tunnel.handle(node), now).await
    }
}

/// Whether a block holds an address for this tunnel of this node.
fn is_for(block: &Block, address: IpAddr, handle: &HandleId, tunnel: Tunnel, node: &str) -> bool {
    let held = block
        .ordinal(address)
        .and_then(|ordinal| block.allocation(ordinal));
    held.is_some_and(|held| {
        let says = |name: &str| held.attributes.get(name).map(String::as_str);
        !held.rests()
            && held.handle.as_ref() == Some(handle)
            && says("type") == Some(tunnel.attribute())
            && says("node") == Some(node)
    })
}

fn as_assign(error: ReleaseError) -> AssignError {
    match error {
        ReleaseError::Store(error) => AssignError::Store(error),
        _ => AssignError::Contention { attempts: 1 },
    }
}
