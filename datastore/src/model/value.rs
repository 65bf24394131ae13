//! Values that are written in more than one way.

use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::rule::Malformed;

/// A number or a text, or what stands in their place: kept as written, parsed when it is needed.
///
/// Reading one never fails, so that a bad value is reported where it matters and hides nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A whole number.
    Int(i64),
    /// A text.
    String(String),
    /// Neither.
    Other(Value),
}

#[cfg(feature = "crds")]
impl schemars::JsonSchema for IntOrString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrString".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(feature = "crds")]
impl schemars::JsonSchema for AsNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AsNumber".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::String(String::new())
    }
}

impl From<u16> for IntOrString {
    fn from(number: u16) -> Self {
        Self::Int(number.into())
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => text.fmt(f),
            Self::Other(value) => value.fmt(f),
        }
    }
}

/// Why a value is not what its place wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a port.
    #[error("{0:?} is no port: a number up to 65535, a range such as 8000:8080, or a name")]
    Port(String),
    /// A range whose end comes before its beginning.
    #[error("the range of ports {first}:{last} ends before it begins")]
    EmptyRange {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// Not a protocol.
    #[error("{0:?} is no protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number of 1 to 255")]
    Protocol(String),
    /// Not an AS number.
    #[error("{0:?} is no AS number: 1 to 4294967295, or two numbers of 16 bits with a dot")]
    AsNumber(String),
}

impl IntOrString {
    /// The port that this is: a number, `a:b`, or a name.
    ///
    /// # Errors
    /// [`ValueError::Port`] and [`ValueError::EmptyRange`].
    pub fn port(&self) -> Result<Port, ValueError> {
        match self {
            Self::Int(number) => u16::try_from(*number)
                .map(Port::Number)
                .map_err(|_| ValueError::Port(number.to_string())),
            Self::String(text) => text.parse(),
            Self::Other(value) => Err(ValueError::Port(value.to_string())),
        }
    }

    /// The IP protocol that this is: a name or a number.
    ///
    /// # Errors
    /// [`ValueError::Protocol`].
    pub fn protocol(&self) -> Result<Protocol, ValueError> {
        match self {
            Self::Int(number) => match u8::try_from(*number) {
                Ok(number @ 1..) => Ok(Protocol(number)),
                _ => Err(ValueError::Protocol(number.to_string())),
            },
            Self::String(text) => text.parse(),
            Self::Other(value) => Err(ValueError::Protocol(value.to_string())),
        }
    }
}

/// A port of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// One port.
    Number(u16),
    /// All ports from the first to the last, both included.
    Range(u16, u16),
    /// The ports that endpoints call so.
    Name(String),
}

impl FromStr for Port {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::Port(text.to_owned());
        if let Some((first, last)) = text.split_once(':') {
            let first: u16 = first.parse().map_err(|_| bad())?;
            let last: u16 = last.parse().map_err(|_| bad())?;
            if first > last {
                return Err(ValueError::EmptyRange { first, last });
            }
            return Ok(Self::Range(first, last));
        }
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        // Calico's rule for names of ports: letters, digits, '_', '.', '-', with a letter or digit at both ends.
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let edge = |c: char| c.is_ascii_alphanumeric();
        let name = text.chars().all(word)
            && text.starts_with(edge)
            && text.ends_with(edge)
            && !text.chars().all(|c| c.is_ascii_digit())
            && text.len() <= 128;
        if name {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Range(first, last) => write!(f, "{first}:{last}"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// An IP protocol, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDPLITE: Self = Self(136);

    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::TCP, "TCP"),
        (Self::UDP, "UDP"),
        (Self::ICMP, "ICMP"),
        (Self::ICMPV6, "ICMPv6"),
        (Self::SCTP, "SCTP"),
        (Self::UDPLITE, "UDPLite"),
    ];

    /// Whether the protocol has ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        [Self::TCP, Self::UDP, Self::SCTP, Self::UDPLITE].contains(&self)
    }
}

impl FromStr for Protocol {
    type Err = ValueError;

    /// Names in upper or lower case, and numbers.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let named = |entry: &&(Self, &str)| entry.1.eq_ignore_ascii_case(text);
        if let Some((protocol, _)) = Self::NAMES.iter().find(named) {
            return Ok(*protocol);
        }
        match text.parse() {
            Ok(number @ 1..) => Ok(Self(number)),
            _ => Err(ValueError::Protocol(text.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|entry| entry.0 == *self) {
            Some((_, name)) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

/// A BGP autonomous system number. Read from a number or a text, `4200000000` or `64086.59904`; written as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

impl FromStr for AsNumber {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::AsNumber(text.to_owned());
        let number = match text.split_once('.') {
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| bad())?;
                let low: u16 = low.parse().map_err(|_| bad())?;
                (u32::from(high) << 16) | u32::from(low)
            }
            None => text.parse().map_err(|_| bad())?,
        };
        Ok(Self(number))
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AsNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = IntOrString::deserialize(deserializer)?;
        value.to_string().parse().map_err(D::Error::custom)
    }
}

/// A bool that some writers store as the text `true` or `false`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(flag) => Ok(flag),
        Value::String(text) => match text.as_str() {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            _ => Err(D::Error::custom(format!(
                "{text:?} is neither true nor false"
            ))),
        },
        other => Err(D::Error::custom(format!(
            "{other} is neither true nor false"
        ))),
    }
}

/// A list of rules, each of which may be beyond reading without hiding the others.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
    malformed: impl Fn(Malformed, String) -> T,
) -> Result<Vec<T>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    let read = |value: Value| match serde_path_to_error::deserialize(&value) {
        Ok(rule) => rule,
        Err(error) => {
            let field = error.path().to_string();
            let field = if field == "." { String::new() } else { field };
            let action = value
                .get("action")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let reason = error.into_inner().to_string();
            malformed(Malformed { field, reason }, action.to_owned())
        }
    };
    Ok(values.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let port = |text: &str| text.parse::<Port>();
        assert_eq!(port("80"), Ok(Port::Number(80)));
        assert_eq!(port("1:2"), Ok(Port::Range(1, 2)));
        assert_eq!(port("http-alt"), Ok(Port::Name("http-alt".to_owned())));
        assert_eq!(
            port("2:1"),
            Err(ValueError::EmptyRange { first: 2, last: 1 })
        );
        for bad in ["", "70000", "1:", "-x", "a b", "1:70000"] {
            assert_eq!(port(bad), Err(ValueError::Port(bad.to_owned())), "{bad}");
        }
        let bad = IntOrString::Other(Value::Null).port();
        assert_eq!(bad, Err(ValueError::Port("null".to_owned())));
        assert!(IntOrString::Int(-1).port().is_err());
    }

    #[test]
    fn protocols() {
        assert_eq!(
            IntOrString::from("udplite").protocol(),
            Ok(Protocol::UDPLITE)
        );
        assert_eq!(
            IntOrString::Int(6).protocol().map(|p| p.to_string()),
            Ok("TCP".to_owned())
        );
        for bad in [
            IntOrString::Int(0),
            IntOrString::Int(256),
            IntOrString::from("TCPP"),
        ] {
            assert!(bad.protocol().is_err(), "{bad}");
        }
    }

    #[test]
    fn as_numbers() {
        assert_eq!("1.10".parse(), Ok(AsNumber(65546)));
        assert_eq!(
            serde_json::from_str::<AsNumber>("\"64512\"").ok(),
            Some(AsNumber(64512))
        );
        assert!(serde_json::from_str::<AsNumber>("-1").is_err());
        assert!(serde_json::from_str::<AsNumber>("4294967296").is_err());
    }
}
