//! Packets whose ports or types are not where a hasty filter looks for them: in pieces, and behind extension headers.

use std::collections::BTreeSet;

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{PolicyId, Protocol};
use ocicat_dataplane::verdict::Packet;

use crate::lab::*;
use crate::packets::{denying, lab, udp};
use crate::spoof::{all_denied, cases, counted, state};
use crate::wire::*;

/// The headers in front of UDP or whatever the packet has, and the number of the first of them.
type Headers = (u8, &'static [u8]);

/// How a packet is dressed: its family, headers in front of the transport's, and how many bytes are in the first piece.
#[derive(Debug)]
struct Dress {
    v4: bool,
    headers: Option<Headers>,
    first: Option<usize>,
    backwards: bool,
}

const NO_HEADERS: Option<Headers> = None;
/// Options for the destination: eight bytes of padding. What comes next is written where the zero is.
const OPTIONS: Option<Headers> = Some((60, &[0, 0, 1, 4, 0, 0, 0, 0]));
/// The same behind a routing header (RFC 8200, section 4.4) without segments left.
const ROUTING: Option<Headers> = Some((43, &[60, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]));

const fn dress(v4: bool, headers: Option<Headers>, first: usize, backwards: bool) -> Dress {
    let first = if first == 0 { None } else { Some(first) };
    Dress {
        v4,
        headers,
        first,
        backwards,
    }
}

/// Ports in the first piece, which comes last; pieces that hold no whole header; a piece that is the whole (RFC 6946).
const DRESSES: [Dress; 10] = [
    dress(true, NO_HEADERS, 32, true),
    dress(true, NO_HEADERS, 8, false),
    dress(false, NO_HEADERS, 32, true),
    dress(false, NO_HEADERS, 8, false),
    dress(false, NO_HEADERS, 64, false),
    dress(false, OPTIONS, 0, false),
    dress(false, ROUTING, 0, false),
    dress(false, OPTIONS, 8, false),
    dress(false, OPTIONS, 8, true),
    dress(false, ROUTING, 16, false),
];

impl Dress {
    /// Whether the first piece ends before the transport's header: nobody may send such (RFC 7112), and no firewall can
    /// judge it, so that it belongs to no connection.
    fn is_cut_short(&self) -> bool {
        let headers = self.headers.map_or(0, |(_, headers)| headers.len());
        self.first.is_some_and(|first| first <= headers)
    }

    /// The packet's datagrams in the order in which they are sent.
    fn of(&self, packet: &Packet, number: u16) -> Vec<Vec<u8>> {
        let mut transport = transport(packet);
        transport.resize(64, 0);
        if packet.protocol == Protocol::UDP {
            transport[5] = 64;
        }
        let (next, payload) = match self.headers {
            Some((next, headers)) => {
                let mut all = headers.to_vec();
                // The last header is the options'.
                let last = all.len() - 8;
                all[last] = packet.protocol.0;
                all.extend(transport);
                (next, all)
            }
            None => (packet.protocol.0, transport),
        };
        let Some(first) = self.first else {
            let mut bytes = with_payload(packet, number, &payload);
            bytes[6] = next;
            return vec![bytes];
        };
        let mut pieces = in_pieces(packet, number, next, &payload, first);
        if self.backwards {
            pieces.reverse();
        }
        pieces
    }
}

#[test]
fn a_ports_rule_finds_it_in_pieces_and_behind_headers() {
    node(|| {
        let mut lab = lab();
        lab.state
            .policies
            .insert(PolicyId::new("np/default/default/web"), denying(53).into());
        lab.table.apply(&lab.state).unwrap();
        careless();
        for (at, dress) in (0..).zip(&DRESSES) {
            let (denied, allowed) = (2 * at + 1, 2 * at + 2);
            for (number, port) in [(denied, 53), (allowed, 54)] {
                let packet = udp(dress.v4, &lab, port);
                for bytes in dress.of(&packet, number) {
                    lab.friend.send_bytes(packet.destination, &bytes);
                }
            }
            let arrived: BTreeSet<u16> = lab.web.received().into_iter().collect();
            let expected = (!dress.is_cut_short()).then_some(allowed);
            assert_eq!(arrived, expected.into_iter().collect(), "{dress:?}");
        }
    });
}

/// Each reason to refuse a packet of a pod holds for the same packet in disguise.
#[test]
fn false_names_are_found_in_pieces_and_behind_headers() {
    node(|| {
        forwarding();
        let pod = End::new("cali1", "10.65.0.2", "fd00::2");
        let _other = End::new("cali2", "10.65.0.3", "fd00::3");
        run("ip addr add 192.0.2.1/32 dev lo");
        run("ip addr add fd00:9::1/128 dev lo nodad");
        let mut table = Table::open().unwrap();
        table.apply(&state()).unwrap();
        careless();
        let mut number = 0;
        let cases = cases().into_iter().filter(|(packet, _)| {
            packet.in_link == Some(link("cali1")) && !packet.destination.is_loopback()
        });
        for (packet, reason) in cases {
            let same = |dress: &&Dress| dress.v4 == packet.source.is_ipv4();
            for dress in DRESSES.iter().filter(same) {
                number += 1;
                let before = (counted(&mut table, reason), all_denied(&mut table));
                for bytes in dress.of(&packet, number) {
                    pod.send_bytes(packet.destination, &bytes);
                }
                pod.received();
                let after = (counted(&mut table, reason), all_denied(&mut table));
                let case = format!("{packet:?} {dress:?}: {reason}");
                assert_eq!(after.1, before.1 + 1, "{case}");
                // What is cut short may be of no connection first.
                assert!(after.0 > before.0 || dress.is_cut_short(), "{case}");
            }
        }
        assert!(number > 30, "{number}");
    });
}
