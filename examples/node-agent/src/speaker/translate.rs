use std::net::IpAddr;

use ocicat_bgp::Event;
use ocicat_dataplane::Prefix;
use tokio::sync::mpsc;

/// What the speaker tells the core.
#[derive(Clone, Debug)]
pub(crate) enum SpeakerEvent {
    /// The best next hops of a prefix; none means that it is gone. A prefix of this node itself has none either.
    Best {
        prefix: Prefix,
        hops: Vec<IpAddr>,
        /// Whom the first was learned from.
        peer: Option<IpAddr>,
    },
    Up {
        peer: IpAddr,
    },
    Down {
        peer: IpAddr,
        reason: String,
    },
    /// After a restart: what the peers have is known now.
    Converged,
}

/// Passes on what the core needs of the speaker's events, until either side ends.
pub(super) async fn translate(mut events: mpsc::Receiver<Event>, core: mpsc::Sender<SpeakerEvent>) {
    while let Some(event) = events.recv().await {
        let Some(event) = translated(event) else {
            continue;
        };
        if core.send(event).await.is_err() {
            return;
        }
    }
}

fn translated(event: Event) -> Option<SpeakerEvent> {
    Some(match event {
        Event::Best { prefix, routes, .. } => SpeakerEvent::Best {
            prefix: ipnetwork::IpNetwork::from(prefix).try_into().ok()?,
            peer: routes.first().and_then(|route| route.peer_address),
            hops: routes.iter().filter_map(|route| route.next_hop).collect(),
        },
        Event::PeerUp { address, .. } => SpeakerEvent::Up { peer: address },
        Event::PeerDown {
            address,
            reason,
            kept,
            ..
        } => {
            let kept = kept.map_or_else(String::new, |time| {
                format!("; its routes are kept for {time:?}")
            });
            SpeakerEvent::Down {
                peer: address,
                reason: format!("{reason}{kept}"),
            }
        }
        Event::RestartComplete => SpeakerEvent::Converged,
        _ => return None,
    })
}
