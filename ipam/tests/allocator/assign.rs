use ocicat_ipam::testing::block_on;
use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, AssignmentMode, Family, HandleId, IpamConfig, IpamStore,
    Owner, PoolRef, Reason, Release, ReleaseError, Use,
};

use crate::world::{addresses, at, audit, ip, ipam, pool, prefix, store};

fn request(node: &str, handle: &str) -> AssignRequest {
    AssignRequest::new(node, handle)
}

#[test]
fn addresses_come_in_order_and_the_first_freed_is_used_last() {
    let store = store(&[pool("p", "10.0.0.0/29", 29)]);
    let ipam = ipam(&store);
    let six = block_on(ipam.assign(&request("a", "h1").v4(6), at(0))).unwrap();
    let expected: Vec<_> = (0..6).map(|n| format!("10.0.0.{n}")).collect();
    assert_eq!(addresses(&six.addresses), expected);
    let first = Release::new(ip("10.0.0.1")).held_by("h1");
    assert_eq!(
        block_on(ipam.release_ips(&[first], at(1)))
            .unwrap()
            .addresses,
        [ip("10.0.0.1")]
    );
    let three = block_on(ipam.assign(&request("a", "h2").v4(3), at(2))).unwrap();
    assert_eq!(
        addresses(&three.addresses),
        ["10.0.0.6", "10.0.0.7", "10.0.0.1"]
    );
    assert_eq!(audit(&*store).len(), 8);
    assert_eq!(
        block_on(ipam.release_handle(&HandleId::new("h1"), at(3)))
            .unwrap()
            .len(),
        5
    );
    assert_eq!(
        block_on(ipam.release_handle(&HandleId::new("h2"), at(3)))
            .unwrap()
            .len(),
        3
    );
    assert!(
        block_on(ipam.release_handle(&HandleId::new("h2"), at(3)))
            .unwrap()
            .is_empty()
    );
    assert!(audit(&*store).is_empty());
    assert!(block_on(store.all_handles()).unwrap().records.is_empty());
}

#[test]
fn both_families_or_nothing() {
    let store = store(&[pool("p4", "10.0.0.0/24", 26), pool("p6", "fd00::/120", 122)]);
    let ipam = ipam(&store);
    let both = block_on(ipam.assign(&request("a", "h").v4(1).v6(1), at(0))).unwrap();
    assert_eq!(both.of(Family::V4).count(), 1);
    assert_eq!(both.of(Family::V6).count(), 1);
    let error = block_on(ipam.assign(&request("a", "h2").v4(1).v6(500), at(0))).unwrap_err();
    let AssignError::Short(short) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (short.len(), short[0].family, short[0].found),
        (1, Family::V6, 255)
    );
    assert_eq!(audit(&*store).len(), 2);
    let some = block_on(ipam.assign(&request("a", "h3").v4(1).v6(500).partial(), at(0))).unwrap();
    assert_eq!((some.addresses.len(), some.shortfalls.len()), (256, 1));
    assert_eq!(audit(&*store).len(), 258);
}

#[test]
fn pools_are_chosen_by_name_selector_mode_and_use() {
    let store = store(&[
        pool("manual", "10.1.0.0/24", 26).with_mode(AssignmentMode::Manual),
        pool("tunnels", "10.2.0.0/24", 26).with_uses(&[Use::Tunnel]),
    ]);
    let mut off = pool("off", "10.3.0.0/24", 26);
    off.disabled = true;
    store.set_pool(off);
    store.set_pool_for(pool("rack", "10.4.0.0/24", 26), &[Owner::host("a")], &[]);
    store.set_pool_for(pool("team", "10.5.0.0/24", 26), &[], &["shop"]);
    let ipam = ipam(&store);
    let named = |name: &str| {
        request("b", "h")
            .v4(1)
            .pools(Family::V4, [PoolRef::from(name)])
    };
    let pick = |request: AssignRequest| {
        block_on(ipam.assign(&request, at(0)))
            .map(|got| got.addresses[0].pool.clone())
            .map_err(|error| error.to_string())
    };
    let cases = [
        (request("a", "h").v4(1), Ok("rack")),
        (request("b", "h").v4(1).namespace("shop"), Ok("team")),
        (
            request("b", "h").v4(1),
            Err("no IPv4 pool serves host:b for Workload"),
        ),
        (
            request("b", "h").v4(1).intended_use(Use::Tunnel),
            Ok("tunnels"),
        ),
        (
            request("b", "h").v6(1),
            Err("no pools are configured for host:b (IPv6)"),
        ),
        (named("manual"), Ok("manual")),
        (named("10.1.0.0/24"), Ok("manual")),
        (named("rack"), Ok("rack")),
        (named("off"), Err("pool off is disabled")),
        (named("none"), Err("pool none does not exist")),
        (
            named("tunnels"),
            Err("no IPv4 pool serves host:b for Workload"),
        ),
        (
            request("b", "h")
                .v6(1)
                .pools(Family::V6, [PoolRef::from("rack")]),
            Err("pool rack has no IPv6 addresses"),
        ),
    ];
    for (request, expected) in cases {
        let name = format!("{request:?}");
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(pick(request), expected, "{name}");
    }
    audit(&*store);
}

#[test]
fn blocks_are_claimed_up_to_the_limit_then_nothing_is_borrowed() {
    let store = store(&[pool("p", "10.0.0.0/24", 30)]);
    let (a, b) = (ipam(&store), ipam(&store));
    block_on(b.assign(&request("b", "b").v4(1), at(0))).unwrap();
    let mut limited = request("a", "a").v4(20).partial();
    limited.max_blocks = Some(2);
    let got = block_on(a.assign(&limited, at(0))).unwrap();
    assert_eq!(got.addresses.len(), 8);
    assert_eq!(got.shortfalls[0].reason, Reason::BlockLimit { limit: 2 });
    let default = block_on(a.assign(&request("a", "a2").v4(90).partial(), at(0))).unwrap();
    assert_eq!(
        default.addresses.len(),
        72,
        "20 blocks are the default limit"
    );
    audit(&*store);
}

#[test]
fn an_empty_block_of_another_host_is_reclaimed_after_a_minute_and_a_used_one_lends() {
    let store = store(&[pool("p", "10.0.0.0/29", 30)]);
    let (a, b) = (ipam(&store), ipam(&store));
    block_on(a.assign(&request("a", "a1").v4(8), at(0))).unwrap();
    block_on(a.release_handle(&HandleId::new("a1"), at(1))).unwrap();
    let early = block_on(b.assign(&request("b", "b1").v4(1), at(30))).unwrap();
    assert!(early.addresses[0].borrowed, "too early to reclaim");
    let later = block_on(b.assign(&request("b", "b2").v4(1), at(60))).unwrap();
    assert!(!later.addresses[0].borrowed);
    assert_ne!(later.addresses[0].block, early.addresses[0].block);
    let rest = block_on(a.assign(&request("a", "a2").v4(6), at(61))).unwrap();
    assert_eq!(rest.addresses.iter().filter(|one| one.borrowed).count(), 3);
    let error = block_on(a.assign(&request("a", "a3").v4(1), at(62))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "found 0 of 1 IPv4 addresses: no addresses available in pools: [10.0.0.0/29]"
    );
    assert_eq!(audit(&*store).len(), 8);
}

#[test]
fn strict_affinity_and_no_automatic_blocks() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let mut config = IpamConfig::default();
    config.strict_affinity = true;
    store.set_config(config.clone());
    let (a, b) = (ipam(&store), ipam(&store));
    block_on(a.assign(&request("a", "a").v4(1), at(0))).unwrap();
    let error = block_on(b.assign(&request("b", "b").v4(1), at(0))).unwrap_err();
    let AssignError::Short(short) = error else {
        panic!("{error}")
    };
    assert_eq!(short[0].reason, Reason::StrictAffinity);
    let static_ip = AssignIp::new(ip("10.0.0.3"), "b", "s");
    let error = block_on(b.assign_ip(&static_ip, at(0))).unwrap_err();
    assert!(matches!(error, AssignError::ForeignBlock { .. }), "{error}");
    config.strict_affinity = false;
    config.auto_allocate_blocks = false;
    store.set_config(config);
    let lent = block_on(b.assign(&request("b", "b").v4(1), at(0))).unwrap();
    assert!(lent.addresses[0].borrowed);
    audit(&*store);
}

#[test]
fn reservations_are_honoured_by_every_way_to_get_an_address() {
    let store = store(&[pool("p", "10.0.0.0/28", 30)]);
    for range in ["10.0.0.0/31", "10.0.0.4/30", "10.0.0.8/31", "10.0.0.10/31"] {
        store.reserve(prefix(range));
    }
    let ipam = ipam(&store);
    let got = block_on(ipam.assign(&request("a", "h").v4(16).partial(), at(0))).unwrap();
    let mut got = addresses(&got.addresses);
    got.sort();
    assert_eq!(
        got,
        [
            "10.0.0.12",
            "10.0.0.13",
            "10.0.0.14",
            "10.0.0.15",
            "10.0.0.2",
            "10.0.0.3"
        ]
    );
    assert_eq!(
        block_on(store.all_blocks()).unwrap().records.len(),
        2,
        "none for reserved ones"
    );
    let reserved = AssignIp::new(ip("10.0.0.5"), "a", "s");
    let error = block_on(ipam.assign_ip(&reserved, at(0))).unwrap_err();
    assert!(matches!(error, AssignError::Reserved(_)), "{error}");
    audit(&*store);
}

#[test]
fn a_chosen_address_is_taken_once() {
    let store = store(&[pool("p", "10.0.0.0/24", 26).with_mode(AssignmentMode::Manual)]);
    let ipam = ipam(&store);
    let chosen = AssignIp::new(ip("10.0.0.70"), "a", "s1").attribute("pod", "web");
    let got = block_on(ipam.assign_ip(&chosen, at(0))).unwrap();
    assert_eq!(
        (got.block, got.pool.as_str(), got.borrowed),
        (prefix("10.0.0.64/26"), "p", false)
    );
    let error = block_on(ipam.assign_ip(&AssignIp::new(ip("10.0.0.70"), "b", "s2"), at(0)));
    let Err(AssignError::Taken { handle, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(handle, Some(HandleId::new("s1")));
    let lent = block_on(ipam.assign_ip(&AssignIp::new(ip("10.0.0.71"), "b", "s3"), at(0))).unwrap();
    assert!(lent.borrowed);
    let outside = block_on(ipam.assign_ip(&AssignIp::new(ip("10.9.0.1"), "a", "s"), at(0)));
    assert!(matches!(outside, Err(AssignError::OutsidePools(_))));
    assert_eq!(audit(&*store).len(), 2);
    let held = block_on(store.all_blocks())
        .unwrap()
        .records
        .remove(0)
        .value;
    let record = held
        .allocation(held.ordinal(ip("10.0.0.70")).unwrap())
        .unwrap();
    assert_eq!(record.attributes["pod"], "web");
    assert_eq!(record.attributes["node"], "a");
}

#[test]
fn a_release_is_refused_when_it_means_an_earlier_holder() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let ipam = ipam(&store);
    block_on(ipam.assign(&request("a", "h").v4(2), at(0))).unwrap();
    let block = block_on(store.all_blocks())
        .unwrap()
        .records
        .remove(0)
        .value;
    let seen = block
        .sequence_of(block.ordinal(ip("10.0.0.0")).unwrap())
        .unwrap();
    let wrong = [
        vec![
            Release::new(ip("10.0.0.0")).held_by("other"),
            Release::new(ip("10.0.0.1")),
        ],
        vec![
            Release::new(ip("10.0.0.0")).taken_by(seen - 1),
            Release::new(ip("10.0.0.1")),
        ],
    ];
    for releases in wrong {
        let released = block_on(ipam.release_ips(&releases, at(1))).unwrap();
        assert!(released.addresses.is_empty());
        assert!(matches!(
            released.failed[0].1,
            ReleaseError::BadHandle { .. } | ReleaseError::BadSequence { .. }
        ));
    }
    let right = [
        Release::new(ip("10.0.0.0")).held_by("h").taken_by(seen),
        Release::new(ip("10.0.0.2")),
        Release::new(ip("10.0.0.1")),
        Release::new(ip("10.0.0.1")),
        Release::new(ip("172.16.0.1")),
    ];
    let released = block_on(ipam.release_ips(&right, at(1))).unwrap();
    assert_eq!(released.addresses, [ip("10.0.0.0"), ip("10.0.0.1")]);
    assert_eq!(released.unallocated, [ip("172.16.0.1"), ip("10.0.0.2")]);
    assert!(block_on(store.all_handles()).unwrap().records.is_empty());
}

#[test]
fn released_addresses_cool_down() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let mut config = IpamConfig::default();
    config.cooldown = std::time::Duration::from_secs(60);
    store.set_config(config);
    let ipam = ipam(&store);
    block_on(ipam.assign(&request("a", "h").v4(4), at(0))).unwrap();
    block_on(ipam.release_handle(&HandleId::new("h"), at(10))).unwrap();
    assert!(audit(&*store).is_empty());
    let one = request("a", "h2").v4(1);
    assert!(block_on(ipam.assign(&one, at(69))).is_err());
    assert_eq!(
        block_on(ipam.assign(&one, at(70))).unwrap().addresses.len(),
        1
    );
}

#[test]
fn a_handle_with_enough_addresses_gets_no_more() {
    let store = store(&[pool("p", "10.0.0.0/24", 26)]);
    let ipam = ipam(&store);
    let once = request("a", "h").v4(1).max_per_handle(1);
    let first = block_on(ipam.assign(&once, at(0))).unwrap();
    let again = block_on(ipam.assign(&once, at(1))).unwrap();
    assert_eq!(first, again);
    assert_eq!(audit(&*store).len(), 1);
}

#[test]
fn many_requests_are_served_together() {
    let store = store(&[pool("p", "10.0.0.0/24", 26)]);
    let ipam = ipam(&store);
    let mut requests: Vec<_> = (0..100)
        .map(|n| request("a", &format!("h{n}")).v4(1))
        .collect();
    requests[7] = request("a", "bad")
        .v4(1)
        .pools(Family::V4, [PoolRef::from("none")]);
    requests[8] = request("b", "h8").v4(1);
    let results = block_on(ipam.assign_many(&requests, at(0)));
    assert!(matches!(results[7], Err(AssignError::UnknownPool(_))));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 99);
    assert_eq!(audit(&*store).len(), 99);
    let blocks = block_on(store.all_blocks()).unwrap().records;
    assert_eq!(blocks.len(), 3);
}
