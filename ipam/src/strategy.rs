use crate::{AssignRequest, Family, Ordinal, Pool, Prefix, Reason, View};

mod block_affine;
mod rehearse;

pub use self::block_affine::{BlockAffine, start_index};
pub use self::rehearse::{Rehearsal, rehearse};

/// What is still wanted of one family of a request, and from which pools.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The request.
    pub request: &'a AssignRequest,
    /// The family that is being served.
    pub family: Family,
    /// The pools that may be used, in the order of their use.
    pub pools: &'a [Pool],
    /// How many addresses are missing; at least 1.
    pub missing: u32,
}

/// What a strategy proposes to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Take these addresses of one of the host's own blocks.
    Take {
        /// The block.
        block: Prefix,
        /// At least one and at most as many as are missing.
        ordinals: Vec<Ordinal>,
    },
    /// Learn about the blocks of everybody: one list of the store. Once for each request.
    Survey,
    /// Claim a block that does not exist yet, after a survey. When another host is faster, it is not offered again.
    Claim {
        /// The block.
        block: Prefix,
    },
    /// Take an empty block from its owner, or from nobody, after a survey. When somebody is faster, it is not offered
    /// again.
    Reclaim {
        /// The block.
        block: Prefix,
    },
    /// Take these addresses of another owner's block, or nobody's, after a survey.
    Borrow {
        /// The block.
        block: Prefix,
        /// At least one and at most as many as are missing.
        ordinals: Vec<Ordinal>,
    },
    /// Give up.
    Stop(Reason),
}

/// Decides which addresses a request gets, one step at a time, on plain data: no I/O, no clock, nothing to wait for.
///
/// The allocator asks for a step, [checks](View::check) it, does it, and asks again with what it found, until nothing
/// is missing or the strategy stops. A step that breaks a rule ends the request with [`Reason::Refused`]: a strategy
/// can waste addresses, and cannot give one away twice. [`rehearse`] runs it without a store, and the `strategy_kit` of
/// the feature `testing` says whether it holds its end.
///
/// ```
/// use ocicat_ipam::{Ask, Reason, Step, Strategy, View};
///
/// /// Serves from the host's own blocks, the highest address first, and claims nothing (as `unclaimed_in` and
/// /// `Step::Claim` would, after a `Step::Survey`).
/// struct Downwards;
///
/// impl Strategy for Downwards {
///     fn next(&self, ask: &Ask<'_>, view: &View) -> Step {
///         let open = ask.pools.iter().flat_map(|pool| view.open_in(pool));
///         let mut highest = open.filter_map(|open| {
///             // The first four of each block are for another purpose.
///             let mine = view.usable(&open.cidr()).filter(|ordinal| usize::from(*ordinal) >= 4);
///             Some((open.cidr(), mine.max()?))
///         });
///         match highest.next() {
///             Some((block, highest)) => Step::Take { block, ordinals: vec![highest] },
///             None => Step::Stop(Reason::Other("nothing prepared".to_owned())),
///         }
///     }
/// }
/// ```
pub trait Strategy: Send + Sync {
    /// Puts the pools into the order of their use. They are sorted by name; those that a request names stay in the
    /// request's order, and this is not called. Pools may be left out, and none can be added.
    fn order_pools(&self, request: &AssignRequest, view: &View, pools: &mut Vec<Pool>) {
        let _ = (request, view, pools);
    }

    /// The next step towards what is missing.
    fn next(&self, ask: &Ask<'_>, view: &View) -> Step;
}
