use super::*;

/// RFC 4271 sections 5.1.2 to 5.1.5: what goes to another AS and what stays inside.
#[test]
fn attributes_between_ases_and_within() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let external = stage.join(64514, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    let own = stage.join(64512, |peer| peer.next_hop(NextHopMode::Own), true);
    let keep = stage.join(64515, |peer| peer.next_hop(NextHopMode::Keep), true);
    stage.announce(from, "10.0.0.0/8", &learned(64513).med(7));
    assert_eq!(stage.told(from), [], "not back to where it came from");
    let seen = stage.one(external);
    assert_eq!(seen.as_path().to_string(), "64512 64513");
    assert_eq!((seen.med(), seen.local_pref()), (None, None));
    assert_eq!(seen.next_hop().unwrap().address(), IpAddr::V4(LOCAL));
    let seen = stage.one(internal);
    assert_eq!(seen.as_path().to_string(), "64513");
    assert_eq!((seen.med(), seen.local_pref()), (Some(7), Some(100)));
    assert_eq!(
        seen.next_hop().unwrap().address(),
        IpAddr::V4([198, 51, 100, 1].into())
    );
    assert_eq!(
        stage.one(own).next_hop().unwrap().address(),
        IpAddr::V4(LOCAL)
    );
    assert_eq!(
        stage.one(keep).next_hop().unwrap().address(),
        IpAddr::V4([198, 51, 100, 1].into())
    );
    stage.withdraw(from, "10.0.0.0/8");
    for actor in [external, internal, own, keep] {
        assert_eq!(stage.told(actor), [("10.0.0.0/8".parse().unwrap(), None)]);
    }
    // Routes of our own: origin, an empty path inside, our address as next hop.
    stage
        .speaker
        .originate("10.1.0.0/26".parse().unwrap(), &Attributes::local());
    assert_eq!(stage.one(external).as_path().to_string(), "64512");
    let seen = stage.one(internal);
    assert!(seen.as_path().is_empty());
    assert_eq!(seen.next_hop().unwrap().address(), IpAddr::V4(LOCAL));
}

/// RFC 4456 section 6 in every direction, sections 8 and 7: marks and loops.
#[test]
fn reflection_in_every_direction() {
    let mut stage =
        Stage::new(SpeakerConfig::new(64512, LOCAL).cluster_id(Ipv4Addr::new(1, 1, 1, 1)));
    let client = stage.join(64512, |peer| peer.rr_client(true), true);
    let other_client = stage.join(64512, |peer| peer.rr_client(true), true);
    let plain = stage.join(64512, |peer| peer, true);
    let other_plain = stage.join(64512, |peer| peer, true);
    let external = stage.join(64513, |peer| peer, true);
    stage.announce(client, "10.1.0.0/16", &inside());
    assert_eq!(stage.told(client), []);
    for actor in [other_client, plain, other_plain] {
        let seen = stage.one(actor);
        assert_eq!(seen.originator_id(), Some(address(client as u8)));
        assert_eq!(
            seen.cluster_list().collect::<Vec<_>>(),
            [Ipv4Addr::new(1, 1, 1, 1)]
        );
    }
    assert_eq!(kinds(&stage.one(external)), [1, 2], "no marks outside");
    let marked = inside()
        .originator_id([9, 9, 9, 9].into())
        .raw(0x80, 10, vec![2, 2, 2, 2]);
    stage.announce(plain, "10.2.0.0/16", &marked);
    assert_eq!(
        stage.told(other_plain),
        [],
        "not between two that are no clients"
    );
    let seen = stage.one(client);
    assert_eq!(seen.originator_id(), Some([9, 9, 9, 9].into()));
    let clusters = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2)];
    assert_eq!(seen.cluster_list().collect::<Vec<_>>(), clusters);
    stage.announce(plain, "10.3.0.0/16", &inside().originator_id(LOCAL));
    stage.announce(
        plain,
        "10.4.0.0/16",
        &inside().raw(0x80, 10, vec![1, 1, 1, 1]),
    );
    stage.announce(
        external,
        "10.5.0.0/16",
        &learned(64513).originator_id(LOCAL),
    );
    let known: Vec<_> = stage
        .speaker
        .routes()
        .iter()
        .map(|route| route.prefix.to_string())
        .collect();
    assert!(
        !known
            .iter()
            .any(|prefix| prefix == "10.3.0.0/16" || prefix == "10.4.0.0/16"),
        "{known:?}"
    );
    assert!(
        known.iter().any(|prefix| prefix == "10.5.0.0/16"),
        "from outside the mark means nothing"
    );
}

/// RFC 1997.
#[test]
fn well_known_communities_are_obeyed() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let external = stage.join(64514, |peer| peer, true);
    let internal = stage.join(64512, |peer| peer, true);
    for (community, outside, within) in [
        (Community::NO_EXPORT, false, true),
        (Community::NO_EXPORT_SUBCONFED, false, true),
        (Community::NO_ADVERTISE, false, false),
        (Community(1), true, true),
    ] {
        stage.announce(from, "10.0.0.0/8", &learned(64513).community(community));
        let reached = |told: Told| told.iter().any(|(_, attributes)| attributes.is_some());
        assert_eq!(reached(stage.told(external)), outside, "{community}");
        assert_eq!(reached(stage.told(internal)), within, "{community}");
    }
    // Formerly sent, now forbidden: withdrawn.
    stage.announce(
        from,
        "10.0.0.0/8",
        &learned(64513).community(Community::NO_ADVERTISE),
    );
    for actor in [external, internal] {
        assert_eq!(stage.told(actor), [("10.0.0.0/8".parse().unwrap(), None)]);
    }
}

/// RFC 6793 section 4.2.2.
#[test]
fn old_speakers_get_two_octets() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let old = stage.join(64514, |peer| peer, false);
    let aggregator = [vec![0, 1, 0, 9], vec![1, 2, 3, 4]].concat();
    let attributes = learned(4_200_000_000)
        .prepend(AsNumber(64513), 1)
        .raw(0xc0, 7, aggregator);
    stage.announce(from, "10.0.0.0/8", &attributes);
    let seen = stage.one(old);
    assert_eq!(
        seen.as_path().to_string(),
        "64512 64513 4200000000",
        "put together again"
    );
    assert_eq!(
        seen.aggregator(),
        Some((AsNumber(65545), [1, 2, 3, 4].into()))
    );
}

/// A peer that reads nothing for long gets each prefix once, as it is now.
#[test]
fn a_slow_reader_gets_the_newest_state() {
    let mut stage = stage();
    let from = stage.join(64513, |peer| peer, true);
    let slow = stage.join(64514, |peer| peer, true);
    let quick = stage.join(64515, |peer| peer, true);
    for round in 0..20_000u32 {
        let prefix = format!("10.{}.0.0/16", round % 7);
        if round % 3 == 0 {
            stage.withdraw(from, &prefix);
        } else {
            stage.announce(from, &prefix, &learned(64513).community(Community(round)));
        }
        if round % 11 == 0 {
            stage.told(quick);
        }
        while stage.speaker.poll_ready().is_some() {}
        while stage.speaker.poll_event().is_some() {}
    }
    assert!(
        stage.speaker.rib.v4.log.len() < 10_000,
        "the log does not grow with time"
    );
    let (slow, quick) = (stage.told(slow), stage.told(quick));
    assert!(slow.len() <= 7, "{}", slow.len());
    let routes = stage.speaker.routes();
    for (prefix, attributes) in &slow {
        let route = routes
            .iter()
            .find(|route| route.prefix == *prefix && route.used > 0);
        let newest = route.map(|route| route.paths[0].attributes.communities().collect::<Vec<_>>());
        assert_eq!(
            attributes
                .as_ref()
                .map(|a| a.communities().collect::<Vec<_>>()),
            newest,
            "{prefix}"
        );
    }
    assert!(quick.len() <= slow.len());
    stage.told(from);
    while stage.speaker.poll_ready().is_some() {}
    assert_eq!(
        stage.speaker.rib.v4.log.len(),
        0,
        "everybody has seen everything"
    );
}
