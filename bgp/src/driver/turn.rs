use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::handle::Command;
use super::{Connection, Inner, Listener, socket};
use crate::identity::PeerId;
use crate::peer::PeerConfig;
use crate::session::{LinkId, Stop};
use crate::speaker::{DynamicPeers, Input, Output};

/// How often one socket is read before the others get their turn.
const READS: usize = 4;
/// How many connections are accepted, and how many commands taken, before sockets get their turn.
const BATCH: usize = 256;

impl Future for Inner {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.wakes.watch(cx.waker());
        self.take_commands(cx);
        self.accept(cx);
        self.read();
        let now = Instant::now();
        if self.speaker.poll_timeout().is_some_and(|at| at <= now) {
            self.speaker.handle_timeout(now);
        }
        self.act();
        self.report(cx);
        if let Some((_, replies)) = self.stopping.take() {
            for reply in replies {
                let _ = reply.send(());
            }
            return Poll::Ready(());
        }
        self.rest(cx);
        Poll::Pending
    }
}

impl Inner {
    fn take_commands(&mut self, cx: &mut Context<'_>) {
        for _ in 0..BATCH {
            match self.commands.poll_recv(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => {
                    if self.stopping.is_none() {
                        self.speaker.stop(&Stop::Silent, Instant::now());
                        self.stopping = Some((Stop::Silent, Vec::new()));
                    }
                    return;
                }
                Poll::Ready(Some(command)) => self.command(command),
            }
        }
        cx.waker().wake_by_ref();
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        // A caller that is gone does not want the answer.
        match command {
            Command::AddPeer(config, reply) => {
                self.sign(config.address, None, config.password.as_ref());
                let _ = reply.send(self.speaker.add_peer(*config, now));
            }
            Command::UpdatePeer(peer, config, reply) => {
                self.sign(config.address, None, config.password.as_ref());
                self.sign_open(peer, &config);
                let _ = reply.send(self.speaker.update_peer(peer, *config, now));
            }
            Command::AddDynamic(dynamic) => self.add_dynamic(*dynamic),
            Command::RemoveDynamic(prefix, cease) => {
                if self.speaker.remove_dynamic_peers(&prefix, &cease, now) {
                    self.sign(prefix.address(), Some(prefix.length()), None);
                }
            }
            Command::RemovePeer(peer, cease, reply) => {
                let address = self.speaker.peer_config(peer).map(|config| config.address);
                let _ = reply.send(self.speaker.remove_peer(peer, cease, now));
                if let Some(address) = address {
                    self.sign(address, None, None);
                }
            }
            Command::ResetPeer(peer, cease) => drop(self.speaker.reset_peer(peer, &cease, now)),
            Command::Originate(prefix, attributes) => self.speaker.originate(prefix, &attributes),
            Command::Withdraw(prefix) => {
                self.speaker.withdraw(&prefix);
            }
            Command::Complete => self.speaker.originations_complete(),
            Command::NextHop(address, cost) => self.speaker.set_next_hop(address, cost),
            Command::Interface(address, interface) => {
                self.speaker
                    .set_next_hop_interface(address, interface.as_deref());
            }
            Command::Events(sender) => {
                self.events = Some(sender);
                self.room = None;
                self.speaker.unsubscribe();
                self.speaker.subscribe();
            }
            Command::Peers(reply) => {
                let _ = reply.send(self.speaker.peers());
            }
            Command::Routes(reply) => {
                let _ = reply.send(self.speaker.routes());
            }
            #[cfg(feature = "metrics")]
            Command::Metrics(reply) => drop(reply.send(self.speaker.metrics())),
            Command::Stop(stop, reply) => {
                self.speaker.stop(&stop, now);
                self.stopping
                    .get_or_insert_with(|| (stop, Vec::new()))
                    .1
                    .push(reply);
            }
        }
    }

    fn add_dynamic(&mut self, dynamic: DynamicPeers) {
        let (prefix, password) = (dynamic.prefix, dynamic.template.password.as_ref());
        self.sign(prefix.address(), Some(prefix.length()), password);
        self.speaker.add_dynamic_peers(dynamic);
    }

    /// Changes the key of a peer's open connections, if it is another one (RFC 2385 section 4.5).
    fn sign_open(&self, peer: PeerId, config: &PeerConfig) {
        let old = self.speaker.peer_config(peer);
        if old.is_none_or(|old| old.password == config.password) {
            return;
        }
        for connection in self.connections.iter().flatten() {
            if connection.peer == peer {
                // Without a key on either side there is nothing to take away.
                let _ = connection.sign(config);
            }
        }
    }

    /// Gives the listening sockets a peer's key.
    fn sign(&self, peer: IpAddr, prefix: Option<u8>, password: Option<&crate::Password>) {
        for listener in &self.listeners {
            let _ = match listener {
                Listener::Bound(listener) => socket::sign(listener, peer, prefix, password),
                Listener::Open(listener) => socket::sign(listener, peer, prefix, password),
                Listener::Failed => Ok(()),
            };
        }
    }

    fn accept(&mut self, cx: &mut Context<'_>) {
        for at in 0..self.listeners.len() {
            let listener = std::mem::replace(&mut self.listeners[at], Listener::Failed);
            let listener = match listener {
                Listener::Bound(listener) => match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(_) => continue,
                },
                Listener::Open(listener) => listener,
                Listener::Failed => continue,
            };
            for turn in 0.. {
                if turn == BATCH {
                    cx.waker().wake_by_ref();
                    break;
                }
                match listener.poll_accept(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok((stream, remote))) => self.accepted(stream, remote.ip()),
                    // The connection was gone before it was accepted, or descriptors have run out: the
                    // timers bring the next turn.
                    Poll::Ready(Err(_)) => break,
                }
            }
            self.listeners[at] = Listener::Open(listener);
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: IpAddr) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let Some((peer, link)) = self.speaker.accept(remote, local.ip(), Instant::now()) else {
            return;
        };
        let prepared = match self.speaker.peer_config(peer) {
            Some(config) => socket::prepare(&stream, config),
            None => Ok(()),
        };
        if prepared.is_err() {
            self.speaker
                .handle(peer, Input::Closed(link), Instant::now());
            return;
        }
        self.insert(peer, link, stream, false);
    }

    fn insert(&mut self, peer: PeerId, link: LinkId, stream: TcpStream, connecting: bool) {
        let free = self.connections.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = Connection::new(peer, link, stream, connecting, at, &self.wakes);
        connection.wake();
        self.connections[at] = Some(connection);
        self.index.insert((peer, link), at);
    }

    fn remove(&mut self, peer: PeerId, link: LinkId) -> Option<Connection> {
        let at = self.index.remove(&(peer, link))?;
        self.connections[at].take()
    }

    /// Takes in whatever the sockets that were woken have.
    fn read(&mut self) {
        let mut woken = Vec::new();
        self.wakes.take(&mut woken);
        for at in woken {
            let Some(connection) = &self.connections[at] else {
                continue;
            };
            connection.rearm();
            let (peer, link) = (connection.peer, connection.link);
            if connection.connecting {
                self.connected(at, peer, link);
            }
            if self.read_one(at).is_err() {
                self.lost(peer, link);
            } else if self.connections[at]
                .as_ref()
                .is_some_and(Connection::is_blocked)
            {
                self.unblock(at);
            }
        }
    }

    fn connected(&mut self, at: usize, peer: PeerId, link: LinkId) {
        let Some(connection) = &mut self.connections[at] else {
            return;
        };
        let input = match connection.poll_connected() {
            Poll::Pending => return,
            Poll::Ready(Ok(local)) => {
                connection.connecting = false;
                Input::Connected(link, local)
            }
            Poll::Ready(Err(error)) => {
                self.remove(peer, link);
                Input::ConnectFailed(link, error.to_string())
            }
        };
        self.speaker.handle(peer, input, Instant::now());
    }

    fn read_one(&mut self, at: usize) -> io::Result<()> {
        for _ in 0..READS {
            let Some(connection) = &mut self.connections[at] else {
                return Ok(());
            };
            if connection.connecting {
                return Ok(());
            }
            let Some(count) = connection.read(&mut self.input)? else {
                return Ok(());
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let input = Input::Received(connection.link, &self.input[..count]);
            self.speaker.handle(connection.peer, input, Instant::now());
        }
        if let Some(connection) = &self.connections[at] {
            connection.wake();
        }
        Ok(())
    }

    fn lost(&mut self, peer: PeerId, link: LinkId) {
        if self.remove(peer, link).is_some() {
            self.speaker
                .handle(peer, Input::Closed(link), Instant::now());
        }
    }

    /// Goes on with a connection whose socket took nothing before.
    fn unblock(&mut self, at: usize) {
        let Some(connection) = &mut self.connections[at] else {
            return;
        };
        let (peer, link) = (connection.peer, connection.link);
        match connection.flush() {
            Ok(true) => {
                self.speaker
                    .handle(peer, Input::Unblocked(link), Instant::now());
                self.transmit(peer, link);
            }
            Ok(false) => self
                .speaker
                .handle(peer, Input::Blocked(link), Instant::now()),
            Err(_) => self.lost(peer, link),
        }
    }

    fn transmit(&mut self, peer: PeerId, link: LinkId) {
        let Some(&at) = self.index.get(&(peer, link)) else {
            return;
        };
        loop {
            let Some(connection) = &mut self.connections[at] else {
                return;
            };
            if connection.is_blocked() || connection.connecting {
                return;
            }
            self.output.clear();
            let more = self
                .speaker
                .poll_transmit(peer, link, Instant::now(), &mut self.output);
            match connection.send(&self.output) {
                Ok(true) if more => {}
                Ok(true) => return,
                Ok(false) => {
                    return self
                        .speaker
                        .handle(peer, Input::Blocked(link), Instant::now());
                }
                Err(_) => return self.lost(peer, link),
            }
        }
    }

    /// Does what the speaker asks for until it asks for nothing.
    fn act(&mut self) {
        loop {
            let mut idle = true;
            while let Some(output) = self.speaker.poll_output() {
                idle = false;
                match output {
                    Output::Connect { peer, link } => self.dial(peer, link),
                    Output::Close { peer, link, last } => {
                        if let Some(connection) = self.remove(peer, link) {
                            connection.close(&last, &mut self.input);
                        }
                    }
                }
            }
            while let Some((peer, link)) = self.speaker.poll_ready() {
                idle = false;
                self.transmit(peer, link);
            }
            if idle {
                return;
            }
        }
    }

    fn dial(&mut self, peer: PeerId, link: LinkId) {
        let Some(config) = self.speaker.peer_config(peer) else {
            return;
        };
        match socket::dial(config).and_then(TcpStream::from_std) {
            Ok(stream) => self.insert(peer, link, stream, true),
            Err(error) => {
                let input = Input::ConnectFailed(link, error.to_string());
                self.speaker.handle(peer, input, Instant::now());
            }
        }
    }

    /// Tells the host as much as it can take.
    fn report(&mut self, cx: &mut Context<'_>) {
        let Some(events) = self.events.clone() else {
            // Nobody listens: what happened is not kept.
            while self.speaker.poll_event().is_some() {}
            return;
        };
        if let Some(room) = &mut self.room {
            match room.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(_) => self.room = None,
            }
        }
        loop {
            match events.try_reserve() {
                Ok(permit) => match self.speaker.poll_event() {
                    Some(event) => permit.send(event),
                    None => break,
                },
                Err(mpsc::error::TrySendError::Full(())) => {
                    let sender = events.clone();
                    // The permit is given back; what counts is to be woken.
                    let mut room: super::Room =
                        Box::pin(async move { drop(sender.reserve().await) });
                    if room.as_mut().poll(cx).is_pending() {
                        self.room = Some(room);
                        break;
                    }
                }
                Err(mpsc::error::TrySendError::Closed(())) => {
                    self.events = None;
                    self.speaker.unsubscribe();
                    break;
                }
            }
        }
    }

    /// Sleeps until something is due.
    fn rest(&mut self, cx: &mut Context<'_>) {
        let Some(at) = self.speaker.poll_timeout() else {
            return;
        };
        let at = tokio::time::Instant::from_std(at);
        match &mut self.sleep {
            Some(sleep) => {
                if sleep.deadline() != at {
                    sleep.as_mut().reset(at);
                }
            }
            none => *none = Some(Box::pin(tokio::time::sleep_until(at))),
        }
        if let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
