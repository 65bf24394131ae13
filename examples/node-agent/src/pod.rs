//! Who a CNI request is about: the pod's identity, labels and wishes, read from the request alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ocicat_datastore::model::names::workload_endpoint_name;
use serde_json::Value;

const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";

/// A container's attachment to a network, as a request describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `k8s` when the runtime named a pod and its namespace, else `cni`.
    pub orchestrator: &'static str,
    /// The pod's namespace; `default` without Kubernetes.
    pub namespace: String,
    /// The pod's name; the container's id without Kubernetes.
    pub name: String,
    /// The container's id.
    pub container: String,
    /// The interface inside the pod.
    pub interface: String,
    /// The network's name, from the configuration.
    pub network: String,
    /// The pod's labels, where the runtime passed them on.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations, where the runtime passed them on.
    pub annotations: BTreeMap<String, String>,
    /// The pod's service account.
    pub service_account: Option<String>,
    /// The pod's named ports.
    pub ports: Vec<NamedPort>,
    /// Addresses that the runtime asks for (capability `ips`, `CNI_ARGS` `IP`, or the annotation `ipAddrs`).
    pub addresses: Vec<IpAddr>,
    /// Addresses that another IPAM plugin has given; ours is not asked then.
    pub delegated: Vec<IpAddr>,
    /// IPv4 pools to take addresses from, in order: names or ranges.
    pub pools_v4: Vec<String>,
    /// IPv6 pools, likewise.
    pub pools_v6: Vec<String>,
    /// Whether an IPv4 address is wanted; yes unless the configuration says `"assign_ipv4": "false"`.
    pub wants_v4: bool,
    /// Whether an IPv6 address is wanted; only when the configuration says `"assign_ipv6": "true"`.
    pub wants_v6: bool,
}

/// A port that policies can name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

fn tcp() -> String {
    "TCP".to_owned()
}

/// What is wrong with a request, with the field that it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PodError {
    /// The field, as it stands in the configuration, the arguments or the annotations.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn wrong(field: &str, reason: impl ToString) -> PodError {
    PodError {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

impl Pod {
    /// Reads a request. `namespace_annotations` looks up the annotations of a namespace; a pod's own ones win.
    ///
    /// # Errors
    /// [`PodError`] with the field that does not parse.
    pub fn read(
        config: &Value,
        arguments: &BTreeMap<String, String>,
        container: &str,
        interface: &str,
        namespace_annotations: impl Fn(&str) -> BTreeMap<String, String>,
    ) -> Result<Self, PodError> {
        let argument = |name: &str| {
            arguments
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let mut pod = Self {
            orchestrator: "cni",
            namespace: argument("K8S_POD_NAMESPACE").unwrap_or_else(|| "default".to_owned()),
            name: container.to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
            network: config["name"].as_str().unwrap_or_default().to_owned(),
            wants_v4: !said(&config["ipam"]["assign_ipv4"], "false"),
            wants_v6: said(&config["ipam"]["assign_ipv6"], "true"),
            ..Self::default()
        };
        if let (Some(_), Some(name)) = (argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME")) {
            pod.orchestrator = "k8s";
            pod.name = name;
        }
        pod.annotations = texts(&config["runtimeConfig"][ANNOTATIONS]);
        pod.read_labels(&config["args"]["cni"])?;
        pod.read_addresses(config, argument("IP"))?;
        pod.read_pools(config, &namespace_annotations(&pod.namespace))?;
        Ok(pod)
    }

    /// The handle that the pod's addresses are held under; see [`handle`].
    #[must_use]
    pub fn handle(&self) -> String {
        handle(&self.network, &self.container, &self.interface)
    }

    /// The name of the pod's WorkloadEndpoint on a node: `<node>-<orchestrator>-<pod>-<interface>`, where dashes
    /// inside the parts are doubled.
    #[must_use]
    pub fn endpoint_name(&self, node: &str) -> String {
        workload_endpoint_name(node, self.orchestrator, &self.name, &self.interface)
    }

    fn read_labels(&mut self, cni: &Value) -> Result<(), PodError> {
        for label in cni["labels"].as_array().into_iter().flatten() {
            let (Some(key), Some(value)) = (label["key"].as_str(), label["value"].as_str()) else {
                return Err(wrong(
                    "args.cni.labels",
                    "expected objects with \"key\" and \"value\"",
                ));
            };
            self.labels.insert(key.to_owned(), value.to_owned());
        }
        self.service_account = self.labels.remove(SERVICE_ACCOUNT);
        if !cni["ports"].is_null() {
            self.ports = serde_json::from_value(cni["ports"].clone())
                .map_err(|error| wrong("args.cni.ports", error))?;
        }
        Ok(())
    }

    fn read_addresses(&mut self, config: &Value, ip: Option<String>) -> Result<(), PodError> {
        let annotation = "cni.projectcalico.org/ipAddrs";
        let (field, list) = if let Some(text) = self.annotations.get(annotation) {
            (annotation, list(annotation, text)?)
        } else if let Some(ips) = config["runtimeConfig"]["ips"].as_array() {
            (
                "runtimeConfig.ips",
                ips.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            )
        } else {
            (
                "CNI_ARGS IP",
                ip.into_iter()
                    .flat_map(|ip| ip.split(',').map(str::to_owned).collect::<Vec<_>>())
                    .collect(),
            )
        };
        for text in list {
            let address = text.split('/').next().unwrap_or_default();
            let address: IpAddr = address
                .parse()
                .map_err(|_| wrong(field, format!("{text:?} is no IP address")))?;
            if self
                .addresses
                .iter()
                .any(|other| other.is_ipv4() == address.is_ipv4())
            {
                return Err(wrong(field, "at most one address of each family"));
            }
            self.addresses.push(address);
        }
        Ok(())
    }

    /// Pod before namespace before configuration.
    fn read_pools(
        &mut self,
        config: &Value,
        namespace: &BTreeMap<String, String>,
    ) -> Result<(), PodError> {
        let read = |annotation: &str, key: &str| -> Result<Vec<String>, PodError> {
            if let Some(text) = self
                .annotations
                .get(annotation)
                .or_else(|| namespace.get(annotation))
            {
                return list(annotation, text);
            }
            let configured = config["ipam"][key].as_array().into_iter().flatten();
            Ok(configured
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect())
        };
        let v4 = read("cni.projectcalico.org/ipv4pools", "ipv4_pools")?;
        let v6 = read("cni.projectcalico.org/ipv6pools", "ipv6_pools")?;
        (self.pools_v4, self.pools_v6) = (v4, v6);
        Ok(())
    }
}

/// The handle of a container's addresses in a network: Calico's `<network>.<container id>` for `eth0`, with the
/// interface behind it for any other, so that the attachments of one container are released one by one. Cut at a
/// carriage return, as Calico cuts it.
#[must_use]
pub fn handle(network: &str, container: &str, interface: &str) -> String {
    let mut handle = format!("{network}.{container}");
    if interface != "eth0" {
        handle.push('.');
        handle.push_str(interface);
    }
    handle.split('\r').next().unwrap_or_default().to_owned()
}

fn said(value: &Value, text: &str) -> bool {
    value.as_str() == Some(text)
        || value
            .as_bool()
            .is_some_and(|value| value.to_string() == text)
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn list(field: &str, text: &str) -> Result<Vec<String>, PodError> {
    serde_json::from_str(text).map_err(|_| {
        wrong(
            field,
            format!("expected a JSON list of texts such as [\"a\"], found {text:?}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_kubernetes_pod_is_read_from_a_request() {
        let config = json!({
            "name": "k8s-pod-network",
            "ipam": {"type": "ocicat-ipam", "ipv4_pools": ["from-config"]},
            "args": {"cni": {
                "labels": [{"key": "app", "value": "web"}, {"key": SERVICE_ACCOUNT, "value": "robot"}],
                "ports": [{"name": "http", "port": 8080}],
            }},
            "runtimeConfig": {ANNOTATIONS: {"cni.projectcalico.org/ipAddrs": "[\"10.0.0.9\"]"}},
        });
        let args = arguments(&[("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-0")]);
        let pod = Pod::read(&config, &args, "c1", "eth0", |namespace| {
            assert_eq!(namespace, "shop");
            arguments(&[("cni.projectcalico.org/ipv4pools", "[\"rack-a\"]")])
        })
        .unwrap();
        assert_eq!(pod.endpoint_name("node-1"), "node--1-k8s-web--0-eth0");
        assert_eq!(pod.handle(), "k8s-pod-network.c1");
        assert_eq!(pod.labels, arguments(&[("app", "web")]));
        assert_eq!(pod.service_account.as_deref(), Some("robot"));
        assert_eq!(pod.pools_v4, ["rack-a"]);
        assert_eq!(pod.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(pod.ports[0].protocol, "TCP");
        assert!(pod.wants_v4 && !pod.wants_v6);
    }

    #[test]
    fn a_container_without_kubernetes_is_its_id() {
        let pod = Pod::read(
            &json!({"name": "n"}),
            &arguments(&[("K8S_POD_NAME", "x")]),
            "abc",
            "eth1",
            |_| BTreeMap::new(),
        );
        let pod = pod.unwrap();
        assert_eq!((pod.orchestrator, pod.name.as_str()), ("cni", "abc"));
        assert_eq!(pod.endpoint_name("n1"), "n1-cni-abc-eth1");
    }

    #[test]
    fn errors_name_the_field() {
        let config =
            json!({"runtimeConfig": {ANNOTATIONS: {"cni.projectcalico.org/ipAddrs": "10.0.0.9"}}});
        let error =
            Pod::read(&config, &BTreeMap::new(), "c", "eth0", |_| BTreeMap::new()).unwrap_err();
        assert_eq!(error.field, "cni.projectcalico.org/ipAddrs");
        let two = Pod::read(
            &json!({}),
            &arguments(&[("IP", "10.0.0.1,10.0.0.2")]),
            "c",
            "eth0",
            |_| BTreeMap::new(),
        );
        assert_eq!(two.unwrap_err().field, "CNI_ARGS IP");
    }
}
