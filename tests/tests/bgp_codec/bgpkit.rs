//! In the terms of bgpkit-parser.

use std::net::IpAddr;

use bgpkit_parser::models::{
    AsPath, AsPathSegment, AsnLength, AttrFlags, Attribute, AttributeValue, Attributes, BgpMessage,
    BgpUpdateMessage, Community, LargeCommunity, NetworkPrefix, NextHopAddress, Nlri, Origin,
};
use bgpkit_parser::parser::bgp::messages::parse_bgp_message;
use bytes::Bytes;
use ocicat_bgp::Prefix;

use super::said::{Path, Said, Says};

fn segments(path: &AsPath) -> Path {
    path.iter_segments()
        .map(|segment| match segment {
            AsPathSegment::AsSequence(all) => (false, all.iter().map(|n| u32::from(*n)).collect()),
            AsPathSegment::AsSet(all) => (true, all.iter().map(|n| u32::from(*n)).collect()),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn prefixes(all: &[NetworkPrefix]) -> impl Iterator<Item = Prefix> + '_ {
    all.iter()
        .map(|each| each.to_string().parse().expect("a prefix"))
}

pub(crate) fn message(octets: &[u8], four: bool) -> BgpMessage {
    let length = if four {
        AsnLength::Bits32
    } else {
        AsnLength::Bits16
    };
    parse_bgp_message(&mut Bytes::copy_from_slice(octets), false, &length).expect("bgpkit reads it")
}

pub(crate) fn decode(octets: &[u8], four: bool) -> Option<Said> {
    let BgpMessage::Update(update) = message(octets, four) else {
        return None;
    };
    assert_eq!(update.attributes.validation_warnings(), [], "{update:?}");
    let mut said = Said::default();
    said.announced.extend(prefixes(&update.announced_prefixes));
    said.withdrawn.extend(prefixes(&update.withdrawn_prefixes));
    let says = &mut said.attributes;
    for value in update.attributes.iter() {
        match value {
            AttributeValue::Origin(origin) => says.origin = *origin as u8,
            AttributeValue::AsPath(path) => says.path = segments(path),
            AttributeValue::As4Path(path) => says.path4 = Some(segments(path)),
            AttributeValue::NextHop(hop) => says.next_hop = Some(*hop),
            AttributeValue::MultiExitDiscriminator(med) => says.med = Some(*med),
            AttributeValue::LocalPreference(pref) => says.local_pref = Some(*pref),
            AttributeValue::Aggregator { asn, id } => says.aggregator = Some(((*asn).into(), *id)),
            AttributeValue::As4Aggregator { asn, id } => {
                says.aggregator4 = Some(((*asn).into(), *id))
            }
            AttributeValue::Communities(all) => {
                says.communities.extend(all.iter().map(|each| match each {
                    Community::Custom(high, low) => u32::from(*high) << 16 | u32::from(*low),
                    other => panic!("{other:?}"),
                }));
            }
            AttributeValue::LargeCommunities(all) => {
                let three = |c: &LargeCommunity| (c.global_admin, c.local_data[0], c.local_data[1]);
                says.large.extend(all.iter().map(three));
            }
            AttributeValue::OriginatorId(id) => says.originator = Some(*id),
            AttributeValue::Clusters(all) => says
                .clusters
                .extend(all.iter().map(|id| std::net::Ipv4Addr::from(*id))),
            AttributeValue::MpReachNlri(nlri) => {
                said.announced.extend(prefixes(&nlri.prefixes));
                match nlri.next_hop {
                    Some(NextHopAddress::Ipv6(hop)) => says.next_hop = Some(hop.into()),
                    Some(NextHopAddress::Ipv6LinkLocal(hop, local)) => {
                        says.next_hop = Some(hop.into());
                        says.link_local = Some(local);
                    }
                    other => panic!("{other:?}"),
                }
            }
            AttributeValue::MpUnreachNlri(nlri) => said.withdrawn.extend(prefixes(&nlri.prefixes)),
            other => panic!("{other:?}"),
        }
    }
    Some(said)
}

fn list(prefixes: impl IntoIterator<Item = Prefix>) -> (Vec<NetworkPrefix>, Vec<NetworkPrefix>) {
    prefixes
        .into_iter()
        .map(|prefix| {
            prefix
                .to_string()
                .parse::<NetworkPrefix>()
                .expect("a prefix")
        })
        .partition(|prefix| prefix.prefix.addr().is_ipv4())
}

fn path(path: &Path) -> AsPath {
    let segments: Vec<_> = path
        .iter()
        .map(|(set, all)| {
            if *set {
                AsPathSegment::set(all)
            } else {
                AsPathSegment::sequence(all)
            }
        })
        .collect();
    AsPath::from_segments(segments)
}

/// The attributes of an announcement, without those that carry prefixes.
fn values(says: &Says) -> Vec<AttributeValue> {
    let mut values = Vec::new();
    let origin = [Origin::IGP, Origin::EGP, Origin::INCOMPLETE][usize::from(says.origin)];
    values.push(AttributeValue::Origin(origin));
    values.push(AttributeValue::AsPath(path(&says.path)));
    values.extend(says.med.map(AttributeValue::MultiExitDiscriminator));
    values.extend(says.local_pref.map(AttributeValue::LocalPreference));
    values.extend(says.aggregator.map(|(asn, id)| AttributeValue::Aggregator {
        asn: asn.into(),
        id,
    }));
    if !says.communities.is_empty() {
        let each = |c: &u32| Community::Custom((c >> 16).into(), *c as u16);
        values.push(AttributeValue::Communities(
            says.communities.iter().map(each).collect(),
        ));
    }
    if !says.large.is_empty() {
        let each = |c: &(u32, u32, u32)| LargeCommunity::new(c.0, [c.1, c.2]);
        values.push(AttributeValue::LargeCommunities(
            says.large.iter().map(each).collect(),
        ));
    }
    values.extend(says.originator.map(AttributeValue::OriginatorId));
    if !says.clusters.is_empty() {
        let all = says.clusters.iter().map(|id| u32::from(*id)).collect();
        values.push(AttributeValue::Clusters(all));
    }
    values
}

pub(crate) fn encode(said: &Said) -> Vec<u8> {
    let (announced, announced6) = list(said.announced.iter().copied());
    let (withdrawn, withdrawn6) = list(said.withdrawn.iter().copied());
    let mut values = Vec::new();
    if !said.announced.is_empty() {
        values = self::values(&said.attributes);
        match said.attributes.next_hop {
            Some(hop @ IpAddr::V4(_)) => values.push(AttributeValue::NextHop(hop)),
            hop => {
                let mut nlri = Nlri::new_reachable(announced6[0], hop);
                nlri.prefixes = announced6;
                values.push(AttributeValue::MpReachNlri(nlri));
            }
        }
    }
    if let Some(first) = withdrawn6.first() {
        let mut nlri = Nlri::new_unreachable(*first);
        nlri.prefixes = withdrawn6;
        values.push(AttributeValue::MpUnreachNlri(nlri));
    }
    let values: Vec<Attribute> = values
        .into_iter()
        .map(|value| {
            let mut attribute = Attribute::from(value);
            attribute.flag |= AttrFlags::EXTENDED;
            attribute
        })
        .collect();
    let update = BgpUpdateMessage {
        withdrawn_prefixes: withdrawn,
        attributes: Attributes::from(values),
        announced_prefixes: announced,
    };
    BgpMessage::Update(update)
        .encode(AsnLength::Bits32)
        .expect("bgpkit writes it")
        .to_vec()
}
