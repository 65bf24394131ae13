use std::time::{Duration, Instant};

use super::{DownReason, Link, LinkId, Negotiated, Session, SessionEvent, State, Stop};
use crate::wire::{
    HEADER, KEEPALIVE, NOTIFICATION, Notification, OPEN, Open, ROUTE_REFRESH, Refresh, UPDATE,
    header,
};

/// KEEPALIVEs may go out this much early, so that those of many peers go out together.
pub(crate) const SLACK: Duration = Duration::from_millis(250);

/// RFC 9687 section 6: eight minutes, or twice the hold time if that is more.
const SEND_HOLD: Duration = Duration::from_secs(480);

/// Takes the body of an UPDATE; an error ends the session.
pub(crate) type OnUpdate<'a> = dyn FnMut(&Negotiated, &[u8]) -> Result<(), Notification> + 'a;

impl Session {
    /// Begins to connect, or to wait for the peer.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.started {
            return;
        }
        self.started = true;
        if !self.config.passive {
            self.connect(now);
        }
    }

    /// Ends every connection and attempts no more until [`Session::start`].
    pub(crate) fn stop(&mut self, stop: &Stop, now: Instant) {
        self.started = false;
        self.cancel_connect();
        self.attempts = 0;
        self.errors = 0;
        while let Some(link) = self.links.last() {
            let notification = match stop {
                Stop::Silent => None,
                Stop::Cease(cease) => {
                    let plain = cease.notification();
                    let hard = link
                        .negotiated
                        .as_ref()
                        .is_some_and(|n| n.notification_restart);
                    Some(if hard { plain.hard_reset() } else { plain })
                }
            };
            let reason = notification
                .clone()
                .map_or(DownReason::Stopped, DownReason::Sent);
            self.drop_link(self.links.len() - 1, reason, notification.as_ref(), now);
        }
    }

    /// Ends every connection, and begins anew.
    pub(crate) fn fail_all(&mut self, cease: &crate::wire::Cease, now: Instant) {
        while !self.links.is_empty() {
            self.fail(self.links.len() - 1, cease.notification(), now);
        }
    }

    /// A connection has come in; `None` refuses it.
    pub(crate) fn accept(&mut self, now: Instant) -> Option<LinkId> {
        if !self.started {
            return None;
        }
        // Of connections that say nothing only the newest is kept.
        if let Some(at) = self
            .links
            .iter()
            .position(|link| !link.outgoing && link.negotiated.is_none())
        {
            self.drop_link(at, DownReason::Closed, None, now);
        }
        let id = self.link_id();
        self.add_link(id, false, now);
        Some(id)
    }

    pub(crate) fn connected(&mut self, link: LinkId, now: Instant) {
        if self.connecting.is_some_and(|(id, _)| id == link) {
            self.connecting = None;
            self.add_link(link, true, now);
        }
    }

    pub(crate) fn connect_failed(&mut self, link: LinkId, why: String, now: Instant) {
        if self.connecting.is_some_and(|(id, _)| id == link) {
            self.connecting = None;
            self.attempts += 1;
            self.events
                .push_back(SessionEvent::Failed(DownReason::ConnectFailed(why)));
            self.schedule(now);
        }
    }

    pub(crate) fn closed(&mut self, link: LinkId, now: Instant) {
        if let Some(at) = self.position(link) {
            self.attempts += u32::from(!self.links[at].confirmed);
            self.drop_link(at, DownReason::Closed, None, now);
        }
    }

    /// The socket takes nothing, or took some and then nothing more: the peer has time until the send hold timer
    /// (RFC 9687 section 4) expires.
    pub(crate) fn blocked(&mut self, link: LinkId, now: Instant) {
        if let Some(at) = self.position(link) {
            let link = &mut self.links[at];
            let hold = link
                .negotiated
                .as_ref()
                .map(|negotiated| negotiated.hold_time * 2);
            link.send_hold_at = Some(now + hold.unwrap_or_default().max(SEND_HOLD));
        }
    }

    /// The socket has taken everything.
    pub(crate) fn unblocked(&mut self, link: LinkId) {
        if let Some(at) = self.position(link) {
            self.links[at].send_hold_at = None;
        }
    }

    fn add_link(&mut self, id: LinkId, outgoing: bool, now: Instant) {
        let mut link = Link::new(id, outgoing, now);
        self.open().encode(&mut link.control);
        self.links.push(link);
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.connecting.is_some_and(|(_, until)| until <= now) {
            self.cancel_connect();
            self.attempts += 1;
            let reason = DownReason::ConnectFailed("no answer".to_owned());
            self.events.push_back(SessionEvent::Failed(reason));
            self.schedule(now);
        }
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect(now);
        }
        while let Some(at) = self
            .links
            .iter()
            .position(|link| link.hold_at.is_some_and(|at| at <= now))
        {
            // The session did nothing wrong: no error pause, the peer may be back any moment.
            self.drop_link(
                at,
                DownReason::HoldTimerExpired,
                Some(&Notification::new(4, 0)),
                now,
            );
        }
        let stuck = |link: &Link| link.send_hold_at.is_some_and(|at| at <= now);
        while let Some(at) = self.links.iter().position(stuck) {
            self.fail(at, Notification::new(8, 0), now);
        }
        for link in &mut self.links {
            let slack = link
                .negotiated
                .as_ref()
                .map(|negotiated| negotiated.keepalive / 8);
            let soon = now + slack.unwrap_or_default().min(SLACK);
            if link.keepalive_at.is_some_and(|at| at <= soon) {
                // What has not been sent yet will do for a sign of life.
                if link.control.is_empty() {
                    crate::wire::keepalive(&mut link.control);
                }
                let interval = link
                    .negotiated
                    .as_ref()
                    .map(|negotiated| negotiated.keepalive);
                link.keepalive_at = interval.map(|time| now + self.jitter.of(time));
            }
        }
    }

    /// Reads from the front of `bytes` until they are used up or an event waits; returns how many were taken.
    pub(crate) fn receive(
        &mut self,
        link: LinkId,
        bytes: &[u8],
        now: Instant,
        on_update: &mut OnUpdate<'_>,
    ) -> usize {
        let mut rest = bytes;
        while self.events.is_empty() {
            let Some(at) = self.position(link) else {
                return bytes.len();
            };
            if self.links[at].partial.is_empty() {
                let Some(taken) = self.whole(at, rest, now, on_update) else {
                    return bytes.len();
                };
                rest = &rest[taken..];
            } else {
                let Some(taken) = self.pieced(at, rest, now, on_update) else {
                    return bytes.len();
                };
                rest = &rest[taken..];
            }
        }
        bytes.len() - rest.len()
    }

    /// Handles the message at the front of `bytes`; `None` when all are used up.
    fn whole(
        &mut self,
        at: usize,
        bytes: &[u8],
        now: Instant,
        on_update: &mut OnUpdate<'_>,
    ) -> Option<usize> {
        match header(bytes, self.links[at].longest()) {
            Ok(Some(head)) if head.length <= bytes.len() => {
                self.message(at, head.kind, &bytes[HEADER..head.length], now, on_update);
                Some(head.length)
            }
            Ok(_) => {
                self.links[at].partial.extend_from_slice(bytes);
                None
            }
            Err(notification) => {
                self.fail(at, notification, now);
                Some(0)
            }
        }
    }

    /// Completes the message whose front came earlier.
    fn pieced(
        &mut self,
        at: usize,
        bytes: &[u8],
        now: Instant,
        on_update: &mut OnUpdate<'_>,
    ) -> Option<usize> {
        let longest = self.links[at].longest();
        let partial = &mut self.links[at].partial;
        let want = match header(partial, longest) {
            Ok(Some(head)) => head.length,
            Ok(None) => HEADER,
            Err(notification) => {
                self.fail(at, notification, now);
                return Some(0);
            }
        };
        let taken = bytes.len().min(want - partial.len());
        partial.extend_from_slice(&bytes[..taken]);
        if partial.len() < want {
            return None;
        }
        match header(partial, longest) {
            Ok(Some(head)) if head.length == partial.len() => {
                let message = std::mem::take(partial);
                self.message(at, head.kind, &message[HEADER..], now, on_update);
            }
            Ok(_) => {}
            Err(notification) => self.fail(at, notification, now),
        }
        Some(taken)
    }

    fn message(
        &mut self,
        at: usize,
        kind: u8,
        body: &[u8],
        now: Instant,
        on_update: &mut OnUpdate<'_>,
    ) {
        match (self.links[at].state(), kind) {
            (_, NOTIFICATION) => self.notified(at, body, now),
            (State::OpenSent, OPEN) => match Open::parse(body) {
                Ok(open) => {
                    self.take_open(at, &open, now);
                }
                Err(notification) => self.fail(at, notification, now),
            },
            (State::OpenConfirm, KEEPALIVE) => {
                self.alive(at, now);
                self.establish(at, now);
            }
            (State::Established, KEEPALIVE) => self.alive(at, now),
            (State::Established, UPDATE) => {
                self.alive(at, now);
                let Some(negotiated) = self.links[at].negotiated.as_deref() else {
                    return;
                };
                if let Err(notification) = on_update(negotiated, body) {
                    self.fail(at, notification, now);
                }
            }
            (State::Established, ROUTE_REFRESH) => match Refresh::parse(body) {
                Ok(refresh) => {
                    self.alive(at, now);
                    self.events.push_back(SessionEvent::Refresh(refresh));
                }
                Err(notification) => self.fail(at, notification, now),
            },
            (State::OpenConfirm, _) => self.fail(at, Notification::new(5, 2), now),
            (State::Established, _) => self.fail(at, Notification::new(5, 3), now),
            // RFC 6608: the subcode names the state, the data is the message type.
            _ => self.fail(at, Notification::new(5, 1).data(vec![kind]), now),
        }
    }

    fn alive(&mut self, at: usize, now: Instant) {
        let link = &mut self.links[at];
        let hold = link
            .negotiated
            .as_ref()
            .map(|negotiated| negotiated.hold_time);
        link.hold_at = hold.filter(|time| !time.is_zero()).map(|time| now + time);
    }

    fn establish(&mut self, at: usize, now: Instant) {
        let link = &mut self.links[at];
        link.confirmed = true;
        link.confirmed_at = now;
        let Some(negotiated) = link.negotiated.clone() else {
            return;
        };
        let id = link.id;
        self.attempts = 0;
        self.errors = 0;
        self.was_up = true;
        self.events.push_back(SessionEvent::Up(id, negotiated));
    }

    fn notified(&mut self, at: usize, body: &[u8], now: Instant) {
        let notification = Notification::parse(body).unwrap_or(const { Notification::new(0, 0) });
        // A collision is no error: the other connection goes on.
        self.errors += u32::from(!notification.is(Notification::COLLISION));
        self.drop_link(at, DownReason::Received(notification), None, now);
    }
}
