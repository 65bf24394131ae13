use std::net::Ipv6Addr;

use super::*;
use crate::NextHop;

fn open_of(parameters: &[u8]) -> Result<Open, Notification> {
    let mut body = vec![4, 0xfc, 0, 0, 90, 192, 0, 2, 1];
    body.extend_from_slice(parameters);
    Open::parse(&body)
}

/// RFC 9072 section 2: parameters with lengths of two octets, announced by type 255 in the first place.
#[test]
fn extended_optional_parameters() {
    let refresh = [2, 0, 2, 2, 0];
    let capabilities = |length: u8| {
        let parameters = [&[length, 255, 0, 5][..], &refresh].concat();
        open_of(&parameters).map(|open| open.capabilities)
    };
    // "The Non-Ext OP Len. field SHOULD be set to 255 on transmission and ignored on receipt", unless it is 0.
    for length in [255, 1, 9] {
        assert_eq!(capabilities(length), Ok(vec![Capability::RouteRefresh]));
    }
    assert!(
        capabilities(0).is_err(),
        "no parameters, and octets behind them"
    );
    let cut = [&[255, 255, 0, 6][..], &refresh].concat();
    assert_eq!(open_of(&cut).map_err(|n| (n.code, n.subcode)), Err((2, 0)));
    let other = [255, 255, 0, 3, 7, 0, 0];
    assert_eq!(
        open_of(&other).map_err(|n| (n.code, n.subcode)),
        Err((2, 4))
    );
    // What fits goes out in the form that everybody reads.
    let mut message = Vec::new();
    let mut open = sample_open();
    open.encode(&mut message);
    assert_ne!(message[HEADER + 10], 255);
    let value = vec![0; 250];
    open.capabilities
        .push(Capability::Unknown { code: 200, value });
    message.clear();
    open.encode(&mut message);
    assert_eq!(message[HEADER + 9..HEADER + 11], [255, 255]);
    assert_eq!(Open::parse(&message[HEADER..]), Ok(open));
}

/// RFC 8654 section 4: all messages but OPEN and KEEPALIVE may be long.
#[test]
fn extended_messages() {
    let head = |kind: u8, length: u16, max: usize| {
        let mut bytes = vec![0xff; 16];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(kind);
        header(&bytes, max).map_err(|n| (n.code, n.subcode))
    };
    for kind in [UPDATE, NOTIFICATION, ROUTE_REFRESH] {
        let whole = Ok(Some(Header {
            length: 65535,
            kind,
        }));
        assert_eq!(head(kind, 65535, MAX_EXTENDED), whole);
        assert_eq!(head(kind, 4097, MAX_MESSAGE), Err((1, 2)));
    }
    assert_eq!(head(OPEN, 4097, MAX_EXTENDED), Err((1, 2)));
    assert_eq!(head(KEEPALIVE, 20, MAX_EXTENDED), Err((1, 2)));
}

/// RFC 8950 section 3: IPv4 routes with a next hop of 16 or 32 octets, where both sides have said so.
#[test]
fn ipv4_routes_over_ipv6_next_hops() {
    let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let local: Ipv6Addr = "fe80::1".parse().unwrap();
    let reach = |hops: &[Ipv6Addr]| {
        let mut value = vec![0, 1, 1, hops.len() as u8 * 16];
        value.extend(hops.iter().flat_map(|hop| hop.octets()));
        value.extend([0, 26, 10, 1, 0, 64]);
        let mut attributes = Vec::new();
        put(&mut attributes, 0x80, 14, &value);
        attributes.extend([ORIGIN, PATH].concat());
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body
    };
    let agreed = UpdateContext {
        extended_next_hop: true,
        ..EXTERNAL
    };
    for (hops, link_local) in [
        (vec![global], None),
        (vec![global, local], Some(local)),
        (vec![global, Ipv6Addr::UNSPECIFIED], None),
    ] {
        let body = reach(&hops);
        let mut canonical = Canonical::default();
        let update = parse(&body, agreed, &mut canonical).unwrap();
        assert_eq!(update.problem, None);
        let (family, hop, routes) = update.mp_announced.unwrap();
        assert_eq!(family, Family::Ipv4Unicast);
        assert_eq!(hop, NextHop::V6 { global, link_local });
        let routes: Vec<_> = routes
            .iter::<V4>()
            .map(|(key, _)| key.prefix().to_string())
            .collect();
        assert_eq!(routes, ["10.1.0.64/26"]);
        let refused = parse(&body, EXTERNAL, &mut canonical).map(|_| ());
        assert_eq!(refused.map_err(|n| (n.code, n.subcode)), Err((3, 9)));
    }
    // Section 4: the capability is triples; those of other families are left out.
    let mut value = vec![0, 1, 0, 1, 0, 2];
    value.extend([0, 1, 0, 128, 0, 2]);
    let pair = (Family::Ipv4Unicast, Family::Ipv6Unicast);
    let capability = Capability::parse(5, &value);
    assert_eq!(capability, Capability::ExtendedNextHop(vec![pair]));
    let mut encoded = Vec::new();
    capability.encode(&mut encoded);
    assert_eq!(encoded, [5, 6, 0, 1, 0, 1, 0, 2]);
    assert!(matches!(
        Capability::parse(5, &value[..5]),
        Capability::Unknown { code: 5, .. }
    ));
}

/// RFC 7911 section 3: each prefix with an identifier in front, in both fields, and by family.
#[test]
fn prefixes_with_path_identifiers() {
    let context = UpdateContext {
        add_path: Families::IPV4,
        ..EXTERNAL
    };
    let attributes = [ORIGIN, PATH, HOP].concat();
    let mut body = vec![0, 8, 0, 0, 0, 9, 24, 10, 2, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(&attributes);
    body.extend([0, 0, 0, 7, 8, 10, 0xff, 0xff, 0xff, 0xff, 8, 10]);
    let mut canonical = Canonical::default();
    let update = parse(&body, context, &mut canonical).unwrap();
    let read = |routes: Nlri<'_>| -> Vec<(String, u32)> {
        let routes = routes.iter::<V4>();
        routes
            .map(|(key, id)| (key.prefix().to_string(), id))
            .collect()
    };
    assert_eq!(read(update.withdrawn), [("10.2.0.0/24".to_owned(), 9)]);
    let expected = [
        ("10.0.0.0/8".to_owned(), 7),
        ("10.0.0.0/8".to_owned(), u32::MAX),
    ];
    assert_eq!(read(update.announced), expected);
    body.pop();
    let cut = parse(&body, context, &mut canonical).map(|_| ());
    assert_eq!(cut.map_err(|n| (n.code, n.subcode)), Err((3, 10)));
}

/// RFC 9234 section 5: OTC of another length withdraws the routes; from whom it comes is judged by the speaker.
#[test]
fn only_to_customer() {
    assert_eq!(
        outcome(
            &body(&[ORIGIN, PATH, HOP, &[0xc0, 35, 4, 0, 0, 0xfc, 1]]),
            EXTERNAL
        ),
        Outcome::Routes
    );
    for bad in [
        &[0xc0, 35, 3, 0, 0, 1][..],
        &[0xc0, 35, 5, 0, 0, 0, 0, 1],
        &[0x80, 35, 4, 0, 0, 0, 1],
    ] {
        let withdrawn = outcome(&body(&[ORIGIN, bad, PATH, HOP]), EXTERNAL);
        assert!(
            matches!(withdrawn, Outcome::Withdraw(..)),
            "{bad:?}: {withdrawn:?}"
        );
    }
}
