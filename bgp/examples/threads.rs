//! The speaker without a runtime: one connection, two threads of the standard library.
//!
//! `cargo run -p ocicat-bgp --example threads -- 192.0.2.2 64513` connects to that neighbour, announces a prefix and
//! prints what it learns.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ocicat_bgp::{
    Attributes, Event, Input, LinkId, Output, PeerConfig, PeerId, Speaker, SpeakerConfig,
};

/// What the reading thread has to say.
enum Heard {
    Connected(PeerId, LinkId, std::io::Result<TcpStream>),
    Bytes(PeerId, LinkId, Vec<u8>),
    Closed(PeerId, LinkId),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(peer_as)) = (arguments.next(), arguments.next()) else {
        return Err("usage: threads ADDRESS AS [PORT]".into());
    };
    let port = arguments.next().map_or(Ok(179), |port| port.parse())?;
    let peer = PeerConfig::new(address.parse()?, peer_as.parse::<u32>()?).port(port);
    run(peer, |event| {
        match event {
            Event::Best {
                prefix,
                routes,
                step,
            } => {
                let hop = routes.first().and_then(|route| route.next_hop);
                println!("{prefix} via {hop:?}: {step}");
            }
            other => println!("{other:?}"),
        }
        true
    })
}

/// Speaks with `peer` until `tell` has heard enough.
pub fn run(
    peer: PeerConfig,
    mut tell: impl FnMut(Event) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut speaker = Speaker::new(
        SpeakerConfig::new(64512, [192, 0, 2, 1].into()),
        Instant::now(),
    );
    speaker.subscribe();
    speaker.originate("10.1.0.0/26".parse()?, &Attributes::local());
    speaker.originations_complete();
    speaker.add_peer(peer, Instant::now())?;
    let (sender, receiver) = channel();
    let mut streams: Vec<(PeerId, LinkId, TcpStream)> = Vec::new();
    loop {
        turn(&mut speaker, &sender, &mut streams)?;
        while let Some(event) = speaker.poll_event() {
            if !tell(event) {
                return Ok(());
            }
        }
        let due = speaker
            .poll_timeout()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        match receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(heard) => hear(&mut speaker, heard, &mut streams)?,
            Err(RecvTimeoutError::Timeout) => speaker.handle_timeout(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Does what the speaker asks for, and sends what it has to say.
fn turn(
    speaker: &mut Speaker,
    sender: &Sender<Heard>,
    streams: &mut Vec<(PeerId, LinkId, TcpStream)>,
) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(output) = speaker.poll_output() {
        match output {
            Output::Connect { peer, link } => {
                let config = speaker.peer_config(peer).ok_or("a peer without settings")?;
                let (to, sender) = ((config.address, config.port), sender.clone());
                std::thread::spawn(move || listen(peer, link, to, &sender));
            }
            Output::Close { link, last, .. } => {
                if let Some(at) = streams.iter().position(|(_, other, _)| *other == link) {
                    let (_, _, mut stream) = streams.remove(at);
                    stream.write_all(&last)?;
                }
            }
            _ => {}
        }
    }
    while let Some((peer, link)) = speaker.poll_ready() {
        let mut bytes = Vec::new();
        while speaker.poll_transmit(peer, link, Instant::now(), &mut bytes) {}
        if let Some((_, _, stream)) = streams.iter_mut().find(|(_, other, _)| *other == link) {
            stream.write_all(&bytes)?;
        }
    }
    Ok(())
}

fn hear(
    speaker: &mut Speaker,
    heard: Heard,
    streams: &mut Vec<(PeerId, LinkId, TcpStream)>,
) -> std::io::Result<()> {
    let now = Instant::now();
    match heard {
        Heard::Connected(peer, link, Ok(stream)) => {
            let local = stream.local_addr()?.ip();
            streams.push((peer, link, stream));
            speaker.handle(peer, Input::Connected(link, local), now);
        }
        Heard::Connected(peer, link, Err(error)) => {
            speaker.handle(peer, Input::ConnectFailed(link, error.to_string()), now);
        }
        Heard::Bytes(peer, link, bytes) => speaker.handle(peer, Input::Received(link, &bytes), now),
        Heard::Closed(peer, link) => {
            streams.retain(|(_, other, _)| *other != link);
            speaker.handle(peer, Input::Closed(link), now);
        }
    }
    Ok(())
}

/// Connects and reads until the connection ends; stops as well when nobody hears any more.
fn listen(peer: PeerId, link: LinkId, to: (IpAddr, u16), sender: &Sender<Heard>) {
    let stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(10));
    let mut reader = stream
        .as_ref()
        .ok()
        .and_then(|stream| stream.try_clone().ok());
    if sender.send(Heard::Connected(peer, link, stream)).is_err() {
        return;
    }
    let mut buffer = vec![0; 65536];
    while let Some(count) = reader
        .as_mut()
        .and_then(|reader| reader.read(&mut buffer).ok())
    {
        if count == 0
            || sender
                .send(Heard::Bytes(peer, link, buffer[..count].to_vec()))
                .is_err()
        {
            break;
        }
    }
    // An error says that the program has ended.
    let _ = sender.send(Heard::Closed(peer, link));
}
