//! What the peers announce: prefixes, attribute sets, and what everybody else must then hold.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::wire::{self, Net, Set};

/// The speaker under test.
pub(super) const AS: u32 = 65000;
pub(super) const ID: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The address and identifier of a peer.
pub(super) fn peer_address(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + peer as u32)
}

fn next_hop(peer: usize) -> u32 {
    u32::from(Ipv4Addr::new(198, 18, 0, 1)) + peer as u32
}

/// The AS of a peer between ASes.
pub(super) fn peer_as(reflector: bool, peer: usize) -> u32 {
    if reflector { AS } else { 64601 + peer as u32 }
}

/// A small generator (xorshift): the same load each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }
}

/// What is announced.
pub(super) struct Load {
    pub(super) nets: Vec<Net>,
    /// By prefix: which set, and which peer announces it.
    pub(super) set_of: Vec<u32>,
    pub(super) owner: Vec<u16>,
    pub(super) index: HashMap<Net, u32, Mixing>,
    /// The sets as others must receive them.
    pub(super) expected: HashMap<Vec<u8>, u32>,
    /// By peer: its prefixes as messages.
    pub(super) announce: Vec<Vec<u8>>,
    pub(super) withdraw: Vec<Vec<u8>>,
}

/// A quick hash for keys of this size; the driver must not be what is measured.
#[derive(Clone, Copy, Default)]
pub(super) struct Mixing;

#[derive(Default)]
pub(super) struct Mixer(u64);

impl std::hash::BuildHasher for Mixing {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

impl std::hash::Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xbf58_476d_1ce4_e5b9;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the receivers must get of a set that `peer` sent (RFC 4271 section 5, RFC 4456 section 8).
fn as_received(sent: &Set, reflector: bool, peer: usize) -> Set {
    let mut set = sent.clone();
    if reflector {
        set.originator = Some(peer_address(peer).into());
        set.clusters = vec![ID.into()];
    } else {
        set.path.insert(0, AS);
        set.next_hop = ADDRESS.into();
        set.med = None;
    }
    set
}

impl Load {
    fn new(senders: usize, nets: usize) -> Self {
        Self {
            nets: Vec::with_capacity(nets),
            set_of: Vec::with_capacity(nets),
            owner: Vec::with_capacity(nets),
            index: HashMap::with_capacity_and_hasher(nets, Mixing),
            expected: HashMap::new(),
            announce: vec![Vec::new(); senders],
            withdraw: vec![Vec::new(); senders],
        }
    }

    fn add(&mut self, net: Net) -> bool {
        let fresh = !self.index.contains_key(&net);
        if fresh {
            self.index.insert(net, self.nets.len() as u32);
            self.nets.push(net);
        }
        fresh
    }

    fn assign(&mut self, set: &Set, reflector: bool, peer: usize) {
        let id = self.expected.len() as u32;
        self.expected
            .insert(as_received(set, reflector, peer).octets(), id);
        self.set_of.resize(self.nets.len(), id);
        self.owner.resize(self.nets.len(), peer as u16);
    }

    /// Prefixes as the Internet has them from one peer in another AS: most are /24, 5 to 20 share their attributes.
    pub(super) fn internet(count: usize) -> Self {
        let mut random = Random(0x0c1_ca7);
        let mut load = Self::new(1, count);
        let mut sets = 0;
        while load.nets.len() < count {
            let begin = load.nets.len();
            let end = count.min(begin + 5 + random.below(16) as usize);
            while load.nets.len() < end {
                let length = match random.below(100) {
                    0..=60 => 24,
                    61..=80 => 22 + random.below(2) as u8,
                    81..=92 => 17 + random.below(5) as u8,
                    93..=95 => 12 + random.below(5) as u8,
                    _ => 25 + random.below(8) as u8,
                };
                let address = (random.below(1 << 32) as u32) & (u32::MAX << (32 - length));
                let first = address >> 24;
                if !matches!(first, 0 | 10 | 127 | 198 | 224..) {
                    load.add(Net { address, length });
                }
            }
            sets += 1;
            let set = random_set(&mut random, sets);
            load.assign(&set, false, 0);
            wire::announce(&set, &load.nets[begin..end], &mut load.announce[0]);
        }
        wire::withdraw(&load.nets, &mut load.withdraw[0]);
        load
    }

    /// Blocks of /26 as nodes have them: `blocks` from each of `senders` clients of a reflector, one set each.
    pub(super) fn nodes(senders: usize, blocks: usize) -> Self {
        let mut load = Self::new(senders, senders * blocks);
        let base = u32::from(Ipv4Addr::new(100, 64, 0, 0));
        for peer in 0..senders {
            let begin = load.nets.len();
            for block in begin..begin + blocks {
                load.add(Net {
                    address: base + ((block as u32) << 6),
                    length: 26,
                });
            }
            let set = Set {
                next_hop: next_hop(peer),
                local_pref: Some(100),
                ..Set::default()
            };
            load.assign(&set, true, peer);
            wire::announce(&set, &load.nets[begin..], &mut load.announce[peer]);
            wire::withdraw(&load.nets[begin..], &mut load.withdraw[peer]);
        }
        load
    }
}

fn random_set(random: &mut Random, number: u32) -> Set {
    let mut path = vec![peer_as(false, 0)];
    for _ in 0..1 + random.below(5) {
        // Never the speaker's own number: that would be a loop.
        let wide = random.below(4) == 0;
        let (least, count) = if wide {
            (131_072, 200_000)
        } else {
            (1000, 60_000)
        };
        path.push(least + random.below(count) as u32);
    }
    // The last one makes the set unlike all others.
    path.push(400_000_000 + number);
    let some = |random: &mut Random, most: u64| 1 + random.below(most) as usize;
    let mut set = Set {
        origin: if random.below(10) == 0 { 2 } else { 0 },
        path,
        next_hop: next_hop(0),
        med: (random.below(10) < 3).then(|| random.below(1000) as u32),
        ..Set::default()
    };
    if random.below(10) < 6 {
        let count = some(random, 7);
        set.communities = (0..count)
            .map(|_| (1000 + random.below(60_000) as u32) << 16 | random.below(65_000) as u32)
            .collect();
        set.communities.sort_unstable();
        set.communities.dedup();
    }
    if random.below(10) == 0 {
        set.large = vec![[200_000 + random.below(1000) as u32, 1, 2]];
    }
    set
}
