use std::sync::{Arc, Mutex};

use ocicat_ipam::testing::{Call, Dice, FaultyStore, Mishap};
use ocicat_ipam::{BlockAffine, Ipam, IpamStore};

use crate::ledger::Ledger;

/// What can befall the calls of one node; shared with the plan of its store.
pub(crate) struct Chaos {
    pub(crate) dice: Dice,
    pub(crate) partitioned: bool,
    pub(crate) crashed: bool,
    pub(crate) calm: bool,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) alive: bool,
    pub(crate) chaos: Arc<Mutex<Chaos>>,
    pub(crate) ipam: Arc<Ipam>,
}

pub(crate) fn node(store: &Arc<Ledger>, number: usize, seed: u64) -> Node {
    let chaos = Chaos {
        dice: Dice::new(seed),
        partitioned: false,
        crashed: false,
        calm: false,
    };
    let chaos = Arc::new(Mutex::new(chaos));
    let shared = Arc::clone(&chaos);
    let plan = move |call: &Call| shared.lock().unwrap().befall(call);
    let faulty = FaultyStore::new(Arc::clone(store) as Arc<dyn IpamStore>, plan).with_yields();
    let ipam = Ipam::new(Arc::new(faulty), Box::new(BlockAffine));
    Node {
        name: format!("n{number}"),
        alive: true,
        chaos,
        ipam: Arc::new(ipam),
    }
}

impl Chaos {
    fn befall(&mut self, call: &Call) -> Mishap {
        if self.calm {
            return Mishap::None;
        }
        if self.partitioned {
            return Mishap::Refuse;
        }
        match self.dice.below(100) {
            0..=3 => Mishap::Conflict,
            4 => Mishap::Refuse,
            5 => Mishap::LoseReply,
            6 => {
                self.crashed = true;
                Mishap::CrashAfter(self.dice.below(call.writes.len() as u64 + 1) as usize)
            }
            _ => Mishap::None,
        }
    }
}
