use std::cmp::Reverse;
use std::fmt;
use std::net::IpAddr;

use super::{Context, LOCAL, Path};
use crate::attributes::Origin;

/// The step of the decision process that left one path (RFC 4271 section 9.1.2.2, RFC 4456 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Step {
    /// There was no other usable path.
    OnlyPath,
    /// The speaker's own routes win over learned ones.
    Local,
    /// Higher LOCAL_PREF.
    LocalPref,
    /// Shorter AS_PATH.
    PathLength,
    /// Lower ORIGIN.
    Origin,
    /// Lower MED among paths from the same neighbouring AS.
    Med,
    /// Learned from another AS rather than from our own.
    External,
    /// Nearer next hop.
    Cost,
    /// Lower BGP identifier, of the originator for reflected routes.
    RouterId,
    /// Shorter CLUSTER_LIST.
    ClusterList,
    /// Lower peer address.
    PeerAddress,
    /// Lower path identifier.
    PathId,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnlyPath => "only path",
            Self::Local => "own route",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::PathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MED",
            Self::External => "external over internal",
            Self::Cost => "nearer next hop",
            Self::RouterId => "lower router id",
            Self::ClusterList => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
            Self::PathId => "lower path id",
        })
    }
}

/// What the decision process found among a prefix's paths, as indices.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) best: usize,
    /// The best path and those as good as it up to the cost of the next hop.
    pub(crate) equal: Vec<usize>,
    pub(crate) step: Step,
}

/// Paths under consideration.
struct Candidates<'a> {
    paths: &'a [Path],
    left: Vec<usize>,
    step: Option<Step>,
}

impl Candidates<'_> {
    /// Keeps the candidates with the least value.
    fn least<V: Ord>(&mut self, step: Step, value: impl Fn(&Path) -> V) {
        if self.left.len() < 2 {
            return;
        }
        let Some(least) = self.left.iter().map(|&at| value(&self.paths[at])).min() else {
            return;
        };
        let paths = self.paths;
        self.left.retain(|&at| value(&paths[at]) == least);
        self.settle(step);
    }

    fn settle(&mut self, step: Step) {
        if self.left.len() == 1 {
            self.step.get_or_insert(step);
        }
    }
}

/// Runs the decision process. Each step looks at all that the steps before have left, so that the order in which
/// paths arrived cannot matter; MED as well. `None` when no next hop can be reached.
pub(crate) fn decide(paths: &[Path], context: &Context) -> Option<Decision> {
    let left: Vec<_> = (0..paths.len())
        .filter(|&at| context.cost(&paths[at]).is_some())
        .collect();
    let mut candidates = Candidates {
        paths,
        left,
        step: None,
    };
    candidates.settle(Step::OnlyPath);
    let summary = |path: &Path| *context.interner.get(path.set).summary();
    let source = |path: &Path| &context.sources[usize::from(path.peer)];
    candidates.least(Step::Local, |path| path.peer != LOCAL);
    candidates.least(Step::LocalPref, |path| {
        Reverse(summary(path).local_pref.unwrap_or(100))
    });
    candidates.least(Step::PathLength, |path| summary(path).path_length);
    candidates.least(Step::Origin, |path| -> Origin { summary(path).origin });
    med(&mut candidates, context);
    candidates.least(Step::External, |path| {
        path.peer != LOCAL && !source(path).external
    });
    candidates.least(Step::Cost, |path| context.cost(path));
    let equal = candidates.left.clone();
    candidates.least(Step::RouterId, |path| {
        summary(path)
            .originator
            .unwrap_or_else(|| source(path).router_id.into())
    });
    candidates.least(Step::ClusterList, |path| summary(path).clusters);
    candidates.least(Step::PeerAddress, |path| -> IpAddr { source(path).address });
    candidates.least(Step::PathId, |path| (path.peer, path.id));
    let best = *candidates.left.first()?;
    Some(Decision {
        best,
        equal,
        step: candidates.step.unwrap_or(Step::OnlyPath),
    })
}

/// Removes each path for which another one from the same neighbouring AS has a lower MED; none counts as 0.
fn med(candidates: &mut Candidates<'_>, context: &Context) {
    if candidates.left.len() < 2 {
        return;
    }
    let key = |at: usize| {
        let summary = context.interner.get(candidates.paths[at].set).summary();
        let group = if context.always_compare_med {
            0
        } else {
            summary.neighbor_as
        };
        (group, summary.med.unwrap_or(0))
    };
    let mut keys: Vec<_> = candidates.left.iter().map(|&at| key(at)).collect();
    keys.sort_unstable();
    // The first of each group has its lowest MED.
    keys.dedup_by_key(|(group, _)| *group);
    let left = candidates
        .left
        .iter()
        .copied()
        .filter(|&at| keys.binary_search(&key(at)).is_ok())
        .collect();
    candidates.left = left;
    candidates.settle(Step::Med);
}
