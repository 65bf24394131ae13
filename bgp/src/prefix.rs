use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

/// An address range in CIDR form whose host bits are zero: what routes are made of.
///
/// An [`IpNetwork`] keeps the host bits it was written with, which is right for an interface address and wrong
/// as a key: `10.0.0.1/24` and `10.0.0.0/24` name the same range. This type has one form for each range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why an [`IpNetwork`] or a text is no [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// The address has bits set behind the prefix length.
    #[error("{found} has host bits set; the range is {canonical}")]
    HostBits {
        /// What was given.
        found: IpNetwork,
        /// The range that it lies in.
        canonical: Prefix,
    },
    /// The text is not an address, a slash and a length.
    #[error("{0:?} is not an address range such as 10.0.0.0/24")]
    Syntax(String),
    /// The length is longer than the address: 32 bits for IPv4, 128 for IPv6.
    #[error("{address}/{length}: the prefix is longer than the address")]
    Length {
        /// The address that was given.
        address: IpAddr,
        /// The prefix length that was given, in bits.
        length: u8,
    },
}

impl Prefix {
    /// The range of `length` bits that `address` lies in; the host bits are cleared.
    ///
    /// # Errors
    /// [`PrefixError::Length`] when `length` is above 32 (IPv4) or 128 (IPv6).
    pub fn containing(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
            _ => return Err(PrefixError::Length { address, length }),
        };
        Ok(Self { address, length })
    }

    /// As [`Prefix::containing`] for callers that know the length to fit; a longer one is cut.
    pub(crate) fn masked(address: IpAddr, length: u8) -> Self {
        Self::containing(address, length).unwrap_or_else(|_| Self::host(address))
    }

    /// The range of one address: /32 or /128.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length }
    }

    /// The first address of the range.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits: 0..=32 for IPv4, 0..=128 for IPv6.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether the range is IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether the range is a single address.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.length == if self.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` lies in the range; false for the other address family.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::containing(address, self.length).is_ok_and(|range| range == *self)
    }

    /// Whether every address of `other` lies in this range; false for the other address family.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.length >= self.length && self.contains(other.address)
    }
}

impl TryFrom<IpNetwork> for Prefix {
    type Error = PrefixError;

    fn try_from(found: IpNetwork) -> Result<Self, PrefixError> {
        let canonical = Self::containing(found.ip(), found.prefix())?;
        if canonical.address == found.ip() {
            Ok(canonical)
        } else {
            Err(PrefixError::HostBits { found, canonical })
        }
    }
}

impl From<Prefix> for IpNetwork {
    fn from(prefix: Prefix) -> Self {
        match prefix.address {
            IpAddr::V4(v4) => ipnetwork::Ipv4Network::new_checked(v4, prefix.length).map(Self::V4),
            IpAddr::V6(v6) => ipnetwork::Ipv6Network::new_checked(v6, prefix.length).map(Self::V6),
        }
        .unwrap_or_else(|| Self::from(prefix.address))
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let syntax = || PrefixError::Syntax(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(syntax)?;
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        let length: u8 = length.parse().map_err(|_| syntax())?;
        let canonical = Self::containing(address, length)?;
        if canonical.address == address {
            return Ok(canonical);
        }
        let found = IpNetwork::new(address, length).map_err(|_| syntax())?;
        Err(PrefixError::HostBits { found, canonical })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_prefix() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("0.0.0.0/0", Ok(())),
            ("::/0", Ok(())),
            ("fd00::/122", Ok(())),
            ("10.0.0.1/32", Ok(())),
        ] {
            let prefix: Result<Prefix, _> = text.parse();
            assert_eq!(prefix.clone().map(|_| ()), expected, "{text}");
            assert_eq!(prefix.map(|p| p.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "10.0.0.1/8",
            "fd00::1/64",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0",
            "x/8",
            "",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_hold_their_addresses_and_no_others() {
        let range: Prefix = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains("10.1.255.255".parse().unwrap()));
        assert!(!range.contains("10.2.0.0".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
        assert!(range.covers(&"10.1.2.0/24".parse().unwrap()));
        assert!(!range.covers(&"10.0.0.0/8".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Prefix>()
                .unwrap()
                .contains("255.255.255.255".parse().unwrap())
        );
    }
}
