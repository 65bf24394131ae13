mod agree;

use super::*;
use crate::number::Family;
use crate::wire::{Capability, HEADER, MAX_MESSAGE, Open, header};

fn config() -> SessionConfig {
    let peer = PeerConfig::new([192, 0, 2, 2].into(), 64513);
    SessionConfig::new(&peer, AsNumber(64512), [192, 0, 2, 1].into())
}

/// The peer's OPEN.
fn open(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = Open {
        as_number: AsNumber(64513),
        hold_time: 9,
        router_id: [192, 0, 2, 2].into(),
        capabilities: vec![
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::FourOctetAs(64513),
        ],
    };
    change(&mut open);
    let mut message = Vec::new();
    open.encode(&mut message);
    message
}

fn keepalive() -> Vec<u8> {
    let mut message = Vec::new();
    crate::wire::keepalive(&mut message);
    message
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&((HEADER + body.len()) as u16).to_be_bytes());
    message.push(kind);
    message.extend_from_slice(body);
    message
}

/// A session under test, with what came out of it.
struct Bench {
    session: Session,
    now: Instant,
    events: Vec<SessionEvent>,
    link: LinkId,
}

impl Bench {
    fn new(config: SessionConfig) -> Self {
        let mut session = Session::new(config, 1);
        let now = Instant::now();
        session.start(now);
        Self {
            session,
            now,
            events: Vec::new(),
            link: LinkId(1),
        }
    }

    /// A session in a state that has one outgoing connection, or none yet.
    fn at(state: State) -> Self {
        let mut bench = Self::new(config());
        if state == State::Idle {
            bench.session.stop(&Stop::Silent, bench.now);
        }
        if state == State::Active {
            bench
                .session
                .connect_failed(bench.link, "refused".into(), bench.now);
        }
        if state >= State::OpenSent {
            bench.session.connected(bench.link, bench.now);
        }
        if state >= State::OpenConfirm {
            bench.receive(&open(|_| {}));
        }
        if state >= State::Established {
            bench.receive(&keepalive());
        }
        bench.poll();
        bench.events.clear();
        bench.sent(bench.link);
        assert_eq!(bench.session.state(), state);
        bench
    }

    fn poll(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push(event);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.receive_on(self.link, bytes);
    }

    fn receive_on(&mut self, link: LinkId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.session.receive(link, rest, self.now, &mut |_, body| {
                if body.is_empty() {
                    Err(Notification::new(3, 1))
                } else {
                    Ok(())
                }
            });
            rest = &rest[taken..];
            self.poll();
        }
    }

    fn sent(&mut self, link: LinkId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.session.take_control(link, &mut bytes);
        bytes
    }

    /// The NOTIFICATION among the last words.
    fn answer(&self) -> Option<(u8, u8)> {
        self.events.iter().find_map(|event| match event {
            SessionEvent::Close(_, last) => {
                let at = last.len().checked_sub(21)?;
                let at = (0..=at).find(|&at| last.get(at + 18) == Some(&3))?;
                Some((last[at + 19], last[at + 20]))
            }
            _ => None,
        })
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|&at| at <= end) {
            self.now = at;
            self.session.timeout(at);
            self.poll();
        }
        self.now = end;
    }
}

/// The state and the NOTIFICATION that a message leads to.
type Expected = (State, Option<(u8, u8)>);

/// Messages, and what they lead to in OpenSent, OpenConfirm and Established.
fn messages() -> Vec<(&'static str, Vec<u8>, [Expected; 3])> {
    use State::{Active, Established, OpenConfirm};
    let ends = |code, subcode| (Active, Some((code, subcode)));
    let (goes_on, unsaid) = ((Established, None), (Active, None));
    let bad_open = open(|open| {
        open.as_number = AsNumber(9);
        open.capabilities.clear();
    });
    let (confirmed, good_open) = ((OpenConfirm, None), open(|_| {}));
    let update = message(2, &[0, 0, 0, 0]);
    let refresh = message(5, &[0, 1, 0, 1]);
    vec![
        ("OPEN", good_open, [confirmed, ends(5, 2), ends(5, 3)]),
        ("bad OPEN", bad_open, [ends(2, 2), ends(5, 2), ends(5, 3)]),
        ("KEEPALIVE", keepalive(), [ends(5, 1), goes_on, goes_on]),
        ("UPDATE", update, [ends(5, 1), ends(5, 2), goes_on]),
        ("REFRESH", refresh, [ends(5, 1), ends(5, 2), goes_on]),
        (
            "NOTIFICATION",
            message(3, &[6, 2]),
            [unsaid, unsaid, unsaid],
        ),
        ("garbage", vec![0; 19], [ends(1, 1), ends(1, 1), ends(1, 1)]),
    ]
}

#[test]
fn every_message_in_every_state() {
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    for (what, bytes, expected) in messages() {
        for (state, (next, answer)) in [OpenSent, OpenConfirm, Established]
            .into_iter()
            .zip(&expected)
        {
            // Whole, and octet by octet.
            for size in [bytes.len(), 1] {
                let mut bench = Bench::at(state);
                for piece in bytes.chunks(size) {
                    bench.receive(piece);
                }
                assert_eq!(bench.session.state(), *next, "{what} in {state}");
                assert_eq!(bench.answer(), *answer, "{what} in {state}");
                let down = bench
                    .events
                    .iter()
                    .any(|event| matches!(event, SessionEvent::Down(..)));
                assert_eq!(
                    down,
                    state == Established && *next == Active,
                    "{what} in {state}"
                );
            }
        }
        for state in [Idle, Connect, Active] {
            let mut bench = Bench::at(state);
            bench.receive(&bytes);
            assert_eq!(bench.session.state(), state, "{what} on no connection");
        }
    }
}

#[test]
fn every_happening_in_every_state() {
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    for state in [Idle, Connect, Active, OpenSent, OpenConfirm, Established] {
        let mut bench = Bench::at(state);
        bench.session.closed(bench.link, bench.now);
        bench.poll();
        let open = state >= OpenSent;
        assert_eq!(
            bench.session.state(),
            if open { Active } else { state },
            "closed in {state}"
        );

        let mut bench = Bench::at(state);
        bench
            .session
            .connect_failed(bench.link, String::new(), bench.now);
        let expected = if state == Connect { Active } else { state };
        assert_eq!(bench.session.state(), expected, "connect failed in {state}");

        for (stop, answer) in [
            (Stop::Silent, None),
            (Stop::Cease(crate::Cease::PeerDeconfigured), Some((6, 3))),
        ] {
            let mut bench = Bench::at(state);
            bench.session.stop(&stop, bench.now);
            bench.poll();
            assert_eq!(bench.session.state(), Idle, "{stop:?} in {state}");
            assert_eq!(
                bench.answer(),
                answer.filter(|_| open),
                "{stop:?} in {state}"
            );
            assert_eq!(bench.session.poll_timeout(), None, "nothing goes on");
            assert!(
                bench.session.accept(bench.now).is_none(),
                "nobody is let in"
            );
        }

        let mut bench = Bench::at(state);
        bench.pass(Duration::from_secs(61));
        // Whoever is connected and says nothing has been given up; others are being dialled.
        let answer = open.then_some((4, 0));
        assert_eq!(bench.answer(), answer, "silence in {state}");
        if state == Idle {
            assert_eq!(bench.session.state(), Idle);
        }
    }
}

/// RFC 4271 section 6.5: KEEPALIVE and UPDATE keep a session alive, and we send a third of the hold time apart.
#[test]
fn hold_and_keepalive() {
    let mut bench = Bench::at(State::Established);
    let mut sent = 0;
    for _ in 0..40 {
        bench.pass(Duration::from_secs(1));
        sent += bench.sent(bench.link).len() / HEADER;
        bench.receive(&keepalive());
    }
    assert_eq!(bench.session.state(), State::Established);
    assert!(
        (13..=18).contains(&sent),
        "every 2.25 to 3 s in 40 s: {sent}"
    );
    bench.pass(Duration::from_millis(8_900));
    assert_eq!(bench.session.state(), State::Established);
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.answer(), Some((4, 0)));
    let silent =
        |event: &SessionEvent| matches!(event, SessionEvent::Down(DownReason::HoldTimerExpired, _));
    assert!(bench.events.iter().any(silent));
}

/// Hold time 0: neither side sends KEEPALIVE, nothing expires (RFC 4271 section 4.2).
#[test]
fn no_hold_time() {
    let mut bench = Bench::new(config());
    bench.session.connected(bench.link, bench.now);
    bench.receive(&open(|open| open.hold_time = 0));
    bench.receive(&keepalive());
    assert_eq!(bench.session.poll_timeout(), None);
}

#[test]
fn attempts_come_at_jittered_and_growing_intervals() {
    let mut bench = Bench::new(config());
    let mut attempts = Vec::new();
    let mut link = bench.link;
    for _ in 0..12 {
        bench
            .session
            .connect_failed(link, "refused".into(), bench.now);
        let before = bench.now;
        while bench.session.state() != State::Connect {
            let at = bench.session.poll_timeout().unwrap();
            bench.now = at;
            bench.session.timeout(at);
        }
        bench.poll();
        let Some(SessionEvent::Connect(next)) = bench.events.last() else {
            panic!()
        };
        link = *next;
        attempts.push(bench.now - before);
    }
    assert!(attempts[0] <= Duration::from_millis(500) && attempts[0] >= Duration::from_millis(187));
    for late in &attempts[6..] {
        assert!(
            (Duration::from_millis(3750)..=Duration::from_secs(5)).contains(late),
            "{late:?}"
        );
    }
    assert_ne!(attempts[8], attempts[9]);
}

/// RFC 4271 section 8.1.1 (DampPeerOscillations, IdleHoldTime): after errors the pauses grow, up to six times the first.
#[test]
fn errors_are_followed_by_growing_pauses() {
    let mut bench = Bench::new(config());
    for factor in [1, 2, 4, 6, 6] {
        bench.session.connected(bench.link, bench.now);
        bench.receive(&open(|open| {
            open.as_number = AsNumber(9);
            open.capabilities.clear();
        }));
        assert_eq!(bench.session.state(), State::Active);
        let before = bench.now;
        while bench.session.state() != State::Connect {
            bench.now = bench.session.poll_timeout().unwrap();
            bench.session.timeout(bench.now);
        }
        bench.poll();
        let Some(SessionEvent::Connect(next)) = bench.events.last() else {
            panic!("{:?}", bench.events)
        };
        bench.link = *next;
        let (pause, whole) = (bench.now - before, Duration::from_secs(5 * factor));
        assert!(
            pause <= whole && pause >= whole.mul_f64(0.75),
            "{pause:?}, {whole:?}"
        );
    }
    // A session that comes up makes up for them.
    bench.session.connected(bench.link, bench.now);
    bench.receive(&open(|_| {}));
    bench.receive(&keepalive());
    bench.session.closed(bench.link, bench.now);
    let next = bench.session.poll_timeout().unwrap() - bench.now;
    assert!(next <= Duration::from_millis(250), "{next:?}");
}
