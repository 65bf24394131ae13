use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{
    AffinityState, Block, BlockAffinity, Handle, HandleId, HostReserved, Ipam, Listing, Owner,
    Pool, Prefix, StoreError, Unreadable,
};

mod repair;
mod report;

pub use self::repair::Repaired;
pub use self::report::{CheckReport, Finding, Held};

/// What is known about the cluster apart from address management, as plain lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Every address that somebody uses, and who: endpoints, tunnel devices, services.
    pub in_use: Vec<InUse>,
    /// The nodes that exist.
    pub nodes: BTreeSet<String>,
}

/// An address that somebody uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct InUse {
    /// The address.
    pub address: IpAddr,
    /// Who uses it, in words: `WorkloadEndpoint shop/web`, `vxlan tunnel of node1`.
    pub by: String,
    /// The handle under which its user should hold it, where that is known.
    pub handle: Option<HandleId>,
}

impl InUse {
    /// An address and who uses it.
    #[must_use]
    pub fn new(address: IpAddr, by: impl Into<String>) -> Self {
        Self {
            address,
            by: by.into(),
            handle: None,
        }
    }

    /// Held under this handle, as far as its user knows.
    #[must_use]
    pub fn held_by(mut self, handle: impl Into<HandleId>) -> Self {
        self.handle = Some(handle.into());
        self
    }
}

impl Census {
    /// Addresses in use, and nodes.
    #[must_use]
    pub fn new(in_use: Vec<InUse>, nodes: impl IntoIterator<Item = String>) -> Self {
        Self {
            in_use,
            nodes: nodes.into_iter().collect(),
        }
    }
}

/// Everything that address management has stored, at about one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    pub(crate) blocks: Vec<Block>,
    pub(crate) claims: Vec<BlockAffinity>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) pools: Vec<Pool>,
}

impl Ipam {
    /// Compares everything that is stored with itself and with what is in use.
    ///
    /// Lists are read one after the other: in a cluster that is busy an address can be reported that was just taken
    /// or released. What is released from a report is guarded by handle and sequence number, so that this is harmless.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn check(&self, census: &Census) -> Result<CheckReport, StoreError> {
        Ok(inspect(&self.records().await?, census))
    }

    pub(crate) async fn records(&self) -> Result<Records, StoreError> {
        // Blocks first, handles last: an allocation in progress then counts too many, which is what it may do.
        let mut records = Records::default();
        let nobody = crate::Audience::new(Owner::host(""), None);
        records.pools = self.store().pools(&nobody).await?;
        fn take<T>(listing: Listing<T>, unreadable: &mut Vec<Unreadable>) -> Vec<T> {
            unreadable.extend(listing.unreadable);
            listing
                .records
                .into_iter()
                .map(|stored| stored.value)
                .collect()
        }
        let unreadable = &mut records.unreadable;
        records.blocks = take(self.store().all_blocks().await?, unreadable);
        records.claims = take(self.store().affinities(None).await?, unreadable);
        records.handles = take(self.store().all_handles().await?, unreadable);
        Ok(records)
    }
}

/// Every inconsistency, in the order of addresses.
pub(crate) fn inspect(records: &Records, census: &Census) -> CheckReport {
    let mut held: BTreeMap<IpAddr, Vec<Held>> = BTreeMap::new();
    for one in held_in(&records.blocks) {
        held.entry(one.address).or_default().push(one);
    }
    let mut findings = Vec::new();
    compare_use(records, census, &held, &mut findings);
    compare_handles(records, &held, &mut findings);
    compare_claims(records, census, &mut findings);
    for block in &records.blocks {
        look_at_block(records, block, &mut findings);
    }
    findings.extend(records.unreadable.iter().map(|one| Finding::Unreadable {
        key: one.key.clone(),
        reason: one.reason.clone(),
    }));
    CheckReport {
        held: held.into_values().flatten().collect(),
        findings,
    }
}

/// Every address that is held; one that is in two blocks is there twice.
pub(crate) fn held_in(blocks: &[Block]) -> Vec<Held> {
    let mut held = Vec::new();
    for block in blocks {
        for (ordinal, allocation) in block.held() {
            let Some(address) = block.address(ordinal) else {
                continue;
            };
            held.push(Held {
                address,
                block: block.cidr(),
                owner: block.owner().map(ToString::to_string),
                handle: allocation.handle.clone(),
                attributes: allocation.attributes.clone(),
                sequence: block.sequence_of(ordinal).unwrap_or(0),
            });
        }
    }
    held
}

fn compare_use(
    records: &Records,
    census: &Census,
    held: &BTreeMap<IpAddr, Vec<Held>>,
    findings: &mut Vec<Finding>,
) {
    let mut used: BTreeMap<IpAddr, Vec<&InUse>> = BTreeMap::new();
    for one in &census.in_use {
        used.entry(one.address).or_default().push(one);
    }
    for (address, users) in &used {
        let by: Vec<_> = users.iter().map(|user| user.by.clone()).collect();
        if !records
            .pools
            .iter()
            .any(|pool| pool.cidr.contains(*address))
        {
            findings.push(Finding::OutsidePools {
                address: *address,
                by: by.clone(),
            });
        } else if !held.contains_key(address) {
            findings.push(Finding::NotHeld {
                address: *address,
                by: by.clone(),
            });
        }
        if by.len() > 1 {
            findings.push(Finding::UsedTwice {
                address: *address,
                by,
            });
        }
    }
    for (address, holders) in held {
        if holders.len() > 1 {
            let blocks = holders.iter().map(|one| one.block).collect();
            findings.push(Finding::HeldTwice {
                address: *address,
                blocks,
            });
        }
        for one in holders {
            let users = used.get(address).map_or(&[][..], Vec::as_slice);
            let theirs = |user: &&InUse| user.handle.is_none() || user.handle == one.handle;
            let kept = one
                .handle
                .as_ref()
                .is_some_and(|h| h.as_str() == HostReserved::HANDLE);
            if !kept && !users.iter().any(theirs) {
                let node = one.attributes.get("node");
                let node_gone = node.is_some_and(|node| !census.nodes.contains(node));
                findings.push(Finding::NotUsed {
                    held: one.clone(),
                    node_gone,
                });
            }
        }
    }
}

fn compare_handles(
    records: &Records,
    held: &BTreeMap<IpAddr, Vec<Held>>,
    findings: &mut Vec<Finding>,
) {
    let mut found: BTreeMap<&HandleId, BTreeMap<Prefix, u32>> = BTreeMap::new();
    for one in held.values().flatten() {
        if let Some(handle) = one
            .handle
            .as_ref()
            .filter(|h| h.as_str() != HostReserved::HANDLE)
        {
            *found
                .entry(handle)
                .or_default()
                .entry(one.block)
                .or_default() += 1;
        }
    }
    let none = BTreeMap::new();
    for handle in &records.handles {
        let real = found.remove(&handle.id).unwrap_or_default();
        let blocks: BTreeSet<_> = real.keys().chain(handle.blocks.keys()).collect();
        for block in blocks {
            let counted = handle.blocks.get(block).copied().unwrap_or(0);
            let held = real.get(block).copied().unwrap_or(0);
            if counted != held {
                let (handle, block) = (handle.id.clone(), *block);
                findings.push(Finding::Miscounted {
                    handle,
                    block,
                    counted,
                    held,
                });
            }
        }
        if handle.blocks == none {
            findings.push(Finding::EmptyHandle {
                handle: handle.id.clone(),
            });
        }
    }
    for (handle, blocks) in found {
        for (block, held) in blocks {
            let handle = handle.clone();
            findings.push(Finding::Miscounted {
                handle,
                block,
                counted: 0,
                held,
            });
        }
    }
}

fn compare_claims(records: &Records, census: &Census, findings: &mut Vec<Finding>) {
    let owners: BTreeMap<Prefix, Option<&Owner>> = records
        .blocks
        .iter()
        .map(|block| (block.cidr(), block.owner()))
        .collect();
    let mut owned: BTreeSet<Prefix> = BTreeSet::new();
    for claim in &records.claims {
        let (owner, block, state) = (claim.owner.to_string(), claim.block, claim.state);
        let real = owners.get(&block).copied().flatten();
        if real == Some(&claim.owner) {
            owned.insert(block);
            if state != AffinityState::Confirmed {
                let state = state.to_string();
                findings.push(Finding::Unconfirmed {
                    owner: owner.clone(),
                    block,
                    state,
                });
            }
        } else {
            let block_owner = real.map(ToString::to_string);
            let confirmed = state == AffinityState::Confirmed;
            findings.push(Finding::IdleClaim {
                owner: owner.clone(),
                block,
                block_owner,
                confirmed,
            });
        }
        if claim
            .owner
            .node()
            .is_some_and(|node| !census.nodes.contains(node))
        {
            findings.push(Finding::NodeGone { owner, block });
        }
    }
    for (block, owner) in owners {
        if let Some(owner) = owner.filter(|_| !owned.contains(&block)) {
            findings.push(Finding::Unclaimed {
                owner: owner.to_string(),
                block,
            });
        }
    }
}

fn look_at_block(records: &Records, block: &Block, findings: &mut Vec<Finding>) {
    let cidr = block.cidr();
    for defect in block.defects() {
        findings.push(Finding::Defect {
            block: cidr,
            defect: defect.to_string(),
        });
    }
    let pool = records.pools.iter().find(|pool| pool.cidr.covers(&cidr));
    match pool {
        None => findings.push(Finding::BlockOutsidePools { block: cidr }),
        Some(pool) if pool.block_size != cidr.length() => {
            findings.push(Finding::BlockSize {
                block: cidr,
                expected: pool.block_size,
            });
        }
        Some(_) => {}
    }
    let overlaps = |other: &&Block| other.cidr() != cidr && other.cidr().covers(&cidr);
    if let Some(other) = records.blocks.iter().find(overlaps) {
        findings.push(Finding::Overlap {
            block: cidr,
            other: other.cidr(),
        });
    }
    if block.owner().is_none() && block.is_empty() {
        findings.push(Finding::EmptyBlock { block: cidr });
    }
}
