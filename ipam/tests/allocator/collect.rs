use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use ocicat_ipam::testing::block_on;
use ocicat_ipam::{
    AssignIp, AssignRequest, Collector, HandleId, Held, Judge, Liveness, Owner, Tunnel, Verdict,
};

use crate::world::{at, audit, ip, ipam, pool, prefix, store};

/// Verdicts by address; alive when nothing else is said. Can change after so many questions.
#[derive(Default)]
struct Witness {
    said: BTreeMap<IpAddr, Verdict>,
    later: Mutex<Option<(u32, BTreeMap<IpAddr, Verdict>)>>,
}

impl Witness {
    fn says(pairs: &[(&str, Verdict)]) -> Self {
        let said = pairs
            .iter()
            .map(|(address, verdict)| (ip(address), *verdict))
            .collect();
        Self {
            said,
            later: Mutex::default(),
        }
    }
}

#[async_trait]
impl Liveness for Witness {
    async fn verdicts(&self, held: &[Held]) -> Vec<Verdict> {
        let mut later = self.later.lock().unwrap();
        let said = match &mut *later {
            Some((0, said)) => said.clone(),
            Some((questions, _)) => {
                *questions -= 1;
                self.said.clone()
            }
            None => self.said.clone(),
        };
        held.iter()
            .map(|one| said.get(&one.address).copied().unwrap_or(Verdict::Alive))
            .collect()
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

#[test]
fn the_dead_are_released_after_the_grace_period_and_all_or_none_of_a_handle() {
    let store = store(&[pool("p", "10.0.0.0/26", 26)]);
    let ipam = ipam(&store);
    let take = |node: &str, handle: &str, count| {
        block_on(ipam.assign(&AssignRequest::new(node, handle).v4(count), at(0))).unwrap();
    };
    take("a", "dead", 2);
    take("a", "half", 2);
    take("a", "young", 1);
    take("b", "other", 1);
    let dead = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.5"].map(|a| (a, Verdict::Dead));
    let witness = Witness::says(&dead);
    let mut collector = Collector::new(Judge::Node("a".to_owned()), minutes(15));
    let sweep = block_on(collector.sweep(&ipam, &witness, at(0))).unwrap();
    assert_eq!(
        (sweep.released.len(), sweep.suspects.len()),
        (0, 3),
        "not another node's"
    );
    let sweep = block_on(collector.sweep(&ipam, &witness, at(899))).unwrap();
    assert!(sweep.released.is_empty());
    let sweep = block_on(collector.sweep(&ipam, &witness, at(900))).unwrap();
    assert_eq!(sweep.released, [ip("10.0.0.0"), ip("10.0.0.1")]);
    assert_eq!(sweep.suspects, [ip("10.0.0.2")]);
    assert_eq!(audit(&*store).len(), 4);
}

#[test]
fn who_comes_back_or_is_taken_again_is_not_released() {
    let store = store(&[pool("p", "10.0.0.0/26", 26)]);
    let ipam = ipam(&store);
    for (handle, address) in [
        ("back", "10.0.0.0"),
        ("again", "10.0.0.1"),
        ("last", "10.0.0.2"),
    ] {
        block_on(ipam.assign_ip(&AssignIp::new(ip(address), "a", handle), at(0))).unwrap();
    }
    let all = ["10.0.0.0", "10.0.0.1", "10.0.0.2"].map(|a| (a, Verdict::Dead));
    let mut collector = Collector::new(Judge::Node("a".to_owned()), minutes(1));
    block_on(collector.sweep(&ipam, &Witness::says(&all), at(0))).unwrap();
    block_on(collector.sweep(&ipam, &Witness::says(&all[1..]), at(30))).unwrap();
    block_on(ipam.release_handle(&HandleId::new("again"), at(31))).unwrap();
    block_on(ipam.assign_ip(&AssignIp::new(ip("10.0.0.1"), "a", "again"), at(32))).unwrap();
    // The last one lives again between the look and the release.
    let witness = Witness::says(&all);
    *witness.later.lock().unwrap() = Some((1, BTreeMap::new()));
    let sweep = block_on(collector.sweep(&ipam, &witness, at(61))).unwrap();
    assert!(sweep.released.is_empty(), "{sweep:?}");
    assert_eq!(audit(&*store).len(), 3);
}

#[test]
fn only_what_is_proven_gone_is_released_without_grace() {
    let store = store(&[pool("p", "10.0.0.0/28", 28)]);
    let ipam = ipam(&store);
    block_on(ipam.assign(&AssignRequest::new("gone", "h").v4(2), at(0))).unwrap();
    let p = [prefix("10.0.0.0/28")];
    block_on(ipam.tunnel_address("gone", Tunnel::Ipip, None, &p, at(0))).unwrap();
    block_on(ipam.assign(&AssignRequest::new("here", "h2").v4(1), at(0))).unwrap();
    let lb = AssignRequest::new(Owner::virtual_owner("load-balancer"), "lb").v4(1);
    block_on(ipam.assign(&lb, at(0))).unwrap();
    let verdicts = [
        ("10.0.0.0", Verdict::NodeGone),
        ("10.0.0.1", Verdict::NodeGone),
        ("10.0.0.2", Verdict::NodeGone),
        ("10.0.0.3", Verdict::Dead),
        ("10.0.0.4", Verdict::NodeGone),
    ];
    let witness = Witness::says(&verdicts);
    let mut collector = Collector::new(Judge::GoneNodes, minutes(15));
    let sweep = block_on(collector.sweep(&ipam, &witness, at(0))).unwrap();
    assert_eq!(
        sweep.released,
        [ip("10.0.0.0"), ip("10.0.0.1"), ip("10.0.0.2")]
    );
    let left: Vec<_> = audit(&*store)
        .into_values()
        .map(|handle| handle.to_string())
        .collect();
    assert_eq!(
        left,
        ["h2", "lb"],
        "a node that is there, and an address of no node"
    );
    let own = Collector::new(Judge::Node("here".to_owned()), Duration::ZERO);
    let mut own = own.everywhere(1);
    let tunnel = Tunnel::Ipip;
    block_on(ipam.tunnel_address("here", tunnel, None, &p, at(0))).unwrap();
    let all: Vec<String> = (0..16).map(|n| format!("10.0.0.{n}")).collect();
    let all: Vec<_> = all
        .iter()
        .map(|address| (address.as_str(), Verdict::Dead))
        .collect();
    let sweep = block_on(own.sweep(&ipam, &Witness::says(&all), at(1))).unwrap();
    assert_eq!(
        sweep.released,
        [ip("10.0.0.3")],
        "a tunnel lives as long as its node"
    );
}

#[test]
fn blocks_that_stay_empty_are_given_up_but_one() {
    let store = store(&[pool("p", "10.0.0.0/24", 28)]);
    let ipam = ipam(&store);
    block_on(ipam.claim_affinity(prefix("10.0.0.0/26"), &Owner::host("a"), at(0))).unwrap();
    let mut collector = Collector::new(Judge::Node("a".to_owned()), minutes(15));
    let witness = Witness::default();
    assert!(
        block_on(collector.sweep(&ipam, &witness, at(1)))
            .unwrap()
            .blocks
            .is_empty()
    );
    // One is used and emptied between two looks: it counts as not idle.
    block_on(ipam.assign_ip(&AssignIp::new(ip("10.0.0.20"), "a", "h"), at(2))).unwrap();
    block_on(ipam.release_handle(&HandleId::new("h"), at(3))).unwrap();
    let given_up = block_on(collector.sweep(&ipam, &witness, at(4)))
        .unwrap()
        .blocks;
    assert_eq!(given_up.len(), 3);
    assert!(!given_up.contains(&prefix("10.0.0.16/28")));
    assert!(
        block_on(collector.sweep(&ipam, &witness, at(5)))
            .unwrap()
            .blocks
            .is_empty()
    );
    audit(&*store);
}

/// A node with a block of one address, and another with one of four.
fn borrower() -> (std::sync::Arc<ocicat_ipam::MemoryStore>, ocicat_ipam::Ipam) {
    let store = store(&[pool("p", "10.0.0.0/29", 30)]);
    let ipam = ipam(&store);
    for (node, range) in [("a", "10.0.0.0/30"), ("b", "10.0.0.4/30")] {
        block_on(ipam.claim_affinity(prefix(range), &Owner::host(node), at(0))).unwrap();
    }
    let four = AssignRequest::new("a", "alive").v4(3);
    block_on(ipam.assign(&four, at(0))).unwrap();
    (store, ipam)
}

#[test]
fn what_is_borrowed_is_looked_at_every_few_sweeps() {
    let (store, ipam) = borrower();
    let chosen = AssignIp::new(ip("10.0.0.5"), "a", "borrowed");
    block_on(ipam.assign_ip(&chosen, at(0))).unwrap();
    let witness = Witness::says(&[("10.0.0.5", Verdict::Dead)]);
    let judge = Judge::Node("a".to_owned());
    let mut collector = Collector::new(judge, minutes(15)).everywhere(3);
    let mut sweep = |minute: u64| {
        let sweep = collector.sweep(&ipam, &witness, at(60 * minute));
        let sweep = block_on(sweep).unwrap();
        (sweep.suspects.len(), sweep.released.len())
    };
    let found: Vec<_> = (1..=6).map(|n| sweep(n * 6)).collect();
    // Suspected from the third on, although the fourth and the fifth do not look there.
    assert_eq!(found, [(0, 0), (0, 0), (1, 0), (1, 0), (1, 0), (0, 1)]);
    assert!(!audit(&*store).contains_key(&ip("10.0.0.5")));
}

#[test]
fn a_handle_is_judged_with_what_it_has_elsewhere() {
    for (elsewhere, released) in [(Verdict::Alive, 0), (Verdict::Dead, 2)] {
        let (_, ipam) = borrower();
        // One of the node's own block, one borrowed.
        let both = AssignRequest::new("a", "both").v4(2);
        let got = block_on(ipam.assign(&both, at(0))).unwrap().addresses;
        let owned = got.iter().find(|one| !one.borrowed).unwrap().address;
        let lent = got.iter().find(|one| one.borrowed).unwrap().address;
        let said = [
            (&*owned.to_string(), Verdict::Dead),
            (&*lent.to_string(), elsewhere),
        ];
        let witness = Witness::says(&said);
        let judge = Judge::Node("a".to_owned());
        let mut collector = Collector::new(judge, minutes(1)).everywhere(0);
        block_on(collector.sweep(&ipam, &witness, at(0))).unwrap();
        let sweep = block_on(collector.sweep(&ipam, &witness, at(60))).unwrap();
        assert_eq!(sweep.released.len(), released, "{elsewhere:?}");
    }
}
