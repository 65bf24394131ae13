use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use async_trait::async_trait;

use crate::{
    Audience, Block, BlockAffinity, Handle, HandleId, IpamConfig, IpamStore, Listing, Owner, Pool,
    Prefix, Revision, StoreError, Stored, Write,
};

/// A call of a store, as it is about to happen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// Counts the calls, from 0.
    pub number: u64,
    /// What is to be written; empty for a read.
    pub writes: Vec<Write>,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mishap {
    /// It is done as asked.
    #[default]
    None,
    /// Nothing is done; writes are answered with a conflict, reads are done.
    Conflict,
    /// Nothing is done, and the answer is that the store is unavailable.
    Refuse,
    /// It is done, and the answer is that the store is unavailable.
    LoseReply,
    /// The first so many writes are done and the caller never hears again: drop its future, as a crash would.
    CrashAfter(usize),
}

/// Another store, with mishaps: what a test of one's own program on this crate needs to see it survive them.
///
/// Before every call the plan is asked what happens to it. With [`with_yields`](Self::with_yields) every call gives
/// way once before it is done, so that an executor can interleave callers as it likes.
pub struct FaultyStore {
    store: Arc<dyn IpamStore>,
    plan: Plan,
    calls: AtomicU64,
    yields: bool,
}

type Plan = Mutex<Box<dyn FnMut(&Call) -> Mishap + Send>>;

#[derive(Debug, thiserror::Error)]
#[error("as planned")]
struct Planned;

fn unavailable() -> StoreError {
    StoreError::Unavailable(Arc::new(Planned))
}

impl FaultyStore {
    /// A store whose calls go as the plan says.
    #[must_use]
    pub fn new(
        store: Arc<dyn IpamStore>,
        plan: impl FnMut(&Call) -> Mishap + Send + 'static,
    ) -> Self {
        Self {
            store,
            plan: Mutex::new(Box::new(plan)),
            calls: AtomicU64::new(0),
            yields: false,
        }
    }

    /// Every call gives way once.
    #[must_use]
    pub const fn with_yields(mut self) -> Self {
        self.yields = true;
        self
    }

    /// How many calls there have been; the writes of one batch are one.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn mishap(&self, writes: &[Write]) -> Mishap {
        if self.yields {
            give_way().await;
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let call = Call {
            number,
            writes: writes.to_vec(),
        };
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan(&call)
    }

    async fn read(&self) -> Result<(), StoreError> {
        match self.mishap(&[]).await {
            Mishap::None | Mishap::Conflict => Ok(()),
            Mishap::Refuse | Mishap::LoseReply => Err(unavailable()),
            Mishap::CrashAfter(_) => never().await,
        }
    }
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// Pending once.
async fn give_way() {
    let mut first = true;
    poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Pending for ever.
async fn never<T>() -> T {
    poll_fn(|_| Poll::Pending).await
}

#[async_trait]
impl IpamStore for FaultyStore {
    async fn config(&self) -> Result<IpamConfig, StoreError> {
        self.read().await?;
        self.store.config().await
    }

    async fn pools(&self, audience: &Audience) -> Result<Vec<Pool>, StoreError> {
        self.read().await?;
        self.store.pools(audience).await
    }

    async fn reservations(&self) -> Result<Vec<Prefix>, StoreError> {
        self.read().await?;
        self.store.reservations().await
    }

    async fn blocks(&self, cidrs: &[Prefix]) -> Result<Vec<Option<Stored<Block>>>, StoreError> {
        self.read().await?;
        self.store.blocks(cidrs).await
    }

    async fn all_blocks(&self) -> Result<Listing<Block>, StoreError> {
        self.read().await?;
        self.store.all_blocks().await
    }

    async fn affinities(
        &self,
        owner: Option<&Owner>,
    ) -> Result<Listing<BlockAffinity>, StoreError> {
        self.read().await?;
        self.store.affinities(owner).await
    }

    async fn affinity(
        &self,
        owner: &Owner,
        block: Prefix,
    ) -> Result<Option<Stored<BlockAffinity>>, StoreError> {
        self.read().await?;
        self.store.affinity(owner, block).await
    }

    async fn handles(&self, ids: &[HandleId]) -> Result<Vec<Option<Stored<Handle>>>, StoreError> {
        self.read().await?;
        self.store.handles(ids).await
    }

    async fn all_handles(&self) -> Result<Listing<Handle>, StoreError> {
        self.read().await?;
        self.store.all_handles().await
    }

    async fn write(&self, mut writes: Vec<Write>) -> Vec<Result<Revision, StoreError>> {
        match self.mishap(&writes).await {
            Mishap::None => self.store.write(writes).await,
            Mishap::Conflict => writes
                .iter()
                .map(|write| Err(StoreError::Conflict(write.key())))
                .collect(),
            Mishap::Refuse => writes.iter().map(|_| Err(unavailable())).collect(),
            Mishap::LoseReply => {
                let count = writes.len();
                self.store.write(writes).await;
                (0..count).map(|_| Err(unavailable())).collect()
            }
            Mishap::CrashAfter(done) => {
                writes.truncate(done);
                if !writes.is_empty() {
                    self.store.write(writes).await;
                }
                never().await
            }
        }
    }

    fn is_ordered(&self) -> bool {
        self.store.is_ordered()
    }

    async fn write_in_order(&self, mut writes: Vec<Write>) -> Vec<Result<Revision, StoreError>> {
        match self.mishap(&writes).await {
            Mishap::None => self.store.write_in_order(writes).await,
            Mishap::Conflict => {
                let first = writes.first().map(Write::key);
                first
                    .map(|key| Err(StoreError::Conflict(key)))
                    .into_iter()
                    .collect()
            }
            Mishap::Refuse => writes.iter().map(|_| Err(unavailable())).collect(),
            Mishap::LoseReply => {
                let count = writes.len();
                self.store.write_in_order(writes).await;
                (0..count).map(|_| Err(unavailable())).collect()
            }
            Mishap::CrashAfter(done) => {
                writes.truncate(done);
                if !writes.is_empty() {
                    self.store.write_in_order(writes).await;
                }
                never().await
            }
        }
    }
}
