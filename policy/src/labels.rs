//! The labels that say where an endpoint belongs, and how its own are kept apart from inherited ones.

use std::collections::BTreeMap;

/// The namespace of an endpoint or network set.
pub(crate) const NAMESPACE: &str = "projectcalico.org/namespace";
/// What started a workload: `k8s`, or [`PLAIN`].
pub(crate) const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// The orchestrator of an endpoint that was made for a container runtime without Kubernetes.
pub(crate) const PLAIN: &str = "cni";
/// The service account of a pod.
pub(crate) const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// The start of labels that are inherited from the namespace.
pub(crate) const NAMESPACE_PREFIX: &str = "pcns.";
/// The start of labels that are inherited from the service account.
pub(crate) const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// The labels of something in a namespace: its own, without those that would pass for inherited ones or for facts
/// about where it belongs, and with those facts.
///
/// Who may write a pod may write its labels; without this, a label `pcns.stage: prod` would give the pod what is
/// meant for the namespaces of production. Without Kubernetes nobody has a pod's labels but who wrote the endpoint, and
/// there is no namespace to have its own: there those that begin with `pcns.` are the namespace's.
pub(crate) fn namespaced<'a>(
    own: &BTreeMap<String, String>,
    orchestrator: Option<&str>,
    facts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    let inherited = |label: &str| {
        label.starts_with(NAMESPACE_PREFIX) && orchestrator != Some(PLAIN)
            || label.starts_with(SERVICE_ACCOUNT_PREFIX)
    };
    let fact = |label: &str| [NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT].contains(&label);
    let mut labels: BTreeMap<String, String> = own
        .iter()
        .filter(|(label, _)| !inherited(label) && !fact(label))
        .map(|(label, value)| (label.clone(), value.clone()))
        .collect();
    for (label, value) in facts {
        labels.insert(label.to_owned(), value.to_owned());
    }
    labels
}

/// A text that says something: not absent and not blank.
pub(crate) fn stated(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|t| !t.trim().is_empty())
}
