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

/// RFC 4271 section 8.2.2, RFC 6608: each message in each state.
#[test]
fn every_message_in_every_state() {
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    let update = message(2, &[0, 0, 0, 0]);
    let refresh = message(5, &[0, 1, 0, 1]);
    let goodbye = message(3, &[6, 2]);
    let garbage = vec![0; 19];
    let bad_open = open(|open| {
        open.as_number = AsNumber(9);
        open.capabilities.clear();
    });
    type Expected = (State, Option<(u8, u8)>);
    let cases: &[(&str, Vec<u8>, [Expected; 3])] = &[
        (
            "OPEN",
            open(|_| {}),
            [
                (OpenConfirm, None),
                (Active, Some((5, 2))),
                (Active, Some((5, 3))),
            ],
        ),
        (
            "bad OPEN",
            bad_open,
            [
                (Active, Some((2, 2))),
                (Active, Some((5, 2))),
                (Active, Some((5, 3))),
            ],
        ),
        (
            "KEEPALIVE",
            keepalive(),
            [
                (Active, Some((5, 1))),
                (Established, None),
                (Established, None),
            ],
        ),
        (
            "UPDATE",
            update,
            [
                (Active, Some((5, 1))),
                (Active, Some((5, 2))),
                (Established, None),
            ],
        ),
        (
            "REFRESH",
            refresh,
            [
                (Active, Some((5, 1))),
                (Active, Some((5, 2))),
                (Established, None),
            ],
        ),
        (
            "NOTIFICATION",
            goodbye,
            [(Active, None), (Active, None), (Active, None)],
        ),
        (
            "garbage",
            garbage,
            [
                (Active, Some((1, 1))),
                (Active, Some((1, 1))),
                (Active, Some((1, 1))),
            ],
        ),
    ];
    for (what, bytes, expected) in cases {
        for (state, (next, answer)) in [OpenSent, OpenConfirm, Established]
            .into_iter()
            .zip(expected)
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
            bench.receive(bytes);
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

/// RFC 4271 section 6.8, RFC 6286 section 2.3: of two connections the one stays that the speaker with the higher
/// identifier has dialled, whatever the order in which things arrive.
#[test]
fn collisions() {
    for ours_higher in [true, false] {
        for incoming_first in [true, false] {
            let mut settings = config();
            settings.router_id = if ours_higher {
                [192, 0, 2, 9]
            } else {
                [192, 0, 2, 1]
            }
            .into();
            let mut bench = Bench::new(settings);
            let outgoing = bench.link;
            bench.session.connected(outgoing, bench.now);
            let incoming = bench.session.accept(bench.now).unwrap();
            let order = if incoming_first {
                [incoming, outgoing]
            } else {
                [outgoing, incoming]
            };
            bench.receive_on(order[0], &open(|_| {}));
            bench.receive_on(order[1], &open(|_| {}));
            assert_eq!(bench.answer(), Some((6, 7)));
            let left: Vec<_> = bench.session.links().collect();
            let expected = if ours_higher { outgoing } else { incoming };
            assert_eq!(
                left,
                [expected],
                "higher {ours_higher}, incoming first {incoming_first}"
            );
            bench.receive_on(expected, &keepalive());
            assert_eq!(bench.session.state(), State::Established);
        }
    }
}

/// A peer that restarted connects anew while its old session seems to be up (RFC 4724 section 4.2).
#[test]
fn a_new_connection_replaces_a_session_only_with_graceful_restart() {
    use crate::wire::GracefulRestartCapability;
    let capable = |open: &mut Open| {
        open.capabilities
            .push(Capability::GracefulRestart(GracefulRestartCapability {
                time: 30,
                families: vec![(Family::Ipv4Unicast, true)],
                ..GracefulRestartCapability::default()
            }));
    };
    for (restart, later, replaced) in [(true, 5, true), (true, 0, false), (false, 5, false)] {
        let mut bench = Bench::new(config());
        bench.session.connected(bench.link, bench.now);
        bench.receive(&open(|open| {
            if restart {
                capable(open)
            }
        }));
        bench.receive(&keepalive());
        bench.pass(Duration::from_secs(later));
        bench.receive(&keepalive());
        let new = bench.session.accept(bench.now).unwrap();
        bench.receive_on(
            new,
            &open(|open| {
                if restart {
                    capable(open)
                }
            }),
        );
        let down =
            |event: &SessionEvent| matches!(event, SessionEvent::Down(DownReason::Restarted, _));
        assert_eq!(bench.events.iter().any(down), replaced);
        assert_eq!(
            bench.session.links().collect::<Vec<_>>(),
            [if replaced { new } else { bench.link }]
        );
        bench.receive_on(new, &keepalive());
        assert_eq!(bench.session.state(), State::Established);
    }
}

/// What one side offers and the other does not is not used (RFC 5492 section 3).
#[test]
fn capabilities_are_agreed_on() {
    let agree = |change: &dyn Fn(&mut Open)| {
        let mut bench = Bench::new(SessionConfig {
            families: Families::BOTH,
            ..config()
        });
        bench.session.connected(bench.link, bench.now);
        bench.receive(&open(change));
        bench.receive(&keepalive());
        bench.session.negotiated().cloned().ok_or(bench.answer())
    };
    let plain = agree(&|_| {}).unwrap();
    assert_eq!(plain.families, Families::IPV4);
    assert!(plain.four_octets && !plain.route_refresh && plain.restart.is_none());
    assert_eq!(
        (plain.hold_time.as_secs(), plain.keepalive.as_secs()),
        (9, 3)
    );
    let old = agree(&|open| open.capabilities.clear()).unwrap();
    assert_eq!((old.families, old.four_octets), (Families::IPV4, false));
    let v6 = Capability::Unknown {
        code: 1,
        value: vec![0, 25, 0, 65],
    };
    assert_eq!(
        agree(&|open| open.capabilities = vec![v6.clone()]),
        Err(Some((2, 7)))
    );
    assert_eq!(
        agree(&|open| open.router_id = [192, 0, 2, 1].into())
            .unwrap()
            .peer_id,
        Ipv4Addr::new(192, 0, 2, 1)
    );
}

#[test]
fn noise_never_breaks_a_session_machine() {
    let mut random = Jitter(5);
    let stream: Vec<u8> = [
        open(|_| {}),
        keepalive(),
        message(2, &[0, 0, 0, 0]),
        keepalive(),
    ]
    .concat();
    let rounds = if cfg!(debug_assertions) {
        3_000
    } else {
        100_000
    };
    for _ in 0..rounds {
        let mut bench = Bench::new(config());
        bench.session.connected(bench.link, bench.now);
        let mut bytes = stream.clone();
        for _ in 0..random.next() % 3 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        let size = 1 + random.next() as usize % 40;
        for piece in bytes.chunks(size) {
            bench.receive(piece);
            assert!(
                bench
                    .session
                    .links
                    .iter()
                    .all(|link| link.partial.len() < MAX_MESSAGE)
            );
        }
        // What goes out is always whole messages.
        for event in &bench.events {
            if let SessionEvent::Close(_, last) = event {
                let mut rest = &last[..];
                while let Some(head) = header(rest, MAX_MESSAGE).unwrap() {
                    rest = &rest[head.length..];
                }
                assert!(rest.is_empty());
            }
        }
    }
}
