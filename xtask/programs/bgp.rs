// features: 
//! A program that uses ocicat-bgp as a stranger would: a speaker without a socket.

use std::time::Instant;

use ocicat_bgp::{Attributes, PeerConfig, Speaker, SpeakerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Instant::now();
    let mut speaker = Speaker::new(SpeakerConfig::new(64512, [192, 0, 2, 1].into()), now);
    speaker.add_peer(PeerConfig::new("192.0.2.2".parse()?, 64513), now)?;
    speaker.originate("10.1.0.0/26".parse()?, &Attributes::local());
    for route in speaker.routes() {
        println!("{} {:?}", route.prefix, route.step);
    }
    Ok(())
}
