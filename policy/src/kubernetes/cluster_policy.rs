use ocicat_datastore::Metadata;
use ocicat_datastore::model::{
    ClusterNetworkPolicy, ClusterPeer, ClusterPorts, ClusterProtocol, ClusterSubject, EntityRule,
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, IntOrString, LabelSelector, Malformed, Port,
    Rule,
};

use super::{Converted, on_kubernetes, selector, unreadable};
use crate::{Reason, nets};

/// The name of the policy that a ClusterNetworkPolicy becomes: `kcnp.NAME`.
#[must_use]
pub fn cluster_policy_name(name: &str) -> String {
    format!("kcnp.{name}")
}

/// What a ClusterNetworkPolicy (`policy.networking.k8s.io`) means: a policy of the tier `kube-admin` or
/// `kube-baseline` whose order is its priority.
///
/// - Accept becomes Allow; Deny and Pass stay.
/// - A named port is one of TCP, UDP and SCTP.
/// - A rule that cannot be read: an Accept lets nothing through, a Deny or Pass denies everything.
/// - A policy without a readable tier or subject is not enforced.
#[must_use]
pub fn cluster_network_policy(policy: &ClusterNetworkPolicy) -> Converted<GlobalNetworkPolicy> {
    let spec = &policy.spec;
    let mut problems = Vec::new();
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let written = Written {
            action: &rule.action,
            peers: &rule.from,
            protocols: &rule.protocols,
            malformed: rule.malformed.as_ref(),
            ingress: true,
        };
        written.convert(&format!("ingress[{i}]"), &mut ingress, &mut problems);
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let written = Written {
            action: &rule.action,
            peers: &rule.to,
            protocols: &rule.protocols,
            malformed: rule.malformed.as_ref(),
            ingress: false,
        };
        written.convert(&format!("egress[{i}]"), &mut egress, &mut problems);
    }
    let tier = tier(&spec.tier).unwrap_or_else(|reason| {
        let text = unreadable(&reason);
        problems.push(("tier".to_owned(), reason));
        text
    });
    let (pods, namespaces) = subject(&spec.subject).unwrap_or_else(|(field, reason)| {
        let text = unreadable(&reason);
        problems.push((field, reason));
        (text, None)
    });
    let directions = [("Ingress", &ingress), ("Egress", &egress)];
    let types = directions
        .into_iter()
        .filter(|(_, rules)| !rules.is_empty());
    let value = GlobalNetworkPolicy {
        metadata: Metadata {
            name: cluster_policy_name(&policy.metadata.name),
            ..policy.metadata.clone()
        },
        spec: GlobalNetworkPolicySpec {
            tier: Some(tier),
            // Priorities are at most 1000: a float holds them exactly.
            order: Some(spec.priority as f64),
            selector: Some(pods),
            namespace_selector: namespaces,
            types: types.map(|(direction, _)| direction.to_owned()).collect(),
            ingress,
            egress,
            ..GlobalNetworkPolicySpec::default()
        },
    };
    Converted { value, problems }
}

type Failure = (String, Reason);

fn tier(text: &str) -> Result<String, Reason> {
    match text {
        "Admin" => Ok("kube-admin".to_owned()),
        "Baseline" => Ok("kube-baseline".to_owned()),
        other => Err(Reason::Unknown {
            found: other.to_owned(),
            expected: "Admin, Baseline",
        }),
    }
}

/// A rule of either direction.
struct Written<'a> {
    action: &'a str,
    peers: &'a [ClusterPeer],
    protocols: &'a [ClusterProtocol],
    malformed: Option<&'a Malformed>,
    ingress: bool,
}

impl Written<'_> {
    fn convert(&self, field: &str, rules: &mut Vec<Rule>, problems: &mut Vec<Failure>) {
        match self.read() {
            Ok(read) => rules.extend(read),
            Err((inner, reason)) => {
                rules.push(Rule {
                    action: self.calicos_action().unwrap_or("Deny").to_owned(),
                    malformed: Some(Malformed {
                        field: inner.clone(),
                        reason: reason.to_string(),
                    }),
                    ..Rule::default()
                });
                let dot = if inner.is_empty() { "" } else { "." };
                problems.push((format!("{field}{dot}{inner}"), reason));
            }
        }
    }

    fn calicos_action(&self) -> Option<&'static str> {
        match self.action {
            "Accept" => Some("Allow"),
            "Deny" => Some("Deny"),
            "Pass" => Some("Pass"),
            _ => None,
        }
    }

    /// One rule for each protocol and each peer.
    fn read(&self) -> Result<Vec<Rule>, Failure> {
        if let Some(malformed) = self.malformed {
            return Err((String::new(), Reason::Malformed(malformed.clone())));
        }
        let unknown = || Reason::Unknown {
            found: self.action.to_owned(),
            expected: "Accept, Deny, Pass",
        };
        let action = self
            .calicos_action()
            .ok_or_else(|| ("action".to_owned(), unknown()))?;
        let side = if self.ingress { "from" } else { "to" };
        if self.peers.is_empty() {
            return Err((side.to_owned(), Reason::Needs("at least one peer")));
        }
        let mut entities = Vec::new();
        for (i, peer) in self.peers.iter().enumerate() {
            let at = |(field, reason)| (format!("{side}[{i}]{field}"), reason);
            entities.push(entity(peer, self.ingress).map_err(at)?);
        }
        let mut ports = Vec::new();
        for (i, protocol) in self.protocols.iter().enumerate() {
            let at = |(field, reason)| (format!("protocols[{i}]{field}"), reason);
            ports.extend(ports_of(protocol).map_err(at)?);
        }
        if ports.is_empty() {
            ports.push((None, None));
        }
        let mut out = Vec::new();
        for (protocol, port) in &ports {
            for entity in &entities {
                let mut rule = Rule {
                    action: action.to_owned(),
                    protocol: protocol.map(IntOrString::from),
                    ..Rule::default()
                };
                if self.ingress {
                    rule.source = entity.clone();
                } else {
                    rule.destination = entity.clone();
                }
                rule.destination.ports.extend(port.clone());
                out.push(rule);
            }
        }
        Ok(out)
    }
}

/// The selectors of pods and of namespaces.
fn subject(subject: &ClusterSubject) -> Result<(String, Option<String>), Failure> {
    let (namespaces, pods) = match (&subject.namespaces, &subject.pods) {
        (Some(namespaces), None) => (namespaces, None),
        (None, Some(pods)) => (&pods.namespace_selector, Some(&pods.pod_selector)),
        _ => {
            let reason = Reason::Needs("one of namespaces and pods");
            return Err(("subject".to_owned(), reason));
        }
    };
    let (pods, namespaces) =
        selectors(pods, namespaces).map_err(|(f, reason)| (format!("subject{f}"), reason))?;
    Ok((pods, Some(namespaces)))
}

/// Pods (all when absent) of namespaces.
fn selectors(
    pods: Option<&LabelSelector>,
    namespaces: &LabelSelector,
) -> Result<(String, String), Failure> {
    let read = |field: &str, from: &LabelSelector| {
        selector(from).map_err(|error| (field.to_owned(), Reason::LabelSelector(error)))
    };
    Ok(match pods {
        Some(pods) => (
            on_kubernetes(&read(".pods.podSelector", pods)?),
            read(".pods.namespaceSelector", namespaces)?.to_string(),
        ),
        None => (
            on_kubernetes(&ocicat_selectors::Selector::all()),
            read(".namespaces", namespaces)?.to_string(),
        ),
    })
}

fn entity(peer: &ClusterPeer, ingress: bool) -> Result<EntityRule, Failure> {
    let (namespaces, pods) = match (&peer.namespaces, &peer.pods, peer.networks.is_empty()) {
        (Some(namespaces), None, true) => (namespaces, None),
        (None, Some(pods), true) => (&pods.namespace_selector, Some(&pods.pod_selector)),
        (None, None, false) if !ingress => {
            let mut out = EntityRule::default();
            for (i, text) in peer.networks.iter().enumerate() {
                let bad = || (format!(".networks[{i}]"), Reason::Net(text.clone()));
                out.nets
                    .push(nets::parse(text).ok_or_else(bad)?.to_string());
            }
            return Ok(out);
        }
        _ => {
            let reason = Reason::Needs("one kind of peer that goes with the direction");
            return Err((String::new(), reason));
        }
    };
    let (pods, namespaces) = selectors(pods, namespaces)?;
    Ok(EntityRule {
        selector: Some(pods),
        namespace_selector: Some(namespaces),
        ..EntityRule::default()
    })
}

type PortOf = (Option<&'static str>, Option<IntOrString>);

/// The protocol with its port, if it names one; a name means three protocols.
fn ports_of(protocol: &ClusterProtocol) -> Result<Vec<PortOf>, Failure> {
    let numbered = [
        ("TCP", ".tcp", &protocol.tcp),
        ("UDP", ".udp", &protocol.udp),
        ("SCTP", ".sctp", &protocol.sctp),
    ];
    let mut found = Vec::new();
    for (name, field, ports) in numbered {
        if let Some(ports) = ports {
            let at = |reason| (format!("{field}.destinationPort"), reason);
            found.push(vec![(Some(name), port(ports).map_err(at)?)]);
        }
    }
    if let Some(name) = &protocol.destination_named_port {
        if !matches!(name.parse(), Ok(Port::Name(_))) {
            let reason = Reason::Needs("a name");
            return Err((".destinationNamedPort".to_owned(), reason));
        }
        let named = |protocol| (Some(protocol), Some(IntOrString::String(name.clone())));
        found.push(["TCP", "UDP", "SCTP"].map(named).to_vec());
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err((String::new(), Reason::Needs("one protocol that is known"))),
    }
}

fn port(ports: &ClusterPorts) -> Result<Option<IntOrString>, Reason> {
    let Some(port) = &ports.destination_port else {
        return Ok(None);
    };
    let range = |found, first| Reason::Range {
        found,
        first,
        last: 65535,
    };
    let (first, last) = match (port.number, &port.range) {
        (Some(number), None) => (number, number),
        (None, Some(range)) => (range.start, range.end),
        _ => return Err(Reason::Needs("a number or a range")),
    };
    if !(1..=65535).contains(&first) {
        return Err(range(first, 1));
    }
    if !(first..=65535).contains(&last) {
        return Err(range(last, first));
    }
    Ok(Some(if first == last {
        IntOrString::Int(first)
    } else {
        IntOrString::String(format!("{first}:{last}"))
    }))
}
