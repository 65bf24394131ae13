//! The resources as the reference reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_datastore::Key;
use ocicat_datastore::model::{
    GlobalNetworkPolicy, HostEndpoint, IntOrString, NetworkPolicy, Rule, WorkloadEndpoint,
};
use ocicat_selectors::{Expr, LabelFn, Selector};

use super::{Flow, Model, Subject};

pub(super) type Labels = BTreeMap<String, String>;

const IN_NAMESPACE: &str = "projectcalico.org/namespace";

/// A tier with its place and end.
pub(super) struct TierView {
    pub(super) name: String,
    pub(super) order: Option<f64>,
    pub(super) denies_at_end: bool,
}

/// A policy of either kind.
pub(super) struct PolicyView<'a> {
    pub(super) key: &'a Key,
    body: Body<'a>,
}

enum Body<'a> {
    Global(&'a GlobalNetworkPolicy),
    Namespaced(&'a NetworkPolicy),
}

/// Something that an address can belong to.
pub(super) struct Party {
    pub(super) labels: Labels,
    pub(super) nets: Vec<String>,
    /// Name, protocol and number.
    pub(super) ports: Vec<(String, IntOrString, u16)>,
}

impl Model {
    pub(super) fn endpoint_of(&self, address: IpAddr) -> Option<(&Key, &WorkloadEndpoint)> {
        self.endpoints
            .iter()
            .find(|(_, e)| e.spec.ip_networks.iter().any(|net| contains(net, address)))
            .map(|(key, endpoint)| (key, &**endpoint))
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = PolicyView<'_>> {
        let global = self.global.iter().map(|(key, policy)| PolicyView {
            key,
            body: Body::Global(policy),
        });
        let namespaced = self.namespaced.iter().map(|(key, policy)| PolicyView {
            key,
            body: Body::Namespaced(policy),
        });
        global.chain(namespaced)
    }

    pub(super) fn tier(&self, name: &str) -> Option<TierView> {
        let (order, denies_at_end) = match name {
            "kube-admin" => (Some(1e3), false),
            "default" => (Some(1e6), true),
            "kube-baseline" => (Some(1e7), false),
            _ => {
                let spec = &self.tiers.get(name)?.spec;
                let denies = match spec.default_action.as_deref() {
                    None | Some("" | "Deny") => true,
                    Some("Pass") => false,
                    Some(_) => return None,
                };
                (spec.order, denies)
            }
        };
        Some(TierView {
            name: name.to_owned(),
            order,
            denies_at_end,
        })
    }

    /// All labels of a pod's endpoint, inherited ones included.
    pub(super) fn labels_of(&self, key: &Key, endpoint: &WorkloadEndpoint) -> Labels {
        let spec = &endpoint.spec;
        let mut labels = own_labels(&endpoint.metadata.labels);
        if spec.orchestrator == "cni" {
            // Whoever wrote the endpoint speaks for its namespace: there is no Kubernetes that has one.
            let own = endpoint.metadata.labels.iter();
            let of_namespace = own.filter(|(label, _)| label.starts_with("pcns."));
            labels.extend(of_namespace.map(|(label, value)| (label.clone(), value.clone())));
        }
        let namespace = key.namespace.clone().unwrap_or_default();
        labels.insert(IN_NAMESPACE.into(), namespace);
        let orchestrator = "projectcalico.org/orchestrator".to_owned();
        labels.insert(orchestrator, spec.orchestrator.clone());
        if let Some(account) = &spec.service_account_name {
            let label = "projectcalico.org/serviceaccount".to_owned();
            labels.insert(label, account.clone());
        }
        self.inherit(labels, &spec.profiles)
    }

    pub(super) fn labels_of_host(&self, endpoint: &HostEndpoint) -> Labels {
        self.inherit(endpoint.metadata.labels.clone(), &endpoint.spec.profiles)
    }

    /// The host endpoint that a flow meets at a node: the one of the flow's interface, else the one of all.
    pub(super) fn host_endpoint(&self, node: &str, flow: &Flow) -> Option<(&Key, &HostEndpoint)> {
        let here = || {
            let here = self.hosts.iter().filter(|(_, e)| e.spec.node == node);
            here.map(|(key, e)| (key, &**e))
        };
        let meets = |endpoint: &HostEndpoint| {
            let interface = match endpoint.spec.interface_name.as_deref() {
                None | Some("") => self.interface_with(node, &endpoint.spec.expected_ips),
                Some("*") => None,
                name => name,
            };
            interface.is_some() && interface == flow.interface.as_deref()
        };
        let named = here().find(|(_, endpoint)| meets(endpoint));
        let all = |endpoint: &HostEndpoint| endpoint.spec.interface_name.as_deref() == Some("*");
        named.or_else(|| here().find(|(_, endpoint)| all(endpoint)))
    }

    fn interface_with(&self, node: &str, expected: &[String]) -> Option<&str> {
        let mut interfaces = self.interfaces.iter().filter(|((of, _), _)| of == node);
        let has = |addresses: &BTreeSet<IpAddr>| {
            expected
                .iter()
                .any(|net| addresses.iter().any(|address| contains(net, *address)))
        };
        let ((_, name), _) = interfaces.find(|(_, addresses)| has(addresses))?;
        Some(name)
    }

    /// Everything that addresses can belong to.
    pub(super) fn parties(&self) -> Vec<Party> {
        let mut out = Vec::new();
        for (key, endpoint) in &self.endpoints {
            let ports = endpoint.spec.ports.iter();
            out.push(Party {
                labels: self.labels_of(key, endpoint),
                nets: endpoint.spec.ip_networks.clone(),
                ports: ports
                    .filter_map(|p| Some((p.name.clone()?, p.protocol.clone(), p.port)))
                    .collect(),
            });
        }
        for endpoint in self.hosts.values() {
            let spec = &endpoint.spec;
            out.push(Party {
                labels: self.labels_of_host(endpoint),
                nets: spec.expected_ips.clone(),
                ports: spec
                    .ports
                    .iter()
                    .map(|p| (p.name.clone(), p.protocol.clone(), p.port))
                    .collect(),
            });
        }
        for (key, set) in &self.network_sets {
            let namespace = key.namespace.clone().unwrap_or_default();
            let mut labels = own_labels(&set.metadata.labels);
            labels.insert(IN_NAMESPACE.into(), namespace.clone());
            out.push(Party {
                labels: self.inherit(labels, &[format!("kns.{namespace}")]),
                nets: set.spec.nets.clone(),
                ports: Vec::new(),
            });
        }
        for set in self.global_network_sets.values() {
            out.push(Party {
                labels: set.metadata.labels.clone(),
                nets: set.spec.nets.clone(),
                ports: Vec::new(),
            });
        }
        out
    }

    /// Whether an address (and port) is a ready backend of a service.
    pub(super) fn is_backend(
        &self,
        (namespace, service): (&str, &str),
        address: IpAddr,
        port: Option<(u8, u16)>,
    ) -> bool {
        self.slices.iter().any(|(key, slice)| {
            let of = slice.metadata.labels.get("kubernetes.io/service-name");
            let ours = key.namespace.as_deref() == Some(namespace)
                && of.is_some_and(|name| name == service);
            let has_address = slice.endpoints.iter().any(|endpoint| {
                let ready = endpoint.conditions.ready.unwrap_or(true);
                ready && endpoint.addresses.iter().any(|a| a.parse() == Ok(address))
            });
            let has_port = match port {
                None => true,
                Some((protocol, number)) => slice.ports.iter().any(|p| {
                    let name = IntOrString::from(p.protocol.as_deref().unwrap_or("TCP"));
                    name.protocol().is_ok_and(|p| p.0 == protocol) && p.port == Some(number)
                }),
            };
            ours && has_address && has_port
        })
    }

    fn inherit(&self, mut labels: Labels, profiles: &[String]) -> Labels {
        for profile in profiles.iter().filter_map(|name| self.profiles.get(name)) {
            for (label, value) in &profile.spec.labels_to_apply {
                if !labels.contains_key(label) {
                    labels.insert(label.clone(), value.clone());
                }
            }
        }
        labels
    }
}

impl<'a> PolicyView<'a> {
    pub(super) fn namespace(&self) -> Option<&'a str> {
        match self.body {
            Body::Global(_) => None,
            Body::Namespaced(_) => Some(self.key.namespace.as_deref().unwrap_or_default()),
        }
    }

    pub(super) fn tier(&self) -> &'a str {
        let tier = match self.body {
            Body::Global(policy) => policy.spec.tier.as_deref(),
            Body::Namespaced(policy) => policy.spec.tier.as_deref(),
        };
        tier.filter(|t| !t.trim().is_empty()).unwrap_or("default")
    }

    pub(super) const fn order(&self) -> Option<f64> {
        match self.body {
            Body::Global(policy) => policy.spec.order,
            Body::Namespaced(policy) => policy.spec.order,
        }
    }

    /// What counts between policies of equal order: name, namespace, kind.
    pub(super) fn rank(&self) -> (&'a str, &'a str, u8) {
        let kind = match self.body {
            Body::Global(_) => 0,
            Body::Namespaced(_) => 1,
        };
        (&self.key.name, self.namespace().unwrap_or_default(), kind)
    }

    pub(super) fn rules(&self, ingress: bool) -> &'a [Rule] {
        match (&self.body, ingress) {
            (Body::Global(policy), true) => &policy.spec.ingress,
            (Body::Global(policy), false) => &policy.spec.egress,
            (Body::Namespaced(policy), true) => &policy.spec.ingress,
            (Body::Namespaced(policy), false) => &policy.spec.egress,
        }
    }

    /// Whether the policy is for an endpoint, in its direction. One whose selectors or types
    /// cannot be read is for none.
    pub(super) fn applies(&self, subject: &Subject<'_>) -> bool {
        let (labels, ingress) = (&subject.labels, subject.ingress);
        let forwards = matches!(self.body, Body::Global(policy) if policy.spec.apply_on_forward);
        if subject.forwards && !forwards {
            return false;
        }
        let (types, own, namespaces, accounts, supported) = match self.body {
            Body::Global(policy) => {
                let spec = &policy.spec;
                let supported = !spec.do_not_track && !spec.pre_dnat;
                let namespaces = spec.namespace_selector.as_deref();
                let accounts = spec.service_account_selector.as_deref();
                (
                    &spec.types,
                    spec.selector.as_deref(),
                    namespaces,
                    accounts,
                    supported,
                )
            }
            Body::Namespaced(policy) => {
                let spec = &policy.spec;
                let accounts = spec.service_account_selector.as_deref();
                (&spec.types, spec.selector.as_deref(), None, accounts, true)
            }
        };
        let known = types.iter().all(|t| t == "Ingress" || t == "Egress");
        let is_of_type = if types.is_empty() {
            let (has_in, has_out) = (!self.rules(true).is_empty(), !self.rules(false).is_empty());
            if ingress { has_in || !has_out } else { has_out }
        } else {
            types
                .iter()
                .any(|t| t == if ingress { "Ingress" } else { "Egress" })
        };
        let here = self.namespace();
        supported
            && known
            && is_of_type
            && here.is_none_or(|n| labels.get(IN_NAMESPACE).is_some_and(|l| l == n))
            && selects(own, labels) == Some(true)
            && in_namespaces(namespaces, labels) == Some(true)
            && of_accounts(accounts, labels) == Some(true)
    }
}

/// Whether a selector, if there is one, matches; `None` when it cannot be read.
pub(super) fn selects(text: Option<&str>, labels: &Labels) -> Option<bool> {
    let selector: Selector = text.unwrap_or_default().parse().ok()?;
    Some(selector.matches(labels))
}

/// Whether something is in a namespace with such labels.
pub(super) fn in_namespaces(text: Option<&str>, labels: &Labels) -> Option<bool> {
    let Some(text) = text.filter(|t| !t.trim().is_empty()) else {
        return Some(true);
    };
    let selector: Selector = text.parse().ok()?;
    let is_inside = labels.contains_key(IN_NAMESPACE);
    if matches!(selector.expr(), Expr::Global) {
        return Some(!is_inside);
    }
    // What else `global()` stands in has no meaning; a value in quotes may spell it.
    if mentions_global(&selector) {
        return None;
    }
    let of_namespace = |key: &str| labels.get(&format!("pcns.{key}")).map(String::as_str);
    Some(is_inside && selector.matches(&LabelFn::new(of_namespace)))
}

/// Whether something has a service account with such labels.
pub(super) fn of_accounts(text: Option<&str>, labels: &Labels) -> Option<bool> {
    let selector: Selector = text.unwrap_or_default().parse().ok()?;
    let of_account = |key: &str| labels.get(&format!("pcsa.{key}")).map(String::as_str);
    Some(selector.matches(&LabelFn::new(of_account)))
}

fn mentions_global(selector: &Selector) -> bool {
    let mut open = vec![selector.expr()];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Global => return true,
            Expr::Not { operand, .. } => open.push(operand),
            Expr::And { operands, .. } | Expr::Or { operands, .. } => open.extend(operands),
            _ => {}
        }
    }
    false
}

/// Labels without those that only ocicat gives.
fn own_labels(labels: &BTreeMap<String, String>) -> Labels {
    let mut own = labels.clone();
    own.retain(|label, _| {
        !label.starts_with("pcns.")
            && !label.starts_with("pcsa.")
            && label != IN_NAMESPACE
            && label != "projectcalico.org/orchestrator"
            && label != "projectcalico.org/serviceaccount"
    });
    own
}

/// Whether an address is in a range, or is the address; false when the text is neither.
pub(super) fn contains(net: &str, address: IpAddr) -> bool {
    let (base, length) = match net.split_once('/') {
        Some((base, length)) => (base, length.parse::<u32>().ok()),
        None => (net, Some(if net.contains(':') { 128 } else { 32 })),
    };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    };
    let (Ok(base), Some(length)) = (base.trim().parse::<IpAddr>(), length) else {
        return false;
    };
    let ((a, width), (b, other)) = (bits(base), bits(address));
    width == other && length <= width && (length == 0 || (a ^ b) >> (128 - length) == 0)
}

/// Whether a text is a range or an address.
pub(super) fn is_net(net: &str) -> bool {
    let base = net.split('/').next().unwrap_or_default();
    base.trim().parse().is_ok_and(|base| contains(net, base))
}
