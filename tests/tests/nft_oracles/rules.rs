//! Rules spelled out by hand, put into messages by `nftnl` and by `netlink-packet-netfilter`.

use crate::ours::{POLICY, messages};
use crate::tree::{EXPRESSIONS, Message, NEW_RULE, like, plain};
use crate::{by_nftnl, by_packet};

/// One expression, by its name in the kernel's headers; everything goes through register 1.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Version,
    Protocol,
    Mark,
    InName,
    OutName,
    SetMark,
    /// From the network header: offset and length.
    Network(u32, u32),
    /// From the transport header.
    Transport(u32, u32),
    CtState,
    CtMark,
    Is(Vec<u8>),
    IsNot(Vec<u8>),
    Mask(Vec<u8>, Vec<u8>),
    In(&'static str),
    NotIn(&'static str),
    ByMap(&'static str),
    Count,
    Accept,
    Drop,
    Return,
    Jump(&'static str),
    Reset,
    Prohibited,
}

use Word::{
    Accept, ByMap, Count, CtMark, CtState, Drop, In, InName, Is, IsNot, Jump, Mark, Mask, Network,
    NotIn, OutName, Prohibited, Protocol, Reset, Return, SetMark, Transport, Version,
};

fn bytes(bits: u32) -> Vec<u8> {
    bits.to_ne_bytes().to_vec()
}

/// Any of the bits is set.
fn any(bits: u32) -> [Word; 2] {
    [Mask(bytes(bits), bytes(0)), IsNot(bytes(0))]
}

/// Sets bits of the packet's mark.
fn mark(bits: u32) -> [Word; 3] {
    [Mark, Mask(bytes(!bits), bytes(bits)), SetMark]
}

fn words(groups: &[&[Word]]) -> Vec<Word> {
    groups.concat()
}

const ACCEPTED: u32 = 0x1_0000;
const PASSED: u32 = 0x2_0000;
const CUT: u32 = 0x4_0000;

/// A chain, the place of a rule in it, and what the rule says.
type Expected = (&'static str, usize, Vec<Word>);

fn expected() -> Vec<Expected> {
    [of_policy(), of_the_base()].concat()
}

fn of_policy() -> Vec<Expected> {
    let v4 = [Version, Is(vec![2])];
    let v6 = [Version, Is(vec![10])];
    let tcp = [Protocol, Is(vec![6])];
    let allow = words(&[&[Count], &mark(ACCEPTED), &[Return]]);
    let pass = words(&[&[Count], &mark(PASSED), &[Return]]);
    let from = [Network(12, 4), Is(vec![10, 1, 2, 3])];
    let to = [
        Network(16, 4),
        Mask(vec![255, 128, 0, 0], vec![0; 4]),
        Is(vec![10, 0, 0, 0]),
    ];
    let half: Vec<u8> = (0..16)
        .map(|at| [0xff, 0xff, 0xff, 0xff, 0x80].get(at).copied().unwrap_or(0))
        .collect();
    let mut documentation = vec![0x20, 1, 0x0d, 0xb8];
    documentation.resize(16, 0);
    let rules = [
        words(&[&v4, &tcp, &from, &allow]),
        words(&[
            &v4,
            &[Protocol, Is(vec![17])],
            &to,
            &[Transport(2, 2), IsNot(vec![0, 53]), Count, Drop],
        ]),
        words(&[
            &v6,
            &[
                Network(24, 16),
                Mask(half, vec![0; 16]),
                IsNot(documentation),
            ],
            &allow,
        ]),
        words(&[
            &v4,
            &[Protocol, Is(vec![1]), Transport(0, 2), Is(vec![8, 3])],
            &pass,
        ]),
        words(&[
            &v4,
            &[
                Protocol,
                IsNot(vec![132]),
                Network(12, 4),
                In("ip4/s.friends"),
            ],
            &allow,
        ]),
        words(&[&v4, &tcp, &[Network(16, 4), NotIn("net4/s.nets")], &allow]),
    ];
    let places = rules.into_iter().enumerate();
    places
        .map(|(place, words)| (POLICY, place, words))
        .collect()
}

fn of_the_base() -> Vec<Expected> {
    let v4 = [Version, Is(vec![2])];
    let tcp = [Protocol, Is(vec![6])];
    let mut lo = b"lo".to_vec();
    lo.resize(16, 0);
    vec![
        (
            "raw-prerouting",
            0,
            words(&[
                &v4,
                &[
                    Network(16, 1),
                    Is(vec![127]),
                    InName,
                    IsNot(lo),
                    Count,
                    Drop,
                ],
            ]),
        ),
        (
            "raw-prerouting",
            1,
            vec![InName, Is(b"cali".to_vec()), Jump("antispoof")],
        ),
        ("to-pods", 0, words(&[&[CtMark], &any(CUT), &[Count, Drop]])),
        (
            "to-pods",
            1,
            words(&[&[CtState], &any(2 | 4), &mark(ACCEPTED), &[Accept]]),
        ),
        ("to-pods", 2, words(&[&[CtState], &any(1), &[Count, Drop]])),
        ("to-pods", 3, vec![OutName, ByMap("to-pod")]),
        ("to-pods", 4, vec![Count, Drop]),
        ("refuse", 0, words(&[&tcp, &[Reset]])),
        ("refuse", 1, vec![Prohibited]),
    ]
}

/// The chain of a rule.
const CHAIN: u16 = 2;

fn compare(who: &str, make: impl Fn(&[Word]) -> Option<Vec<u8>>) -> usize {
    let all = messages();
    let mut compared = 0;
    for (chain, place, words) in expected() {
        let mut rules = all
            .iter()
            .filter(|(_, message)| message.kind == NEW_RULE && message.text(CHAIN) == chain);
        let ours = rules.nth(place);
        let (_, ours) = ours.unwrap_or_else(|| panic!("no rule {place} in {chain}"));
        let Some(theirs) = make(&words) else {
            continue;
        };
        let theirs = Message::read(&theirs);
        let ours = ours.nest(EXPRESSIONS);
        let theirs = like(ours, theirs.nest(EXPRESSIONS));
        assert_eq!(
            plain(ours),
            plain(&theirs),
            "{who}: rule {place} of {chain}"
        );
        compared += 1;
    }
    compared
}

#[test]
fn nftnl_says_the_same() {
    assert_eq!(compare("nftnl", by_nftnl::rule), expected().len() - 2);
}

#[test]
fn netlink_packet_netfilter_says_the_same() {
    let compared = compare("netlink-packet-netfilter", by_packet::rule);
    assert_eq!(compared, expected().len() - 2);
}
