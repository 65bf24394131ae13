use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    Allocation, Ask, AssignRequest, Block, Family, HandleId, IpamConfig, Ordinal, Owner, Pool,
    Prefix, Reason, Refusal, Step, Strategy, View,
};

use super::Dice;

/// How many scenes a strategy is put into.
const SCENES: u64 = 2_000;

/// How many steps a request may take: more than any scene has addresses and blocks.
const STEPS: usize = 600;

/// What a strategy did wrong, and in which scene.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scene {scene}: {fault}")]
#[non_exhaustive]
pub struct KitFailure {
    /// The number of the scene; the same on every run.
    pub scene: u64,
    /// What was wrong.
    pub fault: Fault,
}

/// What a strategy can do wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A step broke a rule.
    Refused(Step, Refusal),
    /// The request did not come to an end.
    Restless,
    /// It answered differently to the same question: it has a memory, a clock or a die.
    Fickle(Step, Step),
    /// It gave up while a block of the host's own had an address to give.
    StoppedWithFreeAddresses(Reason),
    /// It gave up while a block could be claimed.
    StoppedWithFreeBlocks(Reason),
    /// It put a pool into the order that was not there, or one twice.
    StrangePools(Vec<Pool>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(step, refusal) => write!(f, "{step:?} was refused: {refusal}"),
            Self::Restless => write!(f, "no end after {STEPS} steps"),
            Self::Fickle(first, second) => write!(f, "first {first:?}, then {second:?}"),
            Self::StoppedWithFreeAddresses(reason) => {
                write!(
                    f,
                    "stopped ({reason}) while a block of its own had free addresses"
                )
            }
            Self::StoppedWithFreeBlocks(reason) => {
                write!(f, "stopped ({reason}) while a block could be claimed")
            }
            Self::StrangePools(pools) => write!(f, "the pools in a strange order: {pools:?}"),
        }
    }
}

/// What is asked of a strategy beyond the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KitOptions {
    /// Whether it must serve a request as long as its host has free addresses, or may claim a block. Default true.
    pub must_serve: bool,
}

impl Default for KitOptions {
    fn default() -> Self {
        Self { must_serve: true }
    }
}

impl KitOptions {
    /// For a strategy that keeps addresses back on purpose.
    #[must_use]
    pub const fn may_refuse(mut self) -> Self {
        self.must_serve = false;
        self
    }
}

/// Puts a strategy into 2,000 scenes: pools of both families and several sizes, own and foreign blocks in every state,
/// reservations, strict affinity, limits, other hosts that are faster at a claim. It must never propose a step that is
/// refused, must come to an end, must answer the same question the same way, and must not give up too early.
///
/// # Errors
/// The first fault.
pub fn strategy_kit(strategy: &dyn Strategy) -> Result<(), KitFailure> {
    strategy_kit_with(strategy, KitOptions::default())
}

/// As [`strategy_kit`], asking what the options say.
///
/// # Errors
/// The first fault.
pub fn strategy_kit_with(strategy: &dyn Strategy, options: KitOptions) -> Result<(), KitFailure> {
    for scene in 0..SCENES {
        let mut stage = Stage::new(scene);
        stage
            .play(strategy, options)
            .map_err(|fault| KitFailure { scene, fault })?;
    }
    Ok(())
}

struct Stage {
    dice: Dice,
    family: Family,
    pools: Vec<Pool>,
    view: View,
    /// Blocks of others, which a survey shows.
    others: Vec<Block>,
    request: AssignRequest,
}

impl Stage {
    fn new(scene: u64) -> Self {
        let mut dice = Dice::new(scene);
        let family = if dice.one_in(3) {
            Family::V6
        } else {
            Family::V4
        };
        let pools: Vec<_> = (0..1 + dice.below(3))
            .map(|n| pool(&mut dice, family, n))
            .collect();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut config = IpamConfig::default();
        config.strict_affinity = dice.one_in(3);
        config.auto_allocate_blocks = config.strict_affinity || !dice.one_in(6);
        config.max_blocks_per_host = u32::try_from(dice.below(4)).unwrap_or(0);
        let reservations: Vec<_> = (0..dice.below(3))
            .map(|_| part(&mut dice, &pools))
            .collect();
        let mut view = View::new(Owner::host("own"), config, &reservations, now);
        let mut others = Vec::new();
        for pool in &pools {
            for index in 0..pool.block_count() {
                let Some(cidr) = pool.block_at(index).filter(|_| dice.one_in(2)) else {
                    continue;
                };
                let Some(block) = block(&mut dice, cidr, now) else {
                    continue;
                };
                if block.owner() == Some(view.owner()) {
                    view.put(block);
                } else {
                    others.push(block);
                }
            }
        }
        let count = 1 + u32::try_from(dice.below(12)).unwrap_or(0);
        let mut request = AssignRequest::new("own", "new").attribute("app", "a");
        request.namespace = dice.one_in(2).then(|| "shop".to_owned());
        request.max_blocks = dice.one_in(4).then_some(2);
        let request = match family {
            Family::V4 => request.v4(count),
            Family::V6 => request.v6(count),
        };
        Self {
            dice,
            family,
            pools,
            view,
            others,
            request,
        }
    }

    fn play(&mut self, strategy: &dyn Strategy, options: KitOptions) -> Result<(), Fault> {
        let mut pools = self.pools.clone();
        strategy.order_pools(&self.request, &self.view, &mut pools);
        let mut names: Vec<_> = pools.iter().map(|pool| &pool.name).collect();
        names.sort();
        names.dedup();
        if names.len() != pools.len() || pools.iter().any(|pool| !self.pools.contains(pool)) {
            return Err(Fault::StrangePools(pools));
        }
        let mut missing = self.request.wanted(self.family).count;
        let record = Allocation::new(self.request.handle.clone(), self.request.attributes.clone());
        let record = Arc::new(record);
        for _ in 0..STEPS {
            if missing == 0 {
                return Ok(());
            }
            let ask = Ask {
                request: &self.request,
                family: self.family,
                pools: &pools,
                missing,
            };
            let step = strategy.next(&ask, &self.view);
            let again = strategy.next(&ask, &self.view);
            if step != again {
                return Err(Fault::Fickle(step, again));
            }
            if let Err(refusal) = self.view.check(&ask, &step) {
                return Err(Fault::Refused(step, refusal));
            }
            if let Step::Stop(reason) = step {
                return early(&self.view, &ask, reason, options);
            }
            missing -= self.perform(&step, &record);
        }
        Err(Fault::Restless)
    }

    /// Does a step; one claim in three is lost to somebody faster. Says how many addresses were taken.
    fn perform(&mut self, step: &Step, record: &Arc<Allocation>) -> u32 {
        match step {
            Step::Take { block, ordinals } | Step::Borrow { block, ordinals } => {
                let taken = self.view.take(block, ordinals, record);
                return u32::try_from(taken.len()).unwrap_or(0);
            }
            Step::Survey => {
                self.others.drain(..).for_each(|block| self.view.put(block));
                self.view.set_surveyed();
            }
            Step::Claim { block } | Step::Reclaim { block } if self.dice.one_in(3) => {
                let faster = Block::new(*block, Owner::host("faster"), self.view.now());
                self.view.remove(block);
                self.view.occupy(block);
                faster.into_iter().for_each(|block| self.view.put(block));
            }
            Step::Claim { block } | Step::Reclaim { block } => self.view.claim(block),
            Step::Stop(_) => {}
        }
        0
    }
}

/// Whether a strategy may give up here.
fn early(view: &View, ask: &Ask<'_>, reason: Reason, options: KitOptions) -> Result<(), Fault> {
    if !options.must_serve {
        return Ok(());
    }
    if ask
        .pools
        .iter()
        .any(|pool| view.open_in(pool).next().is_some())
    {
        return Err(Fault::StoppedWithFreeAddresses(reason));
    }
    let may_claim = view.config().auto_allocate_blocks
        && view.owned(ask.family) < view.block_limit(ask)
        && (!view.surveyed() || ask.pools.iter().any(|p| view.unclaimed_in(p, 0).is_some()));
    if may_claim {
        Err(Fault::StoppedWithFreeBlocks(reason))
    } else {
        Ok(())
    }
}

fn pool(dice: &mut Dice, family: Family, n: u64) -> Pool {
    let bits = family.bits();
    let length = bits - 4 - u8::try_from(dice.below(3)).unwrap_or(0);
    let number = 0x0a00_0000 + u128::from(n) * 0x1_0000;
    let cidr = Prefix::containing(family.address(number), length);
    let cidr = cidr.unwrap_or_else(|_| Prefix::host(IpAddr::from([10, 0, 0, 0])));
    let block_size = length + u8::try_from(dice.below(5)).unwrap_or(0);
    let pool = Pool::new(&format!("pool-{n}"), cidr);
    Pool {
        block_size: block_size.min(bits),
        ..pool
    }
}

/// A range somewhere in the pools.
fn part(dice: &mut Dice, pools: &[Pool]) -> Prefix {
    let place = usize::try_from(dice.below(pools.len() as u64)).unwrap_or(0);
    let cidr = pools[place].cidr;
    let length = cidr.family().bits() - u8::try_from(dice.below(4)).unwrap_or(0);
    let span = u64::try_from(cidr.last() - cidr.first()).unwrap_or(0) + 1;
    let address = cidr
        .family()
        .address(cidr.first() + u128::from(dice.below(span)));
    Prefix::containing(address, length).unwrap_or(cidr)
}

/// A block in any state.
fn block(dice: &mut Dice, cidr: Prefix, now: SystemTime) -> Option<Block> {
    let owner = ["own", "own", "other", "another"][dice.below(4) as usize & 3];
    let claimed = now - Duration::from_secs(dice.below(120));
    let mut block = Block::new(cidr, Owner::host(owner), claimed).ok()?;
    let by = Arc::new(Allocation::new(HandleId::new("old"), BTreeMap::new()));
    let odds = dice.below(4);
    for ordinal in (0..block.size()).map(Ordinal::new) {
        if dice.below(4) < odds {
            let _ = block.take(ordinal, &by);
        }
    }
    if owner == "another" && dice.one_in(2) && !block.is_empty() {
        block.set_owner(None, now);
    }
    Some(block)
}
