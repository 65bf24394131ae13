#![allow(unsafe_code)] // Two socket options that no crate wraps: TCP_MD5SIG and IP_MINTTL.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::peer::{Password, PeerConfig, Ttl};

/// A listening socket. Its TTL is 255 so that peers with RFC 5082 take its answers.
pub(super) fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_ttl(&socket, address.ip(), 255)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A connection that is being made.
pub(super) fn dial(config: &PeerConfig) -> io::Result<TcpStream> {
    let address = SocketAddr::new(config.address, config.port);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if let Some(local) = config.local_address {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    if let Some(password) = &config.password {
        sign(&socket, config.address, None, Some(password))?;
    }
    prepare(&socket, config)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// Sets what both sides of a connection need: no delay, and the peer's distance.
pub(super) fn prepare(socket: &impl AsFd, config: &PeerConfig) -> io::Result<()> {
    let fd = socket;
    let socket = SockRef::from(fd);
    socket.set_tcp_nodelay(true)?;
    match config.ttl {
        Ttl::Default => set_ttl(&socket, config.address, 64),
        Ttl::Limit(ttl) => set_ttl(&socket, config.address, ttl),
        Ttl::Security { hops } => {
            set_ttl(&socket, config.address, 255)?;
            let least = libc::c_int::from(255 - hops.clamp(1, 254) + 1);
            let (level, option) = match config.address {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT),
            };
            set(fd, level, option, &least)
        }
    }
}

fn set_ttl(socket: &Socket, address: IpAddr, ttl: u8) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_ttl_v4(u32::from(ttl)),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(u32::from(ttl)),
    }
}

const IPV6_MINHOPCOUNT: libc::c_int = 73;
const TCP_MD5SIG: libc::c_int = 14;
const TCP_MD5SIG_EXT: libc::c_int = 32;
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct Md5Signature {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix: u8,
    length: u16,
    interface: libc::c_int,
    key: [u8; 80],
}

/// Gives a socket the key for a peer, or with `None` takes it away (RFC 2385). A listening socket takes keys for many
/// peers, and with `prefix` for all whose address begins as `peer` does.
pub(super) fn sign(
    socket: &impl AsFd,
    peer: IpAddr,
    prefix: Option<u8>,
    password: Option<&Password>,
) -> io::Result<()> {
    let address = SockAddr::from(SocketAddr::new(peer, 0));
    // SAFETY: all fields are plain integers, for which zero is a value.
    let mut signature: Md5Signature = unsafe { std::mem::zeroed() };
    // SAFETY: `SockAddr` keeps a whole sockaddr_storage behind this pointer, whatever the family's length.
    signature.address = unsafe { *address.as_ptr().cast::<libc::sockaddr_storage>() };
    if let Some(password) = password {
        let octets = password.octets();
        signature.length = octets.len() as u16;
        signature.key[..octets.len()].copy_from_slice(octets);
    }
    let Some(prefix) = prefix else {
        return set(socket, libc::IPPROTO_TCP, TCP_MD5SIG, &signature);
    };
    signature.flags = FLAG_PREFIX;
    signature.prefix = prefix;
    set(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &signature)
}

fn set<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the pointer and length describe `value`.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
