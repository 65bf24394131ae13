use netlink_packet_core::ParseableParametrized;
use netlink_packet_route::RouteNetlinkMessage;

use super::{codec, route::KernelRoute};
use crate::KernelError;
use crate::state::RouteKey;

pub(super) const HEADER: usize = 16;

const NOOP: u16 = 1;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// One message of a datagram, as netlink(7) frames it.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    pub(super) payload: &'a [u8],
}

/// What a message says to somebody who waits for an answer.
pub(super) enum Answer<'a> {
    /// Success, or why not.
    Ack(Result<(), KernelError>),
    /// The end of a dump, or why it ended early.
    Done(Result<(), KernelError>),
    /// An object.
    Object(&'a [u8]),
    /// Nothing.
    Noop,
}

impl<'a> Message<'a> {
    pub(super) fn answer(&self) -> Answer<'a> {
        match self.kind {
            NOOP => Answer::Noop,
            ERROR => Answer::Ack(outcome(self.payload, self.flags)),
            DONE => Answer::Done(outcome(self.payload, 0)),
            _ => Answer::Object(self.payload),
        }
    }
}

pub(super) fn object(kind: u16, payload: &[u8]) -> Result<RouteNetlinkMessage, KernelError> {
    RouteNetlinkMessage::parse_with_param(payload, kind).map_err(KernelError::malformed)
}

/// The messages of one datagram. A message whose length is wrong ends it.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_at_checked(HEADER)?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            port: u32_at(header, 12)?,
            payload,
        })
    }
}

/// A change in the kernel that nobody asked this socket for.
pub(crate) struct Notice {
    /// The port of the socket that caused it; 0 is the kernel itself.
    pub(crate) port: u32,
    /// The object, as it is now or was.
    pub(crate) object: Object,
}

/// What a notice is about.
pub(crate) enum Object {
    /// A route, and whether it is there.
    Route(RouteKey, KernelRoute, bool),
    /// Anything else.
    Other(RouteNetlinkMessage),
}

/// The notices of one datagram; what does not parse is left out.
pub(crate) fn notices(datagram: &[u8]) -> impl Iterator<Item = Notice> {
    Messages(datagram).filter_map(|message| {
        let Answer::Object(payload) = message.answer() else {
            return None;
        };
        let object = match message.kind {
            codec::NEW | codec::DELETE => {
                let (key, route) = codec::read(payload)?;
                Object::Route(key, route, message.kind == codec::NEW)
            }
            kind => Object::Other(object(kind, payload).ok()?),
        };
        Some(Notice {
            port: message.port,
            object,
        })
    })
}

/// Reads `struct nlmsgerr` and the extended ACK behind it, or the status at the end of a dump.
fn outcome(payload: &[u8], flags: u16) -> Result<(), KernelError> {
    const CAPPED: u16 = 0x100;
    const WITH_ATTRIBUTES: u16 = 0x200;
    let code = match payload.first_chunk::<4>() {
        Some(bytes) => i32::from_ne_bytes(*bytes),
        None => return Ok(()),
    };
    if code == 0 {
        return Ok(());
    }
    let echoed = if flags & CAPPED != 0 {
        HEADER
    } else {
        let length = payload.get(4..).and_then(|request| u32_at(request, 0));
        usize::try_from(length.unwrap_or(0)).unwrap_or(HEADER)
    };
    let message = (flags & WITH_ATTRIBUTES != 0)
        .then(|| payload.get(4 + echoed.next_multiple_of(4)..))
        .flatten()
        .and_then(words);
    Err(KernelError::new(code.saturating_neg(), message))
}

/// The kernel's words: attribute `NLMSGERR_ATTR_MSG` (1).
fn words(mut attributes: &[u8]) -> Option<&str> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? == 1 {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return std::str::from_utf8(text).ok();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;

    #[test]
    fn damaged_datagrams_end_and_do_not_panic() {
        for length in 0..64_usize {
            for value in [0_u8, 1, 4, 15, 16, 17, 0xff] {
                let datagram = vec![value; length];
                for message in Messages(&datagram) {
                    let _ = message.answer();
                }
            }
        }
        let mut endless = [0_u8; 32];
        endless[0] = 0; // a message of length 0
        assert_eq!(Messages(&endless).count(), 0);
    }

    #[test]
    fn a_refusal_comes_with_the_kernels_words() {
        let mut payload = (-17_i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        payload.extend_from_slice(&[9, 0, 1, 0, b'B', b'u', b's', b'y', 0, 0, 0, 0]);
        let error = outcome(&payload, 0x300).unwrap_err();
        assert_eq!(error.refusal, Refusal::Exists);
        assert_eq!(error.message.as_deref(), Some("Busy"));
    }
}
