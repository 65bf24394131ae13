use std::net::Ipv4Addr;

use super::{Attributes, Community, LargeCommunity, NextHop, Origin};
use crate::number::AsNumber;
use crate::wire::{Reader, flag, kind, one, put};

/// Makes [`Attributes`], from nothing or from others.
#[derive(Clone, Debug, Default)]
pub struct AttributesBuilder {
    next_hop: Option<NextHop>,
    origin: Origin,
    path: Vec<u8>,
    med: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<Community>,
    large: Vec<LargeCommunity>,
    /// Whatever else the route carries: flags, type, value.
    others: Vec<(u8, u8, Vec<u8>)>,
}

impl AttributesBuilder {
    pub(super) fn from_attributes(attributes: &Attributes) -> Self {
        let mut builder = Self {
            next_hop: attributes.next_hop(),
            origin: attributes.origin(),
            path: attributes.as_path().0.to_vec(),
            med: attributes.med(),
            local_pref: attributes.local_pref(),
            communities: attributes.communities().collect(),
            large: attributes.large_communities().collect(),
            others: Vec::new(),
        };
        let mut reader = Reader::new(attributes.wire());
        while let Some((flags, kind, value)) = one(&mut reader) {
            if !matches!(
                kind,
                kind::ORIGIN
                    | kind::AS_PATH
                    | kind::MED
                    | kind::LOCAL_PREF
                    | kind::COMMUNITIES
                    | kind::LARGE_COMMUNITIES
            ) {
                builder.others.push((flags, kind, value.to_vec()));
            }
        }
        builder
    }

    /// Sets the next hop; without one each session's own address is used.
    #[must_use]
    pub fn next_hop(mut self, next_hop: impl Into<NextHop>) -> Self {
        self.next_hop = Some(next_hop.into());
        self
    }

    /// Sets ORIGIN; the default is [`Origin::Igp`].
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Puts `number` in front of the path, `times` times.
    #[must_use]
    pub fn prepend(mut self, number: AsNumber, times: usize) -> Self {
        for _ in 0..times {
            prepend(&mut self.path, number);
        }
        self
    }

    /// Sets MULTI_EXIT_DISC, or removes it.
    #[must_use]
    pub fn med(mut self, med: impl Into<Option<u32>>) -> Self {
        self.med = med.into();
        self
    }

    /// Sets LOCAL_PREF, or removes it.
    #[must_use]
    pub fn local_pref(mut self, local_pref: impl Into<Option<u32>>) -> Self {
        self.local_pref = local_pref.into();
        self
    }

    /// Adds a community unless it is there.
    #[must_use]
    pub fn community(mut self, community: Community) -> Self {
        if !self.communities.contains(&community) {
            self.communities.push(community);
        }
        self
    }

    /// Adds a large community unless it is there.
    #[must_use]
    pub fn large_community(mut self, community: LargeCommunity) -> Self {
        if !self.large.contains(&community) {
            self.large.push(community);
        }
        self
    }

    /// Keeps the communities that `keep` says yes to.
    #[must_use]
    pub fn retain_communities(mut self, keep: impl FnMut(&Community) -> bool) -> Self {
        self.communities.retain(keep);
        self
    }

    /// Adds an attribute that this crate has no name for; `flags` as on the wire. One of the types above is ignored.
    #[must_use]
    pub fn raw(mut self, flags: u8, kind: u8, value: Vec<u8>) -> Self {
        if kind > kind::LOCAL_PREF
            && !matches!(
                kind,
                kind::COMMUNITIES | kind::LARGE_COMMUNITIES | kind::MP_REACH | kind::MP_UNREACH
            )
        {
            self.others.retain(|other| other.1 != kind);
            self.others.push((flags, kind, value));
        }
        self
    }

    /// Sets ORIGINATOR_ID, which reflectors use (RFC 4456).
    #[must_use]
    pub fn originator_id(self, id: Ipv4Addr) -> Self {
        self.raw(flag::OPTIONAL, kind::ORIGINATOR_ID, id.octets().to_vec())
    }

    /// Sets OTC (RFC 9234); a route that has it keeps it.
    pub(crate) fn only_to_customer(self, number: AsNumber) -> Self {
        let value = number.0.to_be_bytes().to_vec();
        self.raw(flag::OPTIONAL_TRANSITIVE, kind::OTC, value)
    }

    /// The attributes.
    #[must_use]
    pub fn build(mut self) -> Attributes {
        let mut wire = Vec::new();
        let number =
            |kind: u8, value: Option<u32>| value.map(|value| (kind, value.to_be_bytes().to_vec()));
        let mut all = vec![
            (flag::WELL_KNOWN, kind::ORIGIN, vec![self.origin as u8]),
            (flag::WELL_KNOWN, kind::AS_PATH, self.path),
        ];
        all.extend(number(kind::MED, self.med).map(|(kind, value)| (flag::OPTIONAL, kind, value)));
        all.extend(
            number(kind::LOCAL_PREF, self.local_pref)
                .map(|(kind, value)| (flag::WELL_KNOWN, kind, value)),
        );
        if !self.communities.is_empty() {
            let value = self
                .communities
                .iter()
                .flat_map(|c| c.0.to_be_bytes())
                .collect();
            all.push((flag::OPTIONAL_TRANSITIVE, kind::COMMUNITIES, value));
        }
        if !self.large.is_empty() {
            let value = self.large.iter().flat_map(|c| c.octets()).collect();
            all.push((flag::OPTIONAL_TRANSITIVE, kind::LARGE_COMMUNITIES, value));
        }
        all.append(&mut self.others);
        all.sort_by_key(|(_, kind, _)| *kind);
        for (flags, kind, value) in all {
            put(&mut wire, flags, kind, &value);
        }
        Attributes::from_wire(self.next_hop, &wire)
    }
}

/// Puts one AS in front of a four-octet path (RFC 4271 section 5.1.2).
pub(crate) fn prepend(path: &mut Vec<u8>, number: AsNumber) {
    match path.first_chunk::<2>() {
        Some(&[2, count]) if count < 255 => {
            path[1] = count + 1;
            path.splice(2..2, number.0.to_be_bytes());
        }
        _ => {
            let [a, b, c, d] = number.0.to_be_bytes();
            path.splice(0..0, [2, 1, a, b, c, d]);
        }
    }
}
