use std::net::{Ipv4Addr, Ipv6Addr};

use super::attribute::Attributes;
use super::nlri::{plausible_v4, plausible_v6};
use super::{
    AttributeContext, Canonical, Nlri, Notification, Reader, UPDATE, V4, V6, finish, kind, start,
};
use crate::attributes::NextHop;
use crate::number::{Families, Family};

/// What an UPDATE says, in terms of the octets it came in. Its attributes are in the [`Canonical`] it was read with.
#[derive(Debug, Default)]
pub(crate) struct Update<'a> {
    /// IPv4 routes withdrawn in the classic field.
    pub(crate) withdrawn: Nlri<'a>,
    /// Routes of MP_UNREACH_NLRI.
    pub(crate) mp_withdrawn: Option<(Family, Nlri<'a>)>,
    /// IPv4 routes announced in the classic field.
    pub(crate) announced: Nlri<'a>,
    pub(crate) next_hop: Option<Ipv4Addr>,
    /// Routes of MP_REACH_NLRI.
    pub(crate) mp_announced: Option<(Family, NextHop, Nlri<'a>)>,
    /// The announced routes are to be treated as withdrawn, for this reason (RFC 7606).
    pub(crate) problem: Option<Notification>,
    /// The message is the End-of-RIB marker of this family (RFC 4724 section 2).
    pub(crate) end_of_rib: Option<Family>,
}

/// What an UPDATE is read against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpdateContext {
    pub(crate) attributes: AttributeContext,
    /// The families of the session; routes of others are ignored.
    pub(crate) families: Families,
    /// The families in which path identifiers arrive (RFC 7911).
    pub(crate) add_path: Families,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub(crate) extended_next_hop: bool,
}

const NETWORK_FIELD: u8 = 10;
const OPTIONAL_ATTRIBUTE: u8 = 9;

fn error<T>(subcode: u8) -> Result<T, Notification> {
    Err(Notification::new(3, subcode))
}

fn nlri(family: Family, bytes: &[u8], with_id: bool) -> Option<Nlri<'_>> {
    match family {
        Family::Ipv4Unicast => Nlri::parse::<V4>(bytes, with_id),
        Family::Ipv6Unicast => Nlri::parse::<V6>(bytes, with_id),
    }
}

/// Reads the body of an UPDATE (RFC 4271 section 4.3, RFC 4760, RFC 7606).
///
/// # Errors
/// The NOTIFICATION for defects that end the session.
pub(crate) fn parse<'a>(
    body: &'a [u8],
    context: UpdateContext,
    canonical: &mut Canonical,
) -> Result<Update<'a>, Notification> {
    let mut reader = Reader::new(body);
    let mut section = || {
        let length = reader.u16()?;
        reader.bytes(usize::from(length))
    };
    let (Some(withdrawn), Some(attributes)) = (section(), section()) else {
        return error(1);
    };
    let announced = reader.rest();
    let v4 = Family::Ipv4Unicast;
    let ids = context.add_path.contains(v4);
    let (Some(withdrawn_routes), Some(announced_routes)) =
        (nlri(v4, withdrawn, ids), nlri(v4, announced, ids))
    else {
        return error(NETWORK_FIELD);
    };
    let mut update = Update {
        withdrawn: withdrawn_routes,
        announced: announced_routes,
        ..Update::default()
    };
    if attributes.is_empty() && announced.is_empty() {
        update.end_of_rib = withdrawn.is_empty().then_some(v4);
        return Ok(update);
    }
    let found = canonical.read(attributes, context.attributes)?;
    let only_unreach = !found.others && withdrawn.is_empty() && announced.is_empty();
    if let Some(value) = found.mp_unreach {
        update.mp_withdrawn = mp_unreach(value, context)?;
        if let (true, Some((family, routes))) = (only_unreach, &update.mp_withdrawn) {
            update.end_of_rib = routes.is_empty().then_some(*family);
        }
    }
    let mut problem = found.problem.clone();
    let mut reaches = !announced.is_empty();
    if let Some(value) = found.mp_reach {
        let (routes, trouble) = mp_reach(value, context)?;
        reaches |= routes
            .as_ref()
            .is_none_or(|(_, _, routes)| !routes.is_empty());
        update.mp_announced = routes;
        problem = problem.or(trouble);
    }
    update.next_hop = found.next_hop;
    if !reaches {
        // RFC 7606 section 5.2: the defect may hide the routes that it should withdraw.
        return match problem {
            Some(problem) => Err(problem),
            None => Ok(update),
        };
    }
    let classic = !announced.is_empty();
    update.problem = problem.or_else(|| incomplete(&found, classic, context.attributes.external));
    Ok(update)
}

/// What an announcement lacks (RFC 4271 sections 5 and 6.3; RFC 7606 section 3 d).
fn incomplete(found: &Attributes<'_>, classic: bool, external: bool) -> Option<Notification> {
    let missing = |kind: u8| Some(Notification::new(3, 3).data(vec![kind]));
    match (found.has_origin, found.has_path, found.next_hop) {
        (false, _, _) => missing(kind::ORIGIN),
        (_, false, _) => missing(kind::AS_PATH),
        (_, _, None) if classic => missing(kind::NEXT_HOP),
        (_, _, Some(next_hop)) if classic && !plausible_v4(next_hop) => {
            Some(Notification::new(3, 8).data(next_hop.octets().to_vec()))
        }
        _ if !external && !found.has_local_pref => missing(kind::LOCAL_PREF),
        _ => None,
    }
}

/// RFC 4760 section 4. A family that the session does not have is skipped.
fn mp_unreach(
    value: &[u8],
    context: UpdateContext,
) -> Result<Option<(Family, Nlri<'_>)>, Notification> {
    let mut reader = Reader::new(value);
    let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
        return error(OPTIONAL_ATTRIBUTE);
    };
    let Some(family) =
        Family::from_wire(afi, safi).filter(|&family| context.families.contains(family))
    else {
        return Ok(None);
    };
    match nlri(family, reader.rest(), context.add_path.contains(family)) {
        Some(routes) => Ok(Some((family, routes))),
        None => error(OPTIONAL_ATTRIBUTE),
    }
}

type Announced<'a> = (Option<(Family, NextHop, Nlri<'a>)>, Option<Notification>);

/// RFC 4760 section 3, RFC 2545 section 3, RFC 7606 section 7.11.
fn mp_reach(value: &[u8], context: UpdateContext) -> Result<Announced<'_>, Notification> {
    let mut reader = Reader::new(value);
    let mut head = || Some((reader.u16()?, reader.u8()?, reader.u8()?));
    let Some((afi, safi, length)) = head() else {
        return error(OPTIONAL_ATTRIBUTE);
    };
    let (Some(hop), Some(_reserved)) = (reader.bytes(usize::from(length)), reader.u8()) else {
        return error(OPTIONAL_ATTRIBUTE);
    };
    let Some(family) =
        Family::from_wire(afi, safi).filter(|&family| context.families.contains(family))
    else {
        return Ok((None, None));
    };
    let v6 = |octets: &[u8]| {
        let mut array = [0; 16];
        array.copy_from_slice(octets);
        Ipv6Addr::from(array)
    };
    let (hop, sound) = match (family, hop.len()) {
        (Family::Ipv4Unicast, 4) => {
            let address = Ipv4Addr::new(hop[0], hop[1], hop[2], hop[3]);
            (NextHop::V4(address), plausible_v4(address))
        }
        // RFC 8950 section 3: the length tells what the next hop is.
        (Family::Ipv4Unicast, 16 | 32) if !context.extended_next_hop => {
            return error(OPTIONAL_ATTRIBUTE);
        }
        (_, 16) => {
            let global = v6(hop);
            (
                NextHop::V6 {
                    global,
                    link_local: None,
                },
                plausible_v6(global),
            )
        }
        (_, 32) => {
            let (global, local) = (v6(&hop[..16]), v6(&hop[16..]));
            // Some speakers fill the second half with zeros or with the global address once more.
            let link_local = Some(local).filter(Ipv6Addr::is_unicast_link_local);
            let sound = plausible_v6(global) || link_local.is_some();
            (NextHop::V6 { global, link_local }, sound)
        }
        _ => return error(OPTIONAL_ATTRIBUTE),
    };
    let Some(routes) = nlri(family, reader.rest(), context.add_path.contains(family)) else {
        return error(OPTIONAL_ATTRIBUTE);
    };
    let problem = (!sound).then(|| Notification::new(3, 8));
    Ok((Some((family, hop, routes)), problem))
}

/// Appends the End-of-RIB marker of `family` (RFC 4724 section 2).
pub(crate) fn end_of_rib(family: Family, out: &mut Vec<u8>) {
    let begin = start(UPDATE, out);
    match family {
        Family::Ipv4Unicast => out.extend_from_slice(&[0; 4]),
        Family::Ipv6Unicast => {
            out.extend_from_slice(&[0, 0, 0, 6, 0x80, kind::MP_UNREACH, 3, 0, 2, 1])
        }
    }
    finish(begin, out);
}
