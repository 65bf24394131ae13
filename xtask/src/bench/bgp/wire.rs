//! As much of BGP-4 as a load needs, written for this driver alone: what is measured does not check itself.

use std::net::Ipv4Addr;

pub(super) const HEADER: usize = 19;
pub(super) const OPEN: u8 = 1;
pub(super) const UPDATE: u8 = 2;
pub(super) const NOTIFICATION: u8 = 3;
pub(super) const KEEPALIVE: u8 = 4;
const LONGEST: usize = 4096;

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Net {
    pub(super) address: u32,
    pub(super) length: u8,
}

impl Net {
    fn write(self, out: &mut Vec<u8>) {
        out.push(self.length);
        let octets = self.address.to_be_bytes();
        out.extend_from_slice(&octets[..usize::from(self.length).div_ceil(8)]);
    }

    /// Reads one off the front.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (&length, rest) = bytes.split_first()?;
        let (octets, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        let mut address = [0; 4];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        *bytes = rest;
        Some(Self {
            address: u32::from_be_bytes(address),
            length,
        })
    }
}

fn message(kind: u8, body: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, kind]);
    body(out);
    let length = (out.len() - begin) as u16;
    out[begin + 16..begin + 18].copy_from_slice(&length.to_be_bytes());
}

pub(super) fn keepalive(out: &mut Vec<u8>) {
    message(KEEPALIVE, |_| {}, out);
}

/// An OPEN with IPv4 unicast, route refresh and a four-octet AS number.
pub(super) fn open(number: u32, hold: u16, id: Ipv4Addr, out: &mut Vec<u8>) {
    message(
        OPEN,
        |out| {
            out.push(4);
            out.extend_from_slice(&(u16::try_from(number).unwrap_or(23456)).to_be_bytes());
            out.extend_from_slice(&hold.to_be_bytes());
            out.extend_from_slice(&id.octets());
            out.extend_from_slice(&[16, 2, 14, 1, 4, 0, 1, 0, 1, 2, 0, 65, 4]);
            out.extend_from_slice(&number.to_be_bytes());
        },
        out,
    );
}

/// What a route carries; the driver's own form, from which octets are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) origin: u8,
    pub(super) path: Vec<u32>,
    pub(super) next_hop: u32,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) communities: Vec<u32>,
    pub(super) originator: Option<u32>,
    pub(super) clusters: Vec<u32>,
    pub(super) large: Vec<[u32; 3]>,
}

fn attribute(flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            out.extend_from_slice(&[flags | 0x10, kind]);
            out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

impl Set {
    /// The attribute section, sorted by type: also the form in which sets are compared.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        attribute(0x40, 1, &[self.origin], &mut out);
        let mut path = Vec::new();
        if !self.path.is_empty() {
            path.extend_from_slice(&[2, self.path.len() as u8]);
            path.extend(words(&self.path));
        }
        attribute(0x40, 2, &path, &mut out);
        attribute(0x40, 3, &self.next_hop.to_be_bytes(), &mut out);
        if let Some(med) = self.med {
            attribute(0x80, 4, &med.to_be_bytes(), &mut out);
        }
        if let Some(local_pref) = self.local_pref {
            attribute(0x40, 5, &local_pref.to_be_bytes(), &mut out);
        }
        if !self.communities.is_empty() {
            attribute(0xc0, 8, &words(&self.communities), &mut out);
        }
        if let Some(originator) = self.originator {
            attribute(0x80, 9, &originator.to_be_bytes(), &mut out);
        }
        if !self.clusters.is_empty() {
            attribute(0x80, 10, &words(&self.clusters), &mut out);
        }
        if !self.large.is_empty() {
            attribute(0xc0, 32, &words(self.large.as_flattened()), &mut out);
        }
        out
    }
}

/// UPDATEs that announce `nets` with one set.
pub(super) fn announce(set: &Set, nets: &[Net], out: &mut Vec<u8>) {
    let attributes = set.octets();
    let room = LONGEST - HEADER - 4 - attributes.len() - 5;
    let mut nets = nets.iter().peekable();
    while nets.peek().is_some() {
        message(
            UPDATE,
            |out| {
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
                out.extend_from_slice(&attributes);
                let begin = out.len();
                while let Some(net) = nets.next_if(|_| out.len() - begin < room) {
                    net.write(out);
                }
            },
            out,
        );
    }
}

/// UPDATEs that withdraw `nets`.
pub(super) fn withdraw(nets: &[Net], out: &mut Vec<u8>) {
    let mut nets = nets.iter().peekable();
    while nets.peek().is_some() {
        message(
            UPDATE,
            |out| {
                let begin = out.len();
                out.extend_from_slice(&[0, 0]);
                while let Some(net) = nets.next_if(|_| out.len() - begin < LONGEST - HEADER - 12) {
                    net.write(out);
                }
                let length = (out.len() - begin - 2) as u16;
                out[begin..begin + 2].copy_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&[0, 0]);
            },
            out,
        );
    }
}

/// The parts of an UPDATE: withdrawn prefixes, attributes, announced prefixes.
pub(super) fn parts(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let section = |bytes| {
        let (length, rest): (&[u8; 2], &[u8]) = <[u8]>::split_first_chunk(bytes)?;
        rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
    };
    let (withdrawn, rest) = section(body)?;
    let (attributes, announced) = section(rest)?;
    Some((withdrawn, attributes, announced))
}

/// Brings an attribute section into the form that [`Set::octets`] gives. A MED of 0 is left out when `no_zero_med`.
pub(super) fn canonical(section: &[u8], no_zero_med: bool, out: &mut Vec<u8>) -> Option<()> {
    let mut found: Vec<(u8, u8, &[u8])> = Vec::with_capacity(12);
    let mut rest = section;
    while let [flags, kind, tail @ ..] = rest {
        let (length, tail) = if flags & 0x10 == 0 {
            let (length, tail) = tail.split_first()?;
            (usize::from(*length), tail)
        } else {
            let (length, tail): (&[u8; 2], &[u8]) = tail.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), tail)
        };
        let (value, tail) = tail.split_at_checked(length)?;
        rest = tail;
        if !(no_zero_med && *kind == 4 && value == [0; 4]) {
            found.push((*kind, flags & 0xc0, value));
        }
    }
    found.sort_unstable();
    out.clear();
    for (kind, flags, value) in found {
        attribute(flags, kind, value, out);
    }
    rest.is_empty().then_some(())
}
