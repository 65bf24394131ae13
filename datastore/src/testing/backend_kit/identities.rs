//! What distinguishes objects that had the same name one after the other.

use serde_json::{Value, json};

use super::{Kit, Outcome, check, object, set, told};
use crate::backend::Op;
use crate::model::Kind;
use crate::object::Object;

fn identity(object: &Object) -> [Value; 2] {
    ["uid", "creationTimestamp"].map(|field| object.value["metadata"][field].clone())
}

/// An object gets an identity when it is created and has it until it is deleted, whatever writes leave out.
pub(super) async fn stay(kit: &Kit<'_>) -> Outcome {
    let made = kit.created(set("kit-identity", &["10.0.0.0/8"])).await?;
    let given = identity(&made);
    let said = given
        .iter()
        .all(|value| value.as_str().is_some_and(|text| !text.is_empty()));
    check(said, || {
        format!("created without uid or creationTimestamp: {}", made.value)
    })?;
    let mut seen = made.clone();
    for (what, nets) in [("update", ["10.1.0.0/16"]), ("put", ["10.2.0.0/16"])] {
        let bare = Object {
            revision: seen.revision,
            ..set("kit-identity", &nets)
        };
        let op = match what {
            "update" => Op::Update(bare),
            _ => Op::Put(bare),
        };
        seen = told(what, kit.one(op).await)?;
        check(identity(&seen) == given, || {
            format!("{what} makes {given:?} {:?}", identity(&seen))
        })?;
        let found = kit.found(&seen.key()).await?;
        check(found.as_ref() == Some(&seen), || {
            format!("{what} answers {seen:?}, found {found:?}")
        })?;
    }
    // What was read can be written back as it is.
    let again = told("update", kit.one(Op::Update(seen.clone())).await)?;
    check(identity(&again) == given, || {
        format!("an update of all makes {given:?} {:?}", identity(&again))
    })?;
    let gone = Op::Delete {
        key: seen.key(),
        revision: None,
    };
    told("delete", kit.one(gone).await)?;
    let other = told("put", kit.one(Op::Put(set("kit-identity", &[]))).await)?;
    let [uid, _] = identity(&other);
    check(uid.is_string() && uid != given[0], || {
        format!("made anew, and its uid is {uid}; it was {}", given[0])
    })
}

/// IPAM records keep nothing but their content: in Calico's etcd they have no metadata.
pub(super) async fn not_of_records(kit: &Kit<'_>) -> Outcome {
    let spec = json!({ "handleID": "kit-identity", "block": {}, "deleted": false });
    let made = kit
        .created(object(Kind::IpamHandle, None, "kit-identity", spec))
        .await?;
    let found = kit.found(&made.key()).await?;
    check(found.as_ref() == Some(&made), || {
        format!("made {made:?}, found {found:?}")
    })
}
