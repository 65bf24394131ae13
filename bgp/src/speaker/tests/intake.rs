use super::*;

/// RFC 4271 section 9.1.2: our own AS in the path, as often as is allowed; section 6.3: the peer's AS comes first.
#[test]
fn loops_are_not_taken() {
    let mut stage = stage();
    let strict = stage.join(64513, |peer| peer, true);
    let lenient = stage.join(
        64514,
        |peer| peer.allow_own_as(1).enforce_first_as(false),
        true,
    );
    let ours = AsNumber(64512);
    stage.announce(
        strict,
        "10.1.0.0/16",
        &learned(64512).prepend(AsNumber(64513), 1),
    );
    stage.announce(strict, "10.2.0.0/16", &learned(64999));
    stage.announce(lenient, "10.3.0.0/16", &learned(64999).prepend(ours, 1));
    stage.announce(lenient, "10.4.0.0/16", &learned(64999).prepend(ours, 2));
    // Taken before, then with a loop: gone.
    stage.announce(strict, "10.5.0.0/16", &learned(64513));
    stage.announce(
        strict,
        "10.5.0.0/16",
        &learned(64512).prepend(AsNumber(64513), 1),
    );
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(known, ["10.3.0.0/16"]);
}

#[test]
fn filters_decide_on_both_ways() {
    let mut stage = stage();
    let rules: std::sync::Arc<dyn Filter> = std::sync::Arc::new(Rules);
    let from = stage.join(
        64513,
        |peer| peer.import(std::sync::Arc::clone(&rules)),
        true,
    );
    let plain = stage.join(64514, |peer| peer, true);
    for prefix in ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24"] {
        stage.announce(from, prefix, &learned(64513));
    }
    let told = stage.told(plain);
    let seen: Vec<_> = told
        .iter()
        .map(|(prefix, attributes)| {
            (
                prefix.length(),
                attributes.as_ref().unwrap().communities().count(),
            )
        })
        .collect();
    assert_eq!(seen, [(24, 0), (16, 1)]);
    // The same rules towards a peer that has been sent everything: what they reject is withdrawn.
    stage
        .speaker
        .originate("11.0.0.0/8".parse().unwrap(), &Attributes::local());
    stage.told(plain);
    let peer = stage.actors[plain].peer;
    let config = stage
        .speaker
        .peer_config(peer)
        .unwrap()
        .clone()
        .export(rules);
    assert_eq!(
        stage.speaker.update_peer(peer, config, stage.now),
        Ok(peer),
        "the session stays"
    );
    let told = stage.told(plain);
    assert!(
        told.contains(&("11.0.0.0/8".parse().unwrap(), None)),
        "{told:?}"
    );
    // No reference to an attribute set is lost.
    stage
        .speaker
        .remove_peer(stage.actors[from].peer, Cease::PeerDeconfigured, stage.now);
    stage.speaker.withdraw(&"11.0.0.0/8".parse().unwrap());
    assert_eq!(stage.speaker.attribute_sets(), 0);
}

/// RFC 4486: more prefixes than agreed on end the session, and graceful restart does not keep them.
#[test]
fn too_many_prefixes() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer.max_prefixes(2), true);
    let mut near = false;
    for number in 0..3 {
        while let Some(event) = stage.speaker.poll_event() {
            near |= matches!(
                event,
                Event::NearLimit {
                    prefixes: 2,
                    limit: 2,
                    ..
                }
            );
        }
        stage.announce(from, &format!("10.{number}.0.0/16"), &learned(64513));
    }
    let status = &stage.speaker.peers()[0];
    let reason = status.last_error.as_ref().unwrap().to_string();
    assert_eq!(
        reason,
        "sent: cease: maximum number of prefixes reached (6/1)"
    );
    assert_eq!(stage.speaker.routes(), []);
    assert!(near, "the host was warned");
}

#[test]
fn strangers_are_refused_before_anything_is_kept() {
    let mut stage = stage();
    let stranger: IpAddr = Ipv4Addr::new(203, 0, 113, 5).into();
    assert!(
        stage
            .speaker
            .accept(stranger, LOCAL.into(), stage.now)
            .is_none()
    );
    assert_eq!(
        (
            stage.speaker.refused_connections(),
            stage.speaker.peers().len()
        ),
        (1, 0)
    );
    let template = PeerConfig::new(stranger, 64513);
    let prefix = "203.0.113.0/24".parse().unwrap();
    stage
        .speaker
        .add_dynamic_peers(DynamicPeers::new(prefix, template).limit(1));
    let (peer, link) = stage
        .speaker
        .accept(stranger, LOCAL.into(), stage.now)
        .unwrap();
    let other: IpAddr = Ipv4Addr::new(203, 0, 113, 6).into();
    assert!(
        stage
            .speaker
            .accept(other, LOCAL.into(), stage.now)
            .is_none(),
        "the limit is one"
    );
    assert!(stage.speaker.peers()[0].dynamic);
    stage.speaker.handle(peer, Input::Closed(link), stage.now);
    assert_eq!(stage.speaker.peers(), [], "gone with its connection");
    assert!(
        stage
            .speaker
            .accept(other, LOCAL.into(), stage.now)
            .is_some()
    );
}

/// RFC 8326 section 4.2.
#[test]
fn a_route_in_graceful_shutdown_loses_to_any_other() {
    let mut stage = stage();
    let leaving = stage.join(64513, |peer| peer, true);
    let staying = stage.join(64514, |peer| peer, true);
    let shutdown = learned(64513).community(Community::GRACEFUL_SHUTDOWN);
    stage.announce(leaving, "10.0.0.0/8", &shutdown);
    stage.announce(
        staying,
        "10.0.0.0/8",
        &learned(64999).prepend(AsNumber(64514), 3),
    );
    let route = &stage.speaker.routes()[0];
    assert_eq!(route.paths[0].peer, Some(stage.actors[staying].peer));
    assert_eq!(route.step, Some(crate::Step::LocalPref));
}

/// RFC 8212: between ASes nothing passes without a policy, inside one everything does.
#[test]
fn nothing_passes_between_ases_without_policy() {
    let mut stage = Stage::new(SpeakerConfig::new(64512, LOCAL).external_needs_policy(true));
    let external = stage.join(64513, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    let rules: std::sync::Arc<dyn Filter> = std::sync::Arc::new(Rules);
    let both = |peer: PeerConfig| {
        peer.import(std::sync::Arc::clone(&rules))
            .export(std::sync::Arc::clone(&rules))
    };
    let filtered = stage.join(64514, both, true);
    stage.announce(external, "10.1.1.0/24", &learned(64513));
    stage.announce(filtered, "10.1.2.0/24", &learned(64514));
    stage.announce(internal, "10.1.3.0/24", &inside());
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(known, ["10.1.2.0/24", "10.1.3.0/24"]);
    assert_eq!(stage.told(external), []);
    assert_eq!(stage.told(filtered).len(), 1);
    assert_eq!(stage.told(internal).len(), 1);
}
