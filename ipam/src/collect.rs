use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::check::Held;
use crate::{
    Block, Family, HandleId, HostReserved, Ipam, Owner, Prefix, Release, ReleaseError, Tunnel,
};

mod evidence;

pub use self::evidence::{Evidence, Verdict};

/// Says of addresses that are held whether they live: the port of the [`Collector`].
///
/// An address lives while its attachment does. The node knows best, by its own records; [`Evidence`] has the order in
/// which to believe others.
#[async_trait]
pub trait Liveness: Send + Sync {
    /// A verdict for each address, in their order. What cannot be told is [`Verdict::Unknown`].
    async fn verdicts(&self, held: &[Held]) -> Vec<Verdict>;
}

/// Who collects, and so what it may condemn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Judge {
    /// A node: the dead among the addresses that were taken for it, and its own idle blocks.
    Node(String),
    /// Somebody who knows which nodes exist: whatever was taken for nodes that are proven gone.
    GoneNodes,
}

/// Releases addresses that were taken and forgotten.
///
/// An address is released when it has been found dead for as long as the grace period, is found dead once more right
/// before, has not been taken again meanwhile, and when the same holds for every address of its handle. Of a node that
/// is proven gone there is no grace. An address that does not say for which node it was taken is never judged.
#[derive(Clone, Debug)]
pub struct Collector {
    judge: Judge,
    grace: Duration,
    suspects: BTreeMap<IpAddr, Suspect>,
    /// Own blocks that were empty at the last look, by the number of their last write.
    idle: BTreeMap<Prefix, u64>,
    /// Every how many sweeps a node looks at everybody's blocks.
    everywhere: u32,
    sweeps: u32,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    sequence: u64,
    since: SystemTime,
}

/// What a sweep did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Sweep {
    /// The addresses that were released.
    pub released: Vec<IpAddr>,
    /// The blocks that were given up because they stayed empty.
    pub blocks: Vec<Prefix>,
    /// The addresses that are suspected.
    pub suspects: Vec<IpAddr>,
}

impl Collector {
    /// The usual grace period: 15 minutes. Two or three sweeps should fall into it.
    pub const GRACE: Duration = Duration::from_secs(15 * 60);

    /// Every how many sweeps a node looks at everybody's blocks, where it may have borrowed: 12, once an hour when
    /// it sweeps every five minutes.
    pub const EVERYWHERE: u32 = 12;

    /// A collector that suspects nobody yet.
    #[must_use]
    pub const fn new(judge: Judge, grace: Duration) -> Self {
        Self {
            judge,
            grace,
            suspects: BTreeMap::new(),
            idle: BTreeMap::new(),
            everywhere: Self::EVERYWHERE,
            sweeps: 0,
        }
    }

    /// Looks at everybody's blocks every so many sweeps; 1 for every time, 0 for never.
    #[must_use]
    pub const fn everywhere(mut self, every: u32) -> Self {
        self.everywhere = every;
        self
    }

    /// Looks at what is held and releases what is dead.
    ///
    /// A node reads its own claims and their blocks, and everybody's, where it may have borrowed, only every so many sweeps
    /// ([`EVERYWHERE`](Self::EVERYWHERE)); others read all blocks each time.
    ///
    /// # Errors
    /// When the store fails; the next sweep goes on.
    ///
    /// # Cancel safety
    /// A dropped call leaves what it has released released, and may have forgotten suspicions.
    pub async fn sweep(
        &mut self,
        ipam: &Ipam,
        liveness: &dyn Liveness,
        now: SystemTime,
    ) -> Result<Sweep, ReleaseError> {
        self.sweeps = self.sweeps.wrapping_add(1);
        let blocks = self.look(ipam).await?;
        let held = crate::check::held_in(&blocks);
        let verdicts = liveness.verdicts(&held).await;
        let looked = |address| blocks.iter().any(|block| block.cidr().contains(address));
        let condemned = self.observe_in(&held, &verdicts, now, looked);
        let mut sweep = Sweep::default();
        for handle in condemned {
            let handle = whole(ipam, handle).await?;
            let again = liveness.verdicts(&handle).await;
            if !self.all_dead(&handle, &again) {
                continue;
            }
            for held in &handle {
                let mut release = Release::new(held.address).taken_by(held.sequence);
                release.handle.clone_from(&held.handle);
                let mut done = ipam.release_ips(&[release], now).await?;
                for address in &done.addresses {
                    self.suspects.remove(address);
                }
                sweep.released.append(&mut done.addresses);
            }
        }
        ipam.thaw(&blocks, &self.judge, now).await?;
        if let Judge::Node(node) = &self.judge {
            let owner = Owner::host(node);
            for (block, sequence) in self.idle_blocks(&blocks, &owner) {
                match ipam
                    .release_block(&owner, block, true, Some(sequence), now)
                    .await
                {
                    Ok(()) => sweep.blocks.push(block),
                    Err(ReleaseError::Store(error)) => return Err(error.into()),
                    Err(_) => {}
                }
            }
        }
        sweep.suspects = self.suspects.keys().copied().collect();
        Ok(sweep)
    }

    /// The blocks of this sweep.
    async fn look(&self, ipam: &Ipam) -> Result<Vec<Block>, ReleaseError> {
        let everywhere = self.everywhere > 0 && self.sweeps % self.everywhere == 0;
        let stored = match &self.judge {
            Judge::Node(node) if !everywhere => {
                let claims = ipam.store().affinities(Some(&Owner::host(node))).await?;
                let cidrs: Vec<_> = claims.records.iter().map(|one| one.value.block).collect();
                let blocks = ipam.store().blocks(&cidrs).await?;
                blocks.into_iter().flatten().collect()
            }
            _ => ipam.store().all_blocks().await?.records,
        };
        Ok(stored.into_iter().map(|stored| stored.value).collect())
    }

    /// Takes note of verdicts on everything that is held, and says which handles are condemned: all addresses of
    /// each, every one of them dead for long enough.
    pub fn observe(
        &mut self,
        held: &[Held],
        verdicts: &[Verdict],
        now: SystemTime,
    ) -> Vec<Vec<Held>> {
        self.observe_in(held, verdicts, now, |_| true)
    }

    /// As [`observe`](Self::observe), of what is held where was looked: suspicions about other places stay.
    fn observe_in(
        &mut self,
        held: &[Held],
        verdicts: &[Verdict],
        now: SystemTime,
        looked: impl Fn(IpAddr) -> bool,
    ) -> Vec<Vec<Held>> {
        let mut handles: BTreeMap<&HandleId, Vec<(&Held, bool)>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let verdicts = verdicts
            .iter()
            .copied()
            .chain(std::iter::repeat(Verdict::Unknown));
        for (held, verdict) in held.iter().zip(verdicts) {
            let Some(handle) = &held.handle else { continue };
            let dead = self.suspect(held, verdict, now);
            seen.insert(held.address);
            handles.entry(handle).or_default().push((held, dead));
        }
        self.suspects
            .retain(|address, _| seen.contains(address) || !looked(*address));
        let condemned = handles
            .into_values()
            .filter(|all| all.iter().all(|(_, dead)| *dead));
        condemned
            .map(|all| all.into_iter().map(|(held, _)| held.clone()).collect())
            .collect()
    }

    /// Whether an address has been dead for long enough.
    fn suspect(&mut self, held: &Held, verdict: Verdict, now: SystemTime) -> bool {
        if !self.may_condemn(held, verdict) {
            self.suspects.remove(&held.address);
            return false;
        }
        if verdict == Verdict::NodeGone {
            return true;
        }
        let fresh = Suspect {
            sequence: held.sequence,
            since: now,
        };
        let suspect = self.suspects.entry(held.address).or_insert(fresh);
        if suspect.sequence != held.sequence || suspect.since > now {
            *suspect = fresh;
        }
        now.duration_since(suspect.since)
            .is_ok_and(|age| age >= self.grace)
    }

    /// Whether this judge may believe this verdict on this address.
    fn may_condemn(&self, held: &Held, verdict: Verdict) -> bool {
        let Some(node) = held.attributes.get("node") else {
            return false;
        };
        if held
            .handle
            .as_ref()
            .is_none_or(|handle| handle.as_str() == HostReserved::HANDLE)
        {
            return false;
        }
        match &self.judge {
            Judge::GoneNodes => verdict == Verdict::NodeGone,
            // The tunnel of a node lives as long as the node.
            Judge::Node(own) => verdict == Verdict::Dead && own == node && !is_tunnel(held),
        }
    }

    fn all_dead(&self, held: &[Held], verdicts: &[Verdict]) -> bool {
        held.len() == verdicts.len()
            && held
                .iter()
                .zip(verdicts)
                .all(|(held, verdict)| self.may_condemn(held, *verdict))
    }

    /// The node's blocks that were empty at the last look and have not been written since, but for one of each family,
    /// which the next pod will need.
    fn idle_blocks(&mut self, blocks: &[Block], owner: &Owner) -> Vec<(Prefix, u64)> {
        let own = || blocks.iter().filter(|block| block.owner() == Some(owner));
        let empty: BTreeMap<_, _> = own()
            .filter(|block| block.is_vacant())
            .map(|block| (block.cidr(), block.sequence()))
            .collect();
        let mut idle = Vec::new();
        for family in Family::ALL {
            let owned = own()
                .filter(|block| block.cidr().family() == family)
                .count();
            let of_family = empty.iter().filter(|(cidr, _)| cidr.family() == family);
            let twice = of_family.filter(|(cidr, number)| self.idle.get(cidr) == Some(number));
            idle.extend(twice.map(|(c, s)| (*c, *s)).take(owned.saturating_sub(1)));
        }
        self.idle = empty;
        idle
    }
}

impl Ipam {
    /// Frees addresses that have cooled down: a node those of its own blocks, others those of nobody's.
    async fn thaw(
        &self,
        blocks: &[Block],
        judge: &Judge,
        now: SystemTime,
    ) -> Result<(), ReleaseError> {
        let theirs = |block: &Block| match judge {
            Judge::Node(node) => block.owner().and_then(Owner::node) == Some(node),
            Judge::GoneNodes => block.owner().is_none(),
        };
        for block in blocks.iter().filter(|block| theirs(block)) {
            self.release_cooled(block.cidr(), now).await?;
        }
        Ok(())
    }
}

/// A condemned handle with the addresses that it has where was not looked: they are judged, too, before any is released.
async fn whole(ipam: &Ipam, seen: Vec<Held>) -> Result<Vec<Held>, ReleaseError> {
    let Some(id) = seen.first().and_then(|held| held.handle.clone()) else {
        return Ok(seen);
    };
    let mut held = crate::check::held_in(&ipam.blocks_of(&id).await?);
    held.retain(|one| one.handle.as_ref() == Some(&id));
    let known = |one: &Held| held.iter().any(|other| other.address == one.address);
    // What the handle does not count is held all the same.
    let uncounted: Vec<_> = seen.iter().filter(|one| !known(one)).cloned().collect();
    held.extend(uncounted);
    // As it was judged: what was taken again since is not released.
    for one in &mut held {
        if let Some(judged) = seen.iter().find(|other| other.address == one.address) {
            one.sequence = judged.sequence;
        }
    }
    Ok(held)
}

fn is_tunnel(held: &Held) -> bool {
    let kind = held.attributes.get("type");
    kind.is_some_and(|kind| Tunnel::ALL.iter().any(|tunnel| tunnel.attribute() == kind))
}
