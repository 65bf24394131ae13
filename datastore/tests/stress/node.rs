//! A node: takes and releases addresses without end, and writes down what it has before it uses it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::{Store, open};
use ocicat_ipam::{AssignRequest, Attached, BlockAffine, HandleId, Ipam, Owner};

use crate::dice::Dice;
use crate::record::{self, Entry, Log};

pub(crate) async fn run(number: &str, folder: &Path, url: &str) {
    let store = Store::new(open(url).expect("a store"));
    let ipam = Ipam::new(Arc::new(StoreIpam::new(store)), Box::new(BlockAffine));
    let node = format!("n{number}");
    let owner = Owner::host(&node);
    let entries = record::read(folder, number);
    let attached = record::attached(&entries);
    let mut log = Log::open(folder, number);
    let records = attached
        .iter()
        .map(|(address, handle)| Attached::new(*address, node.as_str(), handle.as_str()));
    let records: Vec<Attached> = records.collect();
    // As an agent does: its claims, then what is attached.
    let _ = ipam.settle_host(&owner, SystemTime::now()).await;
    if let Ok(upheld) = ipam.uphold(&records, SystemTime::now()).await {
        let surprises = (&upheld.taken, &upheld.ousted, &upheld.outside);
        let none = surprises.0.is_empty() && surprises.1.is_empty() && surprises.2.is_empty();
        assert!(none, "the store did not know what is attached: {upheld:?}");
    }
    let mut dice = Dice::new(u64::from(std::process::id()));
    for handle in record::interrupted(&entries) {
        // Some are forgotten, for the check to find.
        if !dice.one_in(40) {
            release(&ipam, &mut log, handle).await;
        }
    }
    let held: BTreeSet<String> = attached.into_values().collect();
    let mut held: Vec<String> = held.into_iter().collect();
    for count in 0_u64.. {
        let full = held.len() > 12;
        if !held.is_empty() && (full || dice.one_in(2)) {
            let at = usize::try_from(dice.below(held.len() as u64)).expect("small");
            release(&ipam, &mut log, held.swap_remove(at)).await;
        } else if dice.one_in(40) {
            let _ = ipam.release_host(&owner, true, SystemTime::now()).await;
        } else {
            let requests = requests(number, count, &mut dice);
            held.extend(ask(&ipam, &mut log, requests).await);
        }
    }
}

fn requests(number: &str, count: u64, dice: &mut Dice) -> Vec<AssignRequest> {
    let request = |n| {
        let handle = format!("net.{number}-{}-{count}-{n}", std::process::id());
        let workload = format!("w{}", dice.below(20));
        AssignRequest::new(format!("n{number}").as_str(), handle)
            .v4(1)
            .v6(u32::from(dice.one_in(3)))
            .workload(&workload)
    };
    (0..=count % 4).map(request).collect()
}

/// Asks for addresses; the handles that have some.
async fn ask(ipam: &Ipam, log: &mut Log, requests: Vec<AssignRequest>) -> Vec<String> {
    let mut held = Vec::new();
    for request in &requests {
        log.note(&Entry::Asking(request.handle.to_string()));
    }
    let answers = ipam.assign_many(&requests, SystemTime::now()).await;
    for (request, answer) in requests.iter().zip(answers) {
        let handle = request.handle.to_string();
        for one in answer.iter().flat_map(|got| &got.addresses) {
            log.note(&Entry::Took(one.address, handle.clone()));
        }
        match answer {
            Ok(_) => held.push(handle),
            Err(_) => release(ipam, log, handle).await,
        }
    }
    held
}

/// Gives a handle back; what cannot be released now is released by a successor.
async fn release(ipam: &Ipam, log: &mut Log, handle: String) {
    log.note(&Entry::Giving(handle.clone()));
    let released = ipam
        .release_handle(&HandleId::new(&handle), SystemTime::now())
        .await;
    if released.is_ok() {
        log.note(&Entry::Gave(handle));
    }
}
