use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use ocicat_ipam::testing::{Dice, block_on};
use ocicat_ipam::{
    AssignError, AssignIp, AssignRequest, Assignment, BlockAffine, Census, HandleId, InUse, Ipam,
    IpamConfig, IpamStore, MemoryStore, Owner, Pool, Prefix,
};

use crate::chaos::{Node, node};
use crate::ledger::Ledger;
use crate::model::Model;

const NODES: usize = 50;
/// For how long addresses of the first pool are kept for their workloads.
const LEASE: Duration = Duration::from_secs(300);

/// What an operation reports when it is done.
enum Done {
    Assigned(Vec<(HandleId, Result<Assignment, AssignError>)>),
    Nothing,
}

struct Running {
    node: usize,
    /// The handles for which addresses are being taken.
    handles: Vec<HandleId>,
    work: Pin<Box<dyn Future<Output = Done>>>,
}

pub(crate) struct World {
    dice: Dice,
    store: Arc<Ledger>,
    nodes: Vec<Node>,
    running: Vec<Running>,
    model: Model,
    seconds: u64,
    next_handle: u64,
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn pools() -> Vec<Pool> {
    let pool = |name, cidr, size| Pool::new(name, prefix(cidr)).with_block_size(size).unwrap();
    vec![
        pool("p", "10.0.0.0/25", 29).with_lease(LEASE),
        pool("q", "10.1.0.0/27", 30),
        pool("v6", "fd00::/122", 125),
    ]
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let store = Arc::new(MemoryStore::with_pools(pools()));
        store.reserve(prefix("10.0.0.16/29"));
        store.reserve(prefix("10.0.0.40/31"));
        let mut config = IpamConfig::default();
        config.strict_affinity = dice.one_in(4);
        if dice.one_in(3) {
            config.cooldown = Duration::from_secs(30);
        }
        store.set_config(config);
        let store = Arc::new(Ledger::new(store, dice.one_in(2)));
        let nodes = (0..NODES).map(|n| node(&store, n, dice.roll())).collect();
        Self {
            dice,
            store,
            nodes,
            running: Vec::new(),
            model: Model::default(),
            seconds: 0,
            next_handle: 0,
        }
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + self.seconds)
    }

    fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.store.set_clock(self.now());
    }

    pub(crate) fn step(&mut self) {
        let seconds = self.dice.below(20);
        self.pass(seconds);
        let node = self.dice.below(NODES as u64) as usize;
        // Few nodes do most of the work, so that they meet.
        let node = if self.dice.one_in(2) { node % 6 } else { node };
        match self.dice.below(40) {
            0..=13 => self.assign(node),
            14..=16 => self.assign_chosen(node),
            17..=24 => self.release(node),
            25 => self.die(node),
            26 | 27 => self.restart(node),
            28 => self.toggle_partition(node),
            29 => self.give_up_blocks(node),
            30..=33 => self.release_too_early(),
            _ => {}
        }
        for _ in 0..self.dice.below(40) {
            self.poll_one();
        }
        self.crashes();
    }

    /// Polls one operation, any.
    fn poll_one(&mut self) {
        let at = self.dice.below(self.running.len() as u64) as usize;
        let Some(running) = self.running.get_mut(at) else {
            return;
        };
        let node = running.node;
        if let Poll::Ready(done) = running
            .work
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            drop(self.running.swap_remove(at));
            if let Done::Assigned(answers) = done {
                for (handle, answer) in answers {
                    self.model.assigned(node, &handle, answer, &self.store);
                }
            }
        }
    }

    /// Restarts nodes whose store has crashed under them.
    fn crashes(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].chaos.lock().unwrap().crashed {
                self.restart(node);
            }
        }
    }

    fn handle(&mut self) -> HandleId {
        self.next_handle += 1;
        HandleId::new(&format!("net.{}", self.next_handle))
    }

    fn start(&mut self, node: usize, work: impl Future<Output = Done> + 'static) {
        self.start_for(node, Vec::new(), work);
    }

    fn start_for(
        &mut self,
        node: usize,
        handles: Vec<HandleId>,
        work: impl Future<Output = Done> + 'static,
    ) {
        self.running.push(Running {
            node,
            handles,
            work: Box::pin(work),
        });
    }

    fn assign(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        let count = 1 + self.dice.below(4);
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let name = self.nodes[node].name.clone();
                let request = AssignRequest::new(name.as_str(), self.handle())
                    .v4(self.dice.below(3) as u32)
                    .v6(self.dice.below(2) as u32);
                let request = match self.dice.one_in(2) {
                    true => request.workload(&format!("w{}", self.dice.below(30))),
                    false => request,
                };
                match self.dice.one_in(3) {
                    true => request.partial(),
                    false => request,
                }
            })
            .collect();
        let (ipam, now) = (Arc::clone(&self.nodes[node].ipam), self.now());
        let handles = requests.iter().map(|request| request.handle.clone());
        self.start_for(node, handles.collect(), async move {
            let answers = ipam.assign_many(&requests, now).await;
            let handles = requests.into_iter().map(|request| request.handle);
            Done::Assigned(handles.zip(answers).collect())
        });
    }

    fn assign_chosen(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        let address = std::net::IpAddr::from([10, 0, 0, self.dice.below(128) as u8]);
        let handle = self.handle();
        let request = AssignIp::new(address, self.nodes[node].name.as_str(), &handle);
        let (ipam, now) = (Arc::clone(&self.nodes[node].ipam), self.now());
        self.start(node, async move {
            let answer = ipam.assign_ip(&request, now).await.map(|one| {
                let mut assignment = Assignment::default();
                assignment.addresses.push(one);
                assignment
            });
            Done::Assigned(vec![(handle, answer)])
        });
    }

    fn release(&mut self, node: usize) {
        let handles = self.model.of(node);
        let at = self.dice.below(handles.len() as u64) as usize;
        let Some(handle) = handles.get(at).cloned() else {
            return;
        };
        self.model.gone(&handle, &self.store);
        let (ipam, now) = (Arc::clone(&self.nodes[node].ipam), self.now());
        self.start(node, async move {
            drop(ipam.release_handle(&handle, now).await);
            Done::Nothing
        });
    }

    /// A pod is deleted while its addresses are being taken.
    fn release_too_early(&mut self) {
        let at = self.dice.below(self.running.len() as u64) as usize;
        let Some(running) = self.running.get(at) else {
            return;
        };
        let (node, Some(handle)) = (running.node, running.handles.first().cloned()) else {
            return;
        };
        self.model.given_up.insert(handle.clone());
        let (ipam, now) = (Arc::clone(&self.nodes[node].ipam), self.now());
        self.start(node, async move {
            drop(ipam.release_handle(&handle, now).await);
            Done::Nothing
        });
    }

    /// A node is lost with its pods, and another removes it.
    fn die(&mut self, node: usize) {
        self.restart(node);
        self.nodes[node].alive = false;
        for handle in self.model.of(node) {
            self.model.gone(&handle, &self.store);
        }
        let by = self.dice.below(NODES as u64) as usize;
        let owner = Owner::host(&self.nodes[node].name);
        let (ipam, now) = (Arc::clone(&self.nodes[by].ipam), self.now());
        self.start(by, async move {
            drop(ipam.remove_host(&owner, now).await);
            Done::Nothing
        });
    }

    /// The agent of a node is killed at whatever it does, and starts again.
    fn restart(&mut self, at: usize) {
        self.running.retain(|running| running.node != at);
        let (alive, partitioned) = (
            self.nodes[at].alive,
            self.nodes[at].chaos.lock().unwrap().partitioned,
        );
        self.nodes[at] = node(&self.store, at, self.dice.roll());
        self.nodes[at].alive = alive;
        self.nodes[at].chaos.lock().unwrap().partitioned = partitioned;
        if !alive {
            return;
        }
        let owner = Owner::host(&self.nodes[at].name);
        let (ipam, now) = (Arc::clone(&self.nodes[at].ipam), self.now());
        self.start(at, async move {
            drop(ipam.settle_host(&owner, now).await);
            Done::Nothing
        });
    }

    fn toggle_partition(&mut self, node: usize) {
        let mut chaos = self.nodes[node].chaos.lock().unwrap();
        chaos.partitioned = !chaos.partitioned;
    }

    fn give_up_blocks(&mut self, node: usize) {
        let owner = Owner::host(&self.nodes[node].name);
        let (ipam, now) = (Arc::clone(&self.nodes[node].ipam), self.now());
        self.start(node, async move {
            drop(ipam.release_host(&owner, true, now).await);
            Done::Nothing
        });
    }

    pub(crate) fn check(&self) {
        self.model.check(&*self.store);
    }

    /// Everybody finishes in peace; then the leak check must find what was lost, and nothing that lives.
    pub(crate) fn finish(&mut self) {
        for node in &self.nodes {
            let mut chaos = node.chaos.lock().unwrap();
            (chaos.partitioned, chaos.calm) = (false, true);
        }
        for _ in 0..1_000_000 {
            self.poll_one();
            if self.running.is_empty() {
                break;
            }
        }
        assert!(self.running.is_empty(), "an operation does not end");
        self.check();
        self.pass(1000);
        let ipam = Ipam::new(
            Arc::clone(&self.store) as Arc<dyn IpamStore>,
            Box::new(BlockAffine),
        );
        let now = self.now();
        for node in &self.nodes {
            let owner = Owner::host(&node.name);
            if node.alive {
                block_on(ipam.settle_host(&owner, now)).unwrap();
            } else {
                block_on(ipam.remove_host(&owner, now)).unwrap();
            }
        }
        self.check();
        let alive = self
            .nodes
            .iter()
            .filter(|node| node.alive)
            .map(|node| node.name.clone());
        let live = self.model.live.iter();
        let live = live.map(|(address, handle)| InUse::new(*address, "a pod").held_by(handle));
        let census = Census::new(live.collect(), alive);
        let report = block_on(ipam.check(&census)).unwrap();
        let done = block_on(ipam.release_leaks(&report, now)).unwrap();
        assert!(done.failed.is_empty(), "{done:?}");
        let done = block_on(ipam.repair(&block_on(ipam.check(&census)).unwrap(), now));
        assert!(done.failed.is_empty(), "{done:?}");
        let report = block_on(ipam.check(&census)).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.held.len(), self.model.live.len());
        self.check();
        self.return_of_workloads(&ipam);
        self.empty(&ipam);
    }

    /// In peace, whoever has an address kept gets it back.
    fn return_of_workloads(&mut self, ipam: &Ipam) {
        if block_on(self.store.config()).unwrap().strict_affinity {
            return;
        }
        for workload in (0..30).map(|n| format!("w{n}")) {
            let kept = self.store.kept_for(&workload);
            let handle = self.handle();
            let request = AssignRequest::new("n0", &handle).v4(1).workload(&workload);
            let got = block_on(ipam.assign(&request, self.now()));
            if let Some(got) = got.iter().flat_map(|got| &got.addresses).next() {
                let right = kept.is_empty() || kept.contains(&got.address);
                assert!(right, "{workload} got {} and not of {kept:?}", got.address);
            } else {
                assert!(
                    kept.is_empty(),
                    "{workload} got {got:?} and not of {kept:?}"
                );
            }
            self.model.assigned(0, &handle, got, &self.store);
        }
    }

    /// All pods go: every address must be there to be taken.
    fn empty(&mut self, ipam: &Ipam) {
        let now = self.now();
        let handles: Vec<_> = self.model.handles.keys().cloned().collect();
        for handle in handles {
            self.model.gone(&handle, &self.store);
            block_on(ipam.release_handle(&handle, now)).unwrap();
        }
        self.pass(1000);
        for node in &self.nodes {
            block_on(ipam.remove_host(&Owner::host(&node.name), self.now())).unwrap();
        }
        assert!(
            block_on(self.store.all_handles())
                .unwrap()
                .records
                .is_empty()
        );
        assert!(
            block_on(self.store.affinities(None))
                .unwrap()
                .records
                .is_empty()
        );
        let mut all = AssignRequest::new("last", "everything")
            .v4(160)
            .v6(64)
            .partial();
        all.max_blocks = None;
        let mut config = IpamConfig::default();
        config.strict_affinity = true;
        config.max_blocks_per_host = 1000;
        self.store.memory().set_config(config);
        let got = block_on(ipam.assign(&all, self.now())).unwrap();
        assert_eq!(
            got.addresses.len(),
            128 - 8 - 2 + 32 + 64,
            "addresses are lost: {got:?}"
        );
    }
}
