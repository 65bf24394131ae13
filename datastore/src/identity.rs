//! What distinguishes an object from another that had its name, and when it was made.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::model::Kind;
use crate::object::Object;

const FIELDS: [&str; 2] = ["uid", "creationTimestamp"];

/// Whether objects of a kind are IPAM records, which Calico stores bare: without metadata, and so without an identity.
pub(crate) const fn is_record(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::IpamBlock | Kind::BlockAffinity | Kind::IpamHandle | Kind::IpamConfig
    )
}

/// What an object that is to be written left open of its identity.
///
/// Calico's client gives one to every object that it creates, and refuses to update an object that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open([bool; 2]);

/// Fields of an identity that was there before, and stays.
pub(crate) type Kept = Vec<(&'static str, Value)>;

impl Open {
    /// Completes an object as if it were new; `None` when it left nothing open.
    pub(crate) fn complete(object: &mut Object) -> Option<Self> {
        if is_record(object.kind) {
            return None;
        }
        let open = Self(FIELDS.map(|field| said(&object.value, field).is_none()));
        let metadata = object.value.get_mut("metadata")?.as_object_mut()?;
        for (field, _) in open.fields() {
            let new = match field {
                "uid" => uid(),
                _ => timestamp(SystemTime::now()),
            };
            metadata.insert(field.to_owned(), new.into());
        }
        open.fields().next().map(|_| open)
    }

    fn fields(self) -> impl Iterator<Item = (&'static str, bool)> {
        FIELDS.into_iter().zip(self.0).filter(|(_, open)| *open)
    }

    /// What the object that is there says of what was left open.
    pub(crate) fn kept(self, there: &Value) -> Kept {
        let kept = self
            .fields()
            .filter_map(|(field, _)| Some((field, said(there, field)?.clone())));
        kept.collect()
    }
}

/// Puts into an object what is kept of its identity.
pub(crate) fn keep(value: &mut Value, kept: &Kept) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for (field, value) in kept {
            metadata.insert((*field).to_owned(), value.clone());
        }
    }
}

fn said<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    let said = value.get("metadata")?.get(field)?;
    said.as_str()
        .is_some_and(|text| !text.is_empty())
        .then_some(said)
}

/// A random UUID (RFC 9562, version 4). The standard library seeds each hasher anew.
pub(crate) fn uid() -> String {
    let half = || RandomState::new().hash_one(0_u8);
    let (high, low) = (half(), half());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff,
    )
}

/// A time as Kubernetes writes it: RFC 3339, UTC, whole seconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or(Duration::ZERO).as_secs();
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days since 1 March of the year 0, in eras of 400 years; a year begins with March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // Taken with coreutils' date.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_767_225_600, "2026-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(timestamp(time), text);
        }
    }

    #[test]
    fn uids_differ() {
        let (a, b) = (uid(), uid());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(a.as_bytes().get(14), Some(&b'4'));
    }
}
