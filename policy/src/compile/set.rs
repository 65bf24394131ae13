use ocicat_dataplane::state::{Protocol, SetId};
use ocicat_selectors::Selector;
use sha2::{Digest, Sha256};

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetSpec {
    /// The addresses and ranges of what the selector selects.
    Addresses(Selector),
    /// Address, protocol and number of the ports of this name, of what the selector selects.
    NamedPort {
        selector: Selector,
        name: String,
        protocol: Protocol,
    },
    /// The backends of a service: their addresses and ports, or their addresses only.
    Service {
        namespace: String,
        name: String,
        ports: bool,
    },
}

impl SetSpec {
    /// The set's identity: equal for equal meaning, whichever rule asks.
    pub(crate) fn id(&self) -> SetId {
        match self {
            Self::Addresses(selector) => SetId::new(&selector.unique_id()),
            Self::NamedPort {
                selector,
                name,
                protocol,
            } => hashed("n", &[&protocol.0.to_string(), name, selector.as_str()]),
            Self::Service {
                namespace,
                name,
                ports,
            } => hashed(if *ports { "v" } else { "w" }, &[namespace, name]),
        }
    }
}

/// A letter and 40 hexadecimal digits of a hash over the parts.
fn hashed(kind: &str, parts: &[&str]) -> SetId {
    let mut hash = Sha256::new();
    for part in parts {
        // The length first, so that no two lists of parts read the same.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = format!("{kind}:");
    for byte in hash.finalize().iter().take(20) {
        text.push_str(&format!("{byte:02x}"));
    }
    SetId::new(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_meanings_have_different_ids() {
        let port = |name: &str, protocol, selector: &str| SetSpec::NamedPort {
            selector: selector.parse().unwrap(),
            name: name.into(),
            protocol,
        };
        let service = |namespace: &str, name: &str, ports| SetSpec::Service {
            namespace: namespace.into(),
            name: name.into(),
            ports,
        };
        let specs = [
            SetSpec::Addresses(Selector::all()),
            SetSpec::Addresses("has(a)".parse().unwrap()),
            port("http", Protocol::TCP, ""),
            port("http", Protocol::UDP, ""),
            port("http", Protocol::TCP, "has(a)"),
            port("https", Protocol::TCP, ""),
            service("a", "bc", true),
            service("ab", "c", true),
            service("a", "bc", false),
        ];
        let mut ids: Vec<_> = specs.iter().map(SetSpec::id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), specs.len());
        assert!(ids.iter().all(|id| id.as_str().len() <= 64));
        let again = port("http", Protocol::TCP, "all()");
        assert_eq!(again.id(), port("http", Protocol::TCP, " ").id());
    }
}
