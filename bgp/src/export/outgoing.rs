use super::{Group, GroupKey};
use crate::attributes::{Attributes, NextHop, prepend};
use crate::number::{AsNumber, Family};
use crate::peer::{NextHopMode, PrivateAs, Role};
use crate::rib::Source;
use crate::wire::{Reader, flag, kind, one, put, segments};

/// What matters about where a route and its attributes are from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whence {
    /// The speaker's own route.
    local: bool,
    /// The attributes are an export filter's: a MED in them is meant for the peer.
    filtered: bool,
}

impl Whence {
    pub(super) const fn new(local: bool, filtered: bool) -> Self {
        Self { local, filtered }
    }
}

/// The attributes of a route as one group gets them, in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The attribute section without MP_REACH_NLRI.
    pub(super) attributes: Vec<u8>,
    /// The next hop as MP_REACH_NLRI carries it.
    pub(super) next_hop: Vec<u8>,
    path: Vec<u8>,
    narrow: Vec<u8>,
    /// Attributes that are put in before those of a higher type.
    extra: Vec<(u8, u8, Vec<u8>)>,
}

impl Outgoing {
    /// Makes what `group` gets of a route; false when there is no next hop to send it with.
    pub(super) fn make(
        &mut self,
        attributes: &Attributes,
        source: &Source,
        route: Whence,
        group: &Group,
    ) -> bool {
        let local = route.local;
        self.attributes.clear();
        self.next_hop.clear();
        self.extra.clear();
        let key = &group.key;
        let own = key.address;
        let theirs = attributes.next_hop();
        let hop = match key.next_hop {
            NextHopMode::Own => own,
            NextHopMode::Auto if key.external => {
                if local {
                    theirs.or(own)
                } else {
                    own
                }
            }
            NextHopMode::Auto | NextHopMode::Keep => theirs.or(own),
        };
        match (key.family, hop) {
            (Family::Ipv4Unicast, Some(NextHop::V4(address))) => {
                self.extra
                    .push((flag::WELL_KNOWN, kind::NEXT_HOP, address.octets().to_vec()));
            }
            (Family::Ipv4Unicast, Some(NextHop::V6 { .. })) if !key.extended_next_hop => {
                return false;
            }
            (_, Some(NextHop::V6 { global, link_local })) => {
                self.next_hop.extend_from_slice(&global.octets());
                // RFC 2545 section 3: the link-local address only where it is ours and on this link.
                if let Some(link_local) = link_local.filter(|_| hop == own) {
                    self.next_hop.extend_from_slice(&link_local.octets());
                }
            }
            _ => return false,
        }
        if !key.external {
            self.internal(attributes, source, local, group);
        }
        if key.role.is_some_and(Role::marks) && !attributes.summary().marked {
            // RFC 9234 section 5.
            let mark = key.local_as.0.to_be_bytes().to_vec();
            self.extra
                .push((flag::OPTIONAL_TRANSITIVE, kind::OTC, mark));
        }
        self.write(attributes, route, group);
        true
    }

    /// LOCAL_PREF for every internal peer, and the marks of reflection (RFC 4456 section 8).
    fn internal(&mut self, attributes: &Attributes, source: &Source, local: bool, group: &Group) {
        let summary = attributes.summary();
        if summary.local_pref.is_none() {
            self.extra.push((
                flag::WELL_KNOWN,
                kind::LOCAL_PREF,
                100u32.to_be_bytes().to_vec(),
            ));
        }
        if local || source.external {
            return;
        }
        if summary.originator.is_none() {
            let id = source.router_id.octets().to_vec();
            self.extra.push((flag::OPTIONAL, kind::ORIGINATOR_ID, id));
        }
        let clusters = attributes.cluster_list().flat_map(|id| id.octets());
        let list = group
            .cluster_id
            .octets()
            .into_iter()
            .chain(clusters)
            .collect();
        self.extra.push((flag::OPTIONAL, kind::CLUSTER_LIST, list));
    }

    fn write(&mut self, attributes: &Attributes, route: Whence, group: &Group) {
        let key = &group.key;
        let mut extra = std::mem::take(&mut self.extra);
        let mut added = extra.drain(..).peekable();
        let mut reader = Reader::new(attributes.wire());
        while let Some((flags, kind, value)) = one(&mut reader) {
            let mut replaced = false;
            while let Some((flags, other, value)) = added.next_if(|(_, other, _)| *other <= kind) {
                put(&mut self.attributes, flags, other, &value);
                replaced |= other == kind;
            }
            match kind {
                _ if replaced => {}
                kind::AS_PATH => {
                    self.path.clear();
                    self.path.extend_from_slice(value);
                    if key.external {
                        hide_private(&mut self.path, key);
                        prepend(&mut self.path, key.local_as);
                    }
                    if key.four_octets {
                        put(&mut self.attributes, flags, kind, &self.path);
                    } else {
                        narrow(&self.path, &mut self.narrow);
                        put(&mut self.attributes, flags, kind, &self.narrow);
                    }
                }
                // RFC 4271 section 5.1.4: a MED of another AS goes no further.
                kind::MED if key.external && !route.local && !route.filtered => {}
                kind::LOCAL_PREF | kind::ORIGINATOR_ID | kind::CLUSTER_LIST if key.external => {}
                kind::AGGREGATOR if !key.four_octets => self.narrow_aggregator(flags, value),
                kind::EXTENDED_COMMUNITIES if key.external => self.transitive(flags, value),
                _ => put(&mut self.attributes, flags, kind, value),
            }
        }
        for (flags, kind, value) in added {
            put(&mut self.attributes, flags, kind, &value);
        }
        self.extra = extra;
        // RFC 6793 section 4.2.2: what did not fit into two octets.
        if !key.four_octets && has_wide(&self.path) {
            put(
                &mut self.attributes,
                flag::OPTIONAL_TRANSITIVE,
                kind::AS4_PATH,
                &self.path,
            );
        }
    }

    /// RFC 4360 section 6: a community that is not transitive does not leave the AS.
    fn transitive(&mut self, flags: u8, value: &[u8]) {
        let stays = |community: &&[u8]| community[0] & 0x40 != 0;
        let leaves = value.chunks_exact(8).filter(|each| !stays(each));
        let leaves: Vec<u8> = leaves.flatten().copied().collect();
        if !leaves.is_empty() {
            put(
                &mut self.attributes,
                flags,
                kind::EXTENDED_COMMUNITIES,
                &leaves,
            );
        }
    }

    fn narrow_aggregator(&mut self, flags: u8, value: &[u8]) {
        let mut reader = Reader::new(value);
        let (Some(number), Some(router)) = (reader.u32(), reader.array::<4>()) else {
            return;
        };
        let mut two = AsNumber(number).two_octets().to_be_bytes().to_vec();
        two.extend_from_slice(&router);
        put(&mut self.attributes, flags, kind::AGGREGATOR, &two);
        if number > 0xffff {
            put(
                &mut self.attributes,
                flag::OPTIONAL_TRANSITIVE,
                kind::AS4_AGGREGATOR,
                value,
            );
        }
    }
}

/// Takes private numbers out of a path, or puts ours in their place; the peer's own stays.
fn hide_private(path: &mut Vec<u8>, key: &GroupKey) {
    if key.private_as == PrivateAs::Keep {
        return;
    }
    let mut hidden = Vec::with_capacity(path.len());
    for (kind, numbers) in segments(path, 4) {
        let numbers = numbers.chunks_exact(4).filter_map(|octets| {
            let number = AsNumber(u32::from_be_bytes([
                octets[0], octets[1], octets[2], octets[3],
            ]));
            match key.private_as {
                _ if !number.is_private() || number == key.peer_as => Some(number),
                PrivateAs::Replace => Some(key.local_as),
                _ => None,
            }
        });
        let octets: Vec<u8> = numbers.flat_map(|number| number.0.to_be_bytes()).collect();
        if !octets.is_empty() {
            hidden.extend_from_slice(&[kind, (octets.len() / 4) as u8]);
            hidden.extend(octets);
        }
    }
    *path = hidden;
}

fn has_wide(path: &[u8]) -> bool {
    segments(path, 4).any(|(_, numbers)| numbers.chunks_exact(4).any(|n| n[..2] != [0, 0]))
}

/// Writes a path with two octets per number.
fn narrow(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for (kind, numbers) in segments(path, 4) {
        out.extend_from_slice(&[kind, (numbers.len() / 4) as u8]);
        for n in numbers.chunks_exact(4) {
            let number = AsNumber(u32::from_be_bytes([n[0], n[1], n[2], n[3]]));
            out.extend_from_slice(&number.two_octets().to_be_bytes());
        }
    }
}
