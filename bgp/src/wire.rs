//! The octets of BGP-4 (RFC 4271): messages to bytes and back, with the answer of RFC 7606 to every defect.
//!
//! Nothing here allocates per prefix: an UPDATE is read in place, its attributes come out in one canonical form
//! ([`crate::Attributes`]) that is compared, stored and sent without being taken apart again.

mod attribute;
mod capability;
mod nlri;
mod notification;
mod open;
mod reader;
mod update;

pub use capability::{AddPathMode, Capability, GracefulRestartCapability};
pub use notification::{Cease, Notification};
pub use open::Open;

pub(crate) use attribute::{AttributeContext, Canonical, flag, kind};
pub(crate) use attribute::{one, put, segments};
pub(crate) use nlri::{Key, Nlri, V4, V6, mix};
pub(crate) use reader::Reader;
pub(crate) use update::{UpdateContext, end_of_rib, parse};

use crate::number::Family;

/// The length of a message header: marker, length, type.
pub const HEADER: usize = 19;
/// The longest message without RFC 8654.
pub const MAX_MESSAGE: usize = 4096;
/// The longest message with RFC 8654.
pub const MAX_EXTENDED: usize = 65535;
/// The port that BGP listens on.
pub const PORT: u16 = 179;

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// A message header that has passed RFC 4271 section 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: u8,
}

/// Reads a header from the front of `bytes`; `None` when more octets are needed.
pub(crate) fn header(bytes: &[u8], max: usize) -> Result<Option<Header>, Notification> {
    let known = bytes.len().min(16);
    if bytes[..known].iter().any(|&octet| octet != 0xff) {
        return Err(Notification::new(1, 1));
    }
    let Some(head) = bytes.get(16..HEADER) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let kind = head[2];
    let exact = |min: usize, max: usize| {
        if (min..=max).contains(&length) {
            Ok(())
        } else {
            Err(Notification::new(1, 2).data(head[..2].to_vec()))
        }
    };
    exact(HEADER, max)?;
    match kind {
        OPEN => exact(29, MAX_MESSAGE)?,
        UPDATE => exact(23, max)?,
        NOTIFICATION => exact(21, max)?,
        KEEPALIVE => exact(HEADER, HEADER)?,
        // RFC 7313 section 5 answers a wrong length with a code of its own; the body is checked there.
        ROUTE_REFRESH => exact(HEADER, max)?,
        _ => return Err(Notification::new(1, 3).data(vec![kind])),
    }
    Ok(Some(Header { length, kind }))
}

/// Starts a message in `out` and returns where it began, for [`finish`].
pub(crate) fn start(kind: u8, out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&[0, 0, kind]);
    begin
}

/// Writes the length of the message that began at `begin` and ends with `out`.
pub(crate) fn finish(begin: usize, out: &mut [u8]) {
    let length = (out.len() - begin) as u16;
    out[begin + 16..begin + 18].copy_from_slice(&length.to_be_bytes());
}

/// Appends a KEEPALIVE.
pub(crate) fn keepalive(out: &mut Vec<u8>) {
    let begin = start(KEEPALIVE, out);
    finish(begin, out);
}

/// What a ROUTE-REFRESH message asks for (RFC 2918, 7313).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    Request(Family),
    Begin(Family),
    End(Family),
    /// A family or subtype that is not ours: ignored.
    Other,
}

impl Refresh {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Notification> {
        let &[a, b, subtype, safi] = body else {
            // RFC 7313 section 5: error code 7, subcode 1, with the message as data.
            return Err(Notification::new(7, 1).data(body.to_vec()));
        };
        let family = Family::from_wire(u16::from_be_bytes([a, b]), safi);
        Ok(match (family, subtype) {
            (Some(family), 0) => Self::Request(family),
            (Some(family), 1) => Self::Begin(family),
            (Some(family), 2) => Self::End(family),
            _ => Self::Other,
        })
    }

    pub(crate) fn encode(family: Family, subtype: u8, out: &mut Vec<u8>) {
        let begin = start(ROUTE_REFRESH, out);
        out.extend_from_slice(&family.afi().to_be_bytes());
        out.extend_from_slice(&[subtype, family.safi()]);
        finish(begin, out);
    }
}

#[cfg(test)]
mod tests;
