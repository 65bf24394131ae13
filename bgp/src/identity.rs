/// A peer of a [`Speaker`](crate::Speaker). Not used again for another peer before 65536 have come and gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PeerId(pub(crate) u32);

impl PeerId {
    /// The identity of no peer.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) const fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    pub(crate) const fn source(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// An identity that no speaker has given.
    #[cfg(feature = "testing")]
    pub(crate) const fn testing(number: u32) -> Self {
        Self(number)
    }
}
