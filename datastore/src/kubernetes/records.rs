//! The records of address management as custom resources.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::custom;
use super::place::Found;
use crate::model::{Kind, names};
use crate::object::{Key, Object, Revision};

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// A hash of the owner's name, by which all of its affinities are found.
const HOST_HASH: &str = "projectcalico.org/hostname-hash";
const OWNER_TYPE: &str = "projectcalico.org/affinity-type";
const IP_VERSION: &str = "projectcalico.org/ip-version";

/// Whether a kind is deleted in two steps: marked, then removed.
pub(super) const fn is_record(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::IpamBlock | Kind::BlockAffinity | Kind::IpamHandle
    )
}

/// The name of the custom resource of a record.
pub(super) fn stored_name(key: &Key) -> Option<String> {
    match key.kind {
        Kind::BlockAffinity => {
            let (_, owner, cidr) = names::affinity_parts(&key.name)?;
            Some(affinity_name(owner, &cidr))
        }
        Kind::IpamHandle => Some(handle_name(&key.name)),
        _ => Some(key.name.clone()),
    }
}

fn affinity_name(owner: &str, cidr: &str) -> String {
    let block = names::block_name(cidr);
    let name = format!("{owner}-{block}");
    if name.len() < LONGEST_NAME {
        return name;
    }
    let hash = short_hash(&format!("{owner}+{cidr}"));
    let room = LONGEST_NAME - 1 - block.len() - hash.len() - 2;
    let owner: String = owner.chars().take(room).collect();
    format!("{owner}-{hash}-{block}")
}

/// A handle in lower case. One that cannot be a name even so has its odd characters replaced, and a hash.
fn handle_name(handle: &str) -> String {
    let lower = handle.to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(plain)
            && part.ends_with(plain)
            && part.chars().all(|c| plain(c) || c == '-')
    };
    if lower.len() <= LONGEST_NAME && lower.split('.').all(part) {
        return lower;
    }
    let allowed = lower.chars().map(|c| if plain(c) { c } else { '-' });
    let allowed: String = allowed.skip_while(|c| *c == '-').take(200).collect();
    let hash = short_hash(handle);
    format!("{}-{hash}", allowed.trim_end_matches('-'))
        .trim_start_matches('-')
        .to_owned()
}

/// 11 hexadecimal digits.
fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text);
    let hex: String = digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.chars().take(11).collect()
}

/// The label value of an owner's name: 52 characters.
fn host_hash(owner: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = sha3::Sha3_256::digest(owner);
    let (mut text, mut buffer, mut bits) = (String::new(), 0_u32, 0_u32);
    let mut push = |five: u32| {
        let letter = ALPHABET.get((five & 31) as usize).copied();
        text.extend(letter.map(char::from));
    };
    for byte in digest {
        buffer = (buffer << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(buffer >> bits);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        push(buffer << (5 - bits));
    }
    text
}

/// Label selectors that together find all affinities of the owner that a prefix of names has in it, those without
/// our labels among them.
pub(super) fn selectors(name_prefix: &str) -> Option<[String; 2]> {
    let (owner_type, rest) = name_prefix.split_once(':')?;
    let (owner, _) = rest.split_once(':')?;
    (!owner_type.is_empty() && !owner.is_empty()).then(|| {
        [
            format!("{HOST_HASH}={}", host_hash(owner)),
            format!("!{HOST_HASH}"),
        ]
    })
}

/// The record that a custom resource is.
pub(super) fn read(kind: Kind, value: Value, revision: Revision) -> Found {
    let mut value = custom::untouched(value);
    let spec = custom::members(&mut value, "spec");
    let deleted = match spec.get("deleted") {
        Some(Value::Bool(deleted)) => *deleted,
        Some(Value::String(deleted)) => deleted == "true",
        _ => false,
    };
    if spec.get("deleted").is_some_and(Value::is_string) {
        spec.insert("deleted".to_owned(), deleted.into());
    }
    if kind == Kind::BlockAffinity {
        unlabel(&mut value);
    }
    let Some(name) = names::derived(kind, &value) else {
        return Found::Nothing;
    };
    let key = Key::cluster(kind, name);
    if deleted {
        return Found::Deleted(key);
    }
    let mut object = Object {
        kind,
        namespace: None,
        name: key.name,
        value,
        revision,
    };
    object.stamp();
    Found::Object(object)
}

/// The affinity without the labels that it is found by.
fn unlabel(value: &mut Value) {
    let Some(Value::Object(metadata)) = value.get_mut("metadata") else {
        return;
    };
    let Some(Value::Object(labels)) = metadata.get_mut("labels") else {
        return;
    };
    for label in [HOST_HASH, OWNER_TYPE, IP_VERSION] {
        labels.remove(label);
    }
    if labels.is_empty() {
        metadata.remove("labels");
    }
}

/// Gives a record that is to be stored the form of a custom resource. `text`: in the group where a flag is a text.
pub(super) fn fold(kind: Kind, value: &mut Value, text: bool) {
    if kind != Kind::BlockAffinity {
        return;
    }
    let spec = custom::members(value, "spec");
    let says = |field: &str| spec.get(field).and_then(Value::as_str).unwrap_or_default();
    let deleted = says("deleted") == "true" || spec.get("deleted") == Some(&Value::Bool(true));
    let owner_type = Some(says("type")).filter(|owner_type| !owner_type.is_empty());
    let labels = [
        (HOST_HASH, host_hash(says("node"))),
        (OWNER_TYPE, owner_type.unwrap_or("host").to_owned()),
        (
            IP_VERSION,
            if says("cidr").contains(':') { "6" } else { "4" }.to_owned(),
        ),
    ];
    let flag = if text {
        deleted.to_string().into()
    } else {
        deleted.into()
    };
    spec.insert("deleted".to_owned(), flag);
    let Some(metadata) = value.get_mut("metadata") else {
        return;
    };
    let stored = custom::members(metadata, "labels");
    stored.extend(labels.map(|(label, text)| (label.to_owned(), text.into())));
}

/// Marks a custom resource as deleted.
pub(super) fn mark(kind: Kind, value: &mut Value, text: bool) {
    let text = text && kind == Kind::BlockAffinity;
    let flag = if text { "true".into() } else { true.into() };
    custom::members(value, "spec").insert("deleted".to_owned(), flag);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_calicos() {
        let name = |kind, name: &str| stored_name(&Key::cluster(kind, name));
        let affinity = names::affinity_name("host", "node-1.example", "10.0.0.0/26");
        assert_eq!(
            name(Kind::BlockAffinity, &affinity).as_deref(),
            Some("node-1.example-10-0-0-0-26")
        );
        let v6 = names::affinity_name("virtual", "load-balancer", "fd00::40/122");
        assert_eq!(
            name(Kind::BlockAffinity, &v6).as_deref(),
            Some("load-balancer-fd00--40-122")
        );
        assert_eq!(
            name(Kind::IpamHandle, "Net.0AbC").as_deref(),
            Some("net.0abc")
        );
        assert_eq!(
            name(Kind::IpamBlock, "10-0-0-0-26").as_deref(),
            Some("10-0-0-0-26")
        );
    }

    #[test]
    fn long_and_odd_names_fit() {
        let long = "n".repeat(250);
        let (a, b) = (
            affinity_name(&long, "10.0.0.0/26"),
            affinity_name(&format!("{long}x"), "10.0.0.0/26"),
        );
        assert!(
            a.len() < LONGEST_NAME && b.len() < LONGEST_NAME && a != b,
            "{a} {b}"
        );
        assert!(a.ends_with("-10-0-0-0-26"));
        let odd = [
            "my_net.abc",
            "",
            "..",
            "-a",
            "ü",
            &long.repeat(2),
            "My_net.abc",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for handle in odd {
            let name = handle_name(handle);
            assert!(
                name.len() <= LONGEST_NAME && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            );
            assert!(
                !name.contains(['_', 'ü']) && seen.insert(name.clone()),
                "{handle} {name}"
            );
        }
    }

    #[test]
    fn hashes_are_base32_of_sha3() {
        // Of the empty text; a7ffc6f8bf1ed766... in hexadecimal.
        assert_eq!(
            host_hash(""),
            "U774N6F7D3LWMUOBI5LKAYOWML2YB72N4Q5UT6UC3AFEXAHYINFA"
        );
        assert_eq!(host_hash("node").len(), 52);
    }

    #[test]
    fn what_is_marked_is_gone() {
        for text in [true, false] {
            let spec =
                json!({ "state": "confirmed", "node": "n", "cidr": "10.0.0.0/26", "type": "host" });
            let mut value = json!({ "metadata": { "name": "x" }, "spec": spec });
            fold(Kind::BlockAffinity, &mut value, text);
            assert_eq!(
                value["spec"]["deleted"],
                if text { json!("false") } else { json!(false) }
            );
            let Found::Object(object) = read(Kind::BlockAffinity, value.clone(), Revision(1))
            else {
                panic!("no object");
            };
            assert_eq!(object.name, "host:n:10-0-0-0-26");
            assert_eq!(object.value["spec"]["deleted"], false);
            assert!(object.value["metadata"].get("labels").is_none());
            mark(Kind::BlockAffinity, &mut value, text);
            let found = read(Kind::BlockAffinity, value, Revision(1));
            assert_eq!(found, Found::Deleted(object.key()));
        }
    }
}
