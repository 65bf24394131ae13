//! What of an address pool stays as it is for as long as the pool is there.

use ocicat_datastore::{Kind, Object};

/// What to do in place of such a change.
const REMEDY: &str = "add another pool, disable this one, delete it when nothing is in use";

/// The field and the fault, when a pool would get another range or another size of blocks: addresses that were given out lie in
/// the old ones.
#[must_use]
pub fn changed(old: &Object, new: &Object) -> Option<(&'static str, String)> {
    if old.kind != Kind::IpPool || new.kind != Kind::IpPool {
        return None;
    }
    let cidr = |pool: &Object| text(pool, "/spec/cidr");
    let (was, is) = (cidr(old), cidr(new));
    if was.parse::<ipnetwork::IpNetwork>().ok() != is.parse().ok() {
        let fault = format!("is {was} and cannot be changed: {REMEDY}");
        return Some(("spec.cidr", fault));
    }
    let (was, is) = (block_size(old), block_size(new));
    (was != is).then(|| {
        let fault = format!("is {was} and cannot be changed: {REMEDY}");
        ("spec.blockSize", fault)
    })
}

fn text(pool: &Object, pointer: &str) -> String {
    let value = pool.value.pointer(pointer).and_then(|value| value.as_str());
    value.unwrap_or_default().to_owned()
}

/// What it says, or Calico's default.
pub(crate) fn block_size(pool: &Object) -> u64 {
    let stated = pool.value.pointer("/spec/blockSize");
    let six = text(pool, "/spec/cidr").contains(':');
    let stated = stated.and_then(serde_json::Value::as_u64);
    stated.unwrap_or(if six { 122 } else { 26 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn range_and_block_size_stay() {
        let pool = |spec: serde_json::Value| {
            Object::from_value(json!({
                "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec,
            }))
            .expect("a pool")
        };
        let old = pool(json!({"cidr": "10.0.0.0/16"}));
        for (spec, field) in [
            (
                json!({"cidr": "10.0.0.0/16", "blockSize": 26, "disabled": true}),
                None,
            ),
            (json!({"cidr": "10.0.0.0/15"}), Some("spec.cidr")),
            (
                json!({"cidr": "10.0.0.0/16", "blockSize": 28}),
                Some("spec.blockSize"),
            ),
        ] {
            let fault = changed(&old, &pool(spec.clone())).map(|(field, _)| field);
            assert_eq!(fault, field, "{spec}");
        }
        let six = pool(json!({"cidr": "fd00::/48"}));
        assert_eq!(
            changed(
                &six,
                &pool(json!({"cidr": "fd00:0::/48", "blockSize": 122}))
            ),
            None
        );
    }
}
