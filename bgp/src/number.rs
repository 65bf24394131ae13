use std::fmt;
use std::str::FromStr;

/// An autonomous system number, 0..=4294967295 (RFC 6793). 0 is reserved and never valid on the wire (RFC 7607).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

impl AsNumber {
    /// AS_TRANS, which stands for a number above 65535 where only two octets fit (RFC 6793 section 2).
    pub const TRANS: Self = Self(23456);

    /// The number as it fits into two octets: itself, or [`AsNumber::TRANS`].
    #[must_use]
    pub const fn two_octets(self) -> u16 {
        if self.0 > 0xffff {
            23456
        } else {
            self.0 as u16
        }
    }
}

impl From<u32> for AsNumber {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no AS number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an AS number such as 64512 or 1.10")]
pub struct AsNumberError(pub String);

impl FromStr for AsNumber {
    type Err = AsNumberError;

    /// Reads a plain number, or the dotted form of RFC 5396 (`high.low`).
    fn from_str(text: &str) -> Result<Self, AsNumberError> {
        let bad = || AsNumberError(text.to_owned());
        if let Some((high, low)) = text.split_once('.') {
            let high: u16 = high.parse().map_err(|_| bad())?;
            let low: u16 = low.parse().map_err(|_| bad())?;
            return Ok(Self(u32::from(high) << 16 | u32::from(low)));
        }
        text.parse().map(Self).map_err(|_| bad())
    }
}

/// The address families that this crate routes (RFC 4760): unicast IPv4 and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Family {
    /// AFI 1, SAFI 1.
    #[cfg_attr(feature = "serde", serde(rename = "ipv4"))]
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    #[cfg_attr(feature = "serde", serde(rename = "ipv6"))]
    Ipv6Unicast,
}

impl Family {
    /// Every family, IPv4 first.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The address family identifier on the wire.
    #[must_use]
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast => 1,
            Self::Ipv6Unicast => 2,
        }
    }

    /// The subsequent address family identifier on the wire.
    #[must_use]
    pub const fn safi(self) -> u8 {
        1
    }

    /// The family with these identifiers, if it is one of ours.
    #[must_use]
    pub const fn from_wire(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::Ipv4Unicast),
            (2, 1) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4",
            Self::Ipv6Unicast => "ipv6",
        })
    }
}

/// A set of address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Families(u8);

impl Families {
    /// No family.
    pub const NONE: Self = Self(0);
    /// IPv4 unicast alone.
    pub const IPV4: Self = Self(1);
    /// IPv6 unicast alone.
    pub const IPV6: Self = Self(2);
    /// IPv4 and IPv6 unicast.
    pub const BOTH: Self = Self(3);

    /// Whether `family` is in the set.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        self.0 & (1 << family as u8) != 0
    }

    /// This set with `family`.
    #[must_use]
    pub const fn with(self, family: Family) -> Self {
        Self(self.0 | 1 << family as u8)
    }

    /// This set without `family`.
    #[must_use]
    pub const fn without(self, family: Family) -> Self {
        Self(self.0 & !(1 << family as u8))
    }

    /// The families in both sets.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The families, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |&f| self.contains(f))
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        families.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numbers_in_both_notations() {
        assert_eq!("64512".parse(), Ok(AsNumber(64512)));
        assert_eq!("1.10".parse(), Ok(AsNumber(65546)));
        assert_eq!(AsNumber(65546).two_octets(), 23456);
        for bad in ["", "x", "4294967296", "1.65536", "-1"] {
            assert!(bad.parse::<AsNumber>().is_err(), "{bad}");
        }
    }
}
