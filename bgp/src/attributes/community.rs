use std::fmt;
use std::str::FromStr;

/// A community (RFC 1997): `AS:value` in 16 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// Not to leave the AS.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to be advertised to anybody.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to leave the confederation member; without confederations as [`Community::NO_EXPORT`].
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// The route is about to go away (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
}

/// A text that is no community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a community such as 64512:100 or 64512:1:2")]
pub struct CommunityError(pub String);

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let bad = || CommunityError(text.to_owned());
        let (high, low) = text.split_once(':').ok_or_else(bad)?;
        let high: u16 = high.parse().map_err(|_| bad())?;
        let low: u16 = low.parse().map_err(|_| bad())?;
        Ok(Self(u32::from(high) << 16 | u32::from(low)))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A large community (RFC 8092): the AS that defines it and two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl LargeCommunity {
    pub(crate) fn read(octets: &[u8]) -> Self {
        let at =
            |i: usize| u32::from_be_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self(at(0), at(4), at(8))
    }

    pub(crate) fn octets(self) -> [u8; 12] {
        let mut octets = [0; 12];
        octets[..4].copy_from_slice(&self.0.to_be_bytes());
        octets[4..8].copy_from_slice(&self.1.to_be_bytes());
        octets[8..].copy_from_slice(&self.2.to_be_bytes());
        octets
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let bad = || CommunityError(text.to_owned());
        let mut parts = text.split(':').map(|part| part.parse::<u32>());
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(bad);
        let community = Self(next()?, next()?, next()?);
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(community)
        }
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}
