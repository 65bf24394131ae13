//! Calico's JSON (feature `serde`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{AffinityState, Block, BlockRecord, HandleId, IpamConfig, Prefix};

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    Cow::<str>::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl Serialize for HandleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for HandleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Cow::<str>::deserialize(deserializer)?))
    }
}

impl Serialize for AffinityState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AffinityState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_record().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_record(BlockRecord::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The value stored for a claim, whose owner and block are in its key: `{"state":"confirmed","deleted":false}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AffinityValue {
    /// How far the claim has got; absent means confirmed.
    pub state: AffinityState,
    /// The first half of a deletion in two steps.
    pub deleted: bool,
}

/// The value stored for a handle, whose name is in its key: `{"block":{"10.0.0.0/26":1},"deleted":false}`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HandleValue {
    /// How many addresses the handle has in each block.
    pub block: BTreeMap<Prefix, u32>,
    /// The first half of a deletion in two steps.
    pub deleted: bool,
}

/// The value stored for the settings.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct ConfigValue {
    strict_affinity: bool,
    auto_allocate_blocks: bool,
    #[serde(rename = "maxBlocksPerHost", skip_serializing_if = "is_zero")]
    max_blocks_per_host: u32,
    #[serde(rename = "ipCooldownSeconds", skip_serializing_if = "is_zero")]
    cooldown: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for ConfigValue {
    fn default() -> Self {
        Self::from(&IpamConfig::default())
    }
}

impl From<&IpamConfig> for ConfigValue {
    fn from(config: &IpamConfig) -> Self {
        Self {
            strict_affinity: config.strict_affinity,
            auto_allocate_blocks: config.auto_allocate_blocks,
            max_blocks_per_host: config.max_blocks_per_host,
            cooldown: u32::try_from(config.cooldown.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl Serialize for IpamConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ConfigValue::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IpamConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = ConfigValue::deserialize(deserializer)?;
        Ok(Self {
            strict_affinity: value.strict_affinity,
            auto_allocate_blocks: value.auto_allocate_blocks,
            max_blocks_per_host: value.max_blocks_per_host,
            cooldown: Duration::from_secs(value.cooldown.into()),
        })
    }
}
