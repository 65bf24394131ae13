//! Probes: whether one end of the lab reaches another, asked with real packets, thousands at a time.
//!
//! Sockets are opened by the thread of the place that the probe starts from and driven by the runtime, so that denied
//! probes, which cost their whole timeout, overlap.

mod engine;
mod serve;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::scenario::Protocol;
pub use engine::{Attempt, run};
pub use serve::Servers;

/// One end of a probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// `namespace/pod`.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// `host:NAME`: a machine outside of the cluster.
    Host(String),
    /// `node:NAME`.
    Node(String),
    /// `router`: the one of the underlay. Commands run there; probes do not ask it.
    Router,
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(formatter, "{namespace}/{name}"),
            Self::Host(name) => write!(formatter, "host:{name}"),
            Self::Node(name) => write!(formatter, "node:{name}"),
            Self::Router => formatter.write_str("router"),
        }
    }
}

/// A text that names no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not namespace/pod, host:NAME, node:NAME or router")]
pub struct NoEnd(pub String);

impl FromStr for End {
    type Err = NoEnd;

    fn from_str(text: &str) -> Result<Self, NoEnd> {
        let named = |name: &str| !name.is_empty() && !name.contains(['/', ':', ' ']);
        let end = match (text.split_once(':'), text.split_once('/')) {
            (Some(("host", name)), _) if named(name) => Self::Host(name.to_owned()),
            (Some(("node", name)), _) if named(name) => Self::Node(name.to_owned()),
            (None, None) if text == "router" => Self::Router,
            (None, Some((namespace, name))) if named(namespace) && named(name) => Self::Pod {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            _ => return Err(NoEnd(text.to_owned())),
        };
        Ok(end)
    }
}

impl TryFrom<String> for End {
    type Error = NoEnd;

    fn try_from(text: String) -> Result<Self, NoEnd> {
        text.parse()
    }
}

impl From<End> for String {
    fn from(end: End) -> Self {
        end.to_string()
    }
}

impl Serialize for End {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A question: does `from` reach `to`?
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Who asks.
    pub from: End,
    /// Who is asked.
    pub to: End,
    /// The port; none for ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// TCP unless stated.
    #[serde(default)]
    pub protocol: Protocol,
    /// Which address is asked, where the other end has one of each family: the first that both ends have unless stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
}

/// IPv4 or IPv6, as the number 4 or 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl TryFrom<u8> for Family {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            4 => Ok(Self::V4),
            6 => Ok(Self::V6),
            _ => Err(format!("{number} is no family; 4 or 6 is expected")),
        }
    }
}

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} -> {} {}", self.from, self.to, self.protocol)?;
        if self.family == Some(Family::V6) {
            formatter.write_str(" over IPv6")?;
        }
        match self.port {
            Some(port) => write!(formatter, " {port}"),
            None => Ok(()),
        }
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// An answer came; also a refused connection, for its packets went both ways.
    Allowed,
    /// No answer in time, or a router or firewall said that it is prohibited.
    Denied,
    /// The question could not be asked, or somebody else answered.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Error => "error",
        })
    }
}

/// A verdict, the time that it took, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The verdict.
    pub result: Verdict,
    /// Milliseconds from the first packet to the verdict.
    pub ms: f64,
    /// `closed` for a refused connection, the reason of an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A question with its answer: one line of `probe --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    #[serde(flatten)]
    pub probe: Probe,
    /// The answer.
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_they_are_shown() {
        for text in ["shop/web", "host:e1", "node:node-1", "router"] {
            assert_eq!(text.parse::<End>().expect("an end").to_string(), text);
        }
        for text in ["web", "a/b/c", "host:", "pod:x", "/x", "x/", ""] {
            assert!(text.parse::<End>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_probe_is_one_line_of_json() {
        let line = r#"{"from":"shop/web","to":"shop/db","port":5432,"protocol":"TCP"}"#;
        let probe: Probe = serde_json::from_str(line).expect("the documented form");
        assert_eq!(serde_json::to_string(&probe).expect("plain data"), line);
        let outcome = Outcome {
            result: Verdict::Allowed,
            ms: 1.5,
            detail: None,
        };
        let answer = serde_json::to_string(&Answer { probe, outcome }).expect("plain data");
        assert_eq!(
            answer,
            format!(
                r#"{},"result":"allowed","ms":1.5}}"#,
                line.trim_end_matches('}')
            )
        );
        let ping: Probe = serde_json::from_str(r#"{"from":"a/b","to":"host:e","protocol":"ICMP"}"#)
            .expect("no port");
        assert_eq!(ping.port, None);
    }
}
