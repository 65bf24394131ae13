use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version of the CNI specification that this crate speaks.
///
/// Older ones (0.1.0, 0.2.0) have another result format and are refused; a configuration without `cniVersion` counts
/// as 0.1.0, as in the reference implementation. Newer ones are refused too: what they mean is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// Results name their interfaces; chained plugins.
    V0_3_0,
    /// As 0.3.0: only the wording of the specification changed.
    V0_3_1,
    /// Adds CHECK, and `prevResult` for DEL.
    V0_4_0,
    /// `version` is gone from the addresses of a result; configurations are always lists.
    V1_0_0,
    /// Adds GC, STATUS and `cniVersions`, and the MTU and more in results.
    V1_1_0,
}

/// The text is no version of the specification that this crate speaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a supported version of the CNI specification ({})",
    SupportedList
)]
#[non_exhaustive]
pub struct VersionError {
    /// The text that was found.
    pub found: String,
}

struct SupportedList;

impl Version {
    /// Every version, oldest first.
    pub const ALL: &'static [Self] = &[
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest version: 1.1.0.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version as it is written in JSON, such as `1.0.0`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether CHECK exists: from 0.4.0.
    #[must_use]
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether GC and STATUS exist: from 1.1.0.
    #[must_use]
    pub fn has_gc(self) -> bool {
        self >= Self::V1_1_0
    }

    /// Whether the result of ADD is handed to DEL: from 0.4.0.
    #[must_use]
    pub fn del_has_prev_result(self) -> bool {
        self >= Self::V0_4_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SupportedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, version) in Version::ALL.iter().enumerate() {
            write!(f, "{}{version}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let known = Self::ALL.iter().find(|version| version.as_str() == text);
        known.copied().ok_or_else(|| VersionError {
            found: text.to_owned(),
        })
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_and_round_trip() {
        assert!(Version::ALL.is_sorted());
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(*version));
        }
        for wrong in ["", "1", "1.0", "v1.0.0", "0.1.0", "0.2.0", "1.2.0", "2.0.0"] {
            assert_eq!(wrong.parse::<Version>().unwrap_err().found, wrong);
        }
    }
}
