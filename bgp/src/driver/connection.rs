use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::socket;
use super::wake::{ConnectionWaker, Wakes};
use crate::identity::PeerId;
use crate::peer::PeerConfig;
use crate::session::LinkId;

/// One socket.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) link: LinkId,
    stream: TcpStream,
    /// The connection is being made.
    pub(super) connecting: bool,
    /// What the socket did not take yet; nothing else is made for it meanwhile.
    unsent: Vec<u8>,
    waker: Waker,
    wake: Arc<ConnectionWaker>,
}

impl Connection {
    pub(super) fn new(
        peer: PeerId,
        link: LinkId,
        stream: TcpStream,
        connecting: bool,
        at: usize,
        wakes: &Arc<Wakes>,
    ) -> Self {
        let wake = ConnectionWaker::new(at, wakes);
        let waker = Waker::from(Arc::clone(&wake));
        Self {
            peer,
            link,
            stream,
            connecting,
            unsent: Vec::new(),
            waker,
            wake,
        }
    }

    /// Has the driver look at the connection in this or the next turn.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn rearm(&self) {
        self.wake.rearm();
    }

    /// Whether the connection is made, with our address on it.
    pub(super) fn poll_connected(&self) -> Poll<io::Result<IpAddr>> {
        let mut context = Context::from_waker(&self.waker);
        match self.stream.poll_write_ready(&mut context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(match self.stream.take_error() {
                Ok(None) => match self.stream.peer_addr() {
                    Ok(_) => self.stream.local_addr().map(|address| address.ip()),
                    Err(error) => Err(error),
                },
                Ok(Some(error)) | Err(error) => Err(error),
            }),
        }
    }

    /// Reads what is there; `Ok(None)` when nothing is, and the driver is woken when something comes.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut context = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(into);
        // Unlike `try_read` this knows after a short read that there is no more, without asking the kernel.
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => Ok(None),
            Poll::Ready(result) => result.map(|()| Some(buffer.filled().len())),
        }
    }

    /// Gives the socket another key.
    pub(super) fn sign(&self, config: &PeerConfig) -> io::Result<()> {
        socket::sign(&self.stream, config.address, None, config.password.as_ref())
    }

    /// Whether the socket takes nothing at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what was left over; false when some of it still is.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        unsent.drain(..sent);
        let done = unsent.is_empty();
        if !done {
            self.unsent = unsent;
        }
        Ok(done)
    }

    /// Sends `bytes` and keeps what the socket does not take; false when that is something.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let sent = self.write(bytes)?;
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut context = Context::from_waker(&self.waker);
                    match self.stream.poll_write_ready(&mut context) {
                        Poll::Pending => return Ok(sent),
                        Poll::Ready(ready) => ready?,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Says the last words if the socket takes them, and closes.
    pub(super) fn close(mut self, last: &[u8], scratch: &mut [u8]) {
        self.unsent.extend_from_slice(last);
        if self.connecting || self.unsent.is_empty() {
            return;
        }
        let words = std::mem::take(&mut self.unsent);
        let _ = self.write(&words);
        // Octets that nobody has read would turn the close into a reset, which can overtake the last words.
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
        while let Ok(1..) = self.stream.try_read(scratch) {}
    }
}
