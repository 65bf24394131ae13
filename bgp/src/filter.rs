//! What passes between a peer and the RIB.

use crate::attributes::Attributes;
use crate::number::AsNumber;
use crate::{Prefix, speaker::PeerId};
use std::net::IpAddr;

/// The peer that a filter is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterPeer {
    /// Its identity; on export that of one peer of the group that the answer is for.
    pub id: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub peer_as: AsNumber,
    /// Whether it is in another AS than ours.
    pub external: bool,
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
/// rules, give the peer another filter. Peers that share one `Arc` of an export filter can share encoded messages.
pub trait Filter: Send + Sync {
    /// Judges one route. On export `attributes` are those that would be sent.
    fn judge(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict;

    /// Whether the answer depends on the prefix; a filter that says no is asked once per attribute set. Default yes.
    fn looks_at_prefix(&self) -> bool {
        true
    }
}
