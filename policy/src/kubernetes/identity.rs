use ocicat_datastore::model::{Namespace, Profile, ServiceAccount};

/// The profile of a namespace, `kns.NAME`: see [`Profile::of_namespace`].
#[must_use]
pub fn namespace(namespace: &Namespace) -> Profile {
    Profile::of_namespace(namespace)
}

/// The profile of a service account, `ksa.NAMESPACE.NAME`: see [`Profile::of_service_account`].
#[must_use]
pub fn service_account(account: &ServiceAccount) -> Profile {
    Profile::of_service_account(account)
}
