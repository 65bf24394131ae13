use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reader;
use crate::Prefix;
use crate::number::Family;

/// A prefix as the RIB stores it: as small as its family allows.
pub(crate) trait Key: Copy + Eq {
    const FAMILY: Family;

    /// A well mixed hash under `seed`, so that a peer cannot choose colliding prefixes.
    fn hash(self, seed: u64) -> u64;
    fn prefix(self) -> Prefix;
    fn from_prefix(prefix: &Prefix) -> Option<Self>;
    /// Reads length and address; host bits are cleared (RFC 4271 section 4.3: trailing bits are irrelevant).
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
    fn write(self, out: &mut Vec<u8>);
    fn encoded(self) -> usize;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct V4 {
    address: u32,
    length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct V6 {
    high: u64,
    low: u64,
    length: u8,
}

pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Key for V4 {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn hash(self, seed: u64) -> u64 {
        mix(
            (u64::from(self.address) << 8 | u64::from(self.length)) ^ seed,
            MULTIPLIER,
        )
    }

    fn prefix(self) -> Prefix {
        Prefix::masked(IpAddr::V4(self.address.into()), self.length)
    }

    fn from_prefix(prefix: &Prefix) -> Option<Self> {
        match prefix.address() {
            IpAddr::V4(address) => Some(Self {
                address: address.into(),
                length: prefix.length(),
            }),
            IpAddr::V6(_) => None,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = reader.u8().filter(|&length| length <= 32)?;
        let taken = reader.bytes(usize::from(length.div_ceil(8)))?;
        let mut octets = [0; 4];
        octets[..taken.len()].copy_from_slice(taken);
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Some(Self {
            address: u32::from_be_bytes(octets) & mask,
            length,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(self.length);
        let octets = self.address.to_be_bytes();
        out.extend_from_slice(&octets[..usize::from(self.length.div_ceil(8))]);
    }

    fn encoded(self) -> usize {
        1 + usize::from(self.length.div_ceil(8))
    }
}

impl V6 {
    const fn address(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    const fn new(address: u128, length: u8) -> Self {
        Self {
            high: (address >> 64) as u64,
            low: address as u64,
            length,
        }
    }
}

impl Key for V6 {
    const FAMILY: Family = Family::Ipv6Unicast;

    fn hash(self, seed: u64) -> u64 {
        let high = mix(self.high ^ seed, MULTIPLIER);
        mix(
            high ^ self.low.rotate_left(23) ^ u64::from(self.length),
            MULTIPLIER,
        )
    }

    fn prefix(self) -> Prefix {
        Prefix::masked(IpAddr::V6(Ipv6Addr::from(self.address())), self.length)
    }

    fn from_prefix(prefix: &Prefix) -> Option<Self> {
        match prefix.address() {
            IpAddr::V6(address) => Some(Self::new(address.into(), prefix.length())),
            IpAddr::V4(_) => None,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = reader.u8().filter(|&length| length <= 128)?;
        let taken = reader.bytes(usize::from(length.div_ceil(8)))?;
        let mut octets = [0; 16];
        octets[..taken.len()].copy_from_slice(taken);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Some(Self::new(u128::from_be_bytes(octets) & mask, length))
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(self.length);
        let octets = self.address().to_be_bytes();
        out.extend_from_slice(&octets[..usize::from(self.length.div_ceil(8))]);
    }

    fn encoded(self) -> usize {
        1 + usize::from(self.length.div_ceil(8))
    }
}

/// The prefixes of one field of an UPDATE, each perhaps with a path identifier (RFC 7911).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Nlri<'a> {
    bytes: &'a [u8],
    with_id: bool,
}

impl<'a> Nlri<'a> {
    /// Checks the whole field; `None` when a prefix is too long or cut off (RFC 7606 section 5.3).
    pub(crate) fn parse<K: Key>(bytes: &'a [u8], with_id: bool) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            if with_id {
                reader.u32()?;
            }
            K::read(&mut reader)?;
        }
        Some(Self { bytes, with_id })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn iter<K: Key>(self) -> impl Iterator<Item = (K, u32)> + use<'a, K> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || {
            let id = if self.with_id { reader.u32()? } else { 0 };
            Some((K::read(&mut reader)?, id))
        })
    }
}

/// The next hop of an IPv4 route must be a unicast address of a host (RFC 4271 section 6.3).
pub(crate) fn plausible_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224
}

/// The same for IPv6; a link-local next hop is checked by the caller.
pub(crate) fn plausible_v6(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}
