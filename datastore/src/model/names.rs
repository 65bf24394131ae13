//! Names that are made of other things.

use std::net::IpAddr;

use serde_json::Value;

use super::Kind;

/// The name of the [`IpamBlock`](super::IpamBlock) of a range: `10-0-0-0-26`, `fd00--40-122`.
///
/// `cidr` is the range as text, `10.0.0.0/26`. [`block_cidr`] goes back.
#[must_use]
pub fn block_name(cidr: &str) -> String {
    cidr.replace(['.', ':', '/'], "-")
}

/// The range of the [`IpamBlock`](super::IpamBlock) of this name, as text; `None` when it is no such name.
#[must_use]
pub fn block_cidr(name: &str) -> Option<String> {
    let (address, length) = name.rsplit_once('-')?;
    let length: u8 = length.parse().ok()?;
    let address: IpAddr = if address.contains("--") || address.split('-').count() == 8 {
        IpAddr::V6(address.replace('-', ":").parse().ok()?)
    } else {
        IpAddr::V4(address.replace('-', ".").parse().ok()?)
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (length <= longest).then(|| format!("{address}/{length}"))
}

/// The name of the [`BlockAffinity`](super::BlockAffinity) of an owner to a range: `host:node1:10-0-0-0-26`.
///
/// `owner_type` is `host` or `virtual`. [`affinity_parts`] goes back. In Kubernetes the object has the name that
/// Calico gives it, `node1-10-0-0-0-26`, from which owner and range cannot always be told.
#[must_use]
pub fn affinity_name(owner_type: &str, owner: &str, cidr: &str) -> String {
    format!("{owner_type}:{owner}:{}", block_name(cidr))
}

/// Owner type, owner and range of the [`BlockAffinity`](super::BlockAffinity) of this name.
#[must_use]
pub fn affinity_parts(name: &str) -> Option<(&str, &str, String)> {
    let (owner_type, rest) = name.split_once(':')?;
    let (owner, block) = rest.rsplit_once(':')?;
    Some((owner_type, owner, block_cidr(block)?))
}

/// The beginning of the names of all [`BlockAffinity`](super::BlockAffinity)s of an owner: `host:node1:`.
#[must_use]
pub fn affinity_prefix(owner_type: &str, owner: &str) -> String {
    format!("{owner_type}:{owner}:")
}

/// The name of a pod's [`WorkloadEndpoint`](super::WorkloadEndpoint): `node--1-k8s-web-eth0`.
///
/// Dashes inside a part are doubled, so that the parts can be told apart.
#[must_use]
pub fn workload_endpoint_name(node: &str, orchestrator: &str, pod: &str, endpoint: &str) -> String {
    [node, orchestrator, pod, endpoint]
        .map(|part| part.replace('-', "--"))
        .join("-")
}

/// The profile of a namespace: `kns.NAMESPACE`.
#[must_use]
pub fn namespace_profile(namespace: &str) -> String {
    format!("kns.{namespace}")
}

/// The profile of a service account: `ksa.NAMESPACE.NAME`.
#[must_use]
pub fn service_account_profile(namespace: &str, name: &str) -> String {
    format!("ksa.{namespace}.{name}")
}

/// The name of an IPAM record that its content gives it; `None` for other kinds, or when the content is bad.
pub(crate) fn derived(kind: Kind, value: &Value) -> Option<String> {
    let spec = value.get("spec")?;
    let text = |field: &str| spec.get(field).and_then(Value::as_str);
    match kind {
        Kind::IpamBlock => Some(block_name(text("cidr")?)),
        Kind::IpamHandle => Some(text("handleID")?.to_owned()),
        Kind::BlockAffinity => {
            let owner_type = text("type").filter(|owner_type| !owner_type.is_empty());
            Some(affinity_name(
                owner_type.unwrap_or("host"),
                text("node")?,
                text("cidr")?,
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_blocks_go_back() {
        for cidr in [
            "10.0.0.0/26",
            "fd00::40/122",
            "::/122",
            "1:2:3:4:5:6:7:40/122",
            "a::/116",
        ] {
            assert_eq!(block_cidr(&block_name(cidr)).as_deref(), Some(cidr));
            let name = affinity_name("host", "n-10-0-0-0-26", cidr);
            assert_eq!(
                affinity_parts(&name),
                Some(("host", "n-10-0-0-0-26", cidr.to_owned()))
            );
        }
        for bad in ["", "10-0-0-26", "10-0-0-0-33", "x", "10-0-0-0-"] {
            assert_eq!(block_cidr(bad), None, "{bad}");
        }
    }

    #[test]
    fn dashes_are_doubled() {
        let name = workload_endpoint_name("node-1", "k8s", "web", "eth0");
        assert_eq!(name, "node--1-k8s-web-eth0");
    }
}
