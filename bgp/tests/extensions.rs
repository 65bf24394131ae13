//! What speakers do for each other beyond the base protocol: several paths per prefix (RFC 7911), long messages
//! (RFC 8654), roles (RFC 9234), and private AS numbers that stay at home.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Net, address, block, prefix};
use ocicat_bgp::{
    AddPath, AsNumber, Attributes, DownReason, Families, PeerConfig, PrivateAs, Role, State,
};

const AS: u32 = 64512;
const BOTH_WAYS: AddPath = AddPath::both(Families::IPV4);

fn seconds(net: &mut Net, seconds: u64) {
    net.run(Duration::from_secs(seconds));
}

/// A session between two nodes, with the settings of each side.
fn join(net: &mut Net, a: (usize, PeerConfig), b: (usize, PeerConfig)) {
    net.peer(a.0, a.1);
    net.peer(b.0, b.1);
}

/// What a node has for a prefix: the senders and the MED of each path.
fn paths(net: &mut Net, node: usize, prefix: &str) -> BTreeSet<(String, u32)> {
    let route = net.route(node, common::prefix(prefix));
    let paths = route.map(|route| route.paths).unwrap_or_default();
    let all: Vec<_> = paths
        .iter()
        .map(|path| {
            let originator = path.attributes.originator_id().expect("reflected");
            (originator.to_string(), path.attributes.med().unwrap_or(0))
        })
        .collect();
    let set: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "each path once: {all:?}");
    set
}

/// Node 0 reflects; 1 to 4 announce, of which 4 takes every path as well; 5 and 6 take every path, 7 the best one.
fn star(seed: u64) -> Net {
    let mut net = Net::new(seed);
    for node in 0..8 {
        net.start(node, Net::config(node, AS))
            .originations_complete();
    }
    for node in 1..8 {
        let all = node > 3 && node < 7;
        let (sends, takes) = if all {
            (AddPath::send(Families::IPV4), BOTH_WAYS)
        } else {
            (BOTH_WAYS, AddPath::default())
        };
        let up = PeerConfig::new(address(0), AS).add_path(takes);
        let down = PeerConfig::new(address(node), AS)
            .rr_client(true)
            .add_path(sends);
        join(&mut net, (node, up), (0, down));
    }
    seconds(&mut net, 30);
    net
}

/// RFC 7911 section 3 and 5: after whatever changes, who takes every path has every path of every other, once, with
/// its newest attributes; who was cut off for a while as well.
#[test]
fn every_path_arrives_whatever_happens() {
    for seed in 0..12 {
        let mut net = star(seed);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 20) % bound
        };
        let names = ["10.1.0.0/26", "10.1.0.64/26", "10.1.0.128/26"];
        let mut held = [[None; 3]; 8];
        for round in 0..40 {
            let (node, which) = (1 + next(4) as usize, next(3) as usize);
            let med = (next(3) > 0).then(|| next(4) as u32);
            held[node][which] = med;
            let speaker = net.speaker(node);
            match med {
                Some(med) => {
                    let attributes = Attributes::builder().med(med).build();
                    speaker.originate(prefix(names[which]), &attributes);
                }
                None => drop(speaker.withdraw(&prefix(names[which]))),
            }
            net.drain(node);
            match round % 10 {
                3 => net.part(0, 5),
                7 => net.heal(),
                _ => {}
            }
            net.run(Duration::from_millis(next(3)));
        }
        net.heal();
        seconds(&mut net, 5);
        for (which, name) in names.into_iter().enumerate() {
            for node in [4, 5, 6] {
                let expected: BTreeSet<_> = (1..5)
                    .filter(|&sender| sender != node)
                    .filter_map(|sender| Some((address(sender).to_string(), held[sender][which]?)))
                    .collect();
                // Its own path has no originator.
                if held[node][which].is_some() {
                    net.speaker(node).withdraw(&prefix(name));
                }
                let found = paths(&mut net, node, name);
                assert_eq!(found, expected, "seed {seed}, node {node}, {name}");
            }
            let best = net
                .route(7, prefix(name))
                .map_or(0, |route| route.paths.len());
            let any = (1..5).any(|sender| held[sender][which].is_some());
            assert_eq!(best, usize::from(any), "one path for whoever takes one");
        }
        assert_eq!(net.established(0), 7);
    }
}

/// RFC 7911 section 4: identifiers are used where one side sends and the other takes them, by family and direction.
#[test]
fn who_sends_paths_and_who_takes_them() {
    let agreed = |ours: AddPath, theirs: AddPath| {
        let mut net = Net::new(1);
        for node in 0..2 {
            net.start(node, Net::config(node, AS))
                .originations_complete();
        }
        let peer = |node| PeerConfig::new(address(node), AS).families(Families::BOTH);
        let (a, b) = (peer(1).add_path(ours), peer(0).add_path(theirs));
        join(&mut net, (0, a), (1, b));
        seconds(&mut net, 10);
        let peers = net.speaker(0).peers();
        let negotiated = peers[0].negotiated.clone().expect("a session");
        (negotiated.add_path_receive, negotiated.add_path_send)
    };
    let (none, v4, v6) = (Families::NONE, Families::IPV4, Families::IPV6);
    let both = AddPath::both(Families::BOTH);
    for (ours, theirs, expected) in [
        (AddPath::default(), both, (none, none)),
        (both, AddPath::default(), (none, none)),
        (both, both, (Families::BOTH, Families::BOTH)),
        (both, AddPath::send(v4), (v4, none)),
        (AddPath::send(v6), both, (none, v6)),
        (AddPath::receive(v4), AddPath::receive(v4), (none, none)),
        (AddPath::both(v4), AddPath::both(v6), (none, none)),
    ] {
        assert_eq!(agreed(ours, theirs), expected, "{ours:?} and {theirs:?}");
    }
}

/// Sessions that end take all their paths with them, also where a prefix has several from one peer.
#[test]
fn a_lost_session_takes_every_path_with_it() {
    let mut net = star(3);
    for node in [1, 2] {
        net.speaker(node)
            .originate(prefix("10.1.0.0/26"), &Attributes::local());
    }
    seconds(&mut net, 2);
    assert_eq!(paths(&mut net, 5, "10.1.0.0/26").len(), 2);
    let peers = net.speaker(5).peers();
    assert_eq!(peers[0].routes, 2, "paths are counted");
    net.stop(
        0,
        &ocicat_bgp::Stop::Cease(ocicat_bgp::Cease::PeerDeconfigured),
    );
    seconds(&mut net, 2);
    assert_eq!(net.route(5, prefix("10.1.0.0/26")), None);
    assert_eq!(net.speaker(5).peers()[0].routes, 0);
}

/// RFC 8654 section 4: long messages only where both sides allow them.
#[test]
fn long_messages_where_both_allow_them() {
    let updates = |ours: bool, theirs: bool| {
        let mut net = Net::new(1);
        for node in 0..2 {
            net.start(node, Net::config(node, AS))
                .originations_complete();
        }
        for number in 0..4000u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + (number << 6));
            let prefix = ocicat_bgp::Prefix::containing(address.into(), 26);
            net.speaker(0)
                .originate(prefix.expect("a prefix"), &Attributes::local());
        }
        let (a, b) = (
            PeerConfig::new(address(1), AS),
            PeerConfig::new(address(0), AS),
        );
        join(
            &mut net,
            (0, a.extended_messages(ours)),
            (1, b.extended_messages(theirs)),
        );
        seconds(&mut net, 10);
        assert_eq!(net.prefixes(1).len(), 4000);
        net.speaker(1).peers()[0].updates
    };
    let (short, long) = (updates(false, true), updates(true, true));
    assert_eq!(updates(true, false), short);
    assert!(long * 2 < short, "{long} messages against {short}");
}

/// Two nodes in ASes 65001 and 65002 with these roles; what the first has as its last error, or none.
fn roles(ours: Option<Role>, theirs: Option<Role>, strict: bool) -> Option<(u8, u8)> {
    let mut net = Net::new(1);
    for node in 0..2 {
        net.start(node, Net::config(node, 65001 + node as u32))
            .originations_complete();
    }
    let (a, b) = (
        PeerConfig::new(address(1), 65002),
        PeerConfig::new(address(0), 65001),
    );
    join(
        &mut net,
        (0, a.role(ours).strict_role(strict)),
        (1, b.role(theirs).passive(true)),
    );
    seconds(&mut net, 2);
    let peers = net.speaker(0).peers();
    if peers[0].state == State::Established {
        return None;
    }
    match peers[0].last_error.clone() {
        Some(DownReason::Sent(n) | DownReason::Received(n)) => Some((n.code, n.subcode)),
        other => panic!("{other:?}"),
    }
}

/// RFC 9234 section 4.2.
#[test]
fn roles_must_fit_together() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let all = [Provider, RouteServer, RouteServerClient, Customer, Peer];
    let pairs = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    for ours in all {
        for theirs in all {
            let expected = (!pairs.contains(&(ours, theirs))).then_some((2, 11));
            assert_eq!(
                roles(Some(ours), Some(theirs), false),
                expected,
                "{ours:?} {theirs:?}"
            );
        }
        assert_eq!(roles(Some(ours), None, false), None, "a peer may have none");
        assert_eq!(
            roles(Some(ours), None, true),
            Some((2, 11)),
            "unless it must"
        );
    }
}

/// RFC 9234 section 5: node 1 has a provider (0), a customer (2), a peer (3) and another provider (4). What 0 announces
/// goes to the customer alone, marked; what 2 announces goes to all.
#[test]
fn what_comes_from_above_goes_only_down() {
    let mut net = Net::new(1);
    for node in 0..5 {
        net.start(node, Net::config(node, 65000 + node as u32))
            .originations_complete();
    }
    let ours = [
        Role::Customer,
        Role::Peer,
        Role::Provider,
        Role::Peer,
        Role::Customer,
    ];
    let theirs = [
        Role::Provider,
        Role::Peer,
        Role::Customer,
        Role::Peer,
        Role::Provider,
    ];
    for node in [0, 2, 3, 4] {
        let up = PeerConfig::new(address(node), 65000 + node as u32).role(ours[node]);
        let down = PeerConfig::new(address(1), 65001).role(theirs[node]);
        join(&mut net, (1, up), (node, down));
        net.speaker(node)
            .originate(block(node, 0), &Attributes::local());
    }
    seconds(&mut net, 30);
    let mut has = |node: usize, whose: usize| {
        let route = net.route(node, block(whose, 0));
        route.map(|route| route.paths[0].attributes.only_to_customer())
    };
    let mark = |number: u32| Some(Some(AsNumber(number)));
    assert_eq!(has(1, 0), mark(65000), "the provider marks what it sends");
    assert_eq!(
        has(1, 2),
        Some(None),
        "a customer's own routes are not marked"
    );
    assert_eq!(has(1, 3), mark(65003), "a peer marks what it sends");
    assert_eq!(
        (has(2, 0), has(2, 3), has(2, 4)),
        (mark(65000), mark(65003), mark(65004))
    );
    for above in [0, 3, 4] {
        for source in [0, 3, 4].into_iter().filter(|&source| source != above) {
            assert_eq!(
                has(above, source),
                None,
                "{source}'s routes do not leak to {above}"
            );
        }
        assert!(
            has(above, 2).is_some(),
            "the customer's routes go to {above}"
        );
    }
}

/// RFC 9234 section 5, on the way in: whoever passes on what it should not is not believed.
#[test]
fn leaks_are_not_taken() {
    // Node 0 announces marked routes to node 1, which has set its own role and not asked for one.
    let taken = |role: Role, mark: u32| {
        let mut net = Net::new(1);
        for node in 0..2 {
            net.start(node, Net::config(node, 65000 + node as u32))
                .originations_complete();
        }
        let marked = Attributes::builder().raw(0xc0, 35, mark.to_be_bytes().to_vec());
        net.speaker(0).originate(block(0, 0), &marked.build());
        let (a, b) = (
            PeerConfig::new(address(1), 65001),
            PeerConfig::new(address(0), 65000),
        );
        join(&mut net, (0, a), (1, b.role(role)));
        seconds(&mut net, 10);
        assert_eq!(net.established(1), 1);
        net.route(1, block(0, 0)).is_some()
    };
    for (role, mark, expected) in [
        (Role::Provider, 65000, false),
        (Role::RouteServer, 65000, false),
        (Role::Peer, 65000, true),
        (Role::Peer, 65009, false),
        (Role::Customer, 65009, true),
        (Role::RouteServerClient, 65009, true),
    ] {
        assert_eq!(taken(role, mark), expected, "{role:?} and a mark of {mark}");
    }
}

/// RFC 6996 section 5: which numbers are private; they stay at home if that is asked for.
#[test]
fn private_numbers_stay_at_home() {
    let path = |private: PrivateAs| {
        let mut net = Net::new(1);
        for (node, number) in [(0, 3356), (1, 1299)] {
            net.start(node, Net::config(node, number))
                .originations_complete();
        }
        let attributes = Attributes::builder()
            .prepend(AsNumber(174), 1)
            .prepend(AsNumber(64512), 2)
            .prepend(AsNumber(4_200_000_000), 1);
        net.speaker(0).originate(block(0, 0), &attributes.build());
        let (a, b) = (
            PeerConfig::new(address(1), 1299),
            PeerConfig::new(address(0), 3356),
        );
        join(&mut net, (0, a.private_as(private)), (1, b));
        seconds(&mut net, 10);
        let route = net.route(1, block(0, 0)).expect("a route");
        route.paths[0].attributes.as_path().to_string()
    };
    assert_eq!(path(PrivateAs::Keep), "3356 4200000000 64512 64512 174");
    assert_eq!(path(PrivateAs::Remove), "3356 174");
    assert_eq!(path(PrivateAs::Replace), "3356 3356 3356 3356 174");
    for (number, private) in [
        (64_511, false),
        (64_512, true),
        (65_534, true),
        (65_535, false),
        (4_199_999_999, false),
        (4_200_000_000, true),
        (4_294_967_294, true),
        (4_294_967_295, false),
    ] {
        assert_eq!(AsNumber(number).is_private(), private, "{number}");
    }
}

/// A speaker that is of another AS to one peer (as Calico's `localASNumber` has it): that AS alone is in the path, and
/// a path that it is in already is a loop.
#[test]
fn another_as_towards_one_peer() {
    let mut net = Net::new(1);
    for (node, number) in [(0, 65001), (1, AS), (2, 65002)] {
        net.start(node, Net::config(node, number))
            .originations_complete();
    }
    let (a, b) = (
        PeerConfig::new(address(1), 65009),
        PeerConfig::new(address(0), 65001),
    );
    join(&mut net, (0, a), (1, b.local_as(AsNumber(65009))));
    let (a, b) = (
        PeerConfig::new(address(1), AS),
        PeerConfig::new(address(2), 65002),
    );
    join(&mut net, (2, a), (1, b));
    net.speaker(2).originate(block(2, 0), &Attributes::local());
    let loops = Attributes::builder().prepend(AsNumber(65009), 1);
    net.speaker(2).originate(block(2, 1), &Attributes::local());
    net.speaker(0).originate(block(0, 0), &loops.build());
    net.speaker(0).originate(block(0, 1), &Attributes::local());
    seconds(&mut net, 10);
    let path = |net: &mut Net, node: usize, prefix| {
        let route = net.route(node, prefix)?;
        Some(route.paths[0].attributes.as_path().to_string())
    };
    assert_eq!(
        path(&mut net, 0, block(2, 0)).as_deref(),
        Some("65009 65002")
    );
    assert_eq!(
        path(&mut net, 2, block(0, 1)).as_deref(),
        Some("64512 65001")
    );
    assert_eq!(
        path(&mut net, 1, block(0, 0)),
        None,
        "the AS that we are there"
    );
}

/// RFC 4360 section 6: extended communities are passed on; those that are not transitive stay in the AS.
#[test]
fn extended_communities_stay_or_leave() {
    let mut net = Net::new(1);
    for (node, number) in [(0, AS), (1, AS), (2, 65002)] {
        net.start(node, Net::config(node, number))
            .originations_complete();
    }
    let inside = |node| PeerConfig::new(address(node), AS);
    join(&mut net, (0, inside(1)), (1, inside(0)));
    join(
        &mut net,
        (0, PeerConfig::new(address(2), 65002)),
        (2, inside(0)),
    );
    let (leaves, stays) = ([0, 2, 0xfc, 0, 0, 0, 0, 9], [0x40, 4, 0xfc, 0, 0, 0, 0, 1]);
    let both = Attributes::builder().raw(0xc0, 16, [leaves, stays].concat());
    net.speaker(0).originate(block(0, 0), &both.build());
    seconds(&mut net, 10);
    let has = |net: &mut Net, node: usize| -> Vec<[u8; 8]> {
        let route = net.route(node, block(0, 0)).expect("a route");
        route.paths[0].attributes.extended_communities().collect()
    };
    assert_eq!(has(&mut net, 1), [leaves, stays]);
    assert_eq!(has(&mut net, 2), [leaves]);
}
