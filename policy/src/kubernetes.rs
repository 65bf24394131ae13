//! What Kubernetes' own objects mean in Calico's terms.

mod cluster_policy;
mod identity;
mod network_policy;
mod pod;

use std::fmt;

use ocicat_datastore::model;

use ocicat_selectors::Selector;
use ocicat_selectors::kubernetes::{LabelSelector, LabelSelectorError, Operator, Requirement};

use crate::labels;

pub use cluster_policy::{cluster_network_policy, cluster_policy_name};
pub use identity::{namespace, service_account};
pub use network_policy::{network_policy, policy_name, staged_network_policy};
pub use pod::workload_endpoint;

/// An object that was converted, and what could not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted<T> {
    /// The object. What could not be converted is in it in a form that [`Graph`](crate::Graph) refuses, so that it
    /// fails closed there and an earlier version stays in force.
    pub value: T,
    /// What could not be converted, by field.
    pub problems: Vec<(String, crate::Reason)>,
}

/// A selector of ours for one of Kubernetes'.
pub(crate) fn selector(from: &model::LabelSelector) -> Result<Selector, LabelSelectorError> {
    let mut converted = LabelSelector {
        match_labels: from.match_labels.clone(),
        ..LabelSelector::default()
    };
    for requirement in &from.match_expressions {
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                return Err(LabelSelectorError::Operator {
                    key: requirement.key.clone(),
                    operator: other.to_owned(),
                });
            }
        };
        converted.match_expressions.push(Requirement {
            key: requirement.key.clone(),
            operator,
            values: requirement.values.clone(),
        });
    }
    Selector::try_from(&converted)
}

/// `projectcalico.org/orchestrator == "k8s"` and the selector: no host, no network set.
pub(crate) fn on_kubernetes(pods: &Selector) -> String {
    let kubernetes = format!("{} == 'k8s'", labels::ORCHESTRATOR);
    if pods.is_all() {
        kubernetes
    } else {
        format!("{kubernetes} && {pods}")
    }
}

/// A text that is no selector, and says why.
pub(crate) fn unreadable(reason: &impl fmt::Display) -> String {
    format!("%unreadable: {reason}")
}
