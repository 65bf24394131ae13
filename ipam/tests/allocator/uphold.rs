use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ocicat_ipam::testing::{Dice, FaultyStore, Mishap, block_on};
use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, Attached, BlockAffine, HandleId, Ipam, IpamStore,
    MemoryStore, Record, Write,
};

use crate::world::{addresses, at, audit, ip, ipam, pool, prefix, store};

/// A store with the records of another, as a copy of it would have them.
fn copy(of: &MemoryStore) -> Arc<MemoryStore> {
    let new = store(&[pool("p", "10.0.0.0/26", 29)]);
    let mut writes = Vec::new();
    for stored in block_on(of.all_blocks()).unwrap().records {
        writes.push(Write::Create(Record::Block(stored.value)));
    }
    for stored in block_on(of.affinities(None)).unwrap().records {
        writes.push(Write::Create(Record::Affinity(stored.value)));
    }
    for stored in block_on(of.all_handles()).unwrap().records {
        writes.push(Write::Create(Record::Handle(stored.value)));
    }
    assert!(block_on(new.write(writes)).iter().all(Result::is_ok));
    new
}

/// What is attached on nodes: address, node, handle.
type Attachments = BTreeMap<IpAddr, (String, HandleId)>;

fn churn(ipam: &Ipam, dice: &mut Dice, seconds: u64, attached: &mut Attachments, steps: u64) {
    for step in 0..steps {
        let node = format!("n{}", dice.below(3));
        if dice.one_in(3) && !attached.is_empty() {
            let at_place = dice.below(attached.len() as u64) as usize;
            let (address, (_, handle)) = attached.iter().nth(at_place).unwrap();
            let (address, handle) = (*address, handle.clone());
            block_on(ipam.release_handle(&handle, at(seconds + step))).unwrap();
            attached.remove(&address);
            continue;
        }
        let handle = HandleId::new(&format!("h{seconds}-{step}"));
        let request = AssignRequest::new(node.as_str(), &handle).v4(1);
        match block_on(ipam.assign(&request, at(seconds + step))) {
            Ok(got) => {
                let address = got.addresses[0].address;
                let twice = attached.insert(address, (node, handle));
                assert_eq!(twice, None, "{address} was given twice");
            }
            Err(AssignError::Short(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn records(attached: &Attachments) -> Vec<Attached> {
    let record = |(address, (node, handle)): (&IpAddr, &(String, HandleId))| {
        Attached::new(*address, node.as_str(), handle)
    };
    attached.iter().map(record).collect()
}

#[test]
fn an_older_store_gives_no_address_twice() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let original = store(&[pool("p", "10.0.0.0/26", 29)]);
        let first = ipam(&original);
        let mut attached = Attachments::new();
        let (before, after) = (dice.below(30), dice.below(60));
        churn(&first, &mut dice, 0, &mut attached, before);
        let backup = copy(&original);
        churn(&first, &mut dice, 1000, &mut attached, after);
        let second = ipam(&backup);
        let upheld = block_on(second.uphold(&records(&attached), at(2000))).unwrap();
        assert!(upheld.failed.is_empty() && upheld.outside.is_empty());
        assert_eq!(upheld.held.len() + upheld.taken.len(), attached.len());
        let held = audit(&*backup);
        for (address, (_, handle)) in &attached {
            assert_eq!(held.get(address), Some(handle), "seed {seed}");
        }
        let again = block_on(second.uphold(&records(&attached), at(2000))).unwrap();
        assert_eq!(
            again.held.len(),
            attached.len(),
            "the second time writes nothing"
        );
        // Handles of former times may still hold something, and the rest can be given: nothing that is attached is.
        churn(&second, &mut dice, 3000, &mut attached, 80);
        audit(&*backup);
    }
}

#[test]
fn a_record_wins_over_a_handle_of_former_times() {
    let store = store(&[pool("p", "10.0.0.0/28", 28)]);
    let ipam = ipam(&store);
    let old = AssignIp::new(ip("10.0.0.3"), "b", "old");
    block_on(ipam.assign_ip(&old, at(0))).unwrap();
    block_on(ipam.assign_ip(&AssignIp::new(ip("10.0.0.4"), "b", "old"), at(0))).unwrap();
    store.reserve(prefix("10.0.0.8/29"));
    let records = [
        Attached::new(ip("10.0.0.3"), "a", "now").attribute("pod", "web"),
        Attached::new(ip("10.0.0.9"), "a", "now"),
        Attached::new(ip("10.0.0.9"), "a", "other"),
        Attached::new(ip("10.9.0.1"), "a", "far"),
    ];
    let upheld = block_on(ipam.uphold(&records, at(10))).unwrap();
    assert_eq!(upheld.taken, [ip("10.0.0.3"), ip("10.0.0.9")]);
    assert_eq!(upheld.ousted, [(ip("10.0.0.3"), HandleId::new("old"))]);
    assert_eq!(upheld.contested, [ip("10.0.0.9")]);
    assert_eq!(upheld.outside, [ip("10.9.0.1")]);
    let held = audit(&*store);
    assert_eq!(held[&ip("10.0.0.3")].as_str(), "now");
    assert_eq!(held[&ip("10.0.0.4")].as_str(), "old");
    let gone = block_on(ipam.release_handle(&HandleId::new("now"), at(11))).unwrap();
    assert_eq!(gone.len(), 2, "found by its handle");
}

#[test]
fn what_could_not_be_written_is_given_to_nobody() {
    let store = store(&[pool("p", "10.0.0.0/30", 30)]);
    let down = std::sync::atomic::AtomicBool::new(true);
    let down = Arc::new(down);
    let plan = {
        let down = Arc::clone(&down);
        move |call: &ocicat_ipam::testing::Call| {
            let refuse = down.load(std::sync::atomic::Ordering::Relaxed) && !call.writes.is_empty();
            if refuse { Mishap::Refuse } else { Mishap::None }
        }
    };
    let faulty = FaultyStore::new(Arc::clone(&store) as Arc<dyn IpamStore>, plan);
    let ipam = Ipam::new(Arc::new(faulty), Box::new(BlockAffine));
    let records = [Attached::new(ip("10.0.0.1"), "a", "pod")];
    let upheld = block_on(ipam.uphold(&records, at(0))).unwrap();
    assert_eq!(upheld.failed.len(), 1);
    down.store(false, std::sync::atomic::Ordering::Relaxed);
    let all = AssignRequest::new("a", "others").v4(4).partial();
    let got = block_on(ipam.assign(&all, at(1))).unwrap();
    let got: BTreeSet<_> = addresses(&got.addresses).into_iter().collect();
    assert!(!got.contains("10.0.0.1") && got.len() == 3, "{got:?}");
    assert_eq!(
        block_on(ipam.uphold(&records, at(2))).unwrap().taken.len(),
        1
    );
    block_on(ipam.release_handle(&HandleId::new("pod"), at(3))).unwrap();
    let one = AssignRequest::new("a", "new").v4(1);
    assert!(block_on(ipam.assign(&one, at(4))).is_ok());
}
