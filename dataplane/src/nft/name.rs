//! Names of our chains and sets: readable in `nft list ruleset`, and words of nft's own language.

use std::fmt::Write as _;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

/// The name of a chain, a set or a map.
pub(crate) type Name = Arc<str>;

/// How long a name may get. The kernel takes 255 bytes; nobody reads that many.
const LONGEST: usize = 96;

/// `role/text`, with what nft cannot write in a name replaced, and cut when too long; both leave a hash of the
/// original at the end, so that different texts keep different names.
pub(crate) fn name(role: &str, text: &str) -> Name {
    spelled(role, text, |c| {
        (c.is_ascii_alphanumeric() || "/-_.".contains(c)).then_some(c)
    })
}

/// The same for the ids of sets, which have colons and no dots: nft can write it the other way round only.
pub(crate) fn set_name(role: &str, text: &str) -> Name {
    spelled(role, text, |c| match c {
        ':' => Some('.'),
        _ => (c.is_ascii_alphanumeric() || "-_".contains(c)).then_some(c),
    })
}

fn spelled(role: &str, text: &str, spelling: impl Fn(char) -> Option<char>) -> Name {
    let mut name = format!("{role}/");
    let mut exact = true;
    for c in text.chars() {
        let spelt = spelling(c);
        exact &= spelt.is_some();
        name.push(spelt.unwrap_or('_'));
    }
    if exact && name.len() <= LONGEST {
        return name.into();
    }
    let hash = digest(&[text.as_bytes()]);
    name.truncate(LONGEST - hash.len() - 1);
    format!("{name}_{hash}").into()
}

/// A name for content: equal content has the same name.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut sha = Sha1::new();
    for part in parts {
        sha.update(part.len().to_be_bytes());
        sha.update(part);
    }
    let mut text = String::with_capacity(24);
    for byte in sha.finalize().iter().take(12) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A fast hash of a rule's bytes, the same in every build: FNV-1a over eight bytes at a time with a mixing step.
pub(crate) fn quick_hash(parts: &[&[u8]]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(PRIME);
        hash ^= hash >> 29;
    };
    for part in parts {
        mix(part.len() as u64);
        let mut chunks = part.chunks_exact(8);
        for chunk in &mut chunks {
            mix(chunk
                .iter()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte)));
        }
        mix(chunks
            .remainder()
            .iter()
            .fold(1, |word, byte| (word << 8) | u64::from(*byte)));
    }
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart() {
        assert_eq!(
            &*name("policy-in", "gnp/default/a"),
            "policy-in/gnp/default/a"
        );
        let ids = ["s:a", "s.a", "s;a", "s:b"];
        let names: std::collections::BTreeSet<_> =
            ids.iter().map(|id| set_name("ip4", id)).collect();
        assert_eq!(names.len(), ids.len());
        let long = name("policy-in", &"x".repeat(300));
        assert_eq!(long.len(), LONGEST);
        assert_ne!(long, name("policy-in", &"x".repeat(301)));
    }

    #[test]
    fn the_hash_sees_every_byte() {
        let seen: std::collections::HashSet<u64> = (0..64)
            .flat_map(|len| (0..len).map(move |at| (len, at)))
            .map(|(len, at)| {
                let mut bytes = vec![0_u8; len];
                bytes[at] = 1;
                quick_hash(&[&bytes])
            })
            .collect();
        assert_eq!(seen.len(), 64 * 63 / 2);
        assert_ne!(quick_hash(&[b"ab", b"c"]), quick_hash(&[b"a", b"bc"]));
    }
}
