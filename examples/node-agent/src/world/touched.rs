//! What a change of the world is about.

/// Which parts of the desired state a change concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Links, routes, host rules, address translation.
    pub network: bool,
    /// BGP sessions.
    pub peers: bool,
    /// What the node announces.
    pub originations: bool,
}

impl Touched {
    pub(super) const NETWORK: Self = Self {
        network: true,
        peers: false,
        originations: true,
    };
    pub(super) const PEERS: Self = Self {
        network: false,
        peers: true,
        originations: false,
    };
    pub(super) const ORIGINATIONS: Self = Self {
        network: false,
        peers: false,
        originations: true,
    };
    /// Pods of this node can be BGP peers.
    pub(super) const PODS: Self = Self::ALL;
    pub(super) const ALL: Self = Self {
        network: true,
        peers: true,
        originations: true,
    };

    /// Both.
    pub const fn add(&mut self, other: Self) {
        self.network |= other.network;
        self.peers |= other.peers;
        self.originations |= other.originations;
    }
}

pub(super) fn changed(changed: bool, touched: Touched) -> Touched {
    if changed { touched } else { Touched::default() }
}
