//! What is wished for an attachment. Of one wish the most particular word counts: the pod's annotation, the namespace's,
//! the capability that the runtime fills in, `args.cni`, `CNI_ARGS`, the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocicat_dataplane::state::MacAddr;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{NamedPort, Pod, Wishes};

const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
const PREFIX: &str = "cni.projectcalico.org/";
const NAMESPACE_LABELS: &str = "namespaceLabels";

/// What the labels of a namespace begin with on its endpoints.
pub(crate) const NAMESPACE_PREFIX: &str = "pcns.";

/// What is known of a pod beside the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The pod as the API has it; its word counts instead of what the runtime passed on.
    pub pod: Option<ocicat_datastore::model::Pod>,
    /// The annotations of its namespace.
    pub namespace: BTreeMap<String, String>,
    /// Whether `workloadSourceSpoofing` is `Any`.
    pub source_spoofing: bool,
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

/// One request's sources of wishes.
struct Sources<'a> {
    config: &'a Value,
    arguments: &'a BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    namespace: &'a BTreeMap<String, String>,
}

impl Pod {
    /// Reads what is wished for the attachment into it.
    ///
    /// # Errors
    /// [`PodError`] with the field that does not parse, or that the network's configuration does not allow.
    pub fn wish(
        &mut self,
        config: &Value,
        arguments: &BTreeMap<String, String>,
        known: &Known,
    ) -> Result<(), PodError> {
        let cni = &config["args"]["cni"];
        let sources = Sources {
            config,
            arguments,
            annotations: annotations(config, known),
            namespace: &known.namespace,
        };
        if let Some((key, text)) = sources.annotation("floatingIPs") {
            let reason = format!(
                "{text}: further addresses that lead to a pod are not made here; give it a Service, or its address with ipAddrs"
            );
            return Err(wrong(&key, reason));
        }
        if known.pod.is_none() && self.is_kubernetes() && !cni[NAMESPACE_LABELS].is_null() {
            let reason = format!(
                "{} is a namespace of Kubernetes, whose labels are those of its Profile kns.{0}",
                self.namespace
            );
            return Err(wrong("args.cni.namespaceLabels", reason));
        }
        let wishes = &mut self.wishes;
        read_identity(wishes, cni, known)?;
        sources.families(wishes)?;
        wishes.addresses = sources.addresses()?;
        wishes.delegated = sources.without_ipam()?;
        if !wishes.addresses.is_empty() && !wishes.delegated.is_empty() {
            let reason = "cannot be there beside ipAddrs";
            return Err(wrong(&format!("{PREFIX}ipAddrsNoIpam"), reason));
        }
        wishes.pools_v4 = sources.pools("ipv4pools", "ipv4_pools")?;
        wishes.pools_v6 = sources.pools("ipv6pools", "ipv6_pools")?;
        wishes.mac = sources.mac()?;
        wishes.allowed_sources = sources.allowed_sources()?;
        if !known.source_spoofing && !wishes.allowed_sources.is_empty() {
            tracing::warn!(
                pod = %format_args!("{}/{}", self.namespace, self.name),
                "the annotation allowedSourcePrefixes is without effect: workloadSourceSpoofing is not Any"
            );
            wishes.allowed_sources.clear();
        }
        wishes.enforce_pool_selectors = flag(&config["ipam"]["enforcePoolSelectors"]);
        wishes.ip_forward = flag(&config["container_settings"]["allow_ip_forwarding"]);
        wishes.foreign_ipam = config["ipam"]["type"]
            .as_str()
            .is_some_and(|kind| !matches!(kind, "" | "ocicat-ipam" | "calico-ipam"));
        wishes.mtu = config["mtu"]
            .as_u64()
            .and_then(|mtu| u32::try_from(mtu).ok())
            .filter(|mtu| *mtu > 0);
        wishes.queues = queues(&config["num_queues"])?;
        wishes.policy_timeout = config["policy_setup_timeout_seconds"]
            .as_u64()
            .filter(|seconds| *seconds > 0);
        Ok(())
    }
}

/// Labels, account and ports: the API's, else those of `args.cni`.
fn read_identity(wishes: &mut Wishes, cni: &Value, known: &Known) -> Result<(), PodError> {
    if let Some(pod) = &known.pod {
        wishes.labels.clone_from(&pod.metadata.labels);
        wishes
            .service_account
            .clone_from(&pod.spec.service_account_name);
        let ports = pod.spec.containers.iter().flat_map(|one| &one.ports);
        wishes.ports = ports
            .filter_map(|port| {
                Some(NamedPort {
                    name: port.name.clone().filter(|name| !name.is_empty())?,
                    port: port.container_port,
                    protocol: port.protocol.clone().unwrap_or_else(super::tcp),
                })
            })
            .collect();
        return Ok(());
    }
    wishes.labels = labels("args.cni.labels", &cni["labels"])?;
    wishes.namespace_labels = labels("args.cni.namespaceLabels", &cni[NAMESPACE_LABELS])?;
    wishes.service_account = wishes.labels.remove(SERVICE_ACCOUNT);
    if !cni["ports"].is_null() {
        wishes.ports = serde_json::from_value(cni["ports"].clone())
            .map_err(|error| wrong("args.cni.ports", error))?;
    }
    Ok(())
}

/// Labels as CNI's conventions have them: a list of objects with `key` and `value`.
fn labels(field: &str, value: &Value) -> Result<BTreeMap<String, String>, PodError> {
    let expected = || {
        wrong(
            field,
            "expected a list of objects with \"key\" and \"value\"",
        )
    };
    if value.is_null() {
        return Ok(BTreeMap::new());
    }
    let mut labels = BTreeMap::new();
    for label in value.as_array().ok_or_else(expected)? {
        let (Some(key), Some(value)) = (label["key"].as_str(), label["value"].as_str()) else {
            return Err(expected());
        };
        if let Some(bare) = key.strip_prefix(NAMESPACE_PREFIX) {
            let reason =
                format!("{key}: a label of the namespace; say {bare} in args.cni.namespaceLabels");
            return Err(wrong(field, reason));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// The pod's annotations: the API's alone where it knows the pod, else those of `args.cni` and, over them, those that
/// the runtime passed on.
fn annotations(config: &Value, known: &Known) -> BTreeMap<String, String> {
    if let Some(pod) = &known.pod {
        return pod.metadata.annotations.clone();
    }
    let mut all = texts(&config["args"]["cni"]["annotations"]);
    all.extend(texts(&config["runtimeConfig"][CAPABILITY]));
    all
}

impl Sources<'_> {
    /// An annotation of the pod, with its full name.
    fn annotation(&self, name: &str) -> Option<(String, &str)> {
        let key = format!("{PREFIX}{name}");
        let text = self.annotations.get(&key)?;
        Some((key, text))
    }

    fn argument(&self, name: &str) -> Option<&str> {
        let text = self.arguments.get(name)?;
        Some(text.as_str()).filter(|text| !text.is_empty())
    }

    fn families(&self, wishes: &mut Wishes) -> Result<(), PodError> {
        let ipam = &self.config["ipam"];
        wishes.wants_v4 = !said(&ipam["assign_ipv4"], "false");
        wishes.wants_v6 = said(&ipam["assign_ipv6"], "true");
        let Some((key, text)) = self.annotation("ipFamilies") else {
            return Ok(());
        };
        let named: Vec<String> = list(&key, text, "[\"IPv4\", \"IPv6\"]")?;
        let (offers_v4, offers_v6) = (wishes.wants_v4, wishes.wants_v6);
        (wishes.wants_v4, wishes.wants_v6) = (false, false);
        for family in &named {
            let (wants, offered, key_of) = match family.to_ascii_lowercase().as_str() {
                "ipv4" => (&mut wishes.wants_v4, offers_v4, "assign_ipv4"),
                "ipv6" => (&mut wishes.wants_v6, offers_v6, "assign_ipv6"),
                _ => return Err(wrong(&key, format!("{family:?} is not IPv4 or IPv6"))),
            };
            if !offered {
                let reason = format!("the network has no {family} (ipam.{key_of})");
                return Err(wrong(&key, reason));
            }
            if std::mem::replace(wants, true) {
                return Err(wrong(&key, format!("{family} is named twice")));
            }
        }
        if named.is_empty() {
            return Err(wrong(&key, "names no family"));
        }
        wishes.v6_first = wishes.wants_v4 && named[0].eq_ignore_ascii_case("ipv6");
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, PodError> {
        if let Some((key, text)) = self.annotation("ipAddrs") {
            return one_of_each(&key, list(&key, text, "[\"10.0.0.1\"]")?);
        }
        let arrays = [
            ("runtimeConfig.ips", &self.config["runtimeConfig"]["ips"]),
            ("args.cni.ips", &self.config["args"]["cni"]["ips"]),
        ];
        for (field, value) in arrays {
            let asked = value.as_array().filter(|asked| !asked.is_empty());
            if let Some(asked) = asked {
                let texts = asked.iter().filter_map(Value::as_str).map(str::to_owned);
                return one_of_each(field, texts.collect());
            }
        }
        let asked = self.argument("IP").unwrap_or_default();
        let asked = asked.split(',').filter(|text| !text.is_empty());
        one_of_each("CNI_ARGS IP", asked.map(str::to_owned).collect())
    }

    fn without_ipam(&self) -> Result<Vec<IpAddr>, PodError> {
        let Some((key, text)) = self.annotation("ipAddrsNoIpam") else {
            return Ok(Vec::new());
        };
        if !flag(&self.config["feature_control"]["ip_addrs_no_ipam"]) {
            let reason =
                "the network's configuration does not allow it (feature_control.ip_addrs_no_ipam)";
            return Err(wrong(&key, reason));
        }
        one_of_each(&key, list(&key, text, "[\"10.0.0.1\"]")?)
    }

    /// Pod before namespace before configuration.
    fn pools(&self, annotation: &str, configured: &str) -> Result<Vec<String>, PodError> {
        let key = format!("{PREFIX}{annotation}");
        let named = self
            .annotations
            .get(&key)
            .or_else(|| self.namespace.get(&key));
        if let Some(text) = named {
            return list(&key, text, "[\"pool-1\"]");
        }
        let configured = self.config["ipam"][configured].as_array();
        let names = configured.into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
    }

    fn mac(&self) -> Result<Option<MacAddr>, PodError> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let annotation = self.annotation("hwAddr");
        let said = annotation
            .map(|(key, value)| (key, value.to_owned()))
            .or_else(|| {
                let mac = text(&self.config["runtimeConfig"]["mac"])?;
                Some(("runtimeConfig.mac".to_owned(), mac))
            })
            .or_else(|| {
                let mac = text(&self.config["args"]["cni"]["mac"])?;
                Some(("args.cni.mac".to_owned(), mac))
            })
            .or_else(|| Some(("CNI_ARGS MAC".to_owned(), self.argument("MAC")?.to_owned())));
        let Some((field, text)) = said.filter(|(_, text)| !text.is_empty()) else {
            return Ok(None);
        };
        let mac: MacAddr = text.parse().map_err(|error| wrong(&field, error))?;
        if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
            return Err(wrong(&field, format!("{mac} is no address of one station")));
        }
        Ok(Some(mac))
    }

    fn allowed_sources(&self) -> Result<Vec<String>, PodError> {
        let Some((key, text)) = self.annotation("allowedSourcePrefixes") else {
            return Ok(Vec::new());
        };
        let ranges: Vec<String> = list(&key, text, "[\"10.0.0.0/24\"]")?;
        for range in &ranges {
            range
                .parse::<IpNetwork>()
                .map_err(|_| wrong(&key, format!("{range:?} is no range")))?;
        }
        Ok(ranges)
    }
}

/// Addresses with or without a prefix length, at most one of each family.
fn one_of_each(field: &str, texts: Vec<String>) -> Result<Vec<IpAddr>, PodError> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in texts {
        let bare = text.split('/').next().unwrap_or_default();
        let address: IpAddr = bare
            .parse()
            .map_err(|_| wrong(field, format!("{text:?} is no IP address")))?;
        if addresses
            .iter()
            .any(|other| other.is_ipv4() == address.is_ipv4())
        {
            return Err(wrong(field, "at most one address of each family"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// `num_queues`, up to what the kernel makes of a veth.
fn queues(value: &Value) -> Result<Option<u32>, PodError> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    match number {
        // As good as absent, as in Calico's templates.
        Some(0) => Ok(None),
        Some(number) if number <= 4096 => Ok(Some(number)),
        _ => Err(wrong(
            "num_queues",
            format!("{value} is no number up to 4096"),
        )),
    }
}

/// Calico writes booleans as texts, others as booleans.
fn said(value: &Value, text: &str) -> bool {
    value.as_str() == Some(text)
        || value
            .as_bool()
            .is_some_and(|value| value.to_string() == text)
}

fn flag(value: &Value) -> bool {
    said(value, "true")
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn list<T: DeserializeOwned>(field: &str, text: &str, example: &str) -> Result<T, PodError> {
    let expected = format!("expected a JSON list of texts such as {example}, found {text:?}");
    serde_json::from_str(text).map_err(|_| wrong(field, expected))
}
