use std::fmt;

use super::{NOTIFICATION, Reader, finish, start};

/// A NOTIFICATION message: why a session ends (RFC 4271 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The error subcode; its meaning depends on the code.
    pub subcode: u8,
    /// What the RFC asks for with this error; often empty.
    pub data: Vec<u8>,
}

/// Why a session is ended on purpose: the subcodes of Cease (RFC 4486, 8203, 8538, 9384).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cease {
    /// The administrator shut the session down, with a text for the other side (RFC 9003).
    AdministrativeShutdown(String),
    /// The neighbour is no longer configured.
    PeerDeconfigured,
    /// The administrator resets the session, with a text for the other side (RFC 9003).
    AdministrativeReset(String),
    /// The connection is refused.
    ConnectionRejected,
    /// The configuration changed in a way that needs a new session.
    ConfigurationChange,
    /// No memory or no room for the session.
    OutOfResources,
    /// Something quicker than the hold timer says that the neighbour cannot be reached (RFC 9384).
    BfdDown,
}

impl Cease {
    /// The subcode on the wire.
    #[must_use]
    pub const fn subcode(&self) -> u8 {
        match self {
            Self::AdministrativeShutdown(_) => 2,
            Self::PeerDeconfigured => 3,
            Self::AdministrativeReset(_) => 4,
            Self::ConnectionRejected => 5,
            Self::ConfigurationChange => 6,
            Self::OutOfResources => 8,
            Self::BfdDown => 10,
        }
    }

    /// The NOTIFICATION that says so. Texts are cut to 255 octets on a character boundary (RFC 9003 section 2).
    #[must_use]
    pub fn notification(&self) -> Notification {
        let text = match self {
            Self::AdministrativeShutdown(text) | Self::AdministrativeReset(text) => text.as_str(),
            _ => "",
        };
        let notification = Notification::new(6, self.subcode());
        if text.is_empty() {
            return notification;
        }
        let end = (0..=text.len().min(255))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        let mut data = vec![end as u8];
        data.extend_from_slice(&text.as_bytes()[..end]);
        notification.data(data)
    }
}

impl Notification {
    pub(crate) const COLLISION: (u8, u8) = (6, 7);
    pub(crate) const HARD_RESET: (u8, u8) = (6, 9);
    pub(crate) const BFD_DOWN: (u8, u8) = (6, 10);

    /// A notification without data.
    #[must_use]
    pub const fn new(code: u8, subcode: u8) -> Self {
        Self {
            code,
            subcode,
            data: Vec::new(),
        }
    }

    pub(crate) fn data(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    pub(crate) fn is(&self, (code, subcode): (u8, u8)) -> bool {
        self.code == code && self.subcode == subcode
    }

    /// Wraps the notification into a Cease/Hard Reset (RFC 8538 section 3): the peer must not keep our routes.
    pub(crate) fn hard_reset(&self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Self::new(6, 9).data(data)
    }

    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let code = reader.u8()?;
        let subcode = reader.u8()?;
        Some(Self {
            code,
            subcode,
            data: reader.rest().to_vec(),
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = start(NOTIFICATION, out);
        out.extend_from_slice(&[self.code, self.subcode]);
        let room = super::MAX_MESSAGE - super::HEADER - 2;
        out.extend_from_slice(&self.data[..self.data.len().min(room)]);
        finish(begin, out);
    }

    /// The text that came with an administrative shutdown or reset (RFC 9003), if there is one.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        if self.is(Self::HARD_RESET) {
            let inner = Self::parse(&self.data)?;
            return if inner.is(Self::HARD_RESET) {
                None
            } else {
                inner.text()
            };
        }
        if self.code != 6 || !matches!(self.subcode, 2 | 4) {
            return None;
        }
        let (&length, text) = self.data.split_first()?;
        let text = text.get(..usize::from(length))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    const fn words(&self) -> (&'static str, &'static str) {
        let code = match self.code {
            1 => "message header error",
            2 => "OPEN message error",
            3 => "UPDATE message error",
            4 => "hold timer expired",
            5 => "finite state machine error",
            6 => "cease",
            7 => "ROUTE-REFRESH message error",
            8 => "send hold timer expired",
            _ => "unknown error",
        };
        let subcode = match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            _ => "",
        };
        (code, subcode)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = self.words();
        f.write_str(code)?;
        if !subcode.is_empty() {
            write!(f, ": {subcode}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        let inner = self.is(Self::HARD_RESET).then(|| Self::parse(&self.data));
        if let Some(inner) = inner.flatten().filter(|inner| !inner.is(Self::HARD_RESET)) {
            return write!(f, " for {inner}");
        }
        match self.text() {
            Some(text) => write!(f, " {text:?}"),
            None => Ok(()),
        }
    }
}
