//! The resources that an API server knows.

use std::sync::Arc;

use serde_json::{Value, json};

/// One kind of object.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    /// Its status is written apart.
    pub(super) status: bool,
    /// What its objects look like; none where anything goes.
    pub(super) schema: Option<Arc<Value>>,
    /// It is made by a definition.
    pub(super) custom: bool,
}

impl Resource {
    /// `projectcalico.org/v3`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `ippools.projectcalico.org`.
    pub(super) fn title(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether an update needs no version.
    pub(super) fn is_written_blindly(&self) -> bool {
        !self.custom && !matches!(self.plural.as_str(), "leases" | "customresourcedefinitions")
    }

    /// Whether a deletion is answered with what was deleted.
    pub(super) fn is_answered_whole(&self) -> bool {
        !self.custom
            && matches!(
                self.plural.as_str(),
                "pods" | "services" | "serviceaccounts"
            )
    }

    /// What discovery says of it.
    pub(super) fn discovery(&self) -> Vec<Value> {
        let entry = |name: String, verbs: &[&str]| {
            json!({
                "name": name, "singularName": self.kind.to_lowercase(), "namespaced": self.namespaced,
                "kind": self.kind, "verbs": verbs,
            })
        };
        let all = [
            "create", "delete", "get", "list", "patch", "update", "watch",
        ];
        let mut entries = vec![entry(self.plural.clone(), &all)];
        if self.status {
            entries.push(entry(
                format!("{}/status", self.plural),
                &["get", "patch", "update"],
            ));
        }
        entries
    }

    /// The resources that a definition makes.
    pub(super) fn of_definition(definition: &Value) -> Vec<Self> {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions = spec["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|version| version["served"] != false);
        served
            .map(|version| Self {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                plural: text(&spec["names"]["plural"]),
                kind: text(&spec["names"]["kind"]),
                namespaced: spec["scope"] == "Namespaced",
                status: version["subresources"]["status"].is_object(),
                schema: version["schema"]
                    .get("openAPIV3Schema")
                    .map(|schema| Arc::new(schema.clone())),
                custom: true,
            })
            .collect()
    }
}

/// What every API server knows, as far as anybody here asks.
const BUILT_IN: &[(&str, &str, &str, &str, bool, bool)] = &[
    ("", "v1", "namespaces", "Namespace", false, true),
    ("", "v1", "nodes", "Node", false, true),
    ("", "v1", "pods", "Pod", true, true),
    ("", "v1", "services", "Service", true, true),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, false),
    ("", "v1", "secrets", "Secret", true, false),
    ("", "v1", "configmaps", "ConfigMap", true, false),
    ("", "v1", "events", "Event", true, false),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, false),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        true,
        false,
    ),
    (
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        true,
        false,
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
        true,
    ),
];

pub(super) fn built_in() -> Vec<Resource> {
    BUILT_IN
        .iter()
        .map(
            |&(group, version, plural, kind, namespaced, status)| Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                kind: kind.to_owned(),
                namespaced,
                status,
                schema: None,
                custom: false,
            },
        )
        .collect()
}
