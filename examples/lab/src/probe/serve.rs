use std::net::{Ipv6Addr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::place::Place;
use crate::scenario::{Port, Protocol};

/// The tiny servers of a place. They say who they are and echo; dropping this stops them and closes their sockets.
#[derive(Debug, Default)]
pub struct Servers {
    tasks: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Listens on every port of `ports` in `place`, for both families; TCP connections are greeted with `identity` and a newline and then
    /// echoed, UDP datagrams come back with `identity` behind them.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(place: &Place, identity: &str, ports: &[Port]) -> Result<Self> {
        let mut servers = Self::default();
        for port in ports {
            let number = port.port.get();
            let what = format!("{} port {number} in {}", port.protocol, place.name());
            let identity = identity.to_owned();
            let task = match port.protocol {
                Protocol::Tcp => {
                    let bound = place
                        .run(move || StdTcpListener::bind((Ipv6Addr::UNSPECIFIED, number)))
                        .await?;
                    let listener = bound.context(what)?;
                    listener.set_nonblocking(true)?;
                    tokio::spawn(tcp(TcpListener::from_std(listener)?, identity))
                }
                Protocol::Udp => {
                    let bound = place
                        .run(move || StdUdpSocket::bind((Ipv6Addr::UNSPECIFIED, number)))
                        .await?;
                    let socket = bound.context(what)?;
                    socket.set_nonblocking(true)?;
                    tokio::spawn(udp(UdpSocket::from_std(socket)?, identity))
                }
                Protocol::Icmp => continue,
            };
            servers.tasks.push(task);
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn tcp(listener: TcpListener, identity: String) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(greet_and_echo(stream, identity.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn greet_and_echo(mut stream: TcpStream, identity: String) {
    if stream
        .write_all(format!("{identity}\n").as_bytes())
        .await
        .is_err()
    {
        return;
    }
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn udp(socket: UdpSocket, identity: String) {
    let mut buffer = vec![0; 2048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let answer = [&buffer[..length], identity.as_bytes()].concat();
        // A client that is gone is no concern of the server.
        let _ = socket.send_to(&answer, from).await;
    }
}
