//! Objects without what belongs to one datastore alone.

use ocicat_datastore::{Object, Revision};

/// Members of `metadata` that a datastore gives, and that another refuses or gives anew.
const GIVEN: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "generation",
];
/// What kubectl notes about the file that an object was applied from; it is stale elsewhere.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes it out, so that `create` and `apply` take the object elsewhere.
pub fn strip(object: &mut Object) {
    object.revision = Revision::NONE;
    let Some(members) = object.value.as_object_mut() else {
        return;
    };
    members.remove("status");
    let Some(metadata) = members
        .get_mut("metadata")
        .and_then(|one| one.as_object_mut())
    else {
        return;
    };
    metadata.retain(|name, _| !GIVEN.contains(&name.as_str()));
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(|one| one.as_object_mut())
    {
        annotations.remove(APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}
