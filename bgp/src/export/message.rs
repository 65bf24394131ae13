use super::Outgoing;
use crate::number::Family;
use crate::wire::{Key, MAX_EXTENDED, MAX_MESSAGE, UPDATE, finish, flag, kind, start};

/// How a group's messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Each prefix has a path identifier in front (RFC 7911 section 3).
    pub(crate) ids: bool,
    /// Up to 65535 octets (RFC 8654).
    pub(crate) extended: bool,
}

impl Form {
    const fn longest(self) -> usize {
        if self.extended {
            MAX_EXTENDED
        } else {
            MAX_MESSAGE
        }
    }

    fn encoded<K: Key>(self, key: K) -> usize {
        key.encoded() + if self.ids { 4 } else { 0 }
    }

    fn write<K: Key>(self, (key, id): (K, u32), out: &mut Vec<u8>) {
        if self.ids {
            out.extend_from_slice(&id.to_be_bytes());
        }
        key.write(out);
    }
}

/// Appends UPDATEs that withdraw `routes`: prefixes with their path identifiers.
pub(super) fn withdraw<K: Key>(routes: &[(K, u32)], form: Form, out: &mut Vec<u8>) {
    let mut routes = routes.iter().copied().peekable();
    while routes.peek().is_some() {
        let begin = start(UPDATE, out);
        let lengths = out.len();
        match K::FAMILY {
            Family::Ipv4Unicast => out.extend_from_slice(&[0, 0]),
            Family::Ipv6Unicast => {
                out.extend_from_slice(&[0, 0, 0, 0]);
                out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, kind::MP_UNREACH, 0, 0]);
                out.extend_from_slice(&K::FAMILY.afi().to_be_bytes());
                out.push(K::FAMILY.safi());
            }
        }
        // Two octets stay free for the attribute length of the classic form.
        while let Some(route) =
            routes.next_if(|(key, _)| out.len() - begin + form.encoded(*key) + 2 <= form.longest())
        {
            form.write(route, out);
        }
        match K::FAMILY {
            Family::Ipv4Unicast => {
                patch(out, lengths);
                out.extend_from_slice(&[0, 0]);
            }
            Family::Ipv6Unicast => {
                patch(out, lengths + 2);
                patch(out, lengths + 6);
            }
        }
        finish(begin, out);
    }
}

/// Appends UPDATEs that announce `routes`; false, and nothing is appended, when the attributes leave no room.
pub(super) fn announce<K: Key>(
    routes: &[(K, u32)],
    outgoing: &Outgoing,
    form: Form,
    out: &mut Vec<u8>,
) -> bool {
    let attributes = &outgoing.attributes;
    // IPv4 routes with an IPv4 next hop have the classic form, all others that of RFC 4760.
    let classic = outgoing.next_hop.is_empty();
    let mut routes = routes.iter().copied().peekable();
    let before = out.len();
    while let Some(&(first, _)) = routes.peek() {
        let begin = start(UPDATE, out);
        out.extend_from_slice(&[0, 0]);
        let lengths = out.len();
        out.extend_from_slice(&[0, 0]);
        let tail = if classic {
            out.extend_from_slice(attributes);
            patch(out, lengths);
            0
        } else {
            // RFC 7606 section 5.1: first of all, so that it is found whatever is wrong behind it.
            out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, kind::MP_REACH, 0, 0]);
            out.extend_from_slice(&K::FAMILY.afi().to_be_bytes());
            out.extend_from_slice(&[K::FAMILY.safi(), outgoing.next_hop.len() as u8]);
            out.extend_from_slice(&outgoing.next_hop);
            out.push(0);
            attributes.len()
        };
        if out.len() - begin + tail + form.encoded(first) > form.longest() {
            out.truncate(before);
            return false;
        }
        while let Some(route) = routes
            .next_if(|(key, _)| out.len() - begin + tail + form.encoded(*key) <= form.longest())
        {
            form.write(route, out);
        }
        if !classic {
            patch(out, lengths + 4);
            out.extend_from_slice(attributes);
            patch(out, lengths);
        }
        finish(begin, out);
    }
    true
}

/// Writes into the length field at `at` how many octets have come behind it.
fn patch(out: &mut [u8], at: usize) {
    let length = (out.len() - at - 2) as u16;
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}
