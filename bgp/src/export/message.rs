use super::Outgoing;
use crate::number::Family;
use crate::wire::{Key, MAX_MESSAGE, UPDATE, finish, flag, kind, start};

/// Appends UPDATEs that withdraw `keys`.
pub(super) fn withdraw<K: Key>(keys: &[K], out: &mut Vec<u8>) {
    let mut keys = keys.iter().peekable();
    while keys.peek().is_some() {
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
        while let Some(key) =
            keys.next_if(|key| out.len() - begin + key.encoded() + 2 <= MAX_MESSAGE)
        {
            key.write(out);
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

/// Appends UPDATEs that announce `keys`; false, and nothing is appended, when the attributes leave no room.
pub(super) fn announce<K: Key>(keys: &[K], outgoing: &Outgoing, out: &mut Vec<u8>) -> bool {
    let attributes = &outgoing.attributes;
    let mut keys = keys.iter().peekable();
    let before = out.len();
    while let Some(&first) = keys.peek() {
        let begin = start(UPDATE, out);
        out.extend_from_slice(&[0, 0]);
        let lengths = out.len();
        out.extend_from_slice(&[0, 0]);
        let tail = match K::FAMILY {
            Family::Ipv4Unicast => {
                out.extend_from_slice(attributes);
                patch(out, lengths);
                0
            }
            Family::Ipv6Unicast => {
                // RFC 7606 section 5.1: first of all, so that it is found whatever is wrong behind it.
                out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED, kind::MP_REACH, 0, 0]);
                out.extend_from_slice(&K::FAMILY.afi().to_be_bytes());
                out.extend_from_slice(&[K::FAMILY.safi(), outgoing.next_hop.len() as u8]);
                out.extend_from_slice(&outgoing.next_hop);
                out.push(0);
                attributes.len()
            }
        };
        if out.len() - begin + tail + first.encoded() > MAX_MESSAGE {
            out.truncate(before);
            return false;
        }
        while let Some(key) =
            keys.next_if(|key| out.len() - begin + tail + key.encoded() <= MAX_MESSAGE)
        {
            key.write(out);
        }
        if K::FAMILY == Family::Ipv6Unicast {
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
