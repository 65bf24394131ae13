use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

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
}

impl Set {
    /// A set with these members, at generation 0.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        Self {
            members: Arc::new(members.into_iter().collect()),
            ..Self::default()
        }
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
