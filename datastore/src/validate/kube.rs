//! Kubernetes' network policies.

use super::Problems;
use super::value::{self, Cidr};
use crate::model::{
    ClusterEgressRule, ClusterIngressRule, ClusterNetworkPolicy, ClusterPeer, ClusterProtocol,
    KubeEgressRule, KubeIngressRule, KubeNetworkPolicy, KubePeer, KubePolicyPort, LabelSelector,
    Malformed, NamespacedPods, Port, StagedKubernetesNetworkPolicy,
};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

fn selector(problems: &mut Problems, field: &str, selector: &LabelSelector) {
    for (key, text) in &selector.match_labels {
        value::label(problems, &format!("{field}.matchLabels"), key, text);
    }
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        value::label(problems, &format!("{field}.key"), &requirement.key, "");
        let operators = &["In", "NotIn", "Exists", "DoesNotExist"];
        value::one_of(
            problems,
            &format!("{field}.operator"),
            &requirement.operator,
            operators,
        );
        let wants = matches!(&*requirement.operator, "In" | "NotIn");
        let reason = format!(
            "{} {} values",
            requirement.operator,
            if wants { "needs" } else { "has no" }
        );
        problems.check(
            wants != requirement.values.is_empty(),
            &format!("{field}.values"),
            reason,
        );
    }
}

fn malformed(problems: &mut Problems, field: &str, malformed: Option<&Malformed>) -> bool {
    let Some(malformed) = malformed else {
        return false;
    };
    let inner = &malformed.field;
    let path = if inner.is_empty() {
        field.to_owned()
    } else {
        format!("{field}.{inner}")
    };
    problems.add(path, &malformed.reason);
    true
}

pub(super) fn network_policy(problems: &mut Problems, policy: &KubeNetworkPolicy) {
    let spec = &policy.spec;
    policy_spec(
        problems,
        &spec.pod_selector,
        &spec.policy_types,
        &spec.ingress,
        &spec.egress,
    );
}

pub(super) fn staged(problems: &mut Problems, policy: &StagedKubernetesNetworkPolicy) {
    let spec = &policy.spec;
    policy_spec(
        problems,
        &spec.pod_selector,
        &spec.policy_types,
        &spec.ingress,
        &spec.egress,
    );
}

fn policy_spec(
    problems: &mut Problems,
    pods: &LabelSelector,
    types: &[String],
    ingress: &[KubeIngressRule],
    egress: &[KubeEgressRule],
) {
    selector(problems, "spec.podSelector", pods);
    for (index, direction) in types.iter().enumerate() {
        let field = format!("spec.policyTypes[{index}]");
        value::one_of(problems, &field, direction, &["Ingress", "Egress"]);
    }
    for (index, rule) in ingress.iter().enumerate() {
        let field = format!("spec.ingress[{index}]");
        if !malformed(problems, &field, rule.malformed.as_ref()) {
            peers(problems, &format!("{field}.from"), &rule.from);
            ports(problems, &format!("{field}.ports"), &rule.ports);
        }
    }
    for (index, rule) in egress.iter().enumerate() {
        let field = format!("spec.egress[{index}]");
        if !malformed(problems, &field, rule.malformed.as_ref()) {
            peers(problems, &format!("{field}.to"), &rule.to);
            ports(problems, &format!("{field}.ports"), &rule.ports);
        }
    }
}

fn peers(problems: &mut Problems, field: &str, peers: &[KubePeer]) {
    for (index, peer) in peers.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let selects = peer.namespace_selector.is_some() || peer.pod_selector.is_some();
        let reason = "has either an ipBlock or selectors";
        problems.check(selects != peer.ip_block.is_some(), &field, reason);
        for (name, labels) in [
            ("namespaceSelector", &peer.namespace_selector),
            ("podSelector", &peer.pod_selector),
        ] {
            if let Some(labels) = labels {
                selector(problems, &format!("{field}.{name}"), labels);
            }
        }
        let Some(block) = &peer.ip_block else {
            continue;
        };
        let field = format!("{field}.ipBlock");
        let outer = range(problems, &format!("{field}.cidr"), &block.cidr);
        for (index, except) in block.except.iter().enumerate() {
            let field = format!("{field}.except[{index}]");
            if let (Some(inner), Some(outer)) = (range(problems, &field, except), &outer) {
                let inside = outer.contains(&inner) && outer.length < inner.length;
                problems.check(inside, &field, format!("{inner} is not inside of {outer}"));
            }
        }
    }
}

fn range(problems: &mut Problems, field: &str, text: &str) -> Option<Cidr> {
    let parsed = Cidr::parse(text);
    parsed.map_err(|reason| problems.add(field, reason)).ok()
}

fn ports(problems: &mut Problems, field: &str, ports: &[KubePolicyPort]) {
    for (index, one) in ports.iter().enumerate() {
        let field = format!("{field}[{index}]");
        value::optional(
            problems,
            &format!("{field}.protocol"),
            one.protocol.as_deref(),
            PROTOCOLS,
        );
        let path = format!("{field}.port");
        let number = match one.port.as_ref().map(crate::model::IntOrString::port) {
            None | Some(Ok(Port::Name(_))) => None,
            Some(Ok(Port::Number(number))) => Some(i64::from(number)),
            Some(Ok(Port::Range(..))) => {
                problems.add(path, "a range is written with endPort");
                continue;
            }
            Some(Err(error)) => {
                problems.add(path, error);
                continue;
            }
        };
        problems.check(number != Some(0), &path, "0 is no port");
        if let Some(end) = one.end_port {
            let fits = number.is_some_and(|first| first <= end && end <= 65535);
            let reason = format!("{end} is no end of a range that begins at port");
            problems.check(fits, &format!("{field}.endPort"), reason);
        }
    }
}

pub(super) fn cluster_policy(problems: &mut Problems, policy: &ClusterNetworkPolicy) {
    let spec = &policy.spec;
    value::one_of(problems, "spec.tier", &spec.tier, &["Admin", "Baseline"]);
    let reason = format!("{} is not in 0 to 1000", spec.priority);
    problems.check((0..=1000).contains(&spec.priority), "spec.priority", reason);
    let one = spec.subject.namespaces.is_some() != spec.subject.pods.is_some();
    problems.check(one, "spec.subject", "is either namespaces or pods");
    if let Some(namespaces) = &spec.subject.namespaces {
        selector(problems, "spec.subject.namespaces", namespaces);
    }
    pods(problems, "spec.subject", spec.subject.pods.as_ref());
    for (index, rule) in spec.ingress.iter().enumerate() {
        cluster_ingress(problems, &format!("spec.ingress[{index}]"), rule);
    }
    for (index, rule) in spec.egress.iter().enumerate() {
        cluster_egress(problems, &format!("spec.egress[{index}]"), rule);
    }
}

fn pods(problems: &mut Problems, field: &str, pods: Option<&NamespacedPods>) {
    let Some(pods) = pods else { return };
    let namespaces = &pods.namespace_selector;
    selector(
        problems,
        &format!("{field}.pods.namespaceSelector"),
        namespaces,
    );
    selector(
        problems,
        &format!("{field}.pods.podSelector"),
        &pods.pod_selector,
    );
}

fn cluster_ingress(problems: &mut Problems, field: &str, rule: &ClusterIngressRule) {
    if malformed(problems, field, rule.malformed.as_ref()) {
        return;
    }
    cluster_rule(problems, field, &rule.action, &rule.protocols);
    cluster_peers(problems, &format!("{field}.from"), &rule.from, false);
}

fn cluster_egress(problems: &mut Problems, field: &str, rule: &ClusterEgressRule) {
    if malformed(problems, field, rule.malformed.as_ref()) {
        return;
    }
    cluster_rule(problems, field, &rule.action, &rule.protocols);
    cluster_peers(problems, &format!("{field}.to"), &rule.to, true);
}

fn cluster_rule(problems: &mut Problems, field: &str, action: &str, protocols: &[ClusterProtocol]) {
    value::one_of(
        problems,
        &format!("{field}.action"),
        action,
        &["Accept", "Deny", "Pass"],
    );
    for (index, protocol) in protocols.iter().enumerate() {
        let field = format!("{field}.protocols[{index}]");
        let by_number = [
            ("tcp", &protocol.tcp),
            ("udp", &protocol.udp),
            ("sctp", &protocol.sctp),
        ];
        let count = by_number
            .iter()
            .filter(|(_, ports)| ports.is_some())
            .count()
            + usize::from(protocol.destination_named_port.is_some());
        let reason = "is one of tcp, udp, sctp and destinationNamedPort";
        problems.check(count == 1, &field, reason);
        for (name, ports) in by_number {
            let port = ports
                .as_ref()
                .and_then(|ports| ports.destination_port.as_ref());
            let Some(port) = port else { continue };
            let field = format!("{field}.{name}.destinationPort");
            let legal = |number: i64| (1..=65535).contains(&number);
            let good = match (port.number, &port.range) {
                (Some(number), None) => legal(number),
                (None, Some(range)) => {
                    legal(range.start) && legal(range.end) && range.start <= range.end
                }
                _ => false,
            };
            problems.check(good, &field, "is a number or a range within 1 to 65535");
        }
    }
}

fn cluster_peers(problems: &mut Problems, field: &str, peers: &[ClusterPeer], egress: bool) {
    problems.check(!peers.is_empty(), field, "is empty");
    for (index, peer) in peers.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let count = usize::from(peer.namespaces.is_some())
            + usize::from(peer.pods.is_some())
            + usize::from(!peer.networks.is_empty());
        problems.check(
            count == 1,
            &field,
            "is one of namespaces, pods and networks",
        );
        let fits = egress || peer.networks.is_empty();
        problems.check(
            fits,
            &format!("{field}.networks"),
            "is only for egress rules",
        );
        if let Some(namespaces) = &peer.namespaces {
            selector(problems, &format!("{field}.namespaces"), namespaces);
        }
        pods(problems, &field, peer.pods.as_ref());
        for (index, network) in peer.networks.iter().enumerate() {
            range(problems, &format!("{field}.networks[{index}]"), network);
        }
    }
}
