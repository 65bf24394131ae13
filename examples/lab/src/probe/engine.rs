use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Outcome, Verdict};
use crate::place::Place;
use crate::scenario::Protocol;

/// Sockets that are open at once: more would only wait for a processor.
const AT_ONCE: usize = 4000;
/// How often a probe is sent before its time is up: what one packet cannot tell from a loss, three can.
const TRIES: u32 = 3;

/// A probe with its ends found.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where it starts.
    pub from: Arc<Place>,
    /// Where it goes; the port is 0 for ICMP.
    pub to: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who has to answer, where a server of the lab is known to listen.
    pub identity: Option<String>,
}

/// Runs probes in parallel; the outcomes are in the order of the attempts.
///
/// A denied probe costs `patience`, and all of them overlap.
pub async fn run(attempts: Vec<Attempt>, patience: Duration) -> Vec<Outcome> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = attempts
        .into_iter()
        .map(|attempt| {
            let permits = permits.clone();
            tokio::spawn(async move {
                let _permit = permits.acquire().await;
                one(&attempt, patience).await
            })
        })
        .collect();
    let mut outcomes = Vec::with_capacity(tasks.len());
    for task in tasks {
        outcomes.push(
            task.await
                .unwrap_or_else(|error| failed(0.0, &error.to_string())),
        );
    }
    outcomes
}

fn failed(ms: f64, detail: &str) -> Outcome {
    Outcome {
        result: Verdict::Error,
        ms,
        detail: Some(detail.to_owned()),
    }
}

/// Who answered, as far as the answer says so; or how the asking failed.
type Asked = Result<Option<String>, io::Error>;

async fn one(attempt: &Attempt, patience: Duration) -> Outcome {
    let began = Instant::now();
    let deadline = began + patience;
    let asked = match attempt.protocol {
        Protocol::Tcp => tcp(attempt, patience, deadline).await,
        Protocol::Udp | Protocol::Icmp => datagrams(attempt, patience, deadline).await,
    };
    let ms = (began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
    let (result, detail) = match asked {
        Ok(who) => judge_answer(who, attempt.identity.as_deref()),
        Err(error) => judge_error(&error),
    };
    Outcome { result, ms, detail }
}

fn judge_answer(who: Option<String>, expected: Option<&str>) -> (Verdict, Option<String>) {
    match (who, expected) {
        (Some(who), Some(expected)) if who != expected => {
            (Verdict::Error, Some(format!("{who} answered")))
        }
        _ => (Verdict::Allowed, None),
    }
}

fn judge_error(error: &io::Error) -> (Verdict, Option<String>) {
    let said = |text: &str| Some(text.to_owned());
    match error.kind() {
        ErrorKind::TimedOut => (Verdict::Denied, None),
        ErrorKind::ConnectionRefused => (Verdict::Allowed, said("closed")),
        // What ICMP's administratively prohibited becomes in a socket.
        ErrorKind::HostUnreachable => (Verdict::Denied, said("prohibited")),
        // A packet dropped on its way out of this very machine.
        ErrorKind::PermissionDenied => (Verdict::Denied, said("not permitted to leave")),
        _ => (Verdict::Error, Some(error.to_string())),
    }
}

/// Connects and reads the line that the lab's servers say first. A second connection is tried before the time is up: the
/// kernel repeats a lost SYN only after a second.
async fn tcp(attempt: &Attempt, patience: Duration, deadline: Instant) -> Asked {
    let first = connect(attempt);
    let second = async {
        sleep(patience / 3).await;
        connect(attempt).await
    };
    tokio::pin!(first, second);
    let connected = timeout_at(deadline, async {
        tokio::select! {
            stream = &mut first => stream,
            stream = &mut second => stream,
        }
    });
    let stream = connected
        .await
        .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
    Ok(timeout_at(deadline, banner(stream)).await.ok().flatten())
}

async fn connect(attempt: &Attempt) -> io::Result<TcpStream> {
    let opened = attempt
        .from
        .run(if attempt.to.is_ipv4() {
            TcpSocket::new_v4
        } else {
            TcpSocket::new_v6
        })
        .await
        .map_err(io::Error::other)?;
    opened?.connect(attempt.to).await
}

async fn banner(stream: TcpStream) -> Option<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.ok()?;
    line.strip_suffix('\n').map(str::to_owned)
}

/// Sends a nonce until it comes back.
async fn datagrams(attempt: &Attempt, patience: Duration, deadline: Instant) -> Asked {
    let (ipv4, ping) = (attempt.to.is_ipv4(), attempt.protocol == Protocol::Icmp);
    let open = move || {
        if ping {
            ping_socket(ipv4)
        } else {
            udp_socket(ipv4)
        }
    };
    let opened = attempt.from.run(open).await.and_then(|opened| opened);
    let socket = UdpSocket::from_std(opened.map_err(io::Error::other)?)?;
    let to = SocketAddr::new(
        attempt.to.ip(),
        if attempt.protocol == Protocol::Icmp {
            0
        } else {
            attempt.to.port()
        },
    );
    socket.connect(to).await?;
    let nonce = nonce(&socket);
    let packet = if attempt.protocol == Protocol::Icmp {
        echo_request(&nonce, ipv4)
    } else {
        nonce.to_vec()
    };
    let mut buffer = [0u8; 512];
    for _ in 0..TRIES {
        socket.send(&packet).await?;
        let next = (Instant::now() + patience / TRIES).min(deadline);
        while let Ok(received) = timeout_at(next, socket.recv(&mut buffer)).await {
            let answer = &buffer[..received?];
            if let Some(at) = answer
                .windows(nonce.len())
                .position(|window| window == nonce)
            {
                let who = String::from_utf8_lossy(&answer[at + nonce.len()..]).into_owned();
                return Ok(Some(who).filter(|who| !who.is_empty()));
            }
        }
    }
    // The tries' rounding must not make a denial quicker than it was asked to be.
    let _ = timeout(
        deadline.saturating_duration_since(Instant::now()),
        std::future::pending::<()>(),
    )
    .await;
    Err(ErrorKind::TimedOut.into())
}

fn udp_socket(ipv4: bool) -> Result<std::net::UdpSocket> {
    let any = if ipv4 { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any).context("a UDP socket")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A ping socket behaves as a UDP one whose port is the echo identifier; the place allows it to group 0.
fn ping_socket(ipv4: bool) -> Result<std::net::UdpSocket> {
    let (family, protocol) = if ipv4 {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Datagram, flags, protocol).context("a ping socket")?;
    Ok(socket.into())
}

/// Type 8 of ICMP, 128 of ICMPv6; the kernel fills in checksum and identifier.
fn echo_request(nonce: &[u8], ipv4: bool) -> Vec<u8> {
    let mut packet = vec![if ipv4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(nonce);
    packet
}

/// Unlike any other probe's: the address of the socket on this heap and the time.
fn nonce(socket: &UdpSocket) -> [u8; 16] {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    let port = socket.local_addr().map_or(0, |address| address.port());
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&RandomState::new().hash_one(port).to_be_bytes());
    nonce[8..].copy_from_slice(&RandomState::new().hash_one(port).to_be_bytes());
    nonce
}

impl Attempt {
    /// The address that is asked.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.to.ip()
    }
}
