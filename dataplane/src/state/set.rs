use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Protocol;
use crate::Prefix;

/// The identity of a set: equal ids mean equal meaning, whoever asks for it. At most 64 bytes of `[A-Za-z0-9:_-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(Arc<str>);

impl SetId {
    /// An id of the given text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One member of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// An address range; a single address is a /32 or /128.
    Net(Prefix),
    /// A port of an address: a named port or a service's endpoint.
    Port(IpAddr, Protocol, u16),
}

/// The members of a set: all of one kind.
pub type Members = BTreeSet<Member>;

/// A change of a set's members, remembered so that a dataplane can follow without comparing whole sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// The member came.
    Added(Member),
    /// The member went.
    Removed(Member),
}

/// How many changes a set remembers. Past that a follower compares the members, which costs what the set is large.
const REMEMBERED: usize = 1024;

/// A named set of addresses and ranges, or of ports of addresses.
///
/// Cheap to clone. It counts its generations and remembers its latest changes, so that
/// [`changes_since`](Self::changes_since) answers in the size of the change.
#[derive(Clone, Debug, Default)]
pub struct Set {
    members: Arc<Members>,
    generation: u64,
    changes: Arc<Vec<SetChange>>,
    /// The moment before each of `changes`, ascending.
    before: Arc<Vec<Moment>>,
    moment: Moment,
}

/// A moment in a set's life: what a follower keeps instead of the members.
///
/// No two changes in a process share one: sets that were made apart, or changed apart after a clone, are at
/// different moments even when they have counted the same generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Set {
    /// A set with these members, at generation 0.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        Self {
            members: Arc::new(members.into_iter().collect()),
            moment: Moment::next(),
            ..Self::default()
        }
    }

    /// The moment that the set is at.
    #[must_use]
    pub const fn moment(&self) -> Moment {
        self.moment
    }

    /// The changes since `moment`, oldest first; `None` when they are no longer remembered or the moment is not of
    /// this set's past.
    #[must_use]
    pub fn changes_after(&self, moment: Moment) -> Option<&[SetChange]> {
        if moment == self.moment {
            return Some(&[]);
        }
        let first = self.before.binary_search(&moment).ok()?;
        self.changes.get(first..)
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// How many changes the set has seen.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds a member; false if it was there.
    pub fn insert(&mut self, member: Member) -> bool {
        let new = !self.members.contains(&member);
        if new {
            Arc::make_mut(&mut self.members).insert(member);
            self.note(SetChange::Added(member));
        }
        new
    }

    /// Removes a member; false if it was not there.
    pub fn remove(&mut self, member: &Member) -> bool {
        let old = self.members.contains(member);
        if old {
            Arc::make_mut(&mut self.members).remove(member);
            self.note(SetChange::Removed(*member));
        }
        old
    }

    /// The changes after `generation`, oldest first; `None` when they are no longer remembered or `generation` is
    /// not of this set's past.
    #[must_use]
    pub fn changes_since(&self, generation: u64) -> Option<&[SetChange]> {
        let back = usize::try_from(self.generation.checked_sub(generation)?).ok()?;
        self.changes
            .len()
            .checked_sub(back)
            .and_then(|from| self.changes.get(from..))
    }

    /// Whether both are the same value in memory: no comparison of members is needed.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.members, &other.members)
    }

    fn note(&mut self, change: SetChange) {
        let changes = Arc::make_mut(&mut self.changes);
        if changes.len() >= REMEMBERED * 2 {
            changes.drain(..REMEMBERED);
        }
        changes.push(change);
        let before = Arc::make_mut(&mut self.before);
        if before.len() >= REMEMBERED * 2 {
            before.drain(..REMEMBERED);
        }
        before.push(self.moment);
        self.moment = Moment::next();
        self.generation += 1;
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.members == other.members
    }
}

impl Eq for Set {}

impl FromIterator<Member> for Set {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        Self::new(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(last: u8) -> Member {
        Member::Net(Prefix::host(IpAddr::from([10, 0, 0, last])))
    }

    #[test]
    fn changes_are_those_after_the_moment() {
        let mut set = Set::new([host(1)]);
        let start = set.moment();
        set.insert(host(2));
        let middle = set.moment();
        set.remove(&host(1));
        let both = [SetChange::Added(host(2)), SetChange::Removed(host(1))];
        assert_eq!(set.changes_after(start), Some(&both[..]));
        assert_eq!(set.changes_after(middle), Some(&both[1..]));
        assert_eq!(set.changes_after(set.moment()), Some(&[][..]));
    }

    #[test]
    fn a_moment_of_another_life_is_unknown() {
        let mut set = Set::new([host(1)]);
        let mut twin = set.clone();
        set.insert(host(2));
        twin.insert(host(3));
        let moment = twin.moment();
        set.insert(host(4));
        assert_eq!(set.generation(), 2);
        assert_eq!(set.changes_after(moment), None);
        assert_eq!(set.changes_after(Set::new([host(1)]).moment()), None);
    }

    #[test]
    fn old_changes_are_forgotten() {
        let mut set = Set::new([]);
        let start = set.moment();
        for n in 0..3000_u32 {
            set.insert(Member::Net(Prefix::host(IpAddr::from(n.to_be_bytes()))));
        }
        assert_eq!(set.changes_after(start), None);
        assert_eq!(set.changes_since(0), None);
        assert_eq!(set.changes_since(2999).map(<[_]>::len), Some(1));
    }
}
