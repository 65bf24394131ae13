use std::time::Duration;

/// The cluster-wide settings of address management.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpamConfig {
    /// Whether a host takes addresses from its own blocks only and never borrows. Default false, as in Calico.
    pub strict_affinity: bool,
    /// Whether hosts claim blocks by themselves. Default true.
    pub auto_allocate_blocks: bool,
    /// The most blocks of each family that a host may own; 0 means [`DEFAULT_BLOCK_LIMIT`](Self::DEFAULT_BLOCK_LIMIT).
    pub max_blocks_per_host: u32,
    /// How long a released address stays out of use. Default zero, at most 1,200 s in Calico's validation.
    pub cooldown: Duration,
}

/// Settings that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IpamConfigError {
    /// Nothing could ever be assigned.
    #[error("strictAffinity and autoAllocateBlocks cannot both be false")]
    NothingAllowed,
    /// A limit of blocks only binds where borrowing is off.
    #[error("maxBlocksPerHost needs strictAffinity")]
    LimitWithoutStrictness,
    /// The cool-down is above 1,200 s.
    #[error("ipCooldownSeconds is {seconds}, above 1200")]
    Cooldown {
        /// What was asked for.
        seconds: u64,
    },
}

impl IpamConfig {
    /// The most blocks of each family for a host when nothing else is configured.
    pub const DEFAULT_BLOCK_LIMIT: u32 = 20;

    /// Whether the settings agree with each other, by Calico's rules.
    ///
    /// # Errors
    /// The first contradiction. A stored configuration is used even when it has one.
    pub fn validate(&self) -> Result<(), IpamConfigError> {
        if !self.strict_affinity && !self.auto_allocate_blocks {
            return Err(IpamConfigError::NothingAllowed);
        }
        if self.max_blocks_per_host > 0 && !self.strict_affinity {
            return Err(IpamConfigError::LimitWithoutStrictness);
        }
        if self.cooldown > Duration::from_secs(1200) {
            return Err(IpamConfigError::Cooldown {
                seconds: self.cooldown.as_secs(),
            });
        }
        Ok(())
    }

    /// The most blocks of one family that a host may own: the smaller of the configured and the requested number
    /// that is not zero, else the default.
    #[must_use]
    pub fn block_limit(&self, requested: Option<u32>) -> u32 {
        [Some(self.max_blocks_per_host), requested]
            .into_iter()
            .flatten()
            .filter(|limit| *limit > 0)
            .min()
            .unwrap_or(Self::DEFAULT_BLOCK_LIMIT)
    }
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            cooldown: Duration::ZERO,
        }
    }
}
