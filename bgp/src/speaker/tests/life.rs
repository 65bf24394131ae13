use super::*;

/// RFC 4724 section 4.1: after a restart learned routes and End-of-RIB wait for the peers', but not for ever.
#[test]
fn deferral_ends() {
    let now = Instant::now();
    let mut speaker = Speaker::new(SpeakerConfig::new(64512, LOCAL).restarting(true), now);
    speaker.originations_complete();
    let config = PeerConfig::new(address(0).into(), 64513).passive(true);
    speaker.add_peer(config, now).unwrap();
    let mut at = now;
    while !matches!(speaker.poll_event(), Some(Event::RestartComplete)) {
        at = speaker.poll_timeout().expect("the deferral is a timer");
        assert!(
            at <= now + Duration::from_secs(10),
            "peers that were never seen are not waited for"
        );
        speaker.handle_timeout(at);
    }
    assert_eq!(at, now + Duration::from_secs(10));
}

/// RFC 2918, RFC 7313 section 4: the answer to a refresh lies between its marks; what a refresh of the peer's leaves
/// out is gone at its end.
#[test]
fn refreshes_in_both_directions() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let asks = stage.join(64514, |peer| peer, true);
    stage.announce(from, "10.1.0.0/16", &learned(64513));
    stage.announce(from, "10.2.0.0/16", &learned(64513));
    assert_eq!(stage.told(asks).len(), 2);
    let refresh = |subtype: u8| {
        let mut bytes = Vec::new();
        crate::wire::Refresh::encode(Family::Ipv4Unicast, subtype, &mut bytes);
        bytes
    };
    stage.send(asks, &refresh(0));
    let bytes = stage.sent(asks);
    let mut rest = &bytes[..];
    let mut seen = Vec::new();
    while let Some(head) = crate::wire::header(rest, 4096).unwrap() {
        seen.push((head.kind, if head.kind == 5 { rest[21] } else { 0 }));
        rest = &rest[head.length..];
    }
    assert_eq!(seen, [(5, 1), (2, 0), (5, 2)]);

    stage.send(from, &refresh(1));
    stage.announce(from, "10.2.0.0/16", &learned(64513));
    assert_eq!(
        stage.speaker.routes().len(),
        2,
        "nothing goes before the end"
    );
    stage.send(from, &refresh(2));
    assert_eq!(stage.told(asks), [("10.1.0.0/16".parse().unwrap(), None)]);
    // RFC 7313 section 5: a length that is wrong.
    stage.send(from, &{
        let mut bytes = Vec::new();
        let begin = crate::wire::start(5, &mut bytes);
        bytes.extend_from_slice(&[0, 1, 0, 1, 9]);
        crate::wire::finish(begin, &mut bytes);
        bytes
    });
    let reason = stage.speaker.peers()[0].last_error.clone().unwrap();
    assert!(reason.to_string().contains("(7/1)"), "{reason}");
}

/// RFC 9687: a peer that takes nothing for eight minutes is given up, however alive it says it is.
#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    let mut stage = stage();
    let stuck = stage.join(64513, |peer| peer, true);
    let Actor { peer, link, .. } = stage.actors[stuck];
    stage.speaker.handle(peer, Input::Blocked(link), stage.now);
    let mut keepalive = Vec::new();
    crate::wire::keepalive(&mut keepalive);
    let end = stage.now + Duration::from_secs(481);
    while stage.now < end {
        stage.now += Duration::from_secs(20);
        stage.send(stuck, &keepalive);
        while stage
            .speaker
            .poll_timeout()
            .is_some_and(|at| at <= stage.now)
        {
            stage.speaker.handle_timeout(stage.now);
        }
        let up = stage.speaker.peers()[0].negotiated.is_some();
        assert_eq!(
            up,
            stage.now < end - Duration::from_secs(1),
            "at {:?}",
            end - stage.now
        );
        if !up {
            break;
        }
    }
    let reason = stage.speaker.peers()[0].last_error.clone().unwrap();
    assert_eq!(reason.to_string(), "sent: send hold timer expired (8/0)");
}
