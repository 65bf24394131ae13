use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use async_trait::async_trait;
use ocicat_ipam::{
    AffinityState, Audience, Block, BlockAffinity, Handle, HandleId, IpamConfig, IpamStore,
    Listing, MemoryStore, Owner, Pool, Prefix, Record, RecordKey, Revision, StoreError, Stored,
    Write,
};

/// A store in memory, and next to it an index of its own of what was written, in which the invariants are
/// looked at with every write: of the record that it concerns, and those that belong to it.
pub(crate) struct Ledger {
    memory: Arc<MemoryStore>,
    ordered: bool,
    books: Mutex<Books>,
}

struct Books {
    now: SystemTime,
    blocks: BTreeMap<Prefix, Block>,
    counts: BTreeMap<HandleId, BTreeMap<Prefix, u32>>,
    /// Whose confirmed claims lead to a block.
    routed: BTreeMap<Prefix, Vec<Owner>>,
    /// What pods believe to have.
    live: BTreeMap<IpAddr, HandleId>,
}

impl Ledger {
    pub(crate) fn new(memory: Arc<MemoryStore>, ordered: bool) -> Self {
        let books = Books {
            now: SystemTime::UNIX_EPOCH,
            blocks: BTreeMap::new(),
            counts: BTreeMap::new(),
            routed: BTreeMap::new(),
            live: BTreeMap::new(),
        };
        Self {
            memory,
            ordered,
            books: Mutex::new(books),
        }
    }

    pub(crate) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    pub(crate) fn set_clock(&self, now: SystemTime) {
        self.books.lock().unwrap().now = now;
    }

    /// A pod was given an address: from here on its block must say so with every write.
    pub(crate) fn believe(&self, address: IpAddr, handle: &HandleId) {
        let mut books = self.books.lock().unwrap();
        books.live.insert(address, handle.clone());
    }

    /// A pod goes.
    pub(crate) fn disbelieve(&self, address: IpAddr) {
        self.books.lock().unwrap().live.remove(&address);
    }

    /// The addresses that are kept for a workload now.
    pub(crate) fn kept_for(&self, workload: &str) -> Vec<IpAddr> {
        let books = self.books.lock().unwrap();
        let blocks = books.blocks.values();
        let kept = blocks.flat_map(|block| {
            let theirs = block.kept().filter(|(_, kept)| kept.workload == workload);
            let lasting = theirs.filter(|(_, kept)| kept.until > books.now);
            lasting.filter_map(|(at, _)| block.address(at))
        });
        kept.collect()
    }
}

impl Books {
    fn wrote(&mut self, write: &Write) {
        match write {
            Write::Create(Record::Block(block)) | Write::Update(Record::Block(block), _) => {
                self.block(block.cidr(), Some(block));
            }
            Write::Delete(RecordKey::Block(cidr), _) => self.block(*cidr, None),
            Write::Create(Record::Handle(handle)) | Write::Update(Record::Handle(handle), _) => {
                self.handle(&handle.id, handle.blocks.clone());
            }
            Write::Delete(RecordKey::Handle(id), _) => self.handle(id, BTreeMap::new()),
            Write::Create(Record::Affinity(claim)) | Write::Update(Record::Affinity(claim), _) => {
                self.claim(&claim.owner, claim.block, claim.state);
            }
            Write::Delete(RecordKey::Affinity(owner, block), _) => {
                self.claim(owner, *block, AffinityState::PendingDeletion);
            }
            _ => {}
        }
    }

    fn block(&mut self, cidr: Prefix, new: Option<&Block>) {
        for (address, pod) in &self.live {
            if cidr.contains(*address) {
                let at = new.and_then(|block| block.ordinal(*address));
                let held = at.and_then(|at| new?.allocation(at));
                let by = held.and_then(|held| held.handle.as_ref());
                assert_eq!(by, Some(pod), "{address} was taken from its pod");
            }
        }
        let old = self.blocks.remove(&cidr);
        for (ordinal, kept) in old.iter().flat_map(|block| block.kept()) {
            let held = new.and_then(|block| block.allocation(ordinal));
            let same = held.is_some_and(|held| {
                held.kept.as_ref() == Some(kept)
                    || held.attributes.get("ocicat-workload") == Some(&kept.workload)
            });
            assert!(
                same || kept.until <= self.now,
                "{cidr} {ordinal} is kept for {kept:?}, and became {held:?} at {:?}",
                self.now
            );
        }
        let Some(new) = new else {
            assert!(self.routed(&cidr).is_empty(), "{cidr} is gone and routed");
            return;
        };
        let mut found: BTreeMap<&HandleId, u32> = BTreeMap::new();
        for (ordinal, held) in new.held() {
            assert!(!new.is_free(ordinal), "{cidr} {ordinal} is free and held");
            *found.entry(held.handle.as_ref().unwrap()).or_default() += 1;
        }
        for (handle, held) in found {
            let counted = self.counted(handle, &cidr);
            assert!(
                counted >= held,
                "{handle} counts {counted} of {held} in {cidr}"
            );
        }
        for owner in self.routed(&cidr) {
            assert_eq!(new.owner(), Some(owner), "{cidr} is routed wrongly");
        }
        self.blocks.insert(cidr, new.clone());
    }

    fn handle(&mut self, id: &HandleId, counts: BTreeMap<Prefix, u32>) {
        let before = self.counts.remove(id).unwrap_or_default();
        for cidr in before
            .keys()
            .filter(|cidr| counts.get(cidr) < before.get(cidr))
        {
            let counted = counts.get(cidr).copied().unwrap_or(0) as usize;
            let held = self
                .blocks
                .get(cidr)
                .map_or(0, |block| block.held_by(id).count());
            assert!(counted >= held, "{id} counts {counted} of {held} in {cidr}");
        }
        if !counts.is_empty() {
            self.counts.insert(id.clone(), counts);
        }
    }

    fn claim(&mut self, owner: &Owner, cidr: Prefix, state: AffinityState) {
        let owners = self.routed.entry(cidr).or_default();
        owners.retain(|other| other != owner);
        if state == AffinityState::Confirmed {
            owners.push(owner.clone());
            assert_eq!(owners.len(), 1, "{cidr} is routed to {owners:?}");
            let block = self.blocks.get(&cidr).and_then(Block::owner);
            assert_eq!(block, Some(owner), "{cidr} is routed wrongly");
        }
    }

    fn routed(&self, cidr: &Prefix) -> &[Owner] {
        self.routed.get(cidr).map_or(&[], Vec::as_slice)
    }

    fn counted(&self, id: &HandleId, cidr: &Prefix) -> u32 {
        let counts = self.counts.get(id).and_then(|blocks| blocks.get(cidr));
        counts.copied().unwrap_or(0)
    }
}

#[async_trait]
impl IpamStore for Ledger {
    async fn config(&self) -> Result<IpamConfig, StoreError> {
        self.memory.config().await
    }

    async fn pools(&self, audience: &Audience) -> Result<Vec<Pool>, StoreError> {
        self.memory.pools(audience).await
    }

    async fn reservations(&self) -> Result<Vec<Prefix>, StoreError> {
        self.memory.reservations().await
    }

    async fn blocks(&self, cidrs: &[Prefix]) -> Result<Vec<Option<Stored<Block>>>, StoreError> {
        self.memory.blocks(cidrs).await
    }

    async fn all_blocks(&self) -> Result<Listing<Block>, StoreError> {
        self.memory.all_blocks().await
    }

    async fn affinities(
        &self,
        owner: Option<&Owner>,
    ) -> Result<Listing<BlockAffinity>, StoreError> {
        self.memory.affinities(owner).await
    }

    async fn affinity(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, StoreError> {
        self.memory.affinity(owner, block).await
    }

    async fn handles(&self, ids: &[HandleId]) -> Result<Vec<Option<Stored<Handle>>>, StoreError> {
        self.memory.handles(ids).await
    }

    async fn all_handles(&self) -> Result<Listing<Handle>, StoreError> {
        self.memory.all_handles().await
    }

    async fn write(&self, writes: Vec<Write>) -> Vec<Result<Revision, StoreError>> {
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let result = self.memory.write(vec![write.clone()]).await.remove(0);
            if result.is_ok() {
                self.books.lock().unwrap().wrote(&write);
            }
            results.push(result);
        }
        results
    }

    fn is_ordered(&self) -> bool {
        self.ordered
    }
}
