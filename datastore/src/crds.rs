//! Definitions of Calico's kinds for the Kubernetes API, made from the model.
//!
//! They accept what Calico's own definitions accept. `FelixConfiguration` and `KubeControllersConfiguration` keep whatever
//! their specifications have; elsewhere the API server drops fields that the model does not know.

mod structural;
mod yaml;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::group::ApiGroup;
use crate::model::{self, Kind};

/// A kind and what makes its schema.
type Schemed = (Kind, fn() -> Value);

/// The kinds that are stored as custom resources, each with its schema.
const KINDS: &[Schemed] = &[
    (Kind::BgpConfiguration, schema::<model::BgpConfiguration>),
    (Kind::BgpFilter, schema::<model::BgpFilter>),
    (Kind::BgpPeer, schema::<model::BgpPeer>),
    (Kind::BlockAffinity, schema::<model::BlockAffinity>),
    (Kind::CalicoNodeStatus, schema::<model::CalicoNodeStatus>),
    (
        Kind::ClusterInformation,
        schema::<model::ClusterInformation>,
    ),
    (
        Kind::FelixConfiguration,
        schema::<model::FelixConfiguration>,
    ),
    (
        Kind::GlobalNetworkPolicy,
        schema::<model::GlobalNetworkPolicy>,
    ),
    (Kind::GlobalNetworkSet, schema::<model::GlobalNetworkSet>),
    (Kind::HostEndpoint, schema::<model::HostEndpoint>),
    (Kind::IpamBlock, schema::<model::IpamBlock>),
    (Kind::IpamConfig, schema::<model::IpamConfig>),
    (Kind::IpamHandle, schema::<model::IpamHandle>),
    (Kind::IpPool, schema::<model::IpPool>),
    (Kind::IpReservation, schema::<model::IpReservation>),
    (
        Kind::KubeControllersConfiguration,
        schema::<model::KubeControllersConfiguration>,
    ),
    (Kind::NetworkPolicy, schema::<model::NetworkPolicy>),
    (Kind::NetworkSet, schema::<model::NetworkSet>),
    (
        Kind::StagedGlobalNetworkPolicy,
        schema::<model::StagedGlobalNetworkPolicy>,
    ),
    (
        Kind::StagedKubernetesNetworkPolicy,
        schema::<model::StagedKubernetesNetworkPolicy>,
    ),
    (
        Kind::StagedNetworkPolicy,
        schema::<model::StagedNetworkPolicy>,
    ),
    (Kind::Tier, schema::<model::Tier>),
];

/// Kinds that clusters have no definition of: Kubernetes' own, and those that Kubernetes keeps in objects of its own.
const OTHERS: &[Schemed] = &[
    (
        Kind::ClusterNetworkPolicy,
        schema::<model::ClusterNetworkPolicy>,
    ),
    (Kind::KubeNetworkPolicy, schema::<model::KubeNetworkPolicy>),
    (Kind::Node, schema::<model::Node>),
    (Kind::Profile, schema::<model::Profile>),
    (Kind::WorkloadEndpoint, schema::<model::WorkloadEndpoint>),
];

/// Kinds whose status is written apart from the rest.
const WITH_STATUS: &[Kind] = &[
    Kind::IpPool,
    Kind::Tier,
    Kind::CalicoNodeStatus,
    Kind::KubeControllersConfiguration,
];

/// What `kubectl get` shows of a kind: the column's title, its type and where it is.
const COLUMNS: &[(Kind, &str, &str, &str)] = &[
    (Kind::IpPool, "CIDR", "string", ".spec.cidr"),
    (Kind::IpPool, "NAT", "boolean", ".spec.natOutgoing"),
    (Kind::IpPool, "IPIP", "string", ".spec.ipipMode"),
    (Kind::IpPool, "VXLAN", "string", ".spec.vxlanMode"),
    (Kind::IpPool, "Disabled", "boolean", ".spec.disabled"),
    (Kind::IpamBlock, "CIDR", "string", ".spec.cidr"),
    (Kind::IpamBlock, "Affinity", "string", ".spec.affinity"),
    (Kind::BlockAffinity, "Node", "string", ".spec.node"),
    (Kind::BlockAffinity, "CIDR", "string", ".spec.cidr"),
    (Kind::BlockAffinity, "State", "string", ".spec.state"),
    (Kind::BgpPeer, "Node", "string", ".spec.node"),
    (Kind::BgpPeer, "Peer", "string", ".spec.peerIP"),
    (Kind::BgpPeer, "AS", "string", ".spec.asNumber"),
    (Kind::Tier, "Order", "number", ".spec.order"),
    (Kind::NetworkPolicy, "Tier", "string", ".spec.tier"),
    (Kind::NetworkPolicy, "Order", "number", ".spec.order"),
    (Kind::GlobalNetworkPolicy, "Tier", "string", ".spec.tier"),
    (Kind::GlobalNetworkPolicy, "Order", "number", ".spec.order"),
    (Kind::HostEndpoint, "Node", "string", ".spec.node"),
    (
        Kind::HostEndpoint,
        "Interface",
        "string",
        ".spec.interfaceName",
    ),
];

fn schema<R: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .into_generator()
        .into_root_schema_for::<R>()
        .to_value()
}

/// The definitions of all kinds of Calico's in a group, for `kubectl apply`; sorted by name.
///
/// In a group that keeps metadata in an annotation, names and types are those of Calico's older definitions.
#[must_use]
pub fn definitions(group: &ApiGroup) -> Vec<Value> {
    let mut definitions: Vec<Value> = KINDS
        .iter()
        .map(|(kind, schema)| definition(group, *kind, schema()))
        .collect();
    definitions.push(cluster_network_policy());
    definitions.sort_by_key(name);
    definitions
}

/// The structural schema of a kind: every field that it has, with the form of definitions. Metadata have no fields there, as
/// in definitions; `x-kubernetes-preserve-unknown-fields` is where a kind keeps whatever it has.
///
/// `None` for Kubernetes' kinds of which the model knows only a part (pods, services, nodes, ...).
#[must_use]
pub fn known_fields(kind: Kind) -> Option<Value> {
    let (_, schema) = KINDS.iter().chain(OTHERS).find(|(of, _)| *of == kind)?;
    let mut schema = schema();
    structural::structural(kind, &mut schema);
    Some(schema)
}

/// The name of a definition: `ippools.projectcalico.org`.
#[must_use]
pub fn name(definition: &Value) -> String {
    let name = definition["metadata"]["name"].as_str();
    name.unwrap_or_default().to_owned()
}

/// A definition as text.
#[must_use]
pub fn yaml(definition: &Value) -> String {
    yaml::text(definition)
}

fn columns(kind: Kind) -> Vec<Value> {
    let own = COLUMNS.iter().filter(|(of, ..)| *of == kind);
    let own = own
        .map(|(_, title, r#type, path)| json!({ "name": title, "type": r#type, "jsonPath": path }));
    let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" });
    own.chain([age]).collect()
}

fn definition(group: &ApiGroup, kind: Kind, mut schema: Value) -> Value {
    structural::structural(kind, &mut schema);
    if group.is_annotated() && kind == Kind::BlockAffinity {
        // Calico's older definition says so.
        schema["properties"]["spec"]["properties"]["deleted"]["type"] = "string".into();
    }
    let (plural, name) = match kind {
        Kind::IpamConfig if !group.is_annotated() => ("ipamconfigurations", "IPAMConfiguration"),
        kind => (kind.plural(), kind.name()),
    };
    let mut version = json!({
        "name": group.version(),
        "served": true,
        "storage": true,
        "schema": { "openAPIV3Schema": schema },
        "additionalPrinterColumns": columns(kind),
    });
    if WITH_STATUS.contains(&kind) {
        version["subresources"] = json!({ "status": {} });
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{}", group.name()) },
        "spec": {
            "group": group.name(),
            "names": {
                "kind": name,
                "listKind": format!("{name}List"),
                "plural": plural,
                "singular": name.to_lowercase(),
            },
            "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    })
}

/// The definition of Kubernetes' own policy for the entire cluster, which API servers do not have by themselves.
fn cluster_network_policy() -> Value {
    let kind = Kind::ClusterNetworkPolicy;
    let group = ApiGroup::new(kind.api_version()).unwrap_or_else(ApiGroup::v3);
    let mut made = definition(&group, kind, schema::<model::ClusterNetworkPolicy>());
    made["metadata"]["annotations"] = json!({
        "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/347",
    });
    made["spec"]["names"]["shortNames"] = json!(["cnp"]);
    made["spec"]["versions"][0]["subresources"] = json!({ "status": {} });
    made
}
