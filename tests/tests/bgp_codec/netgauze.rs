//! In the terms of netgauze-bgp-pkt.

use std::collections::HashMap;
use std::net::IpAddr;

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::community::{Community, LargeCommunity};
use netgauze_bgp_pkt::nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{
    Aggregator, As4Aggregator, As4PathSegment, AsPath, AsPathSegmentType, ClusterId, ClusterList,
    Communities, LargeCommunities, LocalPreference, MpReach, MpUnreach, MultiExitDiscriminator,
    NextHop, Origin, Originator, PathAttribute, PathAttributeValue as Value,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use ocicat_bgp::Prefix;

use super::said::{Path, Said, Says};

pub(crate) fn message(octets: &[u8], four: bool) -> BgpMessage {
    let mut context =
        BgpParsingContext::new(four, HashMap::new(), HashMap::new(), true, true, true, true);
    BgpMessage::parse(&mut SliceReader::new(octets), &mut context).expect("netgauze reads it")
}

fn set(kind: AsPathSegmentType) -> bool {
    kind == AsPathSegmentType::AsSet
}

fn wide(segments: &[As4PathSegment]) -> Path {
    segments
        .iter()
        .map(|segment| (set(segment.segment_type()), segment.as_numbers().to_vec()))
        .collect()
}

fn v4(all: &[Ipv4UnicastAddress]) -> impl Iterator<Item = Prefix> + '_ {
    all.iter()
        .map(|each| each.network().to_string().parse().expect("a prefix"))
}

fn v6(all: &[Ipv6UnicastAddress]) -> impl Iterator<Item = Prefix> + '_ {
    all.iter().map(|each| {
        each.network()
            .address()
            .to_string()
            .parse()
            .expect("a prefix")
    })
}

pub(crate) fn decode(octets: &[u8], four: bool) -> Option<Said> {
    let BgpMessage::Update(update) = message(octets, four) else {
        return None;
    };
    let mut said = Said::default();
    said.announced.extend(v4(update.nlri()));
    said.withdrawn.extend(v4(update.withdraw_routes()));
    for attribute in update.path_attributes() {
        match attribute.value() {
            Value::MpReach(MpReach::Ipv6Unicast {
                next_hop_global,
                next_hop_local,
                nlri,
            }) => {
                said.announced.extend(v6(nlri));
                said.attributes.next_hop = Some((*next_hop_global).into());
                said.attributes.link_local = *next_hop_local;
            }
            Value::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => said.withdrawn.extend(v6(nlri)),
            other => take(&mut said.attributes, other),
        }
    }
    Some(said)
}

fn take(says: &mut Says, value: &Value) {
    match value {
        Value::Origin(origin) => says.origin = *origin as u8,
        Value::AsPath(AsPath::As4PathSegments(all)) => says.path = wide(all),
        Value::AsPath(AsPath::As2PathSegments(all)) => {
            let each = |n: &u16| u32::from(*n);
            says.path = all
                .iter()
                .map(|s| {
                    (
                        set(s.segment_type()),
                        s.as_numbers().iter().map(each).collect(),
                    )
                })
                .collect();
        }
        Value::As4Path(path) => says.path4 = Some(wide(path.segments())),
        Value::NextHop(hop) => says.next_hop = Some(hop.next_hop().into()),
        Value::MultiExitDiscriminator(med) => says.med = Some(med.metric()),
        Value::LocalPreference(pref) => says.local_pref = Some(pref.metric()),
        Value::Aggregator(Aggregator::As2Aggregator(by)) => {
            says.aggregator = Some(((*by.asn()).into(), by.origin()));
        }
        Value::Aggregator(Aggregator::As4Aggregator(by)) => {
            says.aggregator = Some((*by.asn(), by.origin()))
        }
        Value::Communities(all) => says
            .communities
            .extend(all.communities().iter().map(Community::value)),
        Value::LargeCommunities(all) => {
            let three = |c: &LargeCommunity| (c.global_admin(), c.local_data1(), c.local_data2());
            says.large.extend(all.communities().iter().map(three));
        }
        Value::Originator(id) => says.originator = Some(id.id()),
        Value::ClusterList(all) => says
            .clusters
            .extend(all.cluster_list().iter().map(ClusterId::id)),
        // It has no type for AS4_AGGREGATOR (RFC 6793).
        Value::UnknownAttribute(other) if other.code() == 18 => {
            let octet = |at: usize| other.value()[at];
            let number = u32::from_be_bytes([octet(0), octet(1), octet(2), octet(3)]);
            says.aggregator4 = Some((number, [octet(4), octet(5), octet(6), octet(7)].into()));
        }
        other => panic!("{other:?}"),
    }
}

fn v4_net(prefix: Prefix) -> Ipv4UnicastAddress {
    let net = prefix.to_string().parse().expect("a prefix");
    Ipv4UnicastAddress::new_no_path_id(Ipv4Unicast::from_net(net).expect("unicast"))
}

fn v6_net(prefix: Prefix) -> Ipv6UnicastAddress {
    let net = prefix.to_string().parse().expect("a prefix");
    Ipv6UnicastAddress::new(None, Ipv6Unicast::from_net(net).expect("unicast"))
}

fn values(says: &Says) -> Vec<(u8, Value)> {
    let kind = |set: bool| {
        if set {
            AsPathSegmentType::AsSet
        } else {
            AsPathSegmentType::AsSequence
        }
    };
    let path: Vec<_> = says
        .path
        .iter()
        .map(|(set, all)| As4PathSegment::new(kind(*set), all.clone()))
        .collect();
    let origin = [Origin::IGP, Origin::EGP, Origin::Incomplete][usize::from(says.origin)];
    let mut values = vec![
        (0x40, Value::Origin(origin)),
        (0x40, Value::AsPath(AsPath::As4PathSegments(path.into()))),
    ];
    values.extend(says.med.map(|med| {
        (
            0x80,
            Value::MultiExitDiscriminator(MultiExitDiscriminator::new(med)),
        )
    }));
    values.extend(
        says.local_pref
            .map(|pref| (0x40, Value::LocalPreference(LocalPreference::new(pref)))),
    );
    values.extend(says.aggregator.map(|(number, by)| {
        (
            0xc0,
            Value::Aggregator(Aggregator::As4Aggregator(As4Aggregator::new(number, by))),
        )
    }));
    if !says.communities.is_empty() {
        let all: Vec<_> = says
            .communities
            .iter()
            .map(|c| Community::new(*c))
            .collect();
        values.push((0xc0, Value::Communities(Communities::new(all))));
    }
    if !says.large.is_empty() {
        let all: Vec<_> = says
            .large
            .iter()
            .map(|c| LargeCommunity::new(c.0, c.1, c.2))
            .collect();
        values.push((0xc0, Value::LargeCommunities(LargeCommunities::new(all))));
    }
    values.extend(
        says.originator
            .map(|id| (0x80, Value::Originator(Originator::new(id)))),
    );
    if !says.clusters.is_empty() {
        let all: Vec<_> = says.clusters.iter().map(|id| ClusterId::new(*id)).collect();
        values.push((0x80, Value::ClusterList(ClusterList::new(all))));
    }
    values
}

pub(crate) fn encode(said: &Said) -> Vec<u8> {
    let split = |all: &std::collections::BTreeSet<Prefix>| -> (Vec<Prefix>, Vec<Prefix>) {
        all.iter().partition(|prefix| prefix.is_ipv4())
    };
    let ((announced, announced6), (withdrawn, withdrawn6)) =
        (split(&said.announced), split(&said.withdrawn));
    let mut values = if said.announced.is_empty() {
        Vec::new()
    } else {
        values(&said.attributes)
    };
    match said.attributes.next_hop {
        Some(IpAddr::V4(hop)) if !announced.is_empty() => {
            values.push((0x40, Value::NextHop(NextHop::new(hop))))
        }
        Some(IpAddr::V6(hop)) if !announced6.is_empty() => {
            let nlri: Vec<_> = announced6.into_iter().map(v6_net).collect();
            let reach = MpReach::Ipv6Unicast {
                next_hop_global: hop,
                next_hop_local: None,
                nlri: nlri.into(),
            };
            values.push((0x80, Value::MpReach(reach)));
        }
        _ => {}
    }
    if !withdrawn6.is_empty() {
        let nlri: Vec<_> = withdrawn6.into_iter().map(v6_net).collect();
        values.push((
            0x80,
            Value::MpUnreach(MpUnreach::Ipv6Unicast { nlri: nlri.into() }),
        ));
    }
    let attributes: Vec<_> = values
        .into_iter()
        .map(|(flags, value)| {
            PathAttribute::from(flags & 0x80 != 0, flags & 0x40 != 0, false, true, value)
                .expect("flags that fit")
        })
        .collect();
    let announced: Vec<_> = announced.into_iter().map(v4_net).collect();
    let withdrawn: Vec<_> = withdrawn.into_iter().map(v4_net).collect();
    let mut octets = Vec::new();
    BgpMessage::Update(BgpUpdateMessage::new(withdrawn, attributes, announced))
        .write(&mut octets)
        .expect("netgauze writes it");
    octets
}
