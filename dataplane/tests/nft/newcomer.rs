//! A pod whose link is there before anything is known of it, and one whose policy comes while packets are on their way.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ocicat_dataplane::nft::Table;
use ocicat_dataplane::state::{EndpointToHost, HostRules, PolicyId, ProfileId, Protocol};
use ocicat_dataplane::verdict::{Connection, Packet};

use crate::lab::*;
use crate::packets::denying;
use crate::spoof::counted;
use crate::wire::*;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn nothing_passes_a_link_that_nobody_has_told_of() {
    node(|| {
        forwarding();
        let known = End::new("cali1", "10.65.0.2", "fd00::2");
        let unknown = End::new("cali7", "10.65.0.7", "fd00::7");
        run("ip addr add 192.0.2.1/32 dev lo");
        run("ip addr add fd00:9::1/128 dev lo nodad");
        let mut state = small();
        state.host = Arc::new(HostRules {
            endpoint_to_host: EndpointToHost::Accept,
            ..HostRules::default()
        });
        let mut table = Table::open().unwrap();
        table.apply(&state).unwrap();
        careless();
        let mut number = 0;
        let to_it = "to a link without an endpoint";
        let from_it = "the source is not the pod's";
        for v4 in [true, false] {
            let own = if v4 { "192.0.2.1" } else { "fd00:9::1" };
            let own = own.parse().unwrap();
            for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
                for (from, destination, reason) in [
                    (&known, unknown.address(v4), to_it),
                    (&unknown, known.address(v4), from_it),
                    (&unknown, own, from_it),
                ] {
                    let packet = Packet {
                        in_link: None,
                        out_link: None,
                        source: from.address(v4),
                        destination,
                        protocol,
                        ports: Some((40_000, 80)),
                        icmp: None,
                        connection: Connection::New,
                    };
                    number += 1;
                    let before = counted(&mut table, reason);
                    from.send(&packet, number);
                    assert_eq!(known.received(), [] as [u16; 0], "{packet:?}");
                    assert_eq!(unknown.received(), [] as [u16; 0], "{packet:?}");
                    assert_eq!(counted(&mut table, reason), before + 1, "{packet:?}");
                }
            }
        }
    });
}

/// Packets that policy will deny, all the while from before the pod's link is known until its policy has changed.
#[test]
fn nothing_slips_in_while_a_pod_and_its_policy_come() {
    node(|| {
        forwarding();
        let web = End::new("cali1", "10.65.0.2", "fd00::2");
        let friend = End::new("cali2", "10.65.0.3", "fd00::3");
        let bind = |end: &End, port: u16| {
            let address = (end.address(true), port);
            inside(&end.namespace, || UdpSocket::bind(address).unwrap())
        };
        let (denied, allowed, sender) = (bind(&web, 53), bind(&web, 54), bind(&friend, 0));
        denied.set_nonblocking(true).unwrap();
        allowed.set_read_timeout(Some(PATIENCE)).unwrap();
        let with = small();
        let mut without = small();
        without.workloads.remove(&link("cali1"));
        without.policies.clear();
        let web_policy = PolicyId::new("np/default/default/web");
        let mut table = Table::open().unwrap();
        table.apply(&without).unwrap();
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    sender.send_to(b"?", "10.65.0.2:53").unwrap();
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
            let come = || {
                let count = sent.load(Ordering::SeqCst) + 10;
                let deadline = Instant::now() + PATIENCE;
                while sent.load(Ordering::SeqCst) < count && Instant::now() < deadline {
                    std::thread::yield_now();
                }
            };
            for _ in 0..30 {
                // The pod before its policy and its profile, then with a rule that denies, then without either.
                let mut state = with.clone();
                state.policies.clear();
                state.profiles.remove(&ProfileId::new("kns.default"));
                table.apply(&state).unwrap();
                come();
                state.profiles.clone_from(&with.profiles);
                table.apply(&state).unwrap();
                come();
                state
                    .policies
                    .insert(web_policy.clone(), denying(53).into());
                table.apply(&state).unwrap();
                come();
                // That the link is open is seen by another port.
                sender.send_to(b"!", "10.65.0.2:54").unwrap();
                allowed.recv(&mut [0; 8]).expect("policy lets this in");
                table.apply(&without).unwrap();
                come();
            }
            over.store(true, Ordering::SeqCst);
        });
        assert!(sent.load(Ordering::SeqCst) > 1_000);
        let slipped = denied.recv(&mut [0; 8]);
        assert!(slipped.is_err(), "a packet has slipped in");
    });
}
