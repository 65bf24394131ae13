//! OPEN messages.

use std::net::Ipv4Addr;

use bgpkit_parser::models::BgpMessage as Bgpkit;
use netgauze_bgp_pkt::BgpMessage as Netgauze;
use netgauze_parse_utils::WritablePdu;
use ocicat_bgp::wire::{AddPathMode, Capability, GracefulRestartCapability, Open};
use ocicat_bgp::{AsNumber, Family};

use super::said::Random;
use super::{bgpkit, netgauze};

fn open(random: &mut Random) -> Open {
    let as_number = 1 + random.below(4_000_000_000);
    let mut capabilities = vec![Capability::FourOctetAs(as_number)];
    let restart = GracefulRestartCapability {
        restarting: random.below(2) == 0,
        notification: random.below(2) == 0,
        time: random.below(4096) as u16,
        families: Family::ALL
            .map(|family| (family, random.below(2) == 0))
            .to_vec(),
    };
    let all = [
        Capability::Multiprotocol(Family::Ipv4Unicast),
        Capability::Multiprotocol(Family::Ipv6Unicast),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::ExtendedMessage,
        Capability::AddPath(vec![(Family::Ipv6Unicast, AddPathMode::Both)]),
        Capability::GracefulRestart(restart),
    ];
    capabilities.extend(all.into_iter().filter(|_| random.below(3) > 0));
    Open {
        as_number: AsNumber(as_number),
        hold_time: 3 + random.below(60_000) as u16,
        // netgauze wants a unicast address, RFC 6286 any number but 0.
        router_id: Ipv4Addr::from(0x0101_0101 + random.below(0x7000_0000)),
        capabilities,
    }
}

/// bgpkit does not know the N bit (RFC 8538) and clears it.
fn without_n(open: &Open) -> Open {
    let mut open = open.clone();
    for capability in &mut open.capabilities {
        if let Capability::GracefulRestart(restart) = capability {
            restart.notification = false;
        }
    }
    open
}

/// Ours, read and written again by each of the others, is what it was.
#[test]
fn opens_come_back_from_the_others() {
    let mut random = Random(3);
    for _ in 0..1000 {
        let ours = open(&mut random);
        let mut octets = Vec::new();
        ours.encode(&mut octets);
        let Bgpkit::Open(read) = bgpkit::message(&octets, true) else {
            panic!("an OPEN");
        };
        assert_eq!(
            (read.hold_time, read.bgp_identifier, u32::from(read.asn)),
            (
                ours.hold_time,
                ours.router_id,
                ours.as_number.two_octets().into()
            )
        );
        let again = Bgpkit::Open(read)
            .encode(bgpkit_parser::models::AsnLength::Bits32)
            .expect("bgpkit writes it");
        assert_eq!(Open::parse(&again[19..]), Ok(without_n(&ours)), "bgpkit");

        let message = netgauze::message(&octets, true);
        let Netgauze::Open(read) = &message else {
            panic!("an OPEN");
        };
        assert_eq!(
            (read.hold_time(), read.bgp_id(), read.my_asn4()),
            (ours.hold_time, ours.router_id, ours.as_number.0)
        );
        assert_eq!(read.capabilities().len(), ours.capabilities.len());
        let mut again = Vec::new();
        message.write(&mut again).expect("netgauze writes it");
        assert_eq!(Open::parse(&again[19..]), Ok(ours), "netgauze");
    }
}
