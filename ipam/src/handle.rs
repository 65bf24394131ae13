use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Prefix;

/// The name under which addresses are held and released together, for a pod `<network>.<container id>`.
///
/// Calico cuts a handle at its first carriage return; so does this type, so that both find the same record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleId(Arc<str>);

impl HandleId {
    /// The handle of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.split('\r').next().unwrap_or_default().into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for HandleId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for HandleId {
    fn from(name: String) -> Self {
        Self::new(&name)
    }
}

impl From<&Self> for HandleId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

impl fmt::Display for HandleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HandleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The index from a handle to the blocks that hold its addresses.
///
/// It is written before a block when addresses are taken, and after it when they are released. So it may count
/// too many after a crash and never too few: a release by handle finds everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    /// The handle's name.
    pub id: HandleId,
    /// How many addresses the handle has in each block; no entry is zero.
    pub blocks: BTreeMap<Prefix, u32>,
}

impl Handle {
    /// A handle that holds nothing yet.
    #[must_use]
    pub fn new(id: impl Into<HandleId>) -> Self {
        Self {
            id: id.into(),
            blocks: BTreeMap::new(),
        }
    }

    /// Counts `count` more addresses in `block`.
    pub fn increment(&mut self, block: Prefix, count: u32) {
        if count > 0 {
            let entry = self.blocks.entry(block).or_default();
            *entry = entry.saturating_add(count);
        }
    }

    /// Counts `count` fewer addresses in `block`; never below zero, since the index may have been repaired meanwhile.
    pub fn decrement(&mut self, block: Prefix, count: u32) {
        if let Some(entry) = self.blocks.get_mut(&block) {
            *entry = entry.saturating_sub(count);
            if *entry == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    /// Whether the handle counts no address at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}
