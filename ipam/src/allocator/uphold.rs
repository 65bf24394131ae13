use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::claim::Claimed;
use super::handles::Counts;
use super::{ATTEMPTS, Ipam};
use crate::{
    Allocation, Audience, Block, HandleId, HostReserved, Owner, Prefix, Record, ReleaseError,
    StoreError, Stored, Write,
};

/// An address that is in use on a node, by the node's own record of the attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The address.
    pub address: IpAddr,
    /// The host on which it is used.
    pub owner: Owner,
    /// The handle under which it was taken.
    pub handle: HandleId,
    /// What was stored with it; `node` is added where it is missing.
    pub attributes: BTreeMap<String, String>,
}

impl Attached {
    /// An address that `owner` uses and took under `handle`.
    #[must_use]
    pub fn new(address: IpAddr, owner: impl Into<Owner>, handle: impl Into<HandleId>) -> Self {
        Self {
            address,
            owner: owner.into(),
            handle: handle.into(),
            attributes: BTreeMap::new(),
        }
    }

    /// Stores an attribute with the address.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// What became of addresses that are in use.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Upheld {
    /// Held as recorded; nothing was written.
    pub held: Vec<IpAddr>,
    /// The store did not know of them, and does again.
    pub taken: Vec<IpAddr>,
    /// Handles that the store said to hold some of those, and that hold them no more.
    pub ousted: Vec<(IpAddr, HandleId)>,
    /// In no pool and no block: nothing to write. They stay out of use in this allocator.
    pub outside: Vec<IpAddr>,
    /// Recorded twice, under different handles: the first was believed.
    pub contested: Vec<IpAddr>,
    /// Not written, and why. They stay out of use in this allocator; the call can be repeated.
    pub failed: Vec<(IpAddr, ReleaseError)>,
}

impl Ipam {
    /// Makes the store agree with what nodes really use. To be called when an agent starts, before its first
    /// request, with its attachments that are there in the kernel, not only on its disk.
    ///
    /// After a store was replaced by an older copy of itself it may call free what is in use, or say that a pod of former
    /// times has it. The node's record wins: the address is taken for it whatever reservations, limits and
    /// the state of its pool are, and a handle that the store said to hold it loses it. In a store that is
    /// as it was this writes nothing.
    ///
    /// Until the call has seen to an address, and after it when that failed, this allocator gives it to nobody; a release
    /// of its handle ends that. Others know nothing of it: where several nodes share a store that was replaced, all of
    /// them uphold before any assigns.
    ///
    /// # Errors
    /// When pools or blocks cannot be read; then every address stays out of use in this allocator.
    ///
    /// # Cancel safety
    /// A dropped call may have seen to some addresses; the others stay out of use, and the call can be repeated.
    pub async fn uphold(
        &self,
        attached: &[Attached],
        now: SystemTime,
    ) -> Result<Upheld, StoreError> {
        let mut upheld = Upheld::default();
        let mut records: BTreeMap<IpAddr, &Attached> = BTreeMap::new();
        for one in attached {
            let first = *records.entry(one.address).or_insert(one);
            if first.handle != one.handle {
                upheld.contested.push(one.address);
            }
        }
        for one in records.values() {
            self.in_use().insert(one.address, one.handle.clone());
        }
        let pools = self
            .store
            .pools(&Audience::new(Owner::host(""), None))
            .await?;
        let mut blocks: BTreeMap<Prefix, Vec<&Attached>> = BTreeMap::new();
        for one in records.into_values() {
            match self.block_of(one.address, &pools).await? {
                Some(block) => blocks.entry(block).or_default().push(one),
                None => upheld.outside.push(one.address),
            }
        }
        for (cidr, records) in blocks {
            match self.uphold_in(cidr, &records, now, &mut upheld).await {
                Ok(()) => {
                    let mut in_use = self.in_use();
                    records
                        .iter()
                        .for_each(|one| drop(in_use.remove(&one.address)));
                }
                Err(error) => {
                    let failed = records.iter().map(|one| (one.address, error.clone()));
                    upheld.failed.extend(failed);
                }
            }
        }
        Ok(upheld)
    }

    /// Addresses that are in use by the word of nodes and not held in the store, with their handles.
    pub(super) fn in_use(&self) -> MutexGuard<'_, BTreeMap<IpAddr, HandleId>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn uphold_in(
        &self,
        cidr: Prefix,
        records: &[&Attached],
        now: SystemTime,
        upheld: &mut Upheld,
    ) -> Result<(), ReleaseError> {
        for _ in 0..ATTEMPTS {
            let found = match self.block(cidr).await? {
                Some(found) => found,
                None => match self.claim_of(cidr, records, now).await? {
                    Some(claimed) => claimed,
                    None => continue,
                },
            };
            let Stored { value, revision } = found;
            let missing = missing(&value, records);
            if !missing.is_empty() {
                let (counts, block, ousted) = with_records(value.clone(), &missing, now);
                let counted = self.count_in(&counts).await;
                if let Some(error) = counted.failed.into_values().next() {
                    self.take_back(counted.written, &counts).await;
                    return Err(error.into());
                }
                let write = Write::Update(Record::Block(block), revision);
                match self.write(write).await {
                    Ok(_) => self.remember(&cidr, None),
                    Err(error) if error.is_conflict() => {
                        self.take_back(counted.written, &counts).await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                let handles: BTreeSet<_> =
                    ousted.iter().map(|(_, handle)| handle.clone()).collect();
                upheld.ousted.extend(ousted);
                for handle in handles {
                    self.recount(&handle, cidr).await?;
                }
            }
            let is_missing = |address| missing.iter().any(|one| one.address == address);
            let addresses = records.iter().map(|one| one.address);
            let (taken, held): (Vec<_>, Vec<_>) = addresses.partition(|a| is_missing(*a));
            upheld.taken.extend(taken);
            upheld.held.extend(held);
            return Ok(());
        }
        Err(ReleaseError::Contention { attempts: ATTEMPTS })
    }

    /// Claims a block that is not there for the host of the first record in it.
    async fn claim_of(
        &self,
        cidr: Prefix,
        records: &[&Attached],
        now: SystemTime,
    ) -> Result<Option<Stored<Block>>, ReleaseError> {
        let Some(first) = records.first() else {
            return Ok(None);
        };
        let reserved = HostReserved::default();
        let claimed = self.claim_block(&first.owner, cidr, reserved, now).await?;
        // The host's own blocks are others than it remembers.
        self.forget(&first.owner);
        Ok(match claimed {
            Claimed::Ours(block) => Some(block),
            Claimed::Lost(found) => found,
        })
    }
}

/// The records of which a block knows nothing, or something else.
fn missing<'a>(block: &Block, records: &[&'a Attached]) -> Vec<&'a Attached> {
    let known = |one: &&&Attached| {
        let held = block
            .ordinal(one.address)
            .and_then(|at| block.allocation(at));
        held.is_some_and(|held| !held.rests() && held.handle.as_ref() == Some(&one.handle))
    };
    records.iter().filter(|one| !known(one)).copied().collect()
}

/// A block with these records in it, what to count in for them, and who loses an address.
fn with_records(
    mut block: Block,
    records: &[&Attached],
    now: SystemTime,
) -> (Counts, Block, Vec<(IpAddr, HandleId)>) {
    let mut counts = Counts::new();
    let mut ousted = Vec::new();
    block.outrun(now);
    for one in records {
        let Some(ordinal) = block.ordinal(one.address) else {
            continue;
        };
        let before = block.allocation(ordinal).filter(|held| !held.rests());
        let before = before.and_then(|held| held.handle.clone());
        ousted.extend(before.map(|handle| (one.address, handle)));
        let record = Allocation::new(one.handle.clone(), one.attributes.clone());
        let record = Arc::new(record.of_host(&one.owner));
        if block.replace(ordinal, &record) {
            let blocks = counts.entry(one.handle.clone()).or_default();
            *blocks.entry(block.cidr()).or_default() += 1;
        }
    }
    (counts, block, ousted)
}
