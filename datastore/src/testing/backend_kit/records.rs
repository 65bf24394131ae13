//! The records of address management, which are stored in a form of their own.

use serde_json::json;

use super::{Kit, Outcome, check, object, told};
use crate::backend::Op;
use crate::model::{Kind, names};
use crate::object::{Key, Object, Scope};

fn affinity(node: &str, cidr: &str) -> Object {
    let name = names::affinity_name("host", node, cidr);
    let spec = json!({
        "state": "confirmed", "node": node, "type": "host", "cidr": cidr, "deleted": false,
    });
    object(Kind::BlockAffinity, None, &name, spec)
}

fn block() -> Object {
    let cidr = "198.18.0.0/30";
    let spec = json!({
        "cidr": cidr,
        "affinity": "host:kit-1",
        "affinityClaimTime": "2026-01-01T00:00:00Z",
        "allocations": [0, null, null, null],
        "unallocated": [1, 2, 3],
        "attributes": [{ "handle_id": "kit-handle", "secondary": { "pod": "web" } }],
        "sequenceNumber": 1_767_225_600_000_000_123_u64,
        "sequenceNumberForAllocation": { "0": 1_767_225_600_000_000_122_u64 },
        "strictAffinity": false,
        "deleted": false,
        "unknownHere": { "deep": [1] },
    });
    object(Kind::IpamBlock, None, &names::block_name(cidr), spec)
}

fn handle() -> Object {
    // A handle's case matters, though names in Kubernetes have none.
    let name = "kit-Net.0AbC";
    let spec = json!({ "handleID": name, "block": { "198.18.0.0/30": 1 }, "deleted": false });
    object(Kind::IpamHandle, None, name, spec)
}

pub(super) async fn round_trip(kit: &Kit<'_>) -> Outcome {
    let v6 = affinity("kit-node-1.example", "2001:2::40/122");
    for mut wanted in [block(), handle(), affinity("kit-1", "198.18.0.0/30"), v6] {
        if let Some(spec) = wanted.value["spec"].as_object_mut()
            && !kit.fixture.keeps_unknown_fields()
        {
            spec.remove("unknownHere");
        }
        let made = kit.created(wanted.clone()).await?;
        let found = kit
            .found(&wanted.key())
            .await?
            .ok_or("was made and not found")?;
        check(found == made, || format!("made {made:?}, found {found:?}"))?;
        check(found.value["spec"] == wanted.value["spec"], || {
            format!("wrote {}, found {}", wanted.value, found.value)
        })?;
        let listing = told("list", kit.store.list(&Scope::all(wanted.kind)).await)?;
        check(listing.objects.contains(&made), || {
            format!("{} is not listed", made.key())
        })?;
        let updated = told("update", kit.one(Op::Update(made.clone())).await)?;
        check(updated.revision > made.revision, || {
            format!("an update that changes nothing must bump the revision: {updated:?}")
        })?;
        let stale = Op::Delete {
            key: made.key(),
            revision: Some(made.revision),
        };
        check(kit.one(stale).await.is_err(), || {
            "a stale delete succeeded".to_owned()
        })?;
        let delete = Op::Delete {
            key: made.key(),
            revision: Some(updated.revision),
        };
        told("delete", kit.one(delete).await)?;
    }
    Ok(())
}

pub(super) async fn of_a_node(kit: &Kit<'_>) -> Outcome {
    for (node, cidr) in [
        ("kit-1", "198.18.0.0/30"),
        ("kit-1", "2001:2::40/122"),
        ("kit-10", "198.18.0.4/30"),
        ("kit-2", "198.18.0.8/30"),
    ] {
        kit.created(affinity(node, cidr)).await?;
    }
    let prefix = names::affinity_prefix("host", "kit-1");
    let scope = Scope::all(Kind::BlockAffinity).with_prefix(prefix);
    let listing = told("list", kit.store.list(&scope).await)?;
    let keys: Vec<Key> = listing.objects.iter().map(Object::key).collect();
    check(keys.len() == 2, || {
        format!("the affinities of kit-1 are {keys:?}")
    })
}
