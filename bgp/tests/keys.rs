//! Passwords of sessions that are up.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ocicat_bgp::driver::{self, DriverConfig, Handle};
use ocicat_bgp::{Attributes, Event, Password, PeerConfig, PeerId, Prefix, SpeakerConfig};
use tokio::sync::mpsc::Receiver;

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 83, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 83, 0, 2));

struct Side {
    handle: Handle,
    events: Receiver<Event>,
    peer: PeerId,
    settings: PeerConfig,
}

async fn side(own: IpAddr, other: IpAddr, port: u16, passive: bool) -> Side {
    let IpAddr::V4(id) = own else { unreachable!() };
    let config =
        DriverConfig::new(SpeakerConfig::new(64512, id)).listen(SocketAddr::new(own, port));
    let (handle, driver) = driver::new(config).unwrap();
    tokio::spawn(driver);
    let settings = PeerConfig::new(other, 64512)
        .port(port)
        .local_address(own)
        .passive(passive)
        .password(Password::new("first").unwrap());
    let peer = handle.add_peer(settings.clone()).await.unwrap();
    let events = handle.events();
    Side {
        handle,
        events,
        peer,
        settings,
    }
}

impl Side {
    async fn learns(&mut self, wanted: Prefix) {
        let found = async {
            while let Some(event) = self.events.recv().await {
                if matches!(&event, Event::Best { prefix, .. } if *prefix == wanted) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(120), found)
            .await
            .expect("a route in two minutes");
    }
}

/// RFC 2385 section 4.5: both sides take another key, and the session does not notice.
#[tokio::test]
async fn a_key_changes_on_a_session_that_is_up() {
    let port = 21_000 + (std::process::id() % 20_000) as u16;
    let mut a = side(A, B, port, true).await;
    let b = side(B, A, port, false).await;
    b.handle
        .originate("10.1.0.0/26".parse().unwrap(), Attributes::local());
    a.learns("10.1.0.0/26".parse().unwrap()).await;
    for side in [&a, &b] {
        let settings = side
            .settings
            .clone()
            .password(Password::new("second").unwrap());
        let id = side.handle.update_peer(side.peer, settings).await.unwrap();
        assert_eq!(id, side.peer);
    }
    b.handle
        .originate("10.2.0.0/26".parse().unwrap(), Attributes::local());
    a.learns("10.2.0.0/26".parse().unwrap()).await;
    for side in [&a, &b] {
        assert_eq!(side.handle.peers().await.unwrap()[0].sessions, 1);
    }
}
