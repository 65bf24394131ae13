//! The environment, which wins over the file: the agent's own variables, and Calico's as aliases.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ocicat_datastore::model::AsNumber;

use super::{Config, ConfigError};
use crate::parameters::Source;

/// Variables of Calico's that ask for nothing that is not done anyway.
const WITHOUT_EFFECT: [&str; 6] = [
    "CALICO_NETWORKING_BACKEND",
    "CALICO_DISABLE_FILE_LOGGING",
    "CALICO_K8S_NODE_REF",
    "CALICO_STARTUP_LOGLEVEL",
    "CALICO_MANAGE_CNI",
    "CALICO_EARLY_NETWORKING",
];
/// Variables of the agent's own, and of Calico's, that are followed.
const FOLLOWED: [&str; 4] = [
    "OCICAT_DATASTORE",
    "OCICAT_LOG",
    "CALICO_ROUTER_ID",
    "OCICAT_NODE",
];

/// The variables of this process; those that are no text are left out.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

type Variables = BTreeMap<String, String>;

impl Config {
    /// Lays the environment over what the file says.
    pub(super) fn lay_over(&mut self, variables: Variables) -> Result<(), ConfigError> {
        self.datastore(&variables);
        self.addresses(&variables)?;
        let texts: [(&'static str, &'static str); 2] =
            [("node.name", "NODENAME"), ("log.filter", "OCICAT_LOG")];
        for (setting, name) in texts {
            let Some(value) = stated(&variables, name) else {
                continue;
            };
            match setting {
                "node.name" => self.node.name = Some(value),
                _ => self.log.filter = value,
            }
            self.from(setting, name);
        }
        if stated(&variables, "OCICAT_LOG").is_none()
            && let Some(level) = stated(&variables, "FELIX_LOGSEVERITYSCREEN")
            && let Some(filter) = level_of(&level)
        {
            filter.clone_into(&mut self.log.filter);
            self.from("log.filter", "FELIX_LOGSEVERITYSCREEN");
        }
        if let Some(namespace) = stated(&variables, "POD_NAMESPACE") {
            self.namespace = namespace;
        }
        self.pools.none = stated(&variables, "NO_DEFAULT_POOLS").as_deref() == Some("true");
        for (name, value) in variables {
            if let Some(part) = name.strip_prefix("CALICO_IPV4POOL_") {
                self.pools.v4.insert(part.to_owned(), value);
            } else if let Some(part) = name.strip_prefix("CALICO_IPV6POOL_") {
                self.pools.v6.insert(part.to_owned(), value);
            } else if name.starts_with("FELIX_") {
                self.felix_environment.push((name, value));
            } else {
                self.warn_of(&name);
            }
        }
        Ok(())
    }

    fn warn_of(&mut self, name: &str) {
        let ours = name.starts_with("OCICAT_") || name.starts_with("CALICO_");
        if ours && !FOLLOWED.contains(&name) && !WITHOUT_EFFECT.contains(&name) {
            self.warnings.push(format!(
                "environment {name}: there is no such setting; it has no effect"
            ));
        }
    }

    fn from(&mut self, setting: &'static str, variable: &str) {
        let source = Source::Environment(variable.to_owned());
        self.sources.insert(setting, source);
    }

    fn datastore(&mut self, variables: &Variables) {
        if let Some(url) = stated(variables, "OCICAT_DATASTORE") {
            self.datastore.url = url;
            return self.from("datastore.url", "OCICAT_DATASTORE");
        }
        let kind = stated(variables, "DATASTORE_TYPE");
        let etcd = stated(variables, "ETCD_ENDPOINTS");
        match (kind.as_deref(), etcd) {
            (Some("kubernetes"), _) => {
                let path = stated(variables, "KUBECONFIG").unwrap_or_default();
                self.datastore.url = format!("kubernetes:{path}");
                self.from("datastore.url", "DATASTORE_TYPE");
            }
            (Some("etcdv3") | None, Some(endpoints)) => {
                let parameters = [
                    ("ca", "ETCD_CA_CERT_FILE"),
                    ("cert", "ETCD_CERT_FILE"),
                    ("key", "ETCD_KEY_FILE"),
                ];
                let parameters: Vec<String> = parameters
                    .into_iter()
                    .filter_map(|(name, variable)| {
                        Some(format!("{name}={}", stated(variables, variable)?))
                    })
                    .collect();
                let mark = if parameters.is_empty() { "" } else { "?" };
                self.datastore.url = format!("etcd:{endpoints}{mark}{}", parameters.join("&"));
                self.from("datastore.url", "ETCD_ENDPOINTS");
            }
            _ => {}
        }
    }

    /// `IP`, `IP6` and how they are found, `AS`, `CALICO_ROUTER_ID`.
    fn addresses(&mut self, variables: &Variables) -> Result<(), ConfigError> {
        for name in ["IP_AUTODETECTION_METHOD", "IP"] {
            if let Some(method) = stated(variables, name).filter(|method| method != "autodetect") {
                self.node.address_detection = Some(method);
                self.from("node.address-detection", name);
            }
        }
        for name in ["IP6_AUTODETECTION_METHOD", "IP6"] {
            if let Some(method) = stated(variables, name).filter(|method| method != "autodetect") {
                self.node.address_detection_v6 = Some(method);
            }
        }
        if let Some(value) = stated(variables, "AS") {
            let number: AsNumber = value.parse().map_err(|_| ConfigError::Variable {
                name: "AS",
                value: value.clone(),
                expected: "an AS number such as 64512 or 1.10",
            })?;
            self.as_number = Some(number.0);
        }
        let id = stated(variables, "CALICO_ROUTER_ID").filter(|id| id != "hash");
        if let Some(value) = id {
            let id: Result<Ipv4Addr, _> = value.parse();
            let id = id.map_err(|_| ConfigError::Variable {
                name: "CALICO_ROUTER_ID",
                value: value.clone(),
                expected: "four numbers such as 10.0.0.1, or hash",
            })?;
            self.bgp.router_id = Some(id);
            self.from("bgp.router-id", "CALICO_ROUTER_ID");
        }
        Ok(())
    }
}

/// A variable that says something.
fn stated(variables: &Variables, name: &str) -> Option<String> {
    variables
        .get(name)
        .filter(|value| !value.is_empty())
        .cloned()
}

/// Felix's levels in tracing's words.
fn level_of(text: &str) -> Option<&'static str> {
    Some(match text.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warn",
        "error" | "fatal" => "error",
        "none" => "off",
        _ => return None,
    })
}
