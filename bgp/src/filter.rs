//! What passes between a peer and the RIB: the [`Filter`] trait, and [`Rules`], filters as plain data.

mod judge;
mod rule;
mod rules;

use std::net::IpAddr;
use std::sync::Arc;

pub use rule::{
    Action, CommunityMatch, CommunityValue, MatchOperator, Operation, PeerType, PrefixLength, Rule,
    RuleFault, RuleSource,
};
pub use rules::{RuleError, RuleList, RuleSet, Rules};

use crate::attributes::Attributes;
use crate::number::AsNumber;
use crate::{Prefix, identity::PeerId};

/// Where the speaker has a route from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Learned {
    /// It originates the route itself.
    Local,
    /// From a peer in its own AS.
    Internal,
    /// From a peer in another AS.
    External,
}

/// The peer that a filter is asked about, and what is known of the route beside its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterPeer {
    /// Its identity; on export that of one peer of the group that the answer is for.
    pub id: PeerId,
    /// Its address; on export as `id`.
    pub address: IpAddr,
    /// Its AS.
    pub peer_as: AsNumber,
    /// Whether it is in another AS than ours.
    pub external: bool,
    /// Where the route is from; on import that is this peer.
    pub learned: Learned,
    /// The interface that the route leads out of: that of its next hop where the host has told one
    /// ([`Speaker::set_next_hop_interface`](crate::Speaker::set_next_hop_interface)), else that of the peer that it
    /// came from ([`PeerConfig::interface`](crate::PeerConfig::interface)).
    pub interface: Option<Arc<str>>,
}

impl FilterPeer {
    /// A peer as a test of a filter needs one; what it is asked about is learned from it, over no known interface.
    #[must_use]
    pub fn new(address: IpAddr, peer_as: impl Into<AsNumber>, external: bool) -> Self {
        Self {
            id: PeerId::UNKNOWN,
            address,
            peer_as: peer_as.into(),
            external,
            learned: if external {
                Learned::External
            } else {
                Learned::Internal
            },
            interface: None,
        }
    }
}

/// What a filter decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The route passes as it is.
    Accept,
    /// The route does not pass.
    Reject,
    /// The route passes with these attributes.
    Replace(Attributes),
}

/// Decides which routes pass and with which attributes.
///
/// Pure: the same question has the same answer for the life of the filter, because answers are kept. To change the
/// rules, give the peer another filter. Peers of one AS that share one `Arc` of an export filter share encoded
/// messages. `testing::filter_kit` (feature `testing`) holds an implementation to this.
pub trait Filter: Send + Sync {
    /// Judges one route. On export `attributes` are those that would be sent.
    fn judge(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict;

    /// Whether the answer depends on the prefix; a filter that says no is asked once per attribute set. Default yes.
    fn looks_at_prefix(&self) -> bool {
        true
    }

    /// Whether the answer on export depends on [`FilterPeer::id`] or [`FilterPeer::address`]; peers of a filter that
    /// says yes share no messages. Default no.
    fn looks_at_peer(&self) -> bool {
        false
    }
}
