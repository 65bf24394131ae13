use super::View;
use crate::{Ask, Ordinal, Prefix, Step};

/// Why a step of a strategy is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The block is none of the request's pools'.
    #[error("{0} is no block of a pool of this request")]
    OutsidePools(Prefix),
    /// The block does not exist, as far as is known.
    #[error("{0} is not known")]
    UnknownBlock(Prefix),
    /// The block belongs to another owner: it can be borrowed from, or reclaimed.
    #[error("{0} does not belong to this host")]
    Foreign(Prefix),
    /// The block is the host's own already.
    #[error("{0} belongs to this host")]
    Own(Prefix),
    /// The block is there already.
    #[error("{0} exists")]
    Exists(Prefix),
    /// The step takes no address, or more than are missing.
    #[error("{proposed} addresses proposed where {missing} are missing")]
    Count {
        /// How many the step takes.
        proposed: usize,
        /// How many are missing.
        missing: u32,
    },
    /// The address is held, cools down, is proposed twice, or is none of the block's.
    #[error("address {ordinal} of {block} is not free")]
    NotFree {
        /// The block.
        block: Prefix,
        /// The address's place in it.
        ordinal: Ordinal,
    },
    /// The address is reserved.
    #[error("address {ordinal} of {block} is reserved")]
    Reserved {
        /// The block.
        block: Prefix,
        /// The address's place in it.
        ordinal: Ordinal,
    },
    /// Affinity is strict: nothing is borrowed.
    #[error("affinity is strict")]
    StrictAffinity,
    /// The host has as many blocks as it may have.
    #[error("the host has as many blocks as it may have ({limit})")]
    BlockLimit {
        /// The most that it may have.
        limit: u32,
    },
    /// Hosts do not claim blocks by themselves.
    #[error("blocks are not allocated automatically")]
    NoAutoAllocation,
    /// The block holds addresses, or was claimed a moment ago.
    #[error("{0} is in use or was claimed less than a minute ago")]
    InUse(Prefix),
    /// Everybody's blocks must be known first, or are known already.
    #[error("a survey comes once, and before other hosts' blocks are touched")]
    Survey,
}

impl View {
    /// Whether a step is allowed for a request: the rules that no strategy can break.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, ask: &Ask<'_>, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::Take { block, ordinals } => {
                self.check_in_pools(ask, block)?;
                if self.known(block)?.owner() != Some(&self.owner) {
                    return Err(Refusal::Foreign(*block));
                }
                self.check_ordinals(ask, block, ordinals)
            }
            Step::Borrow { block, ordinals } => {
                self.check_in_pools(ask, block)?;
                if self.config.strict_affinity {
                    return Err(Refusal::StrictAffinity);
                }
                if self.known(block)?.owner() == Some(&self.owner) {
                    return Err(Refusal::Own(*block));
                }
                self.check_ordinals(ask, block, ordinals)
            }
            Step::Claim { block } => {
                self.check_in_pools(ask, block)?;
                self.check_growth(ask)?;
                let (first, last) = (block.first(), block.last());
                match self.occupied.meeting(block.family(), first, last) {
                    Some(_) => Err(Refusal::Exists(*block)),
                    None => Ok(()),
                }
            }
            Step::Reclaim { block } => {
                self.check_in_pools(ask, block)?;
                self.check_growth(ask)?;
                if self.known(block)?.owner() == Some(&self.owner) {
                    return Err(Refusal::Own(*block));
                }
                let idle = self.reclaimable.contains(block);
                idle.then_some(()).ok_or(Refusal::InUse(*block))
            }
            Step::Survey if self.surveyed => Err(Refusal::Survey),
            Step::Survey | Step::Stop(_) => Ok(()),
        }
    }

    fn known(&self, block: &Prefix) -> Result<&crate::Block, Refusal> {
        self.block(block).ok_or(Refusal::UnknownBlock(*block))
    }

    fn check_in_pools(&self, ask: &Ask<'_>, block: &Prefix) -> Result<(), Refusal> {
        let inside = ask.pools.iter().any(|pool| pool.has_block(block));
        inside.then_some(()).ok_or(Refusal::OutsidePools(*block))
    }

    fn check_growth(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if !self.surveyed {
            return Err(Refusal::Survey);
        }
        if !self.config.auto_allocate_blocks {
            return Err(Refusal::NoAutoAllocation);
        }
        let limit = self.block_limit(ask);
        if self.owned(ask.family) >= limit {
            return Err(Refusal::BlockLimit { limit });
        }
        Ok(())
    }

    /// The most blocks of the request's family that the host may own.
    #[must_use]
    pub fn block_limit(&self, ask: &Ask<'_>) -> u32 {
        self.config.block_limit(ask.request.max_blocks)
    }

    fn check_ordinals(
        &self,
        ask: &Ask<'_>,
        block: &Prefix,
        ordinals: &[Ordinal],
    ) -> Result<(), Refusal> {
        let (proposed, missing) = (ordinals.len(), ask.missing);
        if proposed == 0 || u32::try_from(proposed).is_ok_and(|n| n > missing) {
            return Err(Refusal::Count { proposed, missing });
        }
        let entry = self
            .entries
            .get(block)
            .ok_or(Refusal::UnknownBlock(*block))?;
        let mut seen = crate::Bitmap::empty(usize::from(entry.block.size()));
        for &ordinal in ordinals {
            if !entry.block.is_free(ordinal) || seen.contains(ordinal) {
                return Err(Refusal::NotFree {
                    block: *block,
                    ordinal,
                });
            }
            if entry.is_reserved(ordinal) {
                return Err(Refusal::Reserved {
                    block: *block,
                    ordinal,
                });
            }
            seen.insert(ordinal);
        }
        Ok(())
    }
}
