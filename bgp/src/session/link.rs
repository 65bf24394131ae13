use std::time::Instant;

use crate::wire::{MAX_EXTENDED, MAX_MESSAGE};

use super::{LinkId, Negotiated, State};

/// One connection and how far it has come.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) outgoing: bool,
    pub(crate) connected_at: Instant,
    /// Set when the peer's OPEN has been accepted.
    pub(crate) negotiated: Option<Box<Negotiated>>,
    /// The first KEEPALIVE has come.
    pub(crate) confirmed: bool,
    pub(crate) confirmed_at: Instant,
    /// The front of a message whose rest has not come yet.
    pub(crate) partial: Vec<u8>,
    /// Messages other than UPDATEs to be sent.
    pub(crate) control: Vec<u8>,
    pub(crate) hold_at: Option<Instant>,
    pub(crate) keepalive_at: Option<Instant>,
    /// When the peer must have taken what waits for it (RFC 9687).
    pub(crate) send_hold_at: Option<Instant>,
}

impl Link {
    pub(crate) fn new(id: LinkId, outgoing: bool, now: Instant) -> Self {
        Self {
            id,
            outgoing,
            connected_at: now,
            negotiated: None,
            confirmed: false,
            confirmed_at: now,
            partial: Vec::new(),
            control: Vec::new(),
            hold_at: Some(now + super::OPEN_WAIT),
            keepalive_at: None,
            send_hold_at: None,
        }
    }

    /// The longest message that the peer may send (RFC 8654 section 4: longer ones once both OPENs allow them).
    pub(crate) fn longest(&self) -> usize {
        let extended = self
            .negotiated
            .as_ref()
            .is_some_and(|n| n.extended_messages);
        if extended { MAX_EXTENDED } else { MAX_MESSAGE }
    }

    pub(crate) fn state(&self) -> State {
        match (&self.negotiated, self.confirmed) {
            (None, _) => State::OpenSent,
            (Some(_), false) => State::OpenConfirm,
            (Some(_), true) => State::Established,
        }
    }
}
