use super::{
    Action, CommunityValue, Filter, FilterPeer, Learned, MatchOperator, Operation, PeerType, Rule,
    RuleSource, Rules, Verdict,
};
use crate::Prefix;
use crate::attributes::Attributes;

impl Filter for Rules {
    fn judge(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict {
        let rules = if prefix.is_ipv4() { &self.v4 } else { &self.v6 };
        match rules
            .iter()
            .find(|rule| rule.matches(peer, prefix, attributes))
        {
            Some(rule) => rule.apply(attributes),
            None => self.behind.as_ref().map_or(Verdict::Accept, |behind| {
                behind.judge(peer, prefix, attributes)
            }),
        }
    }

    fn looks_at_prefix(&self) -> bool {
        let by_prefix = |rules: &[Rule]| rules.iter().any(|rule| rule.cidr.is_some());
        let behind = self.behind.as_ref();
        by_prefix(&self.v4)
            || by_prefix(&self.v6)
            || behind.is_some_and(|filter| filter.looks_at_prefix())
    }

    fn looks_at_peer(&self) -> bool {
        let behind = self.behind.as_ref();
        behind.is_some_and(|filter| filter.looks_at_peer())
    }
}

impl Rule {
    fn matches(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> bool {
        let by_prefix = match (self.match_operator, self.cidr) {
            (Some(operator), Some(cidr)) => self.compare(operator, &cidr, prefix),
            _ => true,
        };
        by_prefix
            && self.source.is_none_or(|source| match source {
                RuleSource::RemotePeers => peer.learned != Learned::Local,
            })
            && self.interface.as_ref().is_none_or(|pattern| {
                let interface = peer.interface.as_deref();
                interface.is_some_and(|name| fits(pattern.as_bytes(), name.as_bytes()))
            })
            && self
                .peer_type
                .is_none_or(|kind| (kind == PeerType::External) == peer.external)
            && self.communities.as_ref().is_none_or(|communities| {
                let mut values = communities.values.iter();
                values.all(|value| carries(attributes, value))
            })
            && self.begins_path(attributes)
            && self
                .priority
                .is_none_or(|priority| priority_of(attributes) == Some(priority))
    }

    fn compare(&self, operator: MatchOperator, cidr: &Prefix, prefix: &Prefix) -> bool {
        let bounds = self.prefix_length.unwrap_or_default();
        let long = bounds.min.is_none_or(|min| prefix.length() >= min);
        let short = bounds.max.is_none_or(|max| prefix.length() <= max);
        match operator {
            MatchOperator::Equal => cidr == prefix && long && short,
            MatchOperator::NotEqual => !(cidr == prefix && long && short),
            MatchOperator::In => cidr.covers(prefix) && long && short,
            MatchOperator::NotIn => !(cidr.covers(prefix) && long && short),
        }
    }

    fn begins_path(&self, attributes: &Attributes) -> bool {
        let mut path = attributes.as_path().iter();
        self.as_path_prefix
            .iter()
            .all(|wanted| path.next() == Some(*wanted))
    }

    fn apply(&self, attributes: &Attributes) -> Verdict {
        match (self.action, &self.operations[..]) {
            (Action::Reject, _) => Verdict::Reject,
            (Action::Accept, []) => Verdict::Accept,
            (Action::Accept, operations) => {
                let mut edited = attributes.edit();
                for operation in operations {
                    edited = match operation {
                        Operation::AddCommunity { value } => match *value {
                            CommunityValue::Standard(community) => edited.community(community),
                            CommunityValue::Large(community) => edited.large_community(community),
                        },
                        Operation::PrependAsPath { prefix } => prefix
                            .iter()
                            .rev()
                            .fold(edited, |edited, number| edited.prepend(*number, 1)),
                        Operation::SetPriority { value } => {
                            edited.local_pref(Self::PRIORITY_SUM.saturating_sub(*value))
                        }
                    };
                }
                Verdict::Replace(edited.build())
            }
        }
    }
}

fn priority_of(attributes: &Attributes) -> Option<u32> {
    match attributes.local_pref() {
        None => Some(Rule::NORMAL_PRIORITY),
        Some(preference) => Rule::PRIORITY_SUM.checked_sub(preference),
    }
}

fn carries(attributes: &Attributes, value: &CommunityValue) -> bool {
    match *value {
        CommunityValue::Standard(wanted) => attributes.communities().any(|each| each == wanted),
        CommunityValue::Large(wanted) => attributes.large_communities().any(|each| each == wanted),
    }
}

/// Whether a name fits a pattern with `*` and `?`. Linear but for the last star, which is tried further on.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&octet) if octet == b'?' || octet == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else {
                    return false;
                };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&octet| octet == b'*')
}
