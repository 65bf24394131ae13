use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Prefix;
use crate::attributes::NextHop;
use crate::number::{AsNumber, Families};
use crate::peer::PeerConfig;
use crate::speaker::{DynamicPeers, SpeakerConfig};

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl PeerConfig {
    /// What is not said is as [`PeerConfig::new`] has it; what has to be said is not there yet.
    pub(crate) fn blank() -> Self {
        Self::new(NOWHERE, 0).families(Families::NONE)
    }

    fn complete<E: Error>(mut self) -> Result<Self, E> {
        if self.peer_as == AsNumber(0) {
            return Err(E::missing_field("peer_as"));
        }
        if self.families.is_empty() {
            self.families = Self::new(self.address, self.peer_as).families;
        }
        Ok(self)
    }
}

impl SpeakerConfig {
    pub(crate) fn blank() -> Self {
        Self::new(0, Ipv4Addr::UNSPECIFIED)
    }
}

impl DynamicPeers {
    pub(crate) fn blank() -> Self {
        Self::new(Prefix::host(NOWHERE), PeerConfig::blank())
    }
}

impl Serialize for PeerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for PeerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        if config.address == NOWHERE {
            return Err(D::Error::missing_field("address"));
        }
        config.complete()
    }
}

impl Serialize for SpeakerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for SpeakerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::deserialize(deserializer)?;
        if config.as_number == AsNumber(0) {
            return Err(D::Error::missing_field("as_number"));
        }
        if config.router_id.is_unspecified() {
            return Err(D::Error::missing_field("router_id"));
        }
        if config.cluster_id.is_unspecified() {
            config.cluster_id = config.router_id;
        }
        Ok(config)
    }
}

impl Serialize for DynamicPeers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for DynamicPeers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::deserialize(deserializer)?;
        if config.prefix == Prefix::host(NOWHERE) {
            return Err(D::Error::missing_field("prefix"));
        }
        config.template.address = config.prefix.address();
        config.template = config.template.complete()?;
        Ok(config)
    }
}

/// The template of neighbours by prefix, which has no address of its own.
pub(crate) mod template {
    use serde::{Deserializer, Serializer};

    use crate::peer::PeerConfig;

    pub(crate) fn serialize<S: Serializer>(
        config: &PeerConfig,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        PeerConfig::serialize(config, serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PeerConfig, D::Error> {
        PeerConfig::deserialize(deserializer)
    }
}

/// An address, or two where there is a link-local one as well.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Hop {
    One(IpAddr),
    Two(Ipv6Addr, Ipv6Addr),
}

impl Serialize for NextHop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::V6 {
                global,
                link_local: Some(link_local),
            } => Hop::Two(global, link_local),
            _ => Hop::One(self.address()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NextHop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Hop::deserialize(deserializer)? {
            Hop::One(address) => address.into(),
            Hop::Two(global, link_local) => Self::V6 {
                global,
                link_local: Some(link_local),
            },
        })
    }
}
