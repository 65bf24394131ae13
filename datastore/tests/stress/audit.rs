//! What must hold when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::{Store, open};
use ocicat_ipam::{AssignRequest, BlockAffine, Census, HandleId, InUse, Ipam, IpamStore, Owner};

use crate::record::{self, Entry};
use crate::{ENOUGH, NODES, POOLS};

pub(crate) async fn run(url: &str, folder: &Path) {
    let mut live: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut spans: BTreeMap<IpAddr, Vec<(u128, u128, String)>> = BTreeMap::new();
    for node in 0..NODES {
        let entries = record::read(folder, &node.to_string());
        for (address, handle) in record::attached(&entries) {
            let other = live.insert(address, handle.clone());
            assert_eq!(other, None, "{address} was given to {handle} too");
        }
        // From the first time on: a release that was interrupted is made again by a successor.
        let mut given: BTreeMap<&String, u128> = BTreeMap::new();
        for (time, entry) in &entries {
            if let Entry::Giving(handle) = entry {
                given.entry(handle).or_insert(*time);
            }
        }
        for (time, entry) in &entries {
            if let Entry::Took(address, handle) = entry {
                let end = given.get(handle).copied().unwrap_or(u128::MAX);
                let span = (*time, end, handle.clone());
                spans.entry(*address).or_default().push(span);
            }
        }
    }
    let takes: usize = spans.values().map(Vec::len).sum();
    println!("{takes} addresses were given, {} are held", live.len());
    assert!(takes > ENOUGH, "only {takes} addresses were given");
    // From when a node knew of an address to when it began to give it back, nobody else did.
    for (address, mut spans) in spans {
        spans.sort();
        for pair in spans.windows(2) {
            let ((_, end, first), (begin, _, second)) = (&pair[0], &pair[1]);
            assert!(end <= begin, "{address}: {second} got it from {first}");
        }
    }
    let store = Store::new(open(url).expect("a store"));
    let port = Arc::new(StoreIpam::new(store));
    let ipam = Ipam::new(Arc::clone(&port) as Arc<_>, Box::new(BlockAffine));
    leaks(&ipam, &live).await;
    empty(&ipam, &port, &live).await;
}

/// The check finds what was lost, and nothing that lives; afterwards all is well.
async fn leaks(ipam: &Ipam, live: &BTreeMap<IpAddr, String>) {
    let now = SystemTime::now();
    for node in 0..NODES {
        let owner = Owner::host(&format!("n{node}"));
        ipam.settle_host(&owner, now).await.expect("settled claims");
    }
    let in_use = live.iter();
    let in_use =
        in_use.map(|(address, handle)| InUse::new(*address, "a pod").held_by(handle.as_str()));
    let census = Census::new(in_use.collect(), (0..NODES).map(|n| format!("n{n}")));
    let report = ipam.check(&census).await.expect("a check");
    println!("{} findings", report.findings.len());
    let done = ipam.release_leaks(&report, now).await.expect("a release");
    assert!(done.failed.is_empty(), "{done:?}");
    let report = ipam.check(&census).await.expect("a check");
    let done = ipam.repair(&report, now).await;
    assert!(done.failed.is_empty(), "{done:?}");
    let report = ipam.check(&census).await.expect("a check");
    assert!(report.is_clean(), "{report}");
    let held: BTreeSet<IpAddr> = report.held.iter().map(|held| held.address).collect();
    assert_eq!(held, live.keys().copied().collect());
}

/// All pods go: every address can be given again, and nothing is left behind.
async fn empty(ipam: &Ipam, port: &StoreIpam, live: &BTreeMap<IpAddr, String>) {
    // Beyond every lease.
    let later = SystemTime::now() + Duration::from_secs(1000);
    let handles: BTreeSet<_> = live.values().collect();
    for handle in handles {
        let handle = HandleId::new(handle);
        ipam.release_handle(&handle, later)
            .await
            .expect("a release");
    }
    let later = later + Duration::from_secs(1000);
    for node in 0..NODES {
        let owner = Owner::host(&format!("n{node}"));
        ipam.remove_host(&owner, later).await.expect("a removal");
    }
    let handles = port.all_handles().await.expect("a list");
    assert!(handles.records.is_empty() && handles.unreadable.is_empty());
    let claims = port.affinities(None).await.expect("a list");
    assert!(claims.records.is_empty() && claims.unreadable.is_empty());
    let mut count = [0_u32; 2];
    for (_, cidr, ..) in POOLS {
        let (address, length) = cidr.split_once('/').expect("a range");
        let length: u32 = length.parse().expect("a length");
        match address.contains(':') {
            true => count[1] += 1 << (128 - length),
            false => count[0] += 1 << (32 - length),
        }
    }
    let mut all = AssignRequest::new("last", "all").v4(count[0]).v6(count[1]);
    all.max_blocks = Some(1000);
    let got = ipam.assign(&all, later).await.expect("every address");
    assert_eq!(got.addresses.len(), (count[0] + count[1]) as usize);
}
