//! Where and how objects lie in a key-value store: Calico's own keys and JSON.

use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::identity::is_record;
use crate::model::{Kind, names};
use crate::object::{Key, Object, Revision, Scope, take_version};

/// Calico's prefix of all keys.
pub(crate) const PREFIX: &str = "/calico";

/// Keys below a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: String,
}

impl Layout {
    /// Keys below `prefix`, which begins with a slash and does not end with one.
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
        }
    }

    /// The key of an object.
    ///
    /// # Errors
    /// As for [`Key::check`].
    pub(crate) fn path(&self, key: &Key) -> Result<String, StoreError> {
        key.check()?;
        let prefix = &self.prefix;
        let name = escape(&key.name);
        Ok(match key.kind {
            Kind::IpamBlock => {
                let (family, block) = block_part(names::block_cidr(&key.name));
                format!("{prefix}/ipam/v2/assignment/{family}/block/{block}")
            }
            Kind::BlockAffinity => {
                let (owner_type, owner, cidr) =
                    names::affinity_parts(&key.name).unwrap_or_default();
                let (family, block) = block_part(Some(cidr));
                let (owner_type, owner) = (escape(owner_type), escape(owner));
                format!("{prefix}/ipam/v2/{owner_type}/{owner}/{family}/block/{block}")
            }
            Kind::IpamHandle => format!("{prefix}/ipam/v2/handle/{name}"),
            Kind::IpamConfig => format!("{prefix}/ipam/v2/config"),
            kind => match &key.namespace {
                Some(namespace) => format!("{}{}/{name}", self.resources(kind), escape(namespace)),
                None => format!("{}{name}", self.resources(kind)),
            },
        })
    }

    fn resources(&self, kind: Kind) -> String {
        let group = kind
            .api_version()
            .split_once('/')
            .map_or("core", |(group, _)| group);
        format!("{}/resources/v3/{group}/{}/", self.prefix, kind.plural())
    }

    /// Prefixes of the keys of all objects of a scope; objects that the scope does not cover may have them, too.
    pub(crate) fn scope(&self, scope: &Scope) -> Vec<String> {
        let prefix = &self.prefix;
        vec![match scope.kind {
            Kind::IpamBlock => format!("{prefix}/ipam/v2/assignment/"),
            Kind::BlockAffinity => return self.affinities(&scope.name_prefix),
            Kind::IpamHandle => {
                format!("{prefix}/ipam/v2/handle/{}", escape(&scope.name_prefix))
            }
            Kind::IpamConfig => format!("{prefix}/ipam/v2/config"),
            kind => {
                let all = self.resources(kind);
                match (&scope.namespace, kind.is_namespaced()) {
                    (Some(namespace), true) => {
                        format!("{all}{}/{}", escape(namespace), escape(&scope.name_prefix))
                    }
                    (None, false) => format!("{all}{}", escape(&scope.name_prefix)),
                    _ => all,
                }
            }
        }]
    }

    fn affinities(&self, name_prefix: &str) -> Vec<String> {
        let prefix = &self.prefix;
        let mut parts = name_prefix.split(':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(owner_type), Some(owner), Some(_)) => {
                vec![format!(
                    "{prefix}/ipam/v2/{}/{}/",
                    escape(owner_type),
                    escape(owner)
                )]
            }
            _ => ["host", "virtual"]
                .map(|kind| format!("{prefix}/ipam/v2/{kind}/"))
                .to_vec(),
        }
    }

    /// The object that a key is for; `None` for a key that is not ours.
    pub(crate) fn key(&self, path: &str) -> Option<Key> {
        let path = path.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["ipam", "v2", "assignment", _, "block", block] => {
                let cidr = cidr_of(block)?;
                Some(Key::cluster(Kind::IpamBlock, names::block_name(&cidr)))
            }
            ["ipam", "v2", "handle", name] => Some(Key::cluster(Kind::IpamHandle, unescape(name))),
            ["ipam", "v2", "config"] => Some(Key::cluster(Kind::IpamConfig, "default")),
            ["ipam", "v2", owner_type, owner, _, "block", block] => {
                let (owner_type, owner) = (unescape(owner_type), unescape(owner));
                let name = names::affinity_name(&owner_type, &owner, &cidr_of(block)?);
                Some(Key::cluster(Kind::BlockAffinity, name))
            }
            ["resources", "v3", group, plural, ref rest @ ..] => {
                let kind = resource_kind(group, plural)?;
                match (rest, kind.is_namespaced()) {
                    ([namespace, name], true) => {
                        Some(Key::namespaced(kind, unescape(namespace), unescape(name)))
                    }
                    ([name], false) => Some(Key::cluster(kind, unescape(name))),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn resource_kind(group: &str, plural: &str) -> Option<Kind> {
    Kind::ALL.iter().copied().find(|kind| {
        let own = kind
            .api_version()
            .split_once('/')
            .map_or("core", |(group, _)| group);
        own == group && kind.plural() == plural
    })
}

/// `ipv4` or `ipv6`, and the range as it stands in keys: `10.0.0.0-26`.
fn block_part(cidr: Option<String>) -> (&'static str, String) {
    let cidr = cidr.unwrap_or_default();
    let family = if cidr.contains(':') { "ipv6" } else { "ipv4" };
    (family, cidr.replace('/', "-"))
}

fn cidr_of(block: &str) -> Option<String> {
    let (address, length) = block.rsplit_once('-')?;
    Some(format!("{address}/{length}"))
}

fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn unescape(name: &str) -> String {
    name.replace("%2f", "/")
        .replace("%2F", "/")
        .replace("%25", "%")
}

/// Fields of IPAM records that are called otherwise in the API than in the store.
const RENAMED: &[(Kind, &str, &str)] = &[
    (Kind::IpamBlock, "affinityClaimTime", "affinity_claim_time"),
    (Kind::IpamConfig, "strictAffinity", "strict_affinity"),
    (
        Kind::IpamConfig,
        "autoAllocateBlocks",
        "auto_allocate_blocks",
    ),
];

/// What the key of an IPAM record says and its stored form does not.
const IN_KEY: &[(Kind, &[&str])] = &[
    (Kind::BlockAffinity, &["node", "type", "cidr"]),
    (Kind::IpamHandle, &["handleID"]),
];

/// The JSON that is stored for an object. IPAM records are stored bare.
pub(crate) fn stored(object: &Object) -> String {
    if !is_record(object.kind) {
        return object.value.to_string();
    }
    let spec = object.value.get("spec").and_then(Value::as_object);
    let mut record = spec.cloned().unwrap_or_default();
    for (kind, names) in IN_KEY {
        if *kind == object.kind {
            names.iter().for_each(|name| drop(record.remove(*name)));
        }
    }
    for (kind, api, stored) in RENAMED {
        if *kind == object.kind
            && let Some(value) = record.remove(*api)
        {
            record.insert((*stored).to_owned(), value);
        }
    }
    if object.kind == Kind::BlockAffinity {
        record.entry("deleted").or_insert(Value::Bool(false));
        if record.get("deleted").and_then(Value::as_str) == Some("true") {
            record.insert("deleted".to_owned(), Value::Bool(true));
        }
    }
    Value::Object(record).to_string()
}

/// The object that stored JSON is for.
///
/// # Errors
/// [`StoreError::Malformed`] when it is no JSON object.
pub(crate) fn object(key: Key, stored: &[u8], revision: Revision) -> Result<Object, StoreError> {
    let malformed = |key: Key, reason: String| StoreError::Malformed {
        key,
        field: "(stored value)".to_owned(),
        reason,
    };
    let value = match serde_json::from_slice(stored) {
        Ok(value @ Value::Object(_)) => value,
        Ok(_) => return Err(malformed(key, "is no JSON object".to_owned())),
        Err(error) => return Err(malformed(key, error.to_string())),
    };
    let value = match value {
        Value::Object(record) if is_record(key.kind) => from_record(&key, record),
        value => value,
    };
    let Key {
        kind,
        namespace,
        name,
    } = key;
    let mut object = Object {
        kind,
        namespace,
        name,
        value,
        revision,
    };
    take_version(&mut object.value);
    object.stamp();
    Ok(object)
}

fn from_record(key: &Key, mut record: Map<String, Value>) -> Value {
    for (kind, api, stored) in RENAMED {
        if *kind == key.kind
            && let Some(value) = record.remove(*stored)
        {
            record.insert((*api).to_owned(), value);
        }
    }
    match key.kind {
        Kind::BlockAffinity => {
            if let Some((owner_type, owner, cidr)) = names::affinity_parts(&key.name) {
                record.insert("type".to_owned(), owner_type.into());
                record.insert("node".to_owned(), owner.into());
                record.insert("cidr".to_owned(), cidr.into());
            }
        }
        Kind::IpamHandle => {
            record.insert("handleID".to_owned(), key.name.clone().into());
        }
        Kind::IpamBlock if !record.contains_key("affinity") => {
            // What blocks of old had in its place.
            if let Some(Value::String(host)) = record.remove("hostAffinity") {
                record.insert("affinity".to_owned(), format!("host:{host}").into());
            }
        }
        _ => {}
    }
    serde_json::json!({ "spec": record })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(PREFIX)
    }

    #[test]
    fn keys_are_calicos_and_go_back() {
        let block = Key::cluster(Kind::IpamBlock, "10-0-0-0-26");
        let v6 = names::affinity_name("host", "node-1", "fd00::40/122");
        let cases = [
            (block, "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26"),
            (
                Key::cluster(Kind::BlockAffinity, v6),
                "/calico/ipam/v2/host/node-1/ipv6/block/fd00::40-122",
            ),
            (
                Key::cluster(Kind::IpamHandle, "net.abc"),
                "/calico/ipam/v2/handle/net.abc",
            ),
            (
                Key::cluster(Kind::IpamConfig, "default"),
                "/calico/ipam/v2/config",
            ),
            (
                Key::namespaced(Kind::WorkloadEndpoint, "shop", "n-k8s-web-eth0"),
                "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/n-k8s-web-eth0",
            ),
            (
                Key::cluster(Kind::IpPool, "a%/b"),
                "/calico/resources/v3/projectcalico.org/ippools/a%25%2fb",
            ),
            (
                Key::namespaced(Kind::Pod, "a", "b"),
                "/calico/resources/v3/core/pods/a/b",
            ),
        ];
        for (key, path) in cases {
            assert_eq!(layout().path(&key).as_deref(), Ok(path));
            assert_eq!(layout().key(path), Some(key.clone()), "{path}");
            let prefixes = layout().scope(&Scope::all(key.kind));
            assert!(
                prefixes.iter().any(|prefix| path.starts_with(prefix)),
                "{path}"
            );
        }
        assert_eq!(layout().key("/calico/ipam/v2/host/node-1"), None);
        assert!(layout().path(&Key::cluster(Kind::Pod, "x")).is_err());
        assert!(layout().path(&Key::cluster(Kind::IpamBlock, "x")).is_err());
    }

    #[test]
    fn records_are_stored_as_calico_stores_them() {
        let name = names::affinity_name("host", "n", "10.0.0.0/26");
        let key = Key::cluster(Kind::BlockAffinity, name);
        let read = object(key.clone(), b"{}", Revision(3)).expect("an empty affinity is legal");
        assert_eq!(read.value["spec"]["node"], "n");
        assert_eq!(stored(&read), r#"{"deleted":false}"#);

        let config = Key::cluster(Kind::IpamConfig, "default");
        let text = br#"{"strict_affinity":true,"auto_allocate_blocks":true,"new":1}"#;
        let read = object(config, text, Revision(1)).expect("a configuration");
        assert_eq!(read.value["spec"]["strictAffinity"], true);
        let back: Value = serde_json::from_str(&stored(&read)).expect("JSON");
        assert_eq!(back, serde_json::from_slice::<Value>(text).expect("JSON"));
        assert!(object(key, b"[]", Revision(1)).is_err());
    }
}
