mod extended;
mod malformed;

use super::*;
use crate::attributes::{Attributes, parts};
use crate::number::{AsNumber, Families};
use crate::session::Jitter;

const EXTERNAL: UpdateContext = UpdateContext {
    attributes: AttributeContext {
        four_octets: true,
        external: true,
    },
    families: Families::BOTH,
    add_path: Families::NONE,
    extended_next_hop: false,
};
const INTERNAL: UpdateContext = UpdateContext {
    attributes: AttributeContext {
        four_octets: true,
        external: false,
    },
    ..EXTERNAL
};
const OLD: UpdateContext = UpdateContext {
    attributes: AttributeContext {
        four_octets: false,
        external: true,
    },
    ..EXTERNAL
};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0];
const HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0, 0, 0, 100];

/// The body of an UPDATE that announces 10.0.0.0/8 with these attributes.
fn body(attributes: &[&[u8]]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = vec![0, 0];
    body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&[8, 10]);
    body
}

/// What becomes of an UPDATE.
#[derive(Debug, PartialEq)]
enum Outcome {
    Routes,
    Withdraw(u8),
    Reset(u8),
}

fn outcome(body: &[u8], context: UpdateContext) -> Outcome {
    match parse(body, context, &mut Canonical::default()) {
        Ok(update) => match update.problem {
            None => Outcome::Routes,
            Some(problem) => Outcome::Withdraw(problem.subcode),
        },
        Err(notification) => Outcome::Reset(notification.subcode),
    }
}

#[test]
fn defects_of_the_frame() {
    let good = body(&[ORIGIN, PATH, HOP]);
    assert_eq!(outcome(&good, EXTERNAL), Outcome::Routes);
    assert_eq!(
        outcome(&good, INTERNAL),
        Outcome::Withdraw(3),
        "RFC 7606 3 d: no LOCAL_PREF"
    );
    for missing in 0..3 {
        let mut all = vec![ORIGIN, PATH, HOP];
        all.remove(missing);
        assert_eq!(
            outcome(&body(&all), EXTERNAL),
            Outcome::Withdraw(3),
            "RFC 7606 3 d"
        );
    }
    // RFC 7606 section 4: an attribute that runs out of the section.
    assert_eq!(
        outcome(&body(&[ORIGIN, PATH, HOP, &[0x80, 4, 9, 1]]), EXTERNAL),
        Outcome::Withdraw(1)
    );
    assert_eq!(
        outcome(&body(&[ORIGIN, PATH, HOP, &[0x80]]), EXTERNAL),
        Outcome::Withdraw(1)
    );
    // Section 3 g: the first of two counts; two MP_REACH end the session.
    assert_eq!(
        outcome(&body(&[ORIGIN, PATH, HOP, &[0x40, 1, 1, 9]]), EXTERNAL),
        Outcome::Routes
    );
    let unreach = [0x80, 15, 3, 0, 2, 1];
    assert_eq!(
        outcome(&body(&[ORIGIN, PATH, HOP, &unreach, &unreach]), EXTERNAL),
        Outcome::Reset(1)
    );
    // RFC 4271 section 6.3: lengths that contradict the message, a prefix that is too long.
    assert_eq!(outcome(&[0, 9, 0, 0], EXTERNAL), Outcome::Reset(1));
    assert_eq!(outcome(&[0, 0, 0, 9], EXTERNAL), Outcome::Reset(1));
    assert_eq!(outcome(&[0, 2, 33, 10, 0, 0], EXTERNAL), Outcome::Reset(10));
    // RFC 7606 section 5.2: no routes that could be withdrawn.
    let attributes = [0x40, 1, 1, 9];
    assert_eq!(
        outcome(&[&[0, 0, 0, 4][..], &attributes].concat(), EXTERNAL),
        Outcome::Reset(6)
    );
}

/// RFC 4724 section 2.
#[test]
fn end_of_rib_is_written_and_read() {
    for family in Family::ALL {
        let mut message = Vec::new();
        end_of_rib(family, &mut message);
        let update = parse(&message[HEADER..], EXTERNAL, &mut Canonical::default()).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
    }
}

/// RFC 6793 section 4.2.3: AS4_PATH takes the place of the end of AS_PATH; numbers come out in four octets.
#[test]
fn paths_of_two_octet_speakers_are_completed() {
    let read = |attributes: &[&[u8]]| {
        let mut canonical = Canonical::default();
        let body = body(attributes);
        let update = parse(&body, OLD, &mut canonical).unwrap();
        assert_eq!(update.problem, None);
        let attributes = Attributes::from_wire(None, &canonical.wire);
        (
            attributes.as_path().to_string(),
            attributes.aggregator().map(|(number, _)| number),
        )
    };
    let path = [0x40, 2, 8, 2, 3, 0, 10, 0x5b, 0xa0, 0x5b, 0xa0];
    let wide = [0xc0, 17, 10, 2, 2, 0, 1, 0, 1, 0, 1, 0, 2];
    assert_eq!(
        read(&[ORIGIN, &path, HOP]),
        ("10 23456 23456".to_owned(), None)
    );
    assert_eq!(
        read(&[ORIGIN, &path, HOP, &wide]),
        ("10 65537 65538".to_owned(), None)
    );
    // A longer AS4_PATH is ignored.
    let longer = [
        0xc0, 17, 18, 2, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4,
    ];
    assert_eq!(read(&[ORIGIN, &path, HOP, &longer]).0, "10 23456 23456");
    // An AGGREGATOR that is not AS_TRANS says that both AS4 attributes are outdated.
    let aggregator = [0xc0, 7, 6, 0, 9, 1, 2, 3, 4];
    let (path_text, by) = read(&[ORIGIN, &path, HOP, &aggregator, &wide]);
    assert_eq!(
        (path_text.as_str(), by),
        ("10 23456 23456", Some(AsNumber(9)))
    );
    let trans = [0xc0, 7, 6, 0x5b, 0xa0, 1, 2, 3, 4];
    let four = [0xc0, 18, 8, 0, 1, 0, 9, 1, 2, 3, 4];
    assert_eq!(
        read(&[ORIGIN, &path, HOP, &trans, &wide, &four]).1,
        Some(AsNumber(65545))
    );
}

/// Equal routes have equal octets, whatever order and flags they came with.
#[test]
fn attributes_become_canonical() {
    let read = |attributes: &[&[u8]]| {
        let mut canonical = Canonical::default();
        parse(&body(attributes), EXTERNAL, &mut canonical).unwrap();
        canonical.wire
    };
    let plain = read(&[ORIGIN, PATH, HOP, &[0xc0, 8, 4, 0, 1, 0, 2]]);
    let odd = read(&[
        &[0xd0, 8, 0, 4, 0, 1, 0, 2],
        HOP,
        &[0x50, 2, 0, 6, 2, 1, 0, 0, 0xfc, 0],
        ORIGIN,
    ]);
    assert_eq!(plain, odd);
    assert_eq!(
        parts(&plain).map(|(kind, _)| kind).collect::<Vec<_>>(),
        [1, 2, 8]
    );
    // RFC 4271 section 5: an unknown transitive attribute goes on with the partial bit.
    assert!(read(&[ORIGIN, PATH, HOP, &[0xc0, 99, 1, 7]]).ends_with(&[0xe0, 99, 1, 7]));
}

fn sample_open() -> Open {
    Open {
        as_number: AsNumber(4_200_000_000),
        hold_time: 90,
        router_id: [192, 0, 2, 1].into(),
        capabilities: vec![
            Capability::Multiprotocol(Family::Ipv4Unicast),
            Capability::Multiprotocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::GracefulRestart(GracefulRestartCapability {
                restarting: true,
                notification: true,
                time: 120,
                families: vec![(Family::Ipv4Unicast, true), (Family::Ipv6Unicast, false)],
            }),
            Capability::AddPath(vec![(Family::Ipv4Unicast, AddPathMode::Both)]),
            Capability::FourOctetAs(4_200_000_000),
            Capability::Unknown {
                code: 200,
                value: vec![1, 2, 3],
            },
        ],
    }
}

#[test]
fn open_survives_the_wire() {
    let mut open = sample_open();
    for extra in [0, 100, 255] {
        // The last ones need the extended form of RFC 9072.
        open.capabilities.push(Capability::Unknown {
            code: 201,
            value: vec![7; extra],
        });
        let mut message = Vec::new();
        open.encode(&mut message);
        let head = header(&message, MAX_MESSAGE).unwrap().unwrap();
        assert_eq!((head.kind, head.length), (OPEN, message.len()));
        assert_eq!(Open::parse(&message[HEADER..]), Ok(open.clone()));
    }
}

/// RFC 4271 section 6.2.
#[test]
fn bad_opens_are_answered() {
    let mut message = Vec::new();
    sample_open().encode(&mut message);
    let good = &message[HEADER..];
    for cut in 0..good.len() {
        assert!(Open::parse(&good[..cut]).is_err(), "cut at {cut}");
    }
    let with = |at: usize, octets: &[u8]| {
        let mut bad = good.to_vec();
        bad[at..at + octets.len()].copy_from_slice(octets);
        Open::parse(&bad).map_err(|n| (n.code, n.subcode)).err()
    };
    assert_eq!(with(0, &[3]), Some((2, 1)), "version");
    assert_eq!(with(1, &[0, 0]), Some((2, 2)), "AS 0, RFC 7607");
    assert_eq!(with(3, &[0, 2]), Some((2, 6)), "hold time");
    assert_eq!(with(5, &[0, 0, 0, 0]), Some((2, 3)), "identifier, RFC 6286");
    assert_eq!(with(10, &[1]), Some((2, 4)), "optional parameter");
    assert_eq!(with(9, &[200]), Some((2, 0)), "lengths");
}

/// RFC 4271 section 6.1.
#[test]
fn bad_headers_are_answered() {
    let mut keepalive_message = Vec::new();
    keepalive(&mut keepalive_message);
    let with = |at: usize, octets: &[u8]| {
        let mut bad = keepalive_message.clone();
        bad[at..at + octets.len()].copy_from_slice(octets);
        header(&bad, MAX_MESSAGE).map_err(|n| (n.code, n.subcode))
    };
    assert_eq!(with(3, &[0]), Err((1, 1)));
    assert_eq!(with(16, &[0, 18]), Err((1, 2)));
    assert_eq!(with(16, &[0, 20]), Err((1, 2)), "a KEEPALIVE has 19 octets");
    assert_eq!(with(16, &[0x10, 1]), Err((1, 2)));
    assert_eq!(with(18, &[9]), Err((1, 3)));
    assert_eq!(
        header(&[0xff, 0xff, 0], MAX_MESSAGE).map_err(|n| n.subcode),
        Err(1),
        "at once"
    );
    for cut in 0..HEADER {
        assert_eq!(header(&keepalive_message[..cut], MAX_MESSAGE), Ok(None));
    }
}

#[test]
fn notifications_speak() {
    let shutdown = Cease::AdministrativeShutdown("müde".repeat(100)).notification();
    assert_eq!(
        shutdown.data.len(),
        256,
        "RFC 9003: at most 255 octets of whole characters"
    );
    assert!(
        shutdown
            .to_string()
            .starts_with("cease: administrative shutdown (6/2) \"müde")
    );
    let hard = shutdown.hard_reset();
    assert_eq!(hard.text(), shutdown.text());
    let mut message = Vec::new();
    hard.encode(&mut message);
    assert_eq!(Notification::parse(&message[HEADER..]), Some(hard));
}

/// A message that ends anywhere before its end announces nothing: what is cut off is missed or does not fit.
#[test]
fn truncated_updates_are_answered() {
    let communities = [0xc0, 8, 8, 0, 1, 0, 2, 0, 3, 0, 4];
    let good = body(&[ORIGIN, PATH, HOP, LOCAL_PREF, &communities]);
    for context in [EXTERNAL, INTERNAL] {
        assert_eq!(outcome(&good, context), Outcome::Routes);
        for cut in 0..good.len() {
            let mut canonical = Canonical::default();
            let routes = parse(&good[..cut], context, &mut canonical)
                .is_ok_and(|update| !update.announced.is_empty());
            assert!(!routes, "cut at {cut}");
        }
    }
}

/// Whatever comes in: an answer, no panic; and what is accepted is canonical octets that read back as themselves.
#[test]
fn mutated_updates_do_no_harm() {
    let mp = [
        0x80, 14, 21, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
    ];
    let mp6 = [&mp[..], &[]].concat();
    let good = body(&[
        ORIGIN,
        PATH,
        HOP,
        &[0x80, 4, 4, 0, 0, 0, 1],
        LOCAL_PREF,
        &[0xc0, 7, 8, 0, 0, 0, 1, 1, 2, 3, 4],
        &[0xc0, 8, 8, 0, 1, 0, 2, 0xff, 0xff, 0xff, 1],
        &[0x80, 9, 4, 1, 2, 3, 4],
        &[0x80, 10, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &mp6,
        &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
    ]);
    let mut random = Jitter(1);
    let mut canonical = Canonical::default();
    let rounds = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    for round in 0..rounds {
        let mut bad = good.clone();
        for _ in 0..1 + random.next() % 4 {
            let at = random.next() as usize % bad.len();
            bad[at] = random.next() as u8;
        }
        if round % 3 == 0 {
            bad.truncate(random.next() as usize % bad.len());
        }
        for context in [EXTERNAL, INTERNAL, OLD] {
            if parse(&bad, context, &mut canonical).is_ok_and(|update| update.problem.is_none()) {
                let total: usize = parts(&canonical.wire)
                    .map(|(_, value)| value.len() + if value.len() > 255 { 4 } else { 3 })
                    .sum();
                assert_eq!(total, canonical.wire.len());
                let attributes = Attributes::from_wire(None, &canonical.wire);
                assert_eq!(
                    attributes.edit().build(),
                    attributes.edit().build().edit().build()
                );
            }
        }
    }
}
