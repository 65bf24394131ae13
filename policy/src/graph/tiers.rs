//! The order of tiers, and of policies in them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_dataplane::state::{EndTier, PolicyId, Tier};

/// Place and end of a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) order: Option<f64>,
    pub(super) end: EndTier,
}

/// The tiers that are there without anybody's doing; their order and end are fixed.
const BUILT_IN: &[(&str, f64, EndTier)] = &[
    ("kube-admin", 1_000.0, EndTier::Pass),
    ("default", 1_000_000.0, EndTier::Deny),
    ("kube-baseline", 10_000_000.0, EndTier::Pass),
];

/// All tiers by name.
#[derive(Debug)]
pub(super) struct Tiers(BTreeMap<Arc<str>, Place>);

/// A policy that applies to an endpoint, with all that its place depends on.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub(super) tier: Arc<str>,
    pub(super) order: Option<f64>,
    /// Name, namespace and kind: the order between equals.
    pub(super) rank: (String, String, &'static str),
    pub(super) id: PolicyId,
}

impl Tiers {
    pub(super) fn new() -> Self {
        let built_in = |(name, order, end): &(&str, f64, EndTier)| {
            let place = Place {
                order: Some(*order),
                end: *end,
            };
            ((*name).into(), place)
        };
        Self(BUILT_IN.iter().map(built_in).collect())
    }

    pub(super) fn is_built_in(name: &str) -> bool {
        BUILT_IN.iter().any(|(built_in, ..)| *built_in == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Puts a tier in its place, or takes it away; true when that changed something.
    pub(super) fn set(&mut self, name: &str, place: Option<Place>) -> bool {
        let old = match place {
            Some(place) => self.0.insert(name.into(), place),
            None => self.0.remove(name),
        };
        old != place
    }

    /// The policies in their order, by tier.
    pub(super) fn arrange(&self, mut policies: Vec<Applied>) -> Vec<Tier> {
        policies.sort_by(|a, b| {
            self.compare(&a.tier, &b.tier)
                .then_with(|| by_order(a.order, b.order))
                .then_with(|| a.rank.cmp(&b.rank))
        });
        let mut out: Vec<Tier> = Vec::new();
        for policy in policies {
            match out.last_mut() {
                Some(tier) if tier.name == policy.tier => tier.policies.push(policy.id),
                _ => out.push(Tier {
                    end: self.0.get(&policy.tier).map_or(EndTier::Deny, |p| p.end),
                    name: policy.tier,
                    policies: vec![policy.id],
                }),
            }
        }
        out
    }

    fn compare(&self, a: &Arc<str>, b: &Arc<str>) -> Ordering {
        let order = |tier| self.0.get(tier).and_then(|place| place.order);
        by_order(order(a), order(b)).then_with(|| a.cmp(b))
    }
}

/// Lower first; none last.
fn by_order(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
