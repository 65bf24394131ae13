//! Address pools, reservations and the records of address management.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metadata::{Condition, Metadata};
use super::{Kind, Resource};

/// A range from which pods, tunnels and services draw their addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpPool {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: IpPoolSpec,
    /// What the controller found; absent where none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<IpPoolStatus>,
}

impl Resource for IpPool {
    const KIND: Kind = Kind::IpPool;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of an [`IpPool`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolSpec {
    /// The range, host bits zero, such as `10.10.0.0/16`. Cannot be changed.
    pub cidr: String,
    /// Prefix length of the blocks: 20..=32 for IPv4 (26 when absent), 116..=128 for IPv6 (122 when absent). Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// No new addresses from this pool; those given out stay valid.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// IPIP encapsulation: `Never` (when absent), `Always` or `CrossSubnet`. IPv4 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<String>,
    /// VXLAN encapsulation: `Never` (when absent), `Always` or `CrossSubnet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<String>,
    /// Traffic that leaves all pools gets the node's address as its source.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nat_outgoing: bool,
    /// Which nodes may use the pool, by their labels; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// Which namespaces may use the pool, by their labels; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,
    /// `Workload`, `Tunnel`, `LoadBalancer`; the first two when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<String>,
    /// `Automatic` (when absent), or `Manual`: only where the pool is asked for by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
    /// Routes of this pool are not announced.
    #[serde(
        rename = "disableBGPExport",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub disable_bgp_export: bool,
}

/// What was found out about an [`IpPool`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolStatus {
    /// Such as `Allocatable`; one that is `False` keeps the pool from being used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Addresses that are never handed out on their own account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpReservation {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: IpReservationSpec,
}

impl Resource for IpReservation {
    const KIND: Kind = Kind::IpReservation;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of an [`IpReservation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpReservationSpec {
    /// Ranges or single addresses.
    #[serde(rename = "reservedCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub reserved_cidrs: Vec<String>,
}

/// The settings of address management for the entire cluster; its name is `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfig {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// What was asked for.
    pub spec: IpamConfigSpec,
}

impl Resource for IpamConfig {
    const KIND: Kind = Kind::IpamConfig;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// A block of a pool: the only truth about which of its addresses are taken.
///
/// Its name is the block's range with `.`, `:` and `/` written as `-`: see [`block_name`](super::names::block_name).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamBlock {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The record.
    pub spec: IpamBlockSpec,
}

impl Resource for IpamBlock {
    const KIND: Kind = Kind::IpamBlock;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The record of an [`IpamBlock`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamBlockSpec {
    /// The block's range.
    pub cidr: String,
    /// Who owns the block, `host:NODE` or `virtual:NAME`; nobody when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// When the owner claimed it, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// One entry for each address: an index into `attributes`, or nothing when it is free.
    pub allocations: Vec<Option<u32>>,
    /// The free ordinals, in the order in which they will be handed out.
    pub unallocated: Vec<u32>,
    /// Who holds addresses, each record shared by the addresses that name its index.
    pub attributes: Vec<AllocationAttribute>,
    /// Counts the writes of this block.
    pub sequence_number: u64,
    /// The sequence number of the write that made each allocation, by ordinal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// No longer used; stored because older readers want it.
    pub strict_affinity: bool,
    /// The first half of a deletion in two steps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// Who holds an address of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct AllocationAttribute {
    /// The handle that the address was given to.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// Attributes of the holder: `pod`, `namespace`, `node`, `type`, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secondary: BTreeMap<String, String>,
    /// Attributes of a second holder, during a live migration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// Since when the address cools down, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
}

/// A node's claim to a block. Only a confirmed one is ownership.
///
/// Its name is made by [`affinity_name`](super::names::affinity_name).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BlockAffinity {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The record.
    pub spec: BlockAffinitySpec,
}

impl Resource for BlockAffinity {
    const KIND: Kind = Kind::BlockAffinity;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The record of a [`BlockAffinity`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BlockAffinitySpec {
    /// `pending`, `confirmed` or `pendingDeletion`; an empty one counts as confirmed.
    pub state: String,
    /// The owner's name.
    pub node: String,
    /// `host` (when absent) or `virtual`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// The block's range.
    pub cidr: String,
    /// The first half of a deletion in two steps.
    #[serde(
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "super::value::flag"
    )]
    pub deleted: bool,
}

/// An index from a handle to the blocks that hold its addresses; its name is the handle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamHandle {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The record.
    pub spec: IpamHandleSpec,
}

impl Resource for IpamHandle {
    const KIND: Kind = Kind::IpamHandle;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The record of an [`IpamHandle`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamHandleSpec {
    /// The handle.
    #[serde(rename = "handleID")]
    pub handle_id: String,
    /// How many addresses the handle holds in each block, by the block's range. May count too many.
    pub block: BTreeMap<String, u32>,
    /// The first half of a deletion in two steps.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// The specification of an [`IpamConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfigSpec {
    /// No node takes an address from another node's block.
    pub strict_affinity: bool,
    /// Nodes claim blocks as they need them (true when absent).
    pub auto_allocate_blocks: bool,
    /// The most blocks of a node; 0 for the default of 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_host: Option<u32>,
    /// For how many seconds a released address is not handed out again; 0..=1200.
    #[serde(skip_serializing_if = "Option::is_none", rename = "ipCooldownSeconds")]
    pub ip_cooldown_seconds: Option<u32>,
    /// `Enabled` or `Disabled`: virtual machines keep their addresses over restarts.
    #[serde(
        skip_serializing_if = "Option::is_none",
        rename = "kubeVirtVMAddressPersistence"
    )]
    pub kube_virt_vm_address_persistence: Option<String>,
}

impl Default for IpamConfigSpec {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: None,
            ip_cooldown_seconds: None,
            kube_virt_vm_address_persistence: None,
        }
    }
}
