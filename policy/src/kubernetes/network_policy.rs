use std::collections::BTreeMap;

use ocicat_datastore::Metadata;
use ocicat_datastore::model::{
    EntityRule, IntOrString, KubeNetworkPolicy, KubeNetworkPolicySpec, KubePeer, KubePolicyPort,
    LabelSelector, Malformed, NetworkPolicy, NetworkPolicySpec, Port, Rule,
    StagedKubernetesNetworkPolicy, StagedNetworkPolicy,
};

use super::{Converted, on_kubernetes, selector, unreadable};
use crate::{Reason, nets};

/// The order of converted policies in the tier `default`, as in Calico.
const ORDER: f64 = 1000.0;

/// The name of the policy that a Kubernetes NetworkPolicy becomes: `knp.default.NAME`.
#[must_use]
pub fn policy_name(name: &str) -> String {
    format!("knp.default.{name}")
}

/// What a Kubernetes NetworkPolicy (`networking.k8s.io/v1`) means: a policy of the tier `default` with order 1000.
///
/// - A port without a protocol is TCP; an entry without a port is all ports of its protocol; adjacent ports become
///   ranges.
/// - An absent namespace selector means the policy's own namespace, an empty one all namespaces.
/// - A rule that cannot be read becomes one that lets nothing through, and a problem.
#[must_use]
pub fn network_policy(policy: &KubeNetworkPolicy) -> Converted<NetworkPolicy> {
    let spec = &policy.spec;
    let mut problems = Vec::new();
    let mut ingress = Vec::new();
    for (i, rule) in spec.ingress.iter().enumerate() {
        let side = Side::Source;
        let read = match &rule.malformed {
            Some(malformed) => Err((String::new(), Reason::Malformed(malformed.clone()))),
            None => rules(side, &rule.from, &rule.ports),
        };
        keep(read, &format!("ingress[{i}]"), &mut ingress, &mut problems);
    }
    let mut egress = Vec::new();
    for (i, rule) in spec.egress.iter().enumerate() {
        let side = Side::Destination;
        let read = match &rule.malformed {
            Some(malformed) => Err((String::new(), Reason::Malformed(malformed.clone()))),
            None => rules(side, &rule.to, &rule.ports),
        };
        keep(read, &format!("egress[{i}]"), &mut egress, &mut problems);
    }
    let own = match selector(&spec.pod_selector) {
        Ok(pods) => on_kubernetes(&pods),
        Err(error) => {
            let text = unreadable(&error);
            problems.push(("podSelector".to_owned(), Reason::LabelSelector(error)));
            text
        }
    };
    let types = if spec.policy_types.is_empty() {
        let egress = (!spec.egress.is_empty()).then(|| "Egress".to_owned());
        std::iter::once("Ingress".to_owned())
            .chain(egress)
            .collect()
    } else {
        spec.policy_types.clone()
    };
    let value = NetworkPolicy {
        metadata: Metadata {
            name: policy_name(&policy.metadata.name),
            ..policy.metadata.clone()
        },
        spec: NetworkPolicySpec {
            order: Some(ORDER),
            selector: Some(own),
            types,
            ingress,
            egress,
            ..NetworkPolicySpec::default()
        },
    };
    Converted { value, problems }
}

/// What a StagedKubernetesNetworkPolicy means: the policy that [`network_policy`] would make, staged.
#[must_use]
pub fn staged_network_policy(
    policy: &StagedKubernetesNetworkPolicy,
) -> Converted<StagedNetworkPolicy> {
    let spec = &policy.spec;
    let Converted { value, problems } = network_policy(&KubeNetworkPolicy {
        metadata: policy.metadata.clone(),
        spec: KubeNetworkPolicySpec {
            pod_selector: spec.pod_selector.clone(),
            policy_types: spec.policy_types.clone(),
            ingress: spec.ingress.clone(),
            egress: spec.egress.clone(),
        },
    });
    let value = StagedNetworkPolicy {
        metadata: value.metadata,
        spec: NetworkPolicySpec {
            staged_action: spec.staged_action.clone(),
            ..value.spec
        },
    };
    Converted { value, problems }
}

/// Which side of the traffic the peers are.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

type Failure = (String, Reason);

fn keep(
    read: Result<Vec<Rule>, Failure>,
    field: &str,
    rules: &mut Vec<Rule>,
    problems: &mut Vec<(String, Reason)>,
) {
    match read {
        Ok(read) => rules.extend(read),
        Err((inner, reason)) => {
            let malformed = Malformed {
                field: inner.clone(),
                reason: reason.to_string(),
            };
            rules.push(Rule {
                action: "Allow".into(),
                malformed: Some(malformed),
                ..Rule::default()
            });
            let dot = if inner.is_empty() { "" } else { "." };
            problems.push((format!("{field}{dot}{inner}"), reason));
        }
    }
}

/// One rule for each peer and each group of ports.
fn rules(side: Side, peers: &[KubePeer], ports: &[KubePolicyPort]) -> Result<Vec<Rule>, Failure> {
    let groups = port_groups(ports)?;
    let mut entities = Vec::new();
    for (i, peer) in peers.iter().enumerate() {
        let (peer_field, entity) = match side {
            Side::Source => ("from", entity(peer)),
            Side::Destination => ("to", entity(peer)),
        };
        entities.push(
            entity.map_err(|(field, reason)| (format!("{peer_field}[{i}].{field}"), reason))?,
        );
    }
    if entities.is_empty() {
        entities.push(EntityRule::default());
    }
    let mut out = Vec::new();
    for (protocol, ports) in &groups {
        for entity in &entities {
            let mut rule = Rule {
                action: "Allow".into(),
                protocol: protocol.map(IntOrString::from),
                ..Rule::default()
            };
            match side {
                Side::Source => rule.source = entity.clone(),
                Side::Destination => rule.destination = entity.clone(),
            }
            rule.destination.ports.clone_from(ports);
            out.push(rule);
        }
    }
    Ok(out)
}

type PortGroup = (Option<&'static str>, Vec<IntOrString>);

/// The ports of one protocol.
#[derive(Default)]
struct Group {
    all: bool,
    numbers: Vec<(u16, u16)>,
    names: Vec<String>,
}

/// The ports by protocol, in the fewest ranges; an entry without a port makes it all ports of its protocol.
fn port_groups(ports: &[KubePolicyPort]) -> Result<Vec<PortGroup>, Failure> {
    if ports.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (i, port) in ports.iter().enumerate() {
        let at = |(field, reason): (&str, Reason)| (format!("ports[{i}].{field}"), reason);
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let index = PROTOCOLS.iter().position(|known| *known == protocol);
        let unknown = || Reason::Unknown {
            found: protocol.to_owned(),
            expected: "TCP, UDP, SCTP",
        };
        let index = index.ok_or_else(|| at(("protocol", unknown())))?;
        groups.entry(index).or_default().add(port).map_err(at)?;
    }
    let written = |(index, group): (usize, Group)| (PROTOCOLS.get(index).copied(), group.written());
    Ok(groups.into_iter().map(written).collect())
}

impl Group {
    fn add(&mut self, port: &KubePolicyPort) -> Result<(), (&'static str, Reason)> {
        match (&port.port, port.end_port) {
            (None, None) => self.all = true,
            (None, Some(_)) => return Err(("endPort", Reason::Needs("a port"))),
            (Some(IntOrString::Int(first)), end) => {
                let first = number(*first).map_err(|reason| ("port", reason))?;
                let end = end.unwrap_or_else(|| first.into());
                let last = number(end).ok().filter(|last| *last >= first);
                let reason = Reason::Range {
                    found: end,
                    first: first.into(),
                    last: 65535,
                };
                self.numbers.push((first, last.ok_or(("endPort", reason))?));
            }
            (Some(_), Some(_)) => {
                return Err(("endPort", Reason::Excludes("a port that is a name")));
            }
            (Some(name), None) => match name.port() {
                Ok(Port::Name(name)) => self.names.push(name),
                Ok(_) => return Err(("port", Reason::Needs("a number or a name"))),
                Err(error) => return Err(("port", Reason::Value(error))),
            },
        }
        Ok(())
    }

    fn written(mut self) -> Vec<IntOrString> {
        if self.all {
            return Vec::new();
        }
        self.numbers.sort_unstable();
        self.names.sort();
        self.names.dedup();
        let mut out = joined(&self.numbers);
        out.extend(self.names.into_iter().map(IntOrString::String));
        out
    }
}

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

fn number(found: i64) -> Result<u16, Reason> {
    let range = Reason::Range {
        found,
        first: 1,
        last: 65535,
    };
    u16::try_from(found).ok().filter(|n| *n > 0).ok_or(range)
}

/// Sorted ranges, put together where they touch.
fn joined(sorted: &[(u16, u16)]) -> Vec<IntOrString> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match ranges.last_mut() {
            Some(open) if u32::from(*first) <= u32::from(open.1) + 1 => open.1 = open.1.max(*last),
            _ => ranges.push((*first, *last)),
        }
    }
    let written = |(first, last): (u16, u16)| {
        if first == last {
            IntOrString::from(first)
        } else {
            IntOrString::String(format!("{first}:{last}"))
        }
    };
    ranges.into_iter().map(written).collect()
}

fn entity(peer: &KubePeer) -> Result<EntityRule, Failure> {
    let selects = peer.namespace_selector.is_some() || peer.pod_selector.is_some();
    if let Some(block) = &peer.ip_block {
        if selects {
            let reason = Reason::Excludes("the selectors");
            return Err(("ipBlock".to_owned(), reason));
        }
        let check = |field: String, text: &String| match nets::parse(text) {
            Some(net) => Ok(net.to_string()),
            None => Err((field, Reason::Net(text.clone()))),
        };
        let mut out = EntityRule {
            nets: vec![check("ipBlock.cidr".to_owned(), &block.cidr)?],
            ..EntityRule::default()
        };
        for (i, text) in block.except.iter().enumerate() {
            out.not_nets
                .push(check(format!("ipBlock.except[{i}]"), text)?);
        }
        return Ok(out);
    }
    if !selects {
        let reason = Reason::Needs("an ipBlock, a podSelector or a namespaceSelector");
        return Err((String::new(), reason));
    }
    let read = |field: &str, from: &LabelSelector| {
        selector(from).map_err(|error| (field.to_owned(), Reason::LabelSelector(error)))
    };
    let pods = match &peer.pod_selector {
        Some(from) => on_kubernetes(&read("podSelector", from)?),
        None => on_kubernetes(&ocicat_selectors::Selector::all()),
    };
    let namespaces = match &peer.namespace_selector {
        Some(from) => Some(read("namespaceSelector", from)?.to_string()),
        None => None,
    };
    Ok(EntityRule {
        selector: Some(pods),
        namespace_selector: namespaces,
        ..EntityRule::default()
    })
}
