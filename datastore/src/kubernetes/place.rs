//! Where objects of a kind lie in a cluster, and in what form.

use serde_json::Value;

use super::connection::escaped;
use super::{custom, node, pod, profile, records};
use crate::error::StoreError;
use crate::group::ApiGroup;
use crate::model::{Kind, Pod};
use crate::object::{Key, Object, Revision, Scope, take_version};

/// In what form a kind is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A custom resource of Calico's group.
    Custom,
    /// One of those that address management keeps.
    Record,
    /// As it is, in its own group.
    Plain,
    /// An endpoint, which is a pod.
    Endpoint,
    /// A node, which is Kubernetes' node with annotations.
    Host,
    /// A profile, which is a namespace.
    NamespaceProfile,
    /// A profile, which is a service account.
    AccountProfile,
}

/// What lies at an object's place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// The object.
    Object(Object),
    /// What is left of one whose deletion has not been finished.
    Deleted(Key),
    /// Nothing that is an object of the kind.
    Nothing,
}

/// Which part of a collection a scope is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) namespace: Option<String>,
    pub(super) fields: Option<String>,
    /// Any of these; one without a selector is all.
    pub(super) labels: Vec<Option<String>>,
}

/// The collection that holds a kind.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) form: Form,
    /// `/apis/projectcalico.org/v3` or `/api/v1`.
    base: String,
    plural: String,
    /// `ippools.projectcalico.org`, in words.
    pub(super) resource: String,
    /// What its objects say they are.
    api_version: String,
    kind_name: String,
    /// Metadata are in an annotation.
    pub(super) annotated: bool,
}

impl Place {
    /// The place of a kind of Calico's group.
    pub(super) fn custom(kind: Kind, group: &ApiGroup) -> Self {
        let form = if records::is_record(kind) {
            Form::Record
        } else {
            Form::Custom
        };
        // What Calico calls otherwise where it names kinds anew.
        let (plural, name) = match kind {
            Kind::IpamConfig if !group.is_annotated() => {
                ("ipamconfigurations", "IPAMConfiguration")
            }
            kind => (kind.plural(), kind.name()),
        };
        Self {
            kind,
            form,
            base: format!("/apis/{group}"),
            plural: plural.to_owned(),
            resource: format!("{plural}.{}", group.name()),
            api_version: group.to_string(),
            kind_name: name.to_owned(),
            annotated: group.is_annotated(),
        }
    }

    /// The place of a kind that is stored as another of Kubernetes' own.
    fn kubernetes(kind: Kind, form: Form, stored: Kind) -> Self {
        let api_version = stored.api_version();
        let (base, resource) = match api_version.split_once('/') {
            Some((group, _)) => (
                format!("/apis/{api_version}"),
                format!("{}.{group}", stored.plural()),
            ),
            None => (format!("/api/{api_version}"), stored.plural().to_owned()),
        };
        Self {
            kind,
            form,
            base,
            plural: stored.plural().to_owned(),
            resource,
            api_version: api_version.to_owned(),
            kind_name: stored.name().to_owned(),
            annotated: false,
        }
    }

    /// The places of a kind that does not depend on Calico's group; none of one that does.
    pub(super) fn fixed(kind: Kind) -> Vec<Self> {
        match kind {
            Kind::WorkloadEndpoint => vec![Self::kubernetes(kind, Form::Endpoint, Kind::Pod)],
            Kind::Node => vec![Self::kubernetes(kind, Form::Host, Kind::KubeNode)],
            Kind::Profile => vec![
                Self::kubernetes(kind, Form::NamespaceProfile, Kind::Namespace),
                Self::kubernetes(kind, Form::AccountProfile, Kind::ServiceAccount),
            ],
            kind if kind.is_kubernetes() => vec![Self::kubernetes(kind, Form::Plain, kind)],
            _ => Vec::new(),
        }
    }

    fn is_stored_in_namespaces(&self) -> bool {
        self.kind.is_namespaced() || self.form == Form::AccountProfile
    }

    /// The path of the collection, of one namespace where there are any and one is given.
    pub(super) fn collection(&self, namespace: Option<&str>) -> String {
        let (base, plural) = (&self.base, &self.plural);
        match namespace.filter(|_| self.is_stored_in_namespaces()) {
            Some(namespace) => format!("{base}/namespaces/{}/{plural}", escaped(namespace)),
            None => format!("{base}/{plural}"),
        }
    }

    /// Namespace and name of what an object is stored as; `None` when nothing can be stored under this key here.
    pub(super) fn stored_name(&self, key: &Key) -> Option<(Option<String>, String)> {
        let name = match self.form {
            Form::Record => records::stored_name(key)?,
            Form::Endpoint => pod::pod_name(&key.name)?,
            Form::NamespaceProfile => key.name.strip_prefix("kns.")?.to_owned(),
            Form::AccountProfile => {
                let (namespace, name) = key.name.strip_prefix("ksa.")?.split_once('.')?;
                return Some((Some(namespace.to_owned()), name.to_owned()));
            }
            Form::Custom | Form::Plain | Form::Host => key.name.clone(),
        };
        Some((key.namespace.clone(), name))
    }

    /// The path of what an object is stored as.
    pub(super) fn path(&self, stored: &(Option<String>, String)) -> String {
        let (namespace, name) = stored;
        format!(
            "{}/{}",
            self.collection(namespace.as_deref()),
            escaped(name)
        )
    }

    /// What lies here, as the object that it is.
    pub(super) fn read(&self, mut value: Value) -> Found {
        if !value.is_object() {
            return Found::Nothing;
        }
        let revision = take_version(&mut value);
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Who wrote which field: as much again as the object, and nobody's business here.
            metadata.remove("managedFields");
            metadata.remove("selfLink");
        }
        let found = match self.form {
            Form::Plain => Some(value),
            Form::Custom if self.annotated => Some(custom::unfold(value)),
            Form::Custom => Some(custom::untouched(value)),
            Form::Record => return records::read(self.kind, value, revision),
            Form::Endpoint => pod::endpoint(value),
            Form::Host => Some(node::read(value)),
            Form::NamespaceProfile => profile::of_namespace(&value),
            Form::AccountProfile => profile::of_account(&value),
        };
        match found {
            Some(value) => self
                .object(value, revision)
                .map_or(Found::Nothing, Found::Object),
            None => Found::Nothing,
        }
    }

    /// As [`Place::read`], of JSON. Pods, which there are most of, are not made a value first.
    pub(super) fn read_text(&self, text: &[u8]) -> Result<Found, serde_json::Error> {
        if self.form != Form::Endpoint {
            return Ok(self.read(serde_json::from_slice(text)?));
        }
        let pod: Pod = match serde_json::from_slice(text) {
            Ok(pod) => pod,
            Err(error) if error.is_data() => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let version = pod.metadata.resource_version.as_deref();
        let revision = version.and_then(|text| text.parse().ok());
        let object = pod::endpoint_of(&pod)
            .and_then(|value| self.object(value, revision.map_or(Revision::NONE, Revision)));
        Ok(object.map_or(Found::Nothing, Found::Object))
    }

    fn object(&self, value: Value, revision: Revision) -> Option<Object> {
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let name = text("name")?;
        let namespace = text("namespace").filter(|_| self.kind.is_namespaced());
        let mut object = Object {
            kind: self.kind,
            namespace,
            name,
            value,
            revision,
        };
        object.stamp();
        Some(object)
    }

    /// What an object is stored as, with the version that it must still have, if any. Only for kinds that are stored whole.
    pub(super) fn stored(&self, object: &Object, name: &str, version: Revision) -> Value {
        let mut value = object.value.clone();
        take_version(&mut value);
        match self.form {
            Form::Record => records::fold(self.kind, &mut value, self.annotated),
            Form::Custom if self.annotated => custom::fold(&mut value),
            _ => {}
        }
        let metadata = custom::members(&mut value, "metadata");
        metadata.insert("name".to_owned(), name.into());
        if let Some(namespace) = &object.namespace {
            metadata.insert("namespace".to_owned(), namespace.clone().into());
        }
        if version > Revision::NONE {
            metadata.insert("resourceVersion".to_owned(), version.to_string().into());
        }
        if let Value::Object(members) = &mut value {
            members.insert("apiVersion".to_owned(), self.api_version.clone().into());
            members.insert("kind".to_owned(), self.kind_name.clone().into());
        }
        value
    }

    /// Which part of the collection a scope is; more than the scope covers.
    pub(super) fn select(&self, scope: &Scope) -> Selection {
        let mut selection = Selection {
            namespace: scope.namespace.clone(),
            fields: None,
            labels: vec![None],
        };
        match self.form {
            Form::Endpoint => {
                selection.fields = pod::node_of_prefix(&scope.name_prefix)
                    .map(|node| format!("spec.nodeName={node}"));
            }
            Form::Record if self.kind == Kind::BlockAffinity => {
                if let Some(selectors) = records::selectors(&scope.name_prefix) {
                    selection.labels = selectors.into_iter().map(Some).collect();
                }
            }
            Form::AccountProfile => {
                selection.namespace = scope
                    .name_prefix
                    .strip_prefix("ksa.")
                    .and_then(|rest| rest.split_once('.'))
                    .map(|(namespace, _)| namespace.to_owned());
            }
            _ => {}
        }
        selection
    }

    /// Whether objects of a scope can lie here.
    pub(super) fn may_hold(&self, scope: &Scope) -> bool {
        let fits = |prefix: &str| {
            prefix.starts_with(&scope.name_prefix) || scope.name_prefix.starts_with(prefix)
        };
        match self.form {
            Form::NamespaceProfile => fits("kns."),
            Form::AccountProfile => fits("ksa."),
            _ => true,
        }
    }

    /// The error of an operation that this place does not do.
    pub(super) fn unsupported(&self, key: Key, reason: &str) -> StoreError {
        StoreError::Unsupported {
            key,
            reason: format!("is {} in Kubernetes: {reason}", self.resource),
        }
    }
}
