//! Addresses as text, and lists that may be `null`, as Go writes them.

use serde::{Deserialize, Deserializer, Serializer};

/// A list; `null` is an empty one.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An address with a prefix length; one without is refused.
pub(super) mod network {
    use super::{Deserialize, Deserializer, Serializer};
    use ipnetwork::IpNetwork;
    use serde::de::Error;

    pub(crate) fn serialize<S: Serializer>(network: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(network)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<IpNetwork, D::Error> {
        let text = String::deserialize(from)?;
        if !text.contains('/') {
            return Err(D::Error::custom(format!("{text:?} has no prefix length")));
        }
        text.parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no address with a length")))
    }
}

/// An optional address; `null` and the empty text are none.
pub(super) mod address {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::Error;
    use std::net::IpAddr;

    pub(crate) fn serialize<S: Serializer>(
        address: &Option<IpAddr>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => to.collect_str(address),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<IpAddr>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let text = text.filter(|text| !text.is_empty());
        let parsed = text.map(|text| {
            text.parse()
                .map_err(|_| D::Error::custom(format!("{text:?} is no address")))
        });
        parsed.transpose()
    }
}
