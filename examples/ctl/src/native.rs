use ocicat_datastore::model::{KubeNetworkPolicy, Namespace, ServiceAccount};
use ocicat_datastore::{Kind, Object, StoreError};
use ocicat_policy::kubernetes;

/// The object that a store without Kubernetes keeps: Calico's form of what Kubernetes calls policies, namespaces and
/// service accounts; anything else unchanged.
///
/// # Errors
/// [`StoreError::Invalid`] with the field of the Kubernetes object that Calico has no form for, [`StoreError::Malformed`]
/// when the object does not decode as its kind.
pub fn native(object: &Object) -> Result<Object, StoreError> {
    match object.kind {
        Kind::KubeNetworkPolicy => {
            let converted = kubernetes::network_policy(&object.decode::<KubeNetworkPolicy>()?);
            match converted.problems.into_iter().next() {
                None => Object::encode(&converted.value),
                Some((field, reason)) => {
                    let (key, reason) = (Some(object.key()), reason.to_string());
                    Err(StoreError::Invalid { key, field, reason })
                }
            }
        }
        Kind::Namespace => Object::encode(&kubernetes::namespace(&object.decode::<Namespace>()?)),
        Kind::ServiceAccount => Object::encode(&kubernetes::service_account(
            &object.decode::<ServiceAccount>()?,
        )),
        _ => Ok(object.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kubernetes_objects_become_calicos() {
        let native_of =
            |value: serde_json::Value| native(&Object::from_value(value).expect("a known kind"));
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "shop"}}});
        let profile = native_of(namespace).expect("converts");
        assert_eq!(
            (profile.kind, profile.name.as_str()),
            (Kind::Profile, "kns.shop")
        );
        assert_eq!(profile.value["spec"]["labelsToApply"]["pcns.team"], "shop");
        let policy = |port: serde_json::Value| {
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"},
                "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": port}}]}]},
            })
        };
        let converted = native_of(policy(json!("10.0.0.0/8"))).expect("converts");
        assert_eq!(
            (converted.kind, converted.name.as_str()),
            (Kind::NetworkPolicy, "knp.default.p")
        );
        let refused = native_of(policy(json!("10.0.0.0/99"))).map(|object| object.value);
        assert!(refused.is_err(), "{refused:?}");
    }
}
