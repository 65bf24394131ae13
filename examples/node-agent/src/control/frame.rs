//! Frames: four bytes of length, big endian, then that many bytes.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest request, in bytes.
const REQUEST: usize = 1 << 20;
/// The largest answer, in bytes: the routes of a large cluster.
const ANSWER: usize = 64 << 20;

fn length(bytes: &[u8], limit: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= limit)
        .map(u32::to_be_bytes)
        .ok_or_else(|| too_long(bytes.len(), limit))
}

fn expected(head: [u8; 4], limit: usize) -> io::Result<usize> {
    let length = u32::from_be_bytes(head) as usize;
    if length > limit {
        Err(too_long(length, limit))
    } else {
        Ok(length)
    }
}

fn too_long(length: usize, limit: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of {length} bytes; at most {limit} are allowed"),
    )
}

pub(super) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&length(bytes, REQUEST)?)?;
    to.write_all(bytes)?;
    to.flush()
}

pub(super) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut bytes = vec![0; expected(head, ANSWER)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(&length(bytes, ANSWER)?).await?;
    to.write_all(bytes).await?;
    to.flush().await
}

pub(super) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut bytes = vec![0; expected(head, REQUEST)?];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}
