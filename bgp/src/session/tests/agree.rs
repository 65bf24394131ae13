use super::*;

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
        bench
            .session
            .negotiated()
            .cloned()
            .ok_or_else(|| bench.answer())
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
