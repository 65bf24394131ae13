use alloc::string::String;

use sha2::{Digest, Sha224};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `s:` and the unpadded base64url (RFC 4648, section 5) of SHA-224 over `s:` and the text.
pub(crate) fn unique_id(canonical: &str) -> String {
    let mut hash = Sha224::new();
    hash.update(b"s:");
    hash.update(canonical.as_bytes());
    let mut id = String::with_capacity(40);
    id.push_str("s:");
    for chunk in hash.finalize().chunks(3) {
        let mut word = 0_u32;
        for i in 0..3 {
            word = word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0));
        }
        for i in 0..=chunk.len() {
            let digit = (word >> (18 - 6 * i)) & 63;
            id.push(char::from(ALPHABET[digit as usize]));
        }
    }
    id
}
