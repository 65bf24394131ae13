use ocicat_ipam::testing::block_on;
use ocicat_ipam::{
    AffinityState, AssignRequest, BlockAffinity, HandleId, IpamStore, Owner, Record, ReleaseError,
    Stored, Write,
};

use crate::world::{at, audit, ipam, pool, prefix, store};

#[test]
fn a_range_is_claimed_block_by_block() {
    let store = store(&[pool("p", "10.0.0.0/24", 26)]);
    let ipam = ipam(&store);
    let (a, b) = (Owner::host("a"), Owner::host("b"));
    let half = block_on(ipam.claim_affinity(prefix("10.0.0.0/25"), &a, at(0))).unwrap();
    assert_eq!(
        half.claimed,
        [prefix("10.0.0.0/26"), prefix("10.0.0.64/26")]
    );
    let all = block_on(ipam.claim_affinity(prefix("10.0.0.0/24"), &b, at(0))).unwrap();
    assert_eq!((all.claimed.len(), all.failed.len()), (2, 2));
    for range in ["10.0.0.0/27", "10.1.0.0/26"] {
        let error = block_on(ipam.claim_affinity(prefix(range), &a, at(0)));
        assert!(matches!(error, Err(ReleaseError::NoBlocks(_))), "{range}");
    }
    audit(&*store);
    assert!(
        block_on(ipam.release_pool(prefix("10.0.0.0/24"), true, at(1)))
            .unwrap()
            .is_empty()
    );
    assert!(block_on(store.affinities(None)).unwrap().records.is_empty());
    assert!(block_on(store.all_blocks()).unwrap().records.is_empty());
}

#[test]
fn a_block_in_use_outlives_its_owner() {
    let store = store(&[pool("p", "10.0.0.0/26", 26)]);
    let ipam = ipam(&store);
    let a = Owner::host("a");
    block_on(ipam.assign(&AssignRequest::new("a", "h").v4(1), at(0))).unwrap();
    assert_eq!(
        block_on(ipam.release_host(&a, true, at(1))).unwrap(),
        [prefix("10.0.0.0/26")]
    );
    let claim = block_on(store.affinity(&a, prefix("10.0.0.0/26")))
        .unwrap()
        .unwrap();
    assert_eq!(claim.value.state, AffinityState::Confirmed);
    assert!(
        block_on(ipam.release_host(&a, false, at(1)))
            .unwrap()
            .is_empty()
    );
    let block = block_on(store.all_blocks())
        .unwrap()
        .records
        .remove(0)
        .value;
    assert_eq!((block.owner(), block.held_count()), (None, 1));
    block_on(ipam.release_handle(&HandleId::new("h"), at(2))).unwrap();
    assert!(block_on(store.all_blocks()).unwrap().records.is_empty());
}

#[test]
fn a_host_that_is_gone_leaves_nothing_of_its_own_and_everything_of_others() {
    let store = store(&[pool("p", "10.0.0.0/29", 30)]);
    let ipam = ipam(&store);
    let request = |node: &str, handle: &str, count| AssignRequest::new(node, handle).v4(count);
    block_on(ipam.assign(&request("a", "a1", 4), at(0))).unwrap();
    block_on(ipam.assign(&request("b", "b1", 3), at(0))).unwrap();
    let lent = block_on(ipam.assign(&request("a", "a2", 1), at(0))).unwrap();
    assert!(lent.addresses[0].borrowed);
    assert_eq!(
        block_on(ipam.remove_host(&Owner::host("a"), at(1)))
            .unwrap()
            .len(),
        5
    );
    let left = audit(&*store);
    assert!(
        left.values().all(|handle| handle.as_str() == "b1"),
        "{left:?}"
    );
    assert_eq!(left.len(), 3);
    assert!(
        block_on(store.affinities(Some(&Owner::host("a"))))
            .unwrap()
            .records
            .is_empty()
    );
    let again = block_on(ipam.assign(&request("b", "b2", 5), at(2))).unwrap();
    assert_eq!(again.addresses.len(), 5);
    audit(&*store);
}

#[test]
fn a_claim_that_was_interrupted_is_settled_by_its_block() {
    let write = |store: &dyn IpamStore, write| block_on(store.write(vec![write])).pop().unwrap();
    for state in [AffinityState::Pending, AffinityState::PendingDeletion] {
        let store = store(&[pool("p", "10.0.0.0/26", 26)]);
        let a = Owner::host("a");
        let block = prefix("10.0.0.0/26");
        block_on(ipam(&store).claim_affinity(block, &a, at(0))).unwrap();
        let Stored { revision, .. } = block_on(store.affinity(&a, block)).unwrap().unwrap();
        let claim = BlockAffinity {
            owner: a.clone(),
            block,
            state,
        };
        write(&*store, Write::Update(Record::Affinity(claim), revision)).unwrap();
        let got = block_on(ipam(&store).assign(&AssignRequest::new("a", "h").v4(1), at(1)));
        assert_eq!(got.unwrap().addresses[0].block, block);
        let claim = block_on(store.affinity(&a, block)).unwrap().unwrap();
        assert_eq!(claim.value.state, AffinityState::Confirmed);
    }
}

#[test]
fn blocks_in_pools_that_no_longer_select_the_host_are_given_up() {
    let store = store(&[pool("p", "10.0.0.0/24", 26), pool("q", "10.1.0.0/24", 26)]);
    let ipam = ipam(&store);
    let a = Owner::host("a");
    block_on(ipam.claim_affinity(prefix("10.0.0.0/26"), &a, at(0))).unwrap();
    store.set_pool_for(pool("p", "10.0.0.0/24", 26), &[Owner::host("b")], &[]);
    let got = block_on(ipam.assign(&AssignRequest::new("a", "h").v4(1), at(1))).unwrap();
    assert_eq!(got.addresses[0].pool, "q");
    let claims = block_on(store.affinities(Some(&a))).unwrap().records;
    assert_eq!(claims.len(), 1);
    assert!(prefix("10.1.0.0/24").covers(&claims[0].value.block));
}
