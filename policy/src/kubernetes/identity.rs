use std::collections::BTreeMap;

use ocicat_datastore::Metadata;
use ocicat_datastore::model::{Namespace, Profile, ProfileSpec, Rule, ServiceAccount, names};

use crate::labels;

/// The profile of a namespace, `kns.NAME`: its pods inherit the namespace's labels, and where no policy selects
/// them everything is allowed both ways. The annotations are the namespace's.
#[must_use]
pub fn namespace(namespace: &Namespace) -> Profile {
    let metadata = &namespace.metadata;
    let allow = || {
        vec![Rule {
            action: "Allow".into(),
            ..Rule::default()
        }]
    };
    Profile {
        metadata: Metadata {
            annotations: metadata.annotations.clone(),
            ..Metadata::named(names::namespace_profile(&metadata.name))
        },
        spec: ProfileSpec {
            ingress: allow(),
            egress: allow(),
            labels_to_apply: inherited(labels::NAMESPACE_PREFIX, metadata),
        },
    }
}

/// The profile of a service account, `ksa.NAMESPACE.NAME`: its pods inherit the account's labels. It has no rules.
#[must_use]
pub fn service_account(account: &ServiceAccount) -> Profile {
    let metadata = &account.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = names::service_account_profile(namespace, &metadata.name);
    Profile {
        metadata: Metadata::named(name),
        spec: ProfileSpec {
            labels_to_apply: inherited(labels::SERVICE_ACCOUNT_PREFIX, metadata),
            ..ProfileSpec::default()
        },
    }
}

/// An object's labels and its name, with a prefix.
fn inherited(prefix: &str, metadata: &Metadata) -> BTreeMap<String, String> {
    let own = metadata.labels.iter();
    let mut out: BTreeMap<String, String> = own
        .map(|(label, value)| (format!("{prefix}{label}"), value.clone()))
        .collect();
    out.insert(format!("{prefix}{}", labels::NAME), metadata.name.clone());
    out
}
