use std::fmt;
use std::net::IpAddr;

use crate::Prefix;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: blocks of /20 to /32.
    V4,
    /// IPv6: blocks of /116 to /128.
    V6,
}

impl Family {
    /// Both families, in the order in which requests are served.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Bits in an address: 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address with this number; an IPv4 number is cut to 32 bits.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            #[allow(clippy::cast_possible_truncation)]
            Self::V4 => IpAddr::V4((number as u32).into()),
            Self::V6 => IpAddr::V6(number.into()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address as a number.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl Prefix {
    /// The address family of the range.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.address())
    }

    /// The number of the first address.
    pub(crate) fn first(&self) -> u128 {
        number(self.address())
    }

    /// The number of the last address.
    pub(crate) fn last(&self) -> u128 {
        let host_bits = self.family().bits() - self.length();
        self.first()
            | u128::MAX
                .checked_shr(128 - u32::from(host_bits))
                .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_its_ends() {
        for (range, last) in [
            ("10.0.0.0/26", "10.0.0.63"),
            ("10.0.0.7/32", "10.0.0.7"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("fd00::/122", "fd00::3f"),
            ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let range: Prefix = range.parse().unwrap();
            assert_eq!(range.family().address(range.last()).to_string(), last);
        }
    }
}
