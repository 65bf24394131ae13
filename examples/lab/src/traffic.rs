//! Traffic that must not notice anything: numbered UDP datagrams both ways, and a TCP stream.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{setsockopt, sockopt};

use crate::place::Place;

/// Datagrams a second, each way, where nothing else is said.
pub const RATE: u32 = 2000;
/// The UDP port of the echo that serves the traffic.
pub const PORT: u16 = 9100;
/// How long the last datagram may be under way.
const LAST: Duration = Duration::from_millis(300);
/// What the TCP stream writes at a time, each 5 ms.
const CHUNK: usize = 8 << 10;

/// Traffic between two places, until it is stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<u64>>,
    receiver: JoinHandle<io::Result<Vec<u64>>>,
    echo: JoinHandle<io::Result<u64>>,
    stream: JoinHandle<io::Result<Stream>>,
}

/// How the TCP stream fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    /// Bytes that came back as they were sent.
    pub bytes: u64,
    /// The longest time without a byte.
    pub longest_pause: Duration,
}

/// What became of the traffic.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the other end got, and sent back.
    pub echoed: u64,
    /// Datagrams that came back.
    pub returned: u64,
    /// The first numbers that did not come back.
    pub missing: Vec<u64>,
    /// The TCP stream.
    pub stream: Stream,
}

impl Traffic {
    /// Starts traffic, so many datagrams a second, from `client` to `server` at `address`, whose TCP port `tcp` echoes after a greeting of one line.
    ///
    /// # Errors
    /// When a socket cannot be opened or connected.
    pub async fn start(
        client: &Place,
        server: &Place,
        address: IpAddr,
        tcp: u16,
        rate: u32,
    ) -> Result<Self> {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let bound = |port| move || UdpSocket::bind((any, port));
        let echo = roomy(
            server
                .run(bound(PORT))
                .await?
                .context("the traffic's echo")?,
        )?;
        let socket = roomy(
            client
                .run(bound(0))
                .await?
                .context("the traffic's socket")?,
        )?;
        socket.connect(SocketAddr::new(address, PORT))?;
        let to = SocketAddr::new(address, tcp);
        let connect = move || TcpStream::connect_timeout(&to, Duration::from_secs(3));
        let stream = client.run(connect).await?.context("the traffic's stream")?;
        let stop = Arc::new(AtomicBool::new(false));
        let back = socket.try_clone()?;
        let spawn = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let flags = || stop.clone();
        let (sending, receiving, echoing, streaming) = (flags(), flags(), flags(), flags());
        Ok(Self {
            echo: spawn("echo").spawn(move || reflect(&echo, &echoing))?,
            receiver: spawn("receiver").spawn(move || receive(&back, &receiving))?,
            sender: spawn("sender").spawn(move || send(&socket, &sending, rate))?,
            stream: spawn("stream").spawn(move || exchange(stream, &streaming))?,
            stop,
        })
    }

    /// Stops the traffic and counts.
    ///
    /// # Errors
    /// When a socket failed under way: the stream broke.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = joined(self.sender).context("sending datagrams")?;
        let stream = joined(self.stream).context("the TCP stream")?;
        let mut numbers = joined(self.receiver).context("receiving datagrams")?;
        let echoed = joined(self.echo).context("echoing datagrams")?;
        numbers.sort_unstable();
        numbers.dedup();
        let missing = (0..sent)
            .filter(|number| numbers.binary_search(number).is_err())
            .take(5)
            .collect();
        Ok(Tally {
            sent,
            echoed,
            returned: numbers.len() as u64,
            missing,
            stream,
        })
    }
}

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> Result<T> {
    Ok(thread
        .join()
        .map_err(|_| anyhow!("the thread panicked"))??)
}

/// A socket with room for a burst, which its reader may get when the machine is busy.
fn roomy(socket: UdpSocket) -> Result<UdpSocket> {
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
    socket.set_read_timeout(Some(LAST))?;
    Ok(socket)
}

fn send(socket: &UdpSocket, stop: &AtomicBool, rate: u32) -> io::Result<u64> {
    let began = Instant::now();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        socket.send(&number.to_be_bytes())?;
        number += 1;
        let due = began + Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / rate;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(number)
}

/// Sends everything back until nothing has come for a while after the stop.
fn reflect(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<u64> {
    let (mut buffer, mut count) = ([0; 64], 0);
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                socket.send_to(&buffer[..length], from)?;
                count += 1;
            }
            Err(error) if is_timeout(&error) && stop.load(Ordering::Relaxed) => return Ok(count),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<Vec<u64>> {
    let (mut buffer, mut numbers) = ([0; 8], Vec::new());
    loop {
        match socket.recv(&mut buffer) {
            Ok(8) => numbers.push(u64::from_be_bytes(buffer)),
            Ok(_) => {}
            Err(error) if is_timeout(&error) && stop.load(Ordering::Relaxed) => return Ok(numbers),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn exchange(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<Stream> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut greeting = [0];
    while greeting != *b"\n" {
        stream.read_exact(&mut greeting)?;
    }
    let mut fared = Stream::default();
    let mut back = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        let chunk = vec![u8::try_from(fared.bytes / CHUNK as u64 % 251).unwrap_or(0); CHUNK];
        let began = Instant::now();
        stream.write_all(&chunk)?;
        stream.read_exact(&mut back)?;
        if back != chunk {
            return Err(io::Error::other("other bytes came back than were sent"));
        }
        fared.longest_pause = fared.longest_pause.max(began.elapsed());
        fared.bytes += CHUNK as u64;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(fared)
}
