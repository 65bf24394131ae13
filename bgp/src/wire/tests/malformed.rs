use super::Outcome::{Reset, Routes, Withdraw};
use super::*;

/// COMMUNITIES with an extended length that is no multiple of four.
const LONG: &[u8] = &{
    let mut octets = [0; 261];
    octets[0] = 0xd0;
    octets[1] = 8;
    octets[2] = 1;
    octets[3] = 1;
    octets
};

/// What, the attribute, what becomes of it from another AS and from our own.
const CASES: &[(&str, &[u8], Outcome, Outcome)] = &[
    (
        "7.1 ORIGIN length",
        &[0x40, 1, 2, 0, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "7.1 ORIGIN value",
        &[0x40, 1, 1, 3],
        Withdraw(6),
        Withdraw(6),
    ),
    (
        "7.2 AS_PATH segment type",
        &[0x40, 2, 6, 3, 1, 0, 0, 0, 1],
        Withdraw(11),
        Withdraw(11),
    ),
    (
        "7.2 AS_PATH empty segment",
        &[0x40, 2, 2, 2, 0],
        Withdraw(11),
        Withdraw(11),
    ),
    (
        "7.2 AS_PATH overrun",
        &[0x40, 2, 6, 2, 2, 0, 0, 0, 1],
        Withdraw(11),
        Withdraw(11),
    ),
    (
        "7.2 AS_PATH underrun",
        &[0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2],
        Withdraw(11),
        Withdraw(11),
    ),
    (
        "RFC 7607 AS 0",
        &[0x40, 2, 6, 2, 1, 0, 0, 0, 0],
        Withdraw(11),
        Withdraw(11),
    ),
    (
        "7.3 NEXT_HOP length",
        &[0x40, 3, 5, 1, 2, 3, 4, 5],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "4271 6.3 NEXT_HOP multicast",
        &[0x40, 3, 4, 224, 0, 0, 1],
        Withdraw(8),
        Withdraw(8),
    ),
    (
        "7.4 MED length",
        &[0x80, 4, 3, 0, 0, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "7.5 LOCAL_PREF length",
        &[0x40, 5, 3, 0, 0, 0],
        Routes,
        Withdraw(5),
    ),
    (
        "7.6 ATOMIC_AGGREGATE length",
        &[0x40, 6, 1, 0],
        Routes,
        Routes,
    ),
    (
        "7.7 AGGREGATOR length",
        &[0xc0, 7, 6, 0, 1, 1, 2, 3, 4],
        Routes,
        Routes,
    ),
    (
        "7.8 COMMUNITIES length",
        &[0xc0, 8, 5, 0, 0, 0, 0, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "7.8 COMMUNITIES empty",
        &[0xc0, 8, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    ("7.8 COMMUNITIES long", LONG, Withdraw(5), Withdraw(5)),
    (
        "7.9 ORIGINATOR_ID length",
        &[0x80, 9, 3, 0, 0, 0],
        Routes,
        Withdraw(5),
    ),
    (
        "7.10 CLUSTER_LIST length",
        &[0x80, 10, 3, 0, 0, 0],
        Routes,
        Withdraw(5),
    ),
    (
        "7.14 EXTENDED COMMUNITIES",
        &[0xc0, 16, 4, 0, 0, 0, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "8092 6 LARGE COMMUNITIES",
        &[0xc0, 32, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        Withdraw(5),
        Withdraw(5),
    ),
    (
        "3 c flags of ORIGIN",
        &[0xc0, 1, 1, 0],
        Withdraw(4),
        Withdraw(4),
    ),
    (
        "3 c flags of MED",
        &[0xc0, 4, 4, 0, 0, 0, 1],
        Withdraw(4),
        Withdraw(4),
    ),
    (
        "6793 AS4_PATH from a new speaker",
        &[0xc0, 17, 2, 9, 9],
        Routes,
        Routes,
    ),
    (
        "4271 6.3 unknown well-known",
        &[0x40, 99, 0],
        Reset(2),
        Reset(2),
    ),
    ("5 unknown transitive", &[0xc0, 99, 1, 7], Routes, Routes),
    (
        "5 unknown non-transitive",
        &[0x80, 99, 1, 7],
        Routes,
        Routes,
    ),
    (
        "7.11 MP_REACH next hop length",
        &[0x80, 14, 6, 0, 2, 1, 0, 0, 0],
        Reset(9),
        Reset(9),
    ),
    (
        "7.11 MP_REACH cut off",
        &[0x80, 14, 2, 0, 2],
        Reset(9),
        Reset(9),
    ),
    (
        "7.12 MP_UNREACH cut off",
        &[0x80, 15, 2, 0, 2],
        Reset(9),
        Reset(9),
    ),
    (
        "5.3 MP_UNREACH prefix",
        &[0x80, 15, 4, 0, 2, 1, 129],
        Reset(9),
        Reset(9),
    ),
];

/// RFC 7606 section 7, each defect before, between and behind the sound attributes.
#[test]
fn malformed_attributes_withdraw_routes_wherever_they_stand() {
    let sound = [ORIGIN, PATH, HOP, LOCAL_PREF];
    for (what, bad, external, internal) in CASES {
        for at in 0..=sound.len() {
            // The defect takes the place of the sound attribute of its type.
            let mut all: Vec<&[u8]> = sound.to_vec();
            all.insert(at, bad);
            let first_of_type: Vec<&[u8]> = all
                .iter()
                .copied()
                .filter(|a| std::ptr::eq(*a, *bad) || a[1] != bad[1])
                .collect();
            let body = body(&first_of_type);
            assert_eq!(
                outcome(&body, EXTERNAL),
                *external,
                "{what}, external, at {at}"
            );
            assert_eq!(
                outcome(&body, INTERNAL),
                *internal,
                "{what}, internal, at {at}"
            );
        }
    }
}
