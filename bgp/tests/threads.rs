//! The example without a runtime has a session with the driver that has one.

#[path = "../examples/threads.rs"]
#[allow(dead_code, unreachable_pub)]
mod example;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::Duration;

use ocicat_bgp::driver::{self, DriverConfig};
use ocicat_bgp::{Attributes, Event, PeerConfig, SpeakerConfig};

const US: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THEM: Ipv4Addr = Ipv4Addr::new(127, 85, 0, 1);

fn is_best(event: &Event, wanted: &str) -> bool {
    matches!(event, Event::Best { prefix, routes, .. }
        if prefix.to_string() == wanted && !routes.is_empty())
}

/// The example in AS 64512 dials the driver in AS 64513; each announces a prefix, each learns the other's.
#[tokio::test]
async fn threads_and_tokio_exchange_routes() {
    let port = 20_000 + (std::process::id() % 20_000) as u16;
    let config = DriverConfig::new(SpeakerConfig::new(64513, THEM)).listen((THEM, port).into());
    let (handle, driver) = driver::new(config).unwrap();
    tokio::spawn(driver);
    let mut events = handle.events();
    handle.originate("10.2.0.0/26".parse().unwrap(), Attributes::local());
    handle.originations_complete();
    let passive = PeerConfig::new(US, 64512).passive(true);
    handle.add_peer(passive).await.unwrap();
    let (learned, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let peer = PeerConfig::new(THEM.into(), 64513).port(port);
        let done = example::run(peer, |event| {
            let wanted = is_best(&event, "10.2.0.0/26");
            !wanted || learned.send(()).is_ok()
        });
        done.map_err(|error| error.to_string())
    });
    let theirs = async {
        while let Some(event) = events.recv().await {
            if is_best(&event, "10.1.0.0/26") {
                return;
            }
        }
    };
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, theirs)
        .await
        .expect("the example's route");
    let waited = tokio::task::spawn_blocking(move || {
        told.recv_timeout(limit).expect("the driver's route");
        told
    });
    // The example ends when nobody wants to hear more.
    drop(waited.await.unwrap());
    handle.withdraw("10.2.0.0/26".parse().unwrap());
    handle.originate(
        "10.2.0.0/26".parse().unwrap(),
        Attributes::builder().med(1).build(),
    );
    let ended = tokio::task::spawn_blocking(move || thread.join());
    let ended = tokio::time::timeout(limit, ended).await.expect("it ends");
    assert_eq!(ended.unwrap().expect("no panic"), Ok(()));
}
