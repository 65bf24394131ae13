//! Settings of the cluster, of agents and of controllers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metadata::Metadata;
use super::{Kind, Resource};

/// Facts about the cluster; its name is `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformation {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The facts.
    pub spec: ClusterInformationSpec,
}

impl Resource for ClusterInformation {
    const KIND: Kind = Kind::ClusterInformation;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`ClusterInformation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// The cluster's id.
    #[serde(rename = "clusterGUID", skip_serializing_if = "Option::is_none")]
    pub cluster_guid: Option<String>,
    /// What the cluster is made of, a list with commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_type: Option<String>,
    /// The version of the software that wrote the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calico_version: Option<String>,
    /// False: the datastore is locked, and no pod may be added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// The variant of the software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Parameters of the node agent: of all nodes when named `default`, of one when named `node.NODE`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfiguration {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The parameters.
    pub spec: FelixConfigurationSpec,
}

impl Resource for FelixConfiguration {
    const KIND: Kind = Kind::FelixConfiguration;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The specification of a [`FelixConfiguration`].
///
/// Parameters are laid over each other by name and come in as text, too (from files and the environment); that
/// is why they are a map here. Names are as in Calico: `defaultEndpointToHostAction`, `vxlanPort`, ...
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FelixConfigurationSpec {
    /// Only for nodes with such labels; in objects of other names than `default` and `node.NODE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<String>,
    /// The value of each parameter that is stated.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", flatten)]
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// Settings of Calico's controllers, kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "crds", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KubeControllersConfiguration {
    /// Name, labels and the rest of what every object carries.
    pub metadata: Metadata,
    /// The settings.
    pub spec: serde_json::Map<String, serde_json::Value>,
    /// The settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

impl Resource for KubeControllersConfiguration {
    const KIND: Kind = Kind::KubeControllersConfiguration;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}
