//! What tests of programs on this crate need (feature `testing`): [`filter_kit`], which holds an implementation of
//! [`Filter`] to what the speaker relies on.

use std::net::IpAddr;
use std::sync::Arc;

use crate::attributes::{AsPath, Attributes, Community, LargeCommunity, Origin};
use crate::filter::{Filter, FilterPeer, Learned, Verdict};
use crate::number::AsNumber;
use crate::{Prefix, identity::PeerId};

/// Where a filter breaks what the speaker relies on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterFault {
    /// The same question had two answers, so that it depends on when it is asked which routes pass.
    #[error("{prefix} from {address}: {first:?}, and asked again {second:?}")]
    Moody {
        /// The prefix asked about.
        prefix: Prefix,
        /// The peer asked about.
        address: IpAddr,
        /// The first answer.
        first: Box<Verdict>,
        /// The other answer.
        second: Box<Verdict>,
    },
    /// It says that it does not look at prefixes, and its answer depends on one.
    #[error("looks_at_prefix() is false, and {first} and {second} are judged differently")]
    Prefix {
        /// One prefix.
        first: Prefix,
        /// The other, with the same attributes from the same peer.
        second: Prefix,
    },
    /// It says that it does not look at the peer, and its answer depends on which one it is.
    #[error("looks_at_peer() is false, and {first} and {second} get different answers")]
    Peer {
        /// One peer.
        first: IpAddr,
        /// The other, of the same AS.
        second: IpAddr,
    },
    /// It has taken an AS out of the path, which is what keeps routes from going in circles.
    #[error("the AS path {before} became {after}")]
    Path {
        /// The path as it was.
        before: String,
        /// The path as the filter left it.
        after: String,
    },
}

const NUMBERS: [u32; 3] = [64512, 64513, 4_200_000_001];

fn peers() -> Vec<FilterPeer> {
    let mut peers = Vec::new();
    for (at, &number) in NUMBERS.iter().enumerate() {
        for last in 1..=3u8 {
            for learned in [Learned::Local, Learned::Internal, Learned::External] {
                for interface in [None, Some("eth0"), Some("vxlan.calico")] {
                    let address = IpAddr::from([192, 0, 2, at as u8 * 16 + last]);
                    peers.push(FilterPeer {
                        id: PeerId::testing(at as u32 * 3 + u32::from(last)),
                        learned,
                        interface: interface.map(Arc::from),
                        ..FilterPeer::new(address, number, at > 0)
                    });
                }
            }
        }
    }
    peers
}

fn prefixes() -> [Vec<Prefix>; 2] {
    let all = |ranges: &[(&str, u8)]| {
        let range = |&(address, length): &(&str, u8)| {
            let address: IpAddr = address.parse().ok()?;
            Prefix::containing(address, length).ok()
        };
        ranges.iter().filter_map(range).collect()
    };
    [
        all(&[
            ("0.0.0.0", 0),
            ("10.0.0.0", 8),
            ("10.1.2.64", 26),
            ("10.1.2.3", 32),
            ("172.16.0.0", 12),
            ("192.168.0.0", 16),
            ("203.0.113.0", 24),
        ]),
        all(&[
            ("::", 0),
            ("fd00::", 8),
            ("fd00:10:244::40", 122),
            ("2001:db8::1", 128),
        ]),
    ]
}

fn attributes() -> Vec<Attributes> {
    let v4 = |last: u8| IpAddr::from([198, 51, 100, last]);
    vec![
        Attributes::local(),
        Attributes::builder().next_hop(v4(1)).build(),
        Attributes::builder()
            .next_hop(v4(2))
            .prepend(AsNumber(64513), 2)
            .prepend(AsNumber(4_200_000_001), 1)
            .origin(Origin::Incomplete)
            .med(7)
            .local_pref(100)
            .build(),
        Attributes::builder()
            .next_hop(v4(3))
            .local_pref(2_147_483_135)
            .community(Community(64512 << 16 | 100))
            .community(Community::NO_EXPORT)
            .large_community(LargeCommunity(64512, 1, 2))
            .build(),
    ]
}

/// Asks a filter what a speaker may ask it, and checks what the speaker relies on: the same answer each time and in any
/// order; no dependence on prefix or peer that it does not own up to; no AS taken out of a path. A panic is the
/// filter's own.
///
/// # Errors
/// The first [`FilterFault`].
pub fn filter_kit(filter: &dyn Filter) -> Result<(), FilterFault> {
    let (peers, attributes) = (peers(), attributes());
    let mut answers = Vec::new();
    for peer in &peers {
        for set in &attributes {
            for prefix in prefixes().iter().flatten() {
                let verdict = filter.judge(peer, prefix, set);
                if let Verdict::Replace(other) = &verdict {
                    keeps_path(set.as_path(), other.as_path())?;
                }
                answers.push((peer, set, *prefix, verdict));
            }
        }
    }
    for (peer, set, prefix, first) in answers.iter().rev() {
        let second = filter.judge(peer, prefix, set);
        if second != *first {
            return Err(FilterFault::Moody {
                prefix: *prefix,
                address: peer.address,
                first: Box::new(first.clone()),
                second: Box::new(second),
            });
        }
    }
    for peer in &peers {
        for set in &attributes {
            if !filter.looks_at_prefix() {
                same_for_prefixes(filter, peer, set)?;
            }
            if !filter.looks_at_peer() {
                same_for_peers(filter, peer, &peers, set)?;
            }
        }
    }
    Ok(())
}

fn keeps_path(before: AsPath<'_>, after: AsPath<'_>) -> Result<(), FilterFault> {
    let (old, new): (Vec<_>, Vec<_>) = (before.iter().collect(), after.iter().collect());
    if new.ends_with(&old) {
        return Ok(());
    }
    Err(FilterFault::Path {
        before: before.to_string(),
        after: after.to_string(),
    })
}

fn same_for_prefixes(
    filter: &dyn Filter,
    peer: &FilterPeer,
    set: &Attributes,
) -> Result<(), FilterFault> {
    for family in prefixes() {
        for pair in family.windows(2) {
            if filter.judge(peer, &pair[0], set) != filter.judge(peer, &pair[1], set) {
                let (first, second) = (pair[0], pair[1]);
                return Err(FilterFault::Prefix { first, second });
            }
        }
    }
    Ok(())
}

fn same_for_peers(
    filter: &dyn Filter,
    peer: &FilterPeer,
    peers: &[FilterPeer],
    set: &Attributes,
) -> Result<(), FilterFault> {
    let alike = |other: &&FilterPeer| {
        other.peer_as == peer.peer_as
            && other.learned == peer.learned
            && other.interface == peer.interface
    };
    for other in peers.iter().filter(alike) {
        for prefix in prefixes().iter().flatten() {
            if filter.judge(peer, prefix, set) != filter.judge(other, prefix, set) {
                return Err(FilterFault::Peer {
                    first: peer.address,
                    second: other.address,
                });
            }
        }
    }
    Ok(())
}
