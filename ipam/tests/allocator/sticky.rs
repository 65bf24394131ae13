use std::sync::Arc;
use std::time::Duration;

use ocicat_ipam::testing::{FaultyStore, Mishap, block_on};
use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, BlockAffine, Census, Collector, HandleId, HostReserved,
    Ipam, IpamConfig, IpamStore, Judge, Liveness, MemoryStore, Owner, Release, Verdict,
};

use crate::world::{addresses, at, audit, ip, ipam, pool, prefix, store};

const LEASE: u64 = 3600;

fn leased() -> Arc<MemoryStore> {
    let lease = Duration::from_secs(LEASE);
    store(&[pool("p", "10.0.0.0/26", 28).with_lease(lease)])
}

fn get(ipam: &Ipam, node: &str, handle: &str, name: &str, seconds: u64) -> String {
    let request = AssignRequest::new(node, handle).v4(1).workload(name);
    let got = block_on(ipam.assign(&request, at(seconds))).unwrap();
    addresses(&got.addresses).remove(0)
}

fn give_back(ipam: &Ipam, handle: &str, seconds: u64) {
    block_on(ipam.release_handle(&HandleId::new(handle), at(seconds))).unwrap();
}

#[test]
fn the_same_name_gets_the_same_address_within_the_lease() {
    let lease = Duration::from_secs(LEASE);
    let store = store(&[pool("p", "10.0.0.0/28", 28).with_lease(lease)]);
    let ipam = ipam(&store);
    let first = get(&ipam, "a", "h1", "shop/web-0", 0);
    give_back(&ipam, "h1", 10);
    let other = get(&ipam, "a", "h2", "shop/web-1", 20);
    assert_ne!(other, first, "it is kept");
    assert_eq!(get(&ipam, "a", "h3", "shop/web-0", 30), first);
    give_back(&ipam, "h3", 40);
    assert!(audit(&*store).len() == 1, "what is kept is held by nobody");
    // Every other address is given before, and the kept one is the first that is free when its lease is over.
    for n in 0..14 {
        get(&ipam, "a", &format!("fill{n}"), &format!("w/{n}"), 50);
    }
    let late = AssignRequest::new("a", "late").v4(1);
    assert!(block_on(ipam.assign(&late, at(40 + LEASE - 1))).is_err());
    let late = block_on(ipam.assign(&late, at(40 + LEASE))).unwrap();
    assert_eq!(addresses(&late.addresses), [first]);
}

#[test]
fn without_a_lease_or_a_name_nothing_is_kept() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let ipam = ipam(&store);
    get(&ipam, "a", "h1", "shop/web-0", 0);
    give_back(&ipam, "h1", 1);
    assert_eq!(block_on(ipam.utilisation()).unwrap()[0].counts.kept, 0);
    let store = leased();
    let ipam = crate::world::ipam(&store);
    block_on(ipam.assign(&AssignRequest::new("a", "h").v4(1), at(0))).unwrap();
    give_back(&ipam, "h", 1);
    assert_eq!(block_on(ipam.utilisation()).unwrap()[0].counts.kept, 0);
}

#[test]
fn a_name_that_moves_takes_its_address_along_unless_affinity_is_strict() {
    let store = leased();
    let (a, b) = (ipam(&store), ipam(&store));
    let first = get(&a, "a", "h1", "shop/web-0", 0);
    give_back(&a, "h1", 1);
    let request = AssignRequest::new("b", "h2").v4(1).workload("shop/web-0");
    let moved = block_on(b.assign(&request, at(2))).unwrap().addresses;
    assert_eq!(
        (moved[0].address.to_string(), moved[0].borrowed),
        (first.clone(), true)
    );
    give_back(&b, "h2", 3);
    let mut config = IpamConfig::default();
    config.strict_affinity = true;
    store.set_config(config);
    assert_ne!(get(&b, "b", "h3", "shop/web-0", 4), first);
}

#[test]
fn a_node_that_goes_leaves_what_is_kept() {
    let store = leased();
    let (a, b) = (ipam(&store), ipam(&store));
    let first = get(&a, "a", "h1", "shop/web-0", 0);
    block_on(b.remove_host(&Owner::host("a"), at(10))).unwrap();
    assert_eq!(get(&b, "b", "h2", "shop/web-0", 20), first);
    give_back(&b, "h2", 30);
    struct Silent;
    #[async_trait::async_trait]
    impl Liveness for Silent {
        async fn verdicts(&self, held: &[ocicat_ipam::Held]) -> Vec<Verdict> {
            vec![Verdict::Unknown; held.len()]
        }
    }
    // When the lease is over, whoever collects for nodes that are gone makes the address free again.
    let mut collector = Collector::new(Judge::GoneNodes, Duration::ZERO);
    block_on(collector.sweep(&b, &Silent, at(31))).unwrap();
    assert_eq!(block_on(b.utilisation()).unwrap()[0].counts.kept, 1);
    block_on(collector.sweep(&b, &Silent, at(30 + LEASE))).unwrap();
    assert_eq!(block_on(b.utilisation()).unwrap()[0].counts.kept, 0);
}

#[test]
fn what_is_kept_is_stored_where_calico_leaves_it_alone() {
    let store = leased();
    let ipam = ipam(&store);
    let first = get(&ipam, "a", "h1", "shop/web-0", 0);
    give_back(&ipam, "h1", 0);
    let stored = block_on(store.all_blocks()).unwrap().records.remove(0);
    let record = stored.value.to_record();
    assert_eq!(record.attributes.len(), 1);
    let kept = &record.attributes[0];
    assert_eq!(kept.handle_id.as_deref(), Some(HostReserved::HANDLE));
    assert_eq!(kept.secondary["ocicat-workload"], "shop/web-0");
    assert_eq!(
        kept.secondary["ocicat-kept-until"],
        ocicat_ipam::Timestamp(at(LEASE)).to_string()
    );
    for attribute in ["pod", "namespace", "node", "type"] {
        assert!(!kept.secondary.contains_key(attribute), "{attribute}");
    }
    let again = ocicat_ipam::Block::from_record(record).unwrap();
    assert_eq!(again, stored.value);
    let (ordinal, kept) = again.kept().next().unwrap();
    assert_eq!(again.address(ordinal), Some(ip(&first)));
    assert_eq!(kept.until, at(LEASE));
    let report = block_on(ipam.check(&Census::new(Vec::new(), ["a".to_owned()]))).unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(block_on(store.all_handles()).unwrap().records.is_empty());
}

#[test]
fn a_chosen_address_that_is_kept_is_given_to_its_workload_alone() {
    let store = leased();
    let ipam = ipam(&store);
    let first = get(&ipam, "a", "h1", "shop/web-0", 0);
    give_back(&ipam, "h1", 1);
    let other = AssignIp::new(ip(&first), "a", "h2");
    let refused = block_on(ipam.assign_ip(&other, at(2))).unwrap_err();
    assert!(matches!(refused, AssignError::Kept { .. }), "{refused}");
    assert!(
        refused.to_string().contains("kept for shop/web-0"),
        "{refused}"
    );
    let own = other.workload("shop/web-0");
    assert!(block_on(ipam.assign_ip(&own, at(2))).is_ok());
    give_back(&ipam, "h2", 3);
    // Kept again, until somebody releases the address itself.
    assert!(block_on(ipam.assign_ip(&AssignIp::new(ip(&first), "a", "h3"), at(4))).is_err());
    let released = block_on(ipam.release_ips(&[Release::new(ip(&first))], at(5))).unwrap();
    assert_eq!(released.addresses, [ip(&first)]);
    assert!(block_on(ipam.assign_ip(&AssignIp::new(ip(&first), "a", "h3"), at(6))).is_ok());
}

#[test]
fn a_request_that_fails_as_a_whole_keeps_nothing_new_and_a_reserved_address_is_not_given_back() {
    let lease = Duration::from_secs(LEASE);
    let store = store(&[
        pool("p", "10.0.0.0/28", 28).with_lease(lease),
        pool("six", "fd00::/126", 126),
    ]);
    let ipam = ipam(&store);
    block_on(ipam.assign(&AssignRequest::new("a", "all6").v6(4), at(0))).unwrap();
    let both = AssignRequest::new("a", "h").v4(1).v6(1).workload("w");
    assert!(block_on(ipam.assign(&both, at(0))).is_err());
    assert_eq!(block_on(ipam.utilisation()).unwrap()[0].counts.kept, 0);
    let first = get(&ipam, "a", "h1", "w", 1);
    give_back(&ipam, "h1", 2);
    store.reserve(prefix(&format!("{first}/32")));
    assert_ne!(get(&ipam, "a", "h2", "w", 3), first);
}

#[test]
fn a_write_that_fails_gives_the_address_back_to_its_workload() {
    let store = leased();
    let first = get(&ipam(&store), "a", "h1", "w", 0);
    give_back(&ipam(&store), "h1", 1);
    for failing in 0..12 {
        for mishap in [Mishap::Refuse, Mishap::Conflict] {
            let faulty =
                FaultyStore::new(
                    Arc::clone(&store) as Arc<dyn IpamStore>,
                    move |call| match call.number == failing {
                        true => mishap,
                        false => Mishap::None,
                    },
                );
            let faulty = Ipam::new(Arc::new(faulty), Box::new(BlockAffine));
            let request = AssignRequest::new("a", "h2").v4(1).workload("w");
            let _ = block_on(faulty.assign(&request, at(2)));
            // Whatever happened: the same allocator gives the same address.
            give_back(&ipam(&store), "h2", 3);
            let again = AssignRequest::new("a", "h3").v4(1).workload("w");
            let got = block_on(faulty.assign(&again, at(4)))
                .or_else(|_| block_on(faulty.assign(&again, at(4))))
                .unwrap();
            assert_eq!(
                addresses(&got.addresses),
                [first.as_str()],
                "call {failing}"
            );
            give_back(&faulty, "h3", 5);
        }
    }
}
