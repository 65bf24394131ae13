//! The answering end: says who it is and echoes.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener as StdListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Failure;

/// A listener for both families, or for IPv4 where there is no other, in the caller's network namespace.
pub(super) fn listen(port: u16) -> std::io::Result<StdListener> {
    let both = StdListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let listener = both.or_else(|_| StdListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until it is dropped.
///
/// # Errors
/// When the listener cannot be used.
pub(super) async fn serve(listener: StdListener, name: String) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(greet_and_echo(stream, name.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn greet_and_echo(mut stream: TcpStream, name: String) -> std::io::Result<()> {
    stream.write_all(format!("{name}\n").as_bytes()).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

/// Serves until it is told to end (SIGTERM: as the first process of a container nobody else would end it).
pub(super) async fn run(name: &str, port: u16) -> Result<(), Failure> {
    let at = |error| Failure::failed(&format!("port {port}"), error);
    let serving = serve(listen(port).map_err(at)?, name.to_owned());
    let serving = async { serving.await.map_err(Failure::from) };
    match super::or_interrupted(serving).await {
        Err(Failure::Failed(why)) if why == super::INTERRUPTED => Ok(()),
        other => other,
    }
}
