//! Tiers, policies, profiles and network sets.

use super::Problems;
use super::rule::{self, Place};
use super::value;
use crate::model::{
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, GlobalNetworkSet, NetworkPolicy,
    NetworkPolicySpec, NetworkSet, Profile, Rule, StagedGlobalNetworkPolicy, StagedNetworkPolicy,
    Tier,
};

/// Tiers that are always there, and what happens at their end.
const BUILT_IN: &[(&str, &str)] = &[
    ("kube-admin", "Pass"),
    ("default", "Deny"),
    ("kube-baseline", "Pass"),
];

pub(super) fn tier(problems: &mut Problems, tier: &Tier) {
    let name = &tier.metadata.name;
    let reason =
        format!("{name:?} is no name of a tier: small letters, digits and '-', at most 63");
    problems.check(value::is_name(name, 63, false), "metadata.name", reason);
    let action = tier.spec.default_action.as_deref();
    let field = "spec.defaultAction";
    value::optional(problems, field, action, &["Deny", "Pass"]);
    if let Some((_, fixed)) = BUILT_IN.iter().find(|(built_in, _)| built_in == name) {
        let reason = format!("the tier {name} always has {fixed}");
        problems.check(action.is_none_or(|action| action == *fixed), field, reason);
    }
}

/// What the two kinds of policies have in common.
struct Common<'a> {
    tier: Option<&'a str>,
    selectors: [(&'static str, Option<&'a str>); 3],
    types: &'a [String],
    ingress: &'a [Rule],
    egress: &'a [Rule],
    hints: &'a [String],
    staged_action: Option<&'a str>,
    place: Place,
    staged: bool,
}

fn common(problems: &mut Problems, policy: &Common<'_>) {
    if let Some(tier) = policy.tier.filter(|tier| !tier.is_empty()) {
        let reason = format!("{tier:?} is no name of a tier");
        problems.check(value::is_name(tier, 63, false), "spec.tier", reason);
    }
    for (field, selector) in policy.selectors {
        value::selector(problems, field, selector, false);
    }
    for (index, direction) in policy.types.iter().enumerate() {
        let field = format!("spec.types[{index}]");
        value::one_of(problems, &field, direction, &["Ingress", "Egress"]);
        let again = policy
            .types
            .iter()
            .take(index)
            .any(|earlier| earlier == direction);
        problems.check(!again, &field, format!("{direction} is there twice"));
    }
    for (index, hint) in policy.hints.iter().enumerate() {
        let field = format!("spec.performanceHints[{index}]");
        value::one_of(problems, &field, hint, &["AssumeNeededOnEveryNode"]);
    }
    let field = "spec.stagedAction";
    value::optional(
        problems,
        field,
        policy.staged_action,
        &["Set", "Delete", "Learn", "Ignore"],
    );
    let fits = policy.staged || policy.staged_action.is_none();
    problems.check(fits, field, "is only for staged policies");
    rule::ingress(problems, policy.ingress, policy.place);
    rule::egress(problems, policy.egress, policy.place);
}

pub(super) fn namespaced(problems: &mut Problems, policy: &NetworkPolicy) {
    namespaced_spec(problems, &policy.spec, false);
}

pub(super) fn staged_namespaced(problems: &mut Problems, policy: &StagedNetworkPolicy) {
    namespaced_spec(problems, &policy.spec, true);
}

fn namespaced_spec(problems: &mut Problems, spec: &NetworkPolicySpec, staged: bool) {
    common(
        problems,
        &Common {
            tier: spec.tier.as_deref(),
            selectors: [
                ("spec.selector", spec.selector.as_deref()),
                (
                    "spec.serviceAccountSelector",
                    spec.service_account_selector.as_deref(),
                ),
                ("", None),
            ],
            types: &spec.types,
            ingress: &spec.ingress,
            egress: &spec.egress,
            hints: &spec.performance_hints,
            staged_action: spec.staged_action.as_deref(),
            place: Place::Namespace,
            staged,
        },
    );
}

pub(super) fn global(problems: &mut Problems, policy: &GlobalNetworkPolicy) {
    global_spec(problems, &policy.spec, false);
}

pub(super) fn staged_global(problems: &mut Problems, policy: &StagedGlobalNetworkPolicy) {
    global_spec(problems, &policy.spec, true);
}

fn global_spec(problems: &mut Problems, spec: &GlobalNetworkPolicySpec, staged: bool) {
    common(
        problems,
        &Common {
            tier: spec.tier.as_deref(),
            selectors: [
                ("spec.selector", spec.selector.as_deref()),
                (
                    "spec.serviceAccountSelector",
                    spec.service_account_selector.as_deref(),
                ),
                ("spec.namespaceSelector", spec.namespace_selector.as_deref()),
            ],
            types: &spec.types,
            ingress: &spec.ingress,
            egress: &spec.egress,
            hints: &spec.performance_hints,
            staged_action: spec.staged_action.as_deref(),
            place: Place::Global,
            staged,
        },
    );
    let both = spec.do_not_track && spec.pre_dnat;
    problems.check(!both, "spec.preDNAT", "excludes doNotTrack");
    for (field, flag) in [
        ("spec.doNotTrack", spec.do_not_track),
        ("spec.preDNAT", spec.pre_dnat),
    ] {
        problems.check(
            !flag || spec.apply_on_forward,
            field,
            "needs applyOnForward",
        );
    }
    let egress = !spec.egress.is_empty() || spec.types.iter().any(|wanted| wanted == "Egress");
    problems.check(
        !(spec.pre_dnat && egress),
        "spec.preDNAT",
        "a policy with it has no egress",
    );
}

pub(super) fn profile(problems: &mut Problems, profile: &Profile) {
    rule::ingress(problems, &profile.spec.ingress, Place::Global);
    rule::egress(problems, &profile.spec.egress, Place::Global);
    for (key, text) in &profile.spec.labels_to_apply {
        value::label(problems, "spec.labelsToApply", key, text);
    }
}

fn nets(problems: &mut Problems, nets: &[String]) {
    for (index, net) in nets.iter().enumerate() {
        value::net(problems, &format!("spec.nets[{index}]"), net);
    }
}

pub(super) fn network_set(problems: &mut Problems, set: &NetworkSet) {
    nets(problems, &set.spec.nets);
}

pub(super) fn global_network_set(problems: &mut Problems, set: &GlobalNetworkSet) {
    nets(problems, &set.spec.nets);
}
