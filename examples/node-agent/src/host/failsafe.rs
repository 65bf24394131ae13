//! Ports that policies of host endpoints never close: Felix's `failsafeInboundHostPorts` and `failsafeOutboundHostPorts`.

use ocicat_dataplane::Prefix;
use ocicat_dataplane::state::{FailsafePort, Protocol};
use serde::Deserialize;

/// What may always come in unless something else is stated: SSH, DHCP, BGP, etcd, Typha, the Kubernetes API.
pub const INBOUND: &str =
    "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
/// What may always go out unless something else is stated: DNS, DHCP, BGP, etcd, Typha, the Kubernetes API.
pub const OUTBOUND: &str =
    "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";

/// A port as FelixConfiguration has it.
#[derive(Deserialize)]
struct Entry {
    protocol: String,
    port: u16,
    net: Option<String>,
}

/// Reads a list as files and the environment have it (`tcp:22,udp:10.0.0.0/8:68`, `none`), or as FelixConfiguration has
/// it, in JSON.
///
/// # Errors
/// What is wrong, with the entry.
pub fn ports(text: &str) -> Result<Vec<FailsafePort>, String> {
    let text = text.trim();
    if text.starts_with('[') {
        let entries: Vec<Entry> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let port = |one: &Entry| port(&one.protocol, one.net.as_deref(), &one.port.to_string());
        return entries.iter().map(port).collect();
    }
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let entries = text.split(',').map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    entries.map(entry).collect()
}

/// `PORT`, `PROTOCOL:PORT` or `PROTOCOL:NET:PORT`; the net may have colons of its own.
fn entry(text: &str) -> Result<FailsafePort, String> {
    let Some((protocol, rest)) = text.split_once(':') else {
        return port("tcp", None, text);
    };
    match rest.rsplit_once(':') {
        Some((net, number)) => port(protocol, Some(net.trim_matches(['[', ']'])), number),
        None => port(protocol, None, rest),
    }
}

fn port(protocol: &str, net: Option<&str>, number: &str) -> Result<FailsafePort, String> {
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        other => return Err(format!("{other:?} is neither tcp nor udp")),
    };
    let net: Option<Prefix> = match net.filter(|net| !net.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|error| format!("{text:?}: {error}"))?),
    };
    let port = number.trim().parse();
    Ok(FailsafePort {
        protocol,
        port: port.map_err(|_| format!("{number:?} is no port"))?,
        net,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json =
            r#"[{"protocol":"TCP","port":22},{"protocol":"udp","port":68,"net":"10.0.0.0/8"}]"#;
        assert_eq!(
            ports("22, udp:10.0.0.0/8:68").unwrap(),
            ports(json).unwrap()
        );
        let v6 = ports("tcp:[fd00::/8]:179").unwrap();
        assert_eq!(v6[0].net, Some("fd00::/8".parse().unwrap()));
        assert_eq!(ports("none").unwrap(), []);
        assert_eq!(ports(INBOUND).unwrap().len(), 9);
        assert_eq!(ports(OUTBOUND).unwrap().len(), 9);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("sctp:22", "sctp"),
            ("tcp:ssh", "ssh"),
            ("tcp:10.0.0.1/8:22", "10.0.0.1/8"),
            ("[{}]", "protocol"),
        ] {
            let error = ports(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
