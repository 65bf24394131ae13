//! Speakers on a virtual clock: connections with delay, loss of a machine, of a process, of a network.
#![allow(dead_code, unreachable_pub)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ocicat_bgp::{
    Attributes, Event, Input, LinkId, Output, PeerConfig, PeerId, Prefix, Route, Speaker,
    SpeakerConfig, State, Stop,
};

/// One end of a connection.
type End = (usize, PeerId, LinkId);

enum Happening {
    /// A connection request arrives.
    Knock {
        from: End,
        to: usize,
    },
    Connected(End),
    Refused(End),
    Bytes(End, Vec<u8>),
    Closed(End),
}

pub struct Node {
    pub speaker: Speaker,
    pub address: IpAddr,
    /// What the host has been told, and how often.
    pub best: BTreeMap<Prefix, Vec<Option<IpAddr>>>,
    pub events: Vec<Event>,
}

pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Option<Node>>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    happenings: HashMap<usize, Happening>,
    sequence: u64,
    /// The other end of each end.
    other: HashMap<End, End>,
    /// When the last bytes to an end arrive: later ones must not overtake them.
    arrival: HashMap<End, Instant>,
    cut: HashSet<(usize, usize)>,
    held: Vec<(usize, usize, Happening)>,
    timers: BTreeSet<(Instant, usize)>,
    timer: Vec<Option<Instant>>,
    random: u64,
    pub delay: (u64, u64),
}

pub fn address(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, (node / 250) as u8, (node % 250) as u8 + 1).into()
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            sequence: 0,
            other: HashMap::new(),
            arrival: HashMap::new(),
            cut: HashSet::new(),
            held: Vec::new(),
            timers: BTreeSet::new(),
            timer: Vec::new(),
            random: seed,
            delay: (100, 2000),
        }
    }

    fn random(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 33) % bound.max(1)
    }

    /// A speaker whose router id and address are those of its number.
    pub fn config(node: usize, as_number: u32) -> SpeakerConfig {
        let IpAddr::V4(id) = address(node) else {
            unreachable!()
        };
        SpeakerConfig::new(as_number, id).seed(node as u64 + 1)
    }

    pub fn start(&mut self, node: usize, config: SpeakerConfig) -> &mut Speaker {
        while self.nodes.len() <= node {
            self.nodes.push(None);
        }
        let mut speaker = Speaker::new(config, self.now);
        speaker.subscribe();
        let address = address(node);
        let made = Node {
            speaker,
            address,
            best: BTreeMap::new(),
            events: Vec::new(),
        };
        &mut self.nodes[node].insert(made).speaker
    }

    pub fn speaker(&mut self, node: usize) -> &mut Speaker {
        &mut self.nodes[node].as_mut().unwrap().speaker
    }

    pub fn node(&mut self, node: usize) -> &mut Node {
        self.nodes[node].as_mut().unwrap()
    }

    pub fn peer(&mut self, node: usize, config: PeerConfig) -> PeerId {
        let now = self.now;
        self.speaker(node).add_peer(config, now).unwrap()
    }

    fn wait(&mut self) -> Duration {
        let (least, most) = self.delay;
        let extra = self.random(most - least + 1);
        Duration::from_micros(least + extra)
    }

    fn push(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        let key = self.sequence as usize;
        self.happenings.insert(key, happening);
        self.queue.push(Reverse((at, self.sequence, key)));
    }

    /// Sends something from node to node, in order per end.
    fn send(&mut self, from: usize, to: End, happening: Happening) {
        if self.cut.contains(&(from, to.0)) {
            self.held.push((from, to.0, happening));
            return;
        }
        let at = (self.now + self.wait()).max(self.arrival.get(&to).copied().unwrap_or(self.now));
        self.arrival.insert(to, at);
        self.push(at, happening);
    }

    /// The process dies; its kernel closes the connections.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
        self.drain(node);
        for end in self.ends(node) {
            if let Some(other) = self.other.remove(&end) {
                self.send(node, other, Happening::Closed(other));
            }
        }
    }

    /// The machine dies: nobody hears anything.
    pub fn vanish(&mut self, node: usize) {
        self.nodes[node] = None;
        self.drain(node);
        for end in self.ends(node) {
            self.other.remove(&end);
        }
    }

    fn ends(&self, node: usize) -> Vec<End> {
        let mut ends: Vec<_> = self
            .other
            .keys()
            .copied()
            .filter(|end| end.0 == node)
            .collect();
        ends.sort_unstable();
        ends
    }

    pub fn stop(&mut self, node: usize, stop: &Stop) {
        let now = self.now;
        self.speaker(node).stop(stop, now);
        self.drain(node);
        self.kill(node);
    }

    /// Nothing passes between the two until [`Net::heal`].
    pub fn part(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        for (from, to, happening) in std::mem::take(&mut self.held) {
            let end = match &happening {
                Happening::Knock { from, to } => (*to, from.1, from.2),
                Happening::Connected(end)
                | Happening::Refused(end)
                | Happening::Bytes(end, _)
                | Happening::Closed(end) => *end,
            };
            assert_eq!(end.0, to);
            self.send(from, end, happening);
        }
    }

    /// Lets the given time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
        loop {
            let next = self.queue.peek().map(|Reverse((at, ..))| *at);
            let timer = self.timers.first().copied();
            match (next, timer) {
                (Some(at), timer) if at <= end && timer.is_none_or(|(time, _)| at <= time) => {
                    self.now = self.now.max(at);
                    let Some(Reverse((_, _, key))) = self.queue.pop() else {
                        return;
                    };
                    let happening = self.happenings.remove(&key).unwrap();
                    self.happen(happening);
                }
                (_, Some((time, node))) if time <= end => {
                    self.now = self.now.max(time);
                    let now = self.now;
                    self.speaker(node).handle_timeout(now);
                    self.drain(node);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Knock { from, to } => {
                let remote = address(from.0);
                let accepted = match &mut self.nodes[to] {
                    Some(node) => node.speaker.accept(remote, node.address, now),
                    None => None,
                };
                let Some((peer, link)) = accepted else {
                    self.send(to, from, Happening::Refused(from));
                    return;
                };
                let end = (to, peer, link);
                self.other.insert(end, from);
                self.other.insert(from, end);
                self.send(to, from, Happening::Connected(from));
                self.drain(to);
            }
            Happening::Connected(end) => {
                self.input(end, |end| Input::Connected(end.2, address(end.0)));
            }
            Happening::Refused(end) => {
                self.input(end, |end| Input::ConnectFailed(end.2, "refused".to_owned()));
            }
            Happening::Bytes(end, bytes) => {
                if self.other.contains_key(&end) {
                    self.input(end, |end| Input::Received(end.2, &bytes));
                }
            }
            Happening::Closed(end) => {
                if self.other.remove(&end).is_some() {
                    self.input(end, |end| Input::Closed(end.2));
                }
            }
        }
    }

    fn input<'a>(&mut self, end: End, input: impl FnOnce(End) -> Input<'a>) {
        let now = self.now;
        if let Some(node) = &mut self.nodes[end.0] {
            node.speaker.handle(end.1, input(end), now);
            self.drain(end.0);
        }
    }

    /// Carries out what a speaker asks for.
    pub fn drain(&mut self, at: usize) {
        self.carry_out(at);
        let next = self.nodes[at]
            .as_ref()
            .and_then(|node| node.speaker.poll_timeout());
        self.timer.resize(self.nodes.len(), None);
        if let Some(old) = std::mem::replace(&mut self.timer[at], next) {
            self.timers.remove(&(old, at));
        }
        self.timers.extend(next.map(|next| (next, at)));
    }

    fn carry_out(&mut self, at: usize) {
        let now = self.now;
        loop {
            let Some(node) = &mut self.nodes[at] else {
                return;
            };
            let mut idle = true;
            while let Some(event) = node.speaker.poll_event() {
                if let Event::Best { prefix, routes, .. } = &event {
                    let hops: Vec<_> = routes.iter().map(|route| route.next_hop).collect();
                    if hops.is_empty() {
                        node.best.remove(prefix);
                    } else {
                        node.best.insert(*prefix, hops);
                    }
                }
                node.events.push(event);
            }
            let mut outputs = Vec::new();
            while let Some(output) = node.speaker.poll_output() {
                outputs.push(output);
            }
            let mut sends = Vec::new();
            while let Some((peer, link)) = node.speaker.poll_ready() {
                let mut bytes = Vec::new();
                while node.speaker.poll_transmit(peer, link, now, &mut bytes) {}
                sends.push(((at, peer, link), bytes));
            }
            for (end, bytes) in sends {
                if let (false, Some(&other)) = (bytes.is_empty(), self.other.get(&end)) {
                    idle = false;
                    self.send(at, other, Happening::Bytes(other, bytes));
                }
            }
            for output in outputs {
                idle = false;
                self.act(at, output);
            }
            if idle {
                return;
            }
        }
    }

    fn act(&mut self, at: usize, output: Output) {
        match output {
            Output::Connect { peer, link } => {
                let to = self
                    .speaker(at)
                    .peer_config(peer)
                    .map(|config| config.address);
                let to = (0..self.nodes.len()).find(|&node| Some(address(node)) == to);
                if let Some(to) = to {
                    let from = (at, peer, link);
                    self.send(at, (to, peer, link), Happening::Knock { from, to });
                }
            }
            Output::Close { peer, link, last } => {
                if let Some(other) = self.other.remove(&(at, peer, link)) {
                    if !last.is_empty() {
                        self.send(at, other, Happening::Bytes(other, last));
                    }
                    self.send(at, other, Happening::Closed(other));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn established(&mut self, node: usize) -> usize {
        let peers = self.speaker(node).peers();
        peers
            .iter()
            .filter(|peer| peer.state == State::Established)
            .count()
    }

    /// The prefixes that a node has a path to.
    pub fn prefixes(&mut self, node: usize) -> BTreeSet<Prefix> {
        self.speaker(node)
            .routes()
            .iter()
            .map(|route| route.prefix)
            .collect()
    }

    pub fn route(&mut self, node: usize, prefix: Prefix) -> Option<Route> {
        self.speaker(node)
            .routes()
            .into_iter()
            .find(|route| route.prefix == prefix)
    }
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// The block `number` of node `node`.
pub fn block(node: usize, number: usize) -> Prefix {
    let address = Ipv4Addr::new(
        10,
        100 + (node / 250) as u8,
        (node % 250) as u8,
        (number * 64) as u8,
    );
    Prefix::containing(address.into(), 26).unwrap()
}

pub fn originate(speaker: &mut Speaker, node: usize, blocks: usize) {
    for number in 0..blocks {
        speaker.originate(block(node, number), &Attributes::local());
    }
}
