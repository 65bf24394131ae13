//! Messages behind a handshake that is sound: what a speaker takes from an UPDATE, it tells another in an UPDATE that
//! an equal speaker takes in the same way.
//!
//! The first octet says what the sender is (its lowest bit: another AS, the next: two-octet AS numbers); the rest is
//! bodies of UPDATEs, each behind two octets of length.

#![no_main]

mod stage;

use libfuzzer_sys::fuzz_target;
use ocicat_bgp::wire::Open;
use stage::Stage;

fuzz_target!(|data: &[u8]| {
    if let Ok(open) = Open::parse(data) {
        let mut octets = Vec::new();
        open.encode(&mut octets);
        assert_eq!(Open::parse(&octets[19..]), Ok(open), "OPEN");
    }
    let Some((&kind, mut rest)) = data.split_first() else {
        return;
    };
    let (external, old) = (kind & 1 != 0, kind & 2 != 0);
    let (mut first, mut second) = (Stage::new(1), Stage::new(2));
    let from = first.join(10, if external { 64513 } else { 64512 }, !old);
    let to = first.join(11, 64512, true);
    let next = second.join(12, 64512, true);
    while let [a, b, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b])).min(behind.len());
        let (body, behind) = behind.split_at(length);
        rest = behind;
        first.send(from, &stage::message(2, body));
        let told = first.sent(to);
        second.send(next, &told);
    }
    assert!(second.all_up(), "we never send what ends a session");
    assert_eq!(
        second.malformed(),
        0,
        "we never send what we would not take"
    );
    // A route may be held and not told: communities and loops of reflectors forbid it.
    let (told, held) = (second.held(), first.held());
    assert!(
        told.keys().all(|prefix| held.contains_key(prefix)),
        "no route that is not"
    );
    for (prefix, attributes) in &told {
        let kept = |a: &ocicat_bgp::Attributes| {
            (
                a.as_path().to_string(),
                a.origin(),
                a.communities().collect::<Vec<_>>(),
            )
        };
        assert_eq!(kept(attributes), kept(&held[prefix]), "{prefix}");
    }
});
