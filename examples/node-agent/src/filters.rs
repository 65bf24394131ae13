//! What passes between the node's speaker and its peers, beside what the RFCs say.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_bgp::filter::{RuleSet, Rules};
use ocicat_bgp::{Attributes, Filter, FilterPeer, Prefix, Verdict, filter::Learned};

use crate::network::PoolView;
use crate::peers::{Advertisement, BgpSettings};

/// The MED with which a node passes on what another node of its AS has: worse than the other's own announcement,
/// which has none (0, RFC 4271 section 9.1.2.2 c), and still a way where the other has no session with the router.
const PASSED_ON: u32 = 1000;

/// What every peer is sent that no BGPFilter decides about: what is the node's own, what lies in pools that are
/// announced, and services' ranges. Equal ones are one filter, so that peers share messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportPolicy {
    /// Pools, and whether they are announced; the longest that covers a prefix counts.
    pools: Vec<(Prefix, bool)>,
    /// Ranges of services, which reflectors pass on.
    services: Vec<Prefix>,
    advertisements: Vec<Advertisement>,
}

impl ExportPolicy {
    /// The policy that follows from pools and BGPConfiguration.
    pub(crate) fn new(pools: &BTreeMap<String, PoolView>, settings: &BgpSettings) -> Self {
        let ranges = &settings.services;
        let services = [&ranges.cluster, &ranges.external, &ranges.load_balancer];
        Self {
            pools: pools
                .values()
                .filter_map(|pool| Some((to_bgp(pool.range)?, pool.export)))
                .collect(),
            services: services
                .into_iter()
                .flatten()
                .filter_map(|range| to_bgp(*range))
                .collect(),
            advertisements: settings.advertisements.clone(),
        }
    }

    fn passes(&self, prefix: &Prefix) -> bool {
        let covering = self.pools.iter().filter(|(range, _)| range.covers(prefix));
        let pool = covering.max_by_key(|(range, _)| range.length());
        pool.map_or_else(
            || self.services.iter().any(|range| range.covers(prefix)),
            |(_, export)| *export,
        )
    }
}

impl Filter for ExportPolicy {
    fn judge(&self, peer: &FilterPeer, prefix: &Prefix, attributes: &Attributes) -> Verdict {
        if peer.learned != Learned::Local && !self.passes(prefix) {
            return Verdict::Reject;
        }
        let passed_on = peer.learned == Learned::Internal && peer.external;
        let mut stated = self
            .advertisements
            .iter()
            .filter(|one| one.range.covers(prefix))
            .peekable();
        if !passed_on && stated.peek().is_none() {
            return Verdict::Accept;
        }
        let mut edited = attributes.edit();
        if passed_on {
            edited = edited.med(PASSED_ON);
        }
        for one in stated {
            for community in &one.communities {
                edited = edited.community(*community);
            }
            for community in &one.large {
                edited = edited.large_community(*community);
            }
        }
        Verdict::Replace(edited.build())
    }
}

/// What a session's BGPFilters say, in their order, and what holds behind them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Passage {
    /// The filters that the peer names.
    pub(crate) sets: Vec<RuleSet>,
    /// One of them is not there, or never could be read: nothing passes until it is.
    pub(crate) closed: bool,
    /// The policy behind them, on the way out.
    pub(crate) policy: ExportPolicy,
}

/// Nothing passes.
struct Closed;

impl Filter for Closed {
    fn judge(&self, _: &FilterPeer, _: &Prefix, _: &Attributes) -> Verdict {
        Verdict::Reject
    }

    fn looks_at_prefix(&self) -> bool {
        false
    }
}

/// Filters that are in use: the same question has the same answer, and the same `Arc`.
#[derive(Default)]
pub(crate) struct Filters {
    made: Vec<(Passage, Pair)>,
    /// What an embedder asks behind BGPFilters about every route that comes in.
    own: Option<Arc<dyn Filter>>,
}

/// What is asked on the way in, where anything is, and on the way out.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) import: Option<Arc<dyn Filter>>,
    pub(crate) export: Arc<dyn Filter>,
}

impl Filters {
    /// With a filter for every route that comes in and that no BGPFilter decides about.
    pub(crate) fn new(own: Option<Arc<dyn Filter>>) -> Self {
        Self {
            made: Vec::new(),
            own,
        }
    }

    /// The filters of a session.
    pub(crate) fn of(&mut self, passage: &Passage) -> Pair {
        if let Some((_, pair)) = self.made.iter().find(|(made, _)| made == passage) {
            return pair.clone();
        }
        let pair = self.make(passage);
        self.made.push((passage.clone(), pair.clone()));
        pair
    }

    /// Forgets filters that no session has any more.
    pub(crate) fn keep(&mut self, used: &[&Passage]) {
        self.made.retain(|(made, _)| used.contains(&made));
    }

    fn make(&self, passage: &Passage) -> Pair {
        let closed = || -> Arc<dyn Filter> { Arc::new(Closed) };
        let policy: Arc<dyn Filter> = Arc::new(passage.policy.clone());
        let rules = (Rules::import(&passage.sets), Rules::export(&passage.sets));
        let (Ok(import), Ok(export), false) = (rules.0, rules.1, passage.closed) else {
            return Pair {
                import: Some(closed()),
                export: closed(),
            };
        };
        Pair {
            import: if import.is_empty() {
                self.own.clone()
            } else {
                Some(Arc::new(import.or_else(self.own.clone())))
            },
            export: if export.is_empty() {
                policy
            } else {
                Arc::new(export.or_else(policy))
            },
        }
    }
}

/// The same range in BGP's vocabulary.
pub(crate) fn to_bgp(prefix: ocicat_dataplane::Prefix) -> Option<Prefix> {
    ipnetwork::IpNetwork::from(prefix).try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ocicat_bgp::Community;
    use ocicat_dataplane::hop::Encapsulation;
    use serde_json::json;

    use super::*;

    fn pool(range: &str, export: bool) -> (String, PoolView) {
        let view = PoolView {
            range: range.parse().unwrap(),
            encapsulation: Encapsulation::default(),
            nat_outgoing: false,
            disabled: false,
            export,
        };
        (range.to_owned(), view)
    }

    fn policy() -> ExportPolicy {
        let pools = BTreeMap::from([pool("10.0.0.0/16", true), pool("10.0.128.0/17", false)]);
        let mut settings = BgpSettings::default();
        settings.services.cluster = vec!["10.96.0.0/12".parse().unwrap()];
        settings.advertisements = vec![Advertisement {
            range: "10.0.0.0/20".parse().unwrap(),
            communities: vec!["64512:7".parse().unwrap()],
            large: Vec::new(),
        }];
        ExportPolicy::new(&pools, &settings)
    }

    fn ask(filter: &dyn Filter, learned: Learned, external: bool, prefix: &str) -> String {
        let mut peer = FilterPeer::new(IpAddr::from([192, 0, 2, 1]), 64513, external);
        peer.learned = learned;
        match filter.judge(&peer, &prefix.parse().unwrap(), &Attributes::local()) {
            Verdict::Accept => "accept".to_owned(),
            Verdict::Reject => "reject".to_owned(),
            Verdict::Replace(with) => {
                let communities: Vec<String> = with
                    .communities()
                    .map(|one: Community| one.to_string())
                    .collect();
                format!("{:?} {}", with.med(), communities.join(" "))
            }
        }
    }

    #[test]
    fn pools_services_and_own_routes_are_sent_and_nothing_else() {
        use Learned::{External, Internal, Local};
        for (learned, external, prefix, expected) in [
            (Local, true, "10.0.64.0/26", "accept"),
            (Local, true, "10.0.0.0/26", "None 64512:7"),
            (Local, false, "10.96.0.1/32", "accept"),
            (Internal, true, "10.0.64.0/26", "Some(1000) "),
            (Internal, true, "10.0.0.64/26", "Some(1000) 64512:7"),
            (Internal, false, "10.0.64.0/26", "accept"),
            (Internal, false, "10.0.128.0/26", "reject"),
            (Internal, false, "10.97.0.1/32", "accept"),
            (External, false, "0.0.0.0/0", "reject"),
            (External, true, "172.16.0.0/12", "reject"),
        ] {
            assert_eq!(
                ask(&policy(), learned, external, prefix),
                expected,
                "{learned:?} {external} {prefix}"
            );
        }
        assert_eq!(ocicat_bgp::testing::filter_kit(&policy()), Ok(()));
    }

    #[test]
    fn bgp_filters_come_first_and_a_missing_one_closes_both_ways() {
        let set: RuleSet = serde_json::from_value(json!({
            "exportV4": [{"action": "Reject", "cidr": "10.0.0.0/24", "matchOperator": "In"},
                         {"action": "Accept", "cidr": "172.16.0.0/12", "matchOperator": "Equal"}],
        }))
        .unwrap();
        let mut passage = Passage {
            sets: vec![set],
            closed: false,
            policy: policy(),
        };
        let mut filters = Filters::default();
        let pair = filters.of(&passage);
        assert!(pair.import.is_none());
        for (prefix, expected) in [
            ("10.0.0.64/26", "reject"),
            ("172.16.0.0/12", "accept"),
            ("10.0.64.0/26", "accept"),
            ("192.168.0.0/16", "reject"),
        ] {
            assert_eq!(
                ask(&*pair.export, Learned::External, false, prefix),
                expected,
                "{prefix}"
            );
        }
        assert!(
            Arc::ptr_eq(&pair.export, &filters.of(&passage).export),
            "one filter for equal rules"
        );
        filters.keep(&[]);
        passage.closed = true;
        let pair = filters.of(&passage);
        let import = pair.import.unwrap();
        assert_eq!(
            ask(&*import, Learned::External, true, "10.0.64.0/26"),
            "reject"
        );
        assert_eq!(
            ask(&*pair.export, Learned::Local, true, "10.0.64.0/26"),
            "reject"
        );
    }
}
