//! All peers of a speaker under test on one thread, and the check of what they are told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::load::{Load, peer_address, peer_as};
use super::peer::{Peer, State};
use super::speakers::Job;
use super::wire::{self, HEADER, KEEPALIVE, NOTIFICATION, Net, OPEN, UPDATE};

/// The peers.
pub(super) struct Field {
    epoll: Epoll,
    pub(super) peers: Vec<Peer>,
    pub(super) load: Load,
    hold: u16,
    no_zero_med: bool,
    /// How many connections may be on their way at once.
    pub(super) pace: usize,
    /// What was wrong: the first few, and how many there were.
    pub(super) faults: Vec<String>,
    pub(super) fault_count: u64,
    canonical: Vec<u8>,
    scratch: Vec<u8>,
}

impl Field {
    pub(super) fn new(job: Job, load: Load, no_zero_med: bool) -> Result<Self, String> {
        let now = Instant::now();
        let peer = |peer| {
            Peer::new(
                peer_address(peer),
                peer_as(job.reflector, peer),
                load.nets.len(),
                now,
            )
        };
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
                .map_err(|error| error.to_string())?,
            peers: (0..job.peers).map(peer).collect(),
            load,
            hold: job.hold,
            no_zero_med,
            pace: 8,
            faults: Vec::new(),
            fault_count: 0,
            canonical: Vec::new(),
            scratch: vec![0; 256 * 1024],
        })
    }

    fn fault(&mut self, text: String) {
        self.fault_count += 1;
        if self.faults.len() < 5 {
            self.faults.push(text);
        }
    }

    pub(super) fn up(&self) -> usize {
        let up = |peer: &&Peer| peer.state == State::Up;
        self.peers.iter().filter(up).count()
    }

    /// Connects all peers that are not up; `None` when that took longer than `limit`.
    pub(super) fn bring_up(&mut self, limit: Duration) -> Option<Duration> {
        let begin = Instant::now();
        while self.up() < self.peers.len() {
            if begin.elapsed() > limit {
                return None;
            }
            let mut on_their_way = self.between();
            for at in 0..self.peers.len() {
                if on_their_way >= self.pace {
                    break;
                }
                let now = Instant::now();
                if self.peers[at].retry_at.is_some_and(|retry| retry <= now) {
                    on_their_way += 1;
                    self.dial(at, now);
                }
            }
            self.turn(Duration::from_millis(1));
        }
        Some(begin.elapsed())
    }

    fn between(&self) -> usize {
        let between = |peer: &&Peer| (State::Connecting..State::Up).contains(&peer.state);
        self.peers.iter().filter(between).count()
    }

    fn dial(&mut self, at: usize, now: Instant) {
        let peer = &mut self.peers[at];
        if peer.dial().is_err() {
            peer.retry_at = Some(now + Duration::from_millis(20));
            return;
        }
        self.watch(at, EpollFlags::EPOLLOUT | EpollFlags::EPOLLIN, false);
    }

    fn watch(&mut self, at: usize, flags: EpollFlags, known: bool) {
        let Some(stream) = &self.peers[at].stream else {
            return;
        };
        let mut event = EpollEvent::new(flags, at as u64);
        let done = if known {
            self.epoll.modify(stream.as_fd(), &mut event)
        } else {
            self.epoll.add(stream.as_fd(), event)
        };
        if let Err(error) = done {
            self.fault(format!("epoll: {error}"));
        }
    }

    /// Deals with what the sockets have, waiting at most `time`.
    pub(super) fn turn(&mut self, time: Duration) {
        let mut events = [EpollEvent::empty(); 256];
        let time = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        let count = self.epoll.wait(&mut events, time).unwrap_or(0);
        for event in &events[..count] {
            let at = event.data() as usize;
            if self.one(at, event.events()).is_err() {
                self.lost(at);
            }
        }
        self.stay_alive();
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left.min(Duration::from_millis(50)));
        }
    }

    fn lost(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let was = peer.state;
        peer.close();
        peer.retry_at = Some(Instant::now() + Duration::from_millis(20));
        if was == State::Up {
            self.fault(format!("peer {at}: the session was lost"));
        }
    }

    fn stay_alive(&mut self) {
        let (now, third) = (
            Instant::now(),
            Duration::from_secs(u64::from(self.hold / 3)),
        );
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if peer.state == State::Up && now.duration_since(peer.spoke_at) >= third {
                wire::keepalive(&mut peer.output);
                self.send(at);
            }
        }
    }

    /// Sends what the peer has to say; the rest follows as the socket takes it.
    pub(super) fn send(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        peer.spoke_at = Instant::now();
        let failed = peer.flush().is_err();
        let blocked = peer.is_blocked();
        if failed {
            self.lost(at);
        } else if blocked {
            self.watch(at, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, true);
        }
    }

    fn one(&mut self, at: usize, flags: EpollFlags) -> std::io::Result<()> {
        if flags.contains(EpollFlags::EPOLLOUT) {
            let peer = &mut self.peers[at];
            if peer.state == State::Connecting {
                peer.connected(self.hold)?;
            } else {
                peer.flush()?;
            }
            if !peer.is_blocked() {
                self.watch(at, EpollFlags::EPOLLIN, true);
            }
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            let mut scratch = std::mem::take(&mut self.scratch);
            loop {
                let more = self.peers[at].read(&mut scratch);
                // What came before the end counts as well.
                let input = std::mem::take(&mut self.peers[at].input);
                let taken = self.messages(at, &input);
                self.peers[at].input = input;
                self.peers[at].input.drain(..taken);
                match more {
                    Ok(true) => {}
                    other => {
                        self.scratch = scratch;
                        return other.map(drop);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads whole messages off the front; how many octets they are.
    fn messages(&mut self, at: usize, input: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(head) = input.get(taken..taken + HEADER) {
            let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
            let Some(message) = input.get(taken..taken + length.max(HEADER)) else {
                break;
            };
            taken += message.len();
            self.message(at, head[18], &message[HEADER..]);
        }
        taken
    }

    fn message(&mut self, at: usize, kind: u8, body: &[u8]) {
        let peer = &mut self.peers[at];
        match (kind, peer.state) {
            (OPEN, State::Open) => {
                peer.state = State::Confirm;
                wire::keepalive(&mut peer.output);
                self.send(at);
            }
            (KEEPALIVE, State::Confirm) => peer.state = State::Up,
            (UPDATE, State::Up) if self.update(at, body).is_none() => {
                self.fault(format!("peer {at}: an UPDATE that cannot be read"));
            }
            (NOTIFICATION, _) => self.fault(format!("peer {at}: NOTIFICATION {body:?}")),
            _ => {}
        }
    }

    fn update(&mut self, at: usize, body: &[u8]) -> Option<()> {
        let (mut withdrawn, attributes, mut announced) = wire::parts(body)?;
        while !withdrawn.is_empty() {
            let net = Net::read(&mut withdrawn)?;
            if let Some(&index) = self.load.index.get(&net) {
                self.peers[at].mark(index as usize, false);
            }
        }
        if !announced.is_empty() {
            wire::canonical(attributes, self.no_zero_med, &mut self.canonical)?;
            let set = self.load.expected.get(&self.canonical).copied();
            while !announced.is_empty() {
                self.announced(at, Net::read(&mut announced)?, set);
            }
        }
        let peer = &mut self.peers[at];
        if peer.done_at.is_none() && peer.count == peer.wanted {
            peer.done_at = Some(Instant::now());
        }
        Some(())
    }

    fn announced(&mut self, at: usize, net: Net, set: Option<u32>) {
        let Some(&index) = self.load.index.get(&net) else {
            return self.fault(format!("peer {at}: {net:?} was announced by nobody"));
        };
        let index = index as usize;
        if usize::from(self.load.owner[index]) == at {
            return; // Whether routes go back to where they are from is the speaker's business.
        }
        if set != Some(self.load.set_of[index]) {
            let attributes = self.canonical.clone();
            self.fault(format!("peer {at}: {net:?} with {attributes:02x?}"));
        }
        self.peers[at].mark(index, true);
    }

    /// Who does not hold what it should.
    pub(super) fn missing(&self) -> String {
        let short = |(at, peer): (usize, &Peer)| {
            (peer.count != peer.wanted)
                .then(|| format!("peer {at} holds {} instead of {}", peer.count, peer.wanted))
        };
        let all: Vec<_> = self.peers.iter().enumerate().filter_map(short).collect();
        all[..all.len().min(5)].join(", ")
    }

    /// Until every one of `peers` holds what it wants: when the last one did. `None` after `limit`.
    pub(super) fn until_done(
        &mut self,
        peers: std::ops::Range<usize>,
        limit: Duration,
    ) -> Option<Instant> {
        let begin = Instant::now();
        loop {
            let mut last = Some(begin);
            for peer in &mut self.peers[peers.clone()] {
                if peer.count == peer.wanted && peer.done_at.is_none() {
                    peer.done_at = Some(begin);
                }
                last = match (last, peer.done_at) {
                    (Some(last), Some(done)) => Some(last.max(done)),
                    _ => None,
                };
            }
            if last.is_some() || begin.elapsed() > limit {
                return last;
            }
            self.turn(Duration::from_millis(20));
        }
    }
}
