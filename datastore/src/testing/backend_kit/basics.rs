//! One object at a time, and many at once.

use serde_json::json;

use super::{Kit, Outcome, check, object, one, refused, set, set_in, told};
use crate::backend::{Backend, Op};
use crate::error::StoreError;
use crate::join;
use crate::model::Kind;
use crate::object::{Key, Object, Revision};

pub(super) async fn create(kit: &Kit<'_>) -> Outcome {
    let wanted = set("kit-create", &["10.0.0.0/8"]);
    let key = wanted.key();
    check(kit.found(&key).await?.is_none(), || {
        "found before it was made".to_owned()
    })?;
    let made = kit.created(wanted.clone()).await?;
    check(made.revision > Revision::NONE, || {
        "the answer has no revision".to_owned()
    })?;
    check(made.value["spec"] == wanted.value["spec"], || {
        format!("the answer is {made:?}")
    })?;
    let found = kit.found(&key).await?;
    check(found.as_ref() == Some(&made), || {
        format!("made {made:?}, found {found:?}")
    })?;
    // The revision of what is created does not matter.
    let again = Object {
        revision: made.revision,
        ..set("kit-create", &[])
    };
    let again = kit.one(Op::Create(again)).await;
    refused("create again", again, |error| {
        *error == StoreError::Exists { key: key.clone() }
    })?;
    let found = kit.found(&key).await?;
    check(found == Some(made), || {
        format!("after a refused create: {found:?}")
    })
}

pub(super) async fn update(kit: &Kit<'_>) -> Outcome {
    let missing = kit
        .one(Op::Update(Object {
            revision: Revision(1),
            ..set("kit-update", &[])
        }))
        .await;
    refused("update of nothing", missing, |error| {
        matches!(error, StoreError::Missing { .. })
    })?;
    let first = kit.created(set("kit-update", &["10.0.0.0/8"])).await?;
    let changed = |nets: &[&str], revision| Object {
        revision,
        ..set("kit-update", nets)
    };
    let second = Op::Update(changed(&["10.1.0.0/16"], first.revision));
    let second = told("update", kit.one(second).await)?;
    check(second.revision > first.revision, || {
        format!("{first:?} became {second:?}")
    })?;
    let stale = kit
        .one(Op::Update(changed(&["10.2.0.0/16"], first.revision)))
        .await;
    let conflict = StoreError::Conflict {
        key: first.key(),
        expected: first.revision,
    };
    refused("update of an old revision", stale, |error| {
        *error == conflict
    })?;
    let found = kit.found(&first.key()).await?;
    check(found.as_ref() == Some(&second), || {
        format!("wrote {second:?}, found {found:?}")
    })
}

pub(super) async fn put(kit: &Kit<'_>) -> Outcome {
    let first = told(
        "put",
        kit.one(Op::Put(set("kit-put", &["10.0.0.0/8"]))).await,
    )?;
    let wanted = set("kit-put", &["10.1.0.0/16"]);
    // The revision of what is put does not matter.
    let stale = Object {
        revision: Revision(1),
        ..wanted.clone()
    };
    let second = told("put again", kit.one(Op::Put(stale)).await)?;
    check(second.revision > first.revision, || {
        format!("{first:?} became {second:?}")
    })?;
    let found = kit.found(&wanted.key()).await?;
    let value = found.map(|found| found.value["spec"].clone());
    check(value.as_ref() == Some(&wanted.value["spec"]), || {
        format!("found {value:?}")
    })
}

pub(super) async fn delete(kit: &Kit<'_>) -> Outcome {
    let key = set("kit-delete", &[]).key();
    let delete = |revision| Op::Delete {
        key: key.clone(),
        revision,
    };
    let missing = |error: &StoreError| *error == StoreError::Missing { key: key.clone() };
    refused("delete of nothing", kit.one(delete(None)).await, missing)?;
    let first = kit.created(set("kit-delete", &["10.0.0.0/8"])).await?;
    let newer = Object {
        revision: first.revision,
        ..set("kit-delete", &["10.1.0.0/16"])
    };
    let second = told("update", kit.one(Op::Update(newer)).await)?;
    let conflict = StoreError::Conflict {
        key: key.clone(),
        expected: first.revision,
    };
    let stale = kit.one(delete(Some(first.revision))).await;
    refused("delete of an old revision", stale, |error| {
        *error == conflict
    })?;
    let gone = told("delete", kit.one(delete(Some(second.revision))).await)?;
    check(gone.revision > second.revision, || {
        format!("deleted {second:?}, answer {gone:?}")
    })?;
    check(gone.value == second.value, || {
        format!("deleted {second:?}, answer {gone:?}")
    })?;
    check(kit.found(&key).await?.is_none(), || {
        "found after it was deleted".to_owned()
    })?;
    refused("delete again", kit.one(delete(None)).await, missing)
}

pub(super) async fn created_again(kit: &Kit<'_>) -> Outcome {
    let first = kit.created(set("kit-again", &["10.0.0.0/8"])).await?;
    let key = first.key();
    let gone = Op::Delete {
        key,
        revision: Some(first.revision),
    };
    let gone = told("delete", kit.one(gone).await)?;
    let second = kit.created(set("kit-again", &["10.0.0.0/8"])).await?;
    check(second.revision > gone.revision, || {
        format!("deleted at {gone:?}, made {second:?}")
    })?;
    let old = kit.one(Op::Update(first)).await;
    refused("update of the earlier one", old, |error| {
        matches!(error, StoreError::Conflict { .. })
    })
}

pub(super) async fn values(kit: &Kit<'_>) -> Outcome {
    let mut wanted = set("kit-values", &["10.0.0.0/8"]);
    wanted.value["metadata"]["labels"] = json!({ "kit/label": "A-b_c.1", "empty": "" });
    wanted.value["metadata"]["annotations"] = json!({ "kit": "ü/\"\\ \u{1F408} line\nline" });
    if kit.fixture.keeps_unknown_fields() {
        wanted.value["spec"]["unknownHere"] = json!({
            "deep": [{ "deeper": [1, -2, 2.5, true, "", [], {}] }],
            "big": 9_007_199_254_740_993_i64,
        });
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
    for field in ["labels", "annotations"] {
        let (wrote, found) = (
            &wanted.value["metadata"][field],
            &found.value["metadata"][field],
        );
        check(wrote == found, || {
            format!("wrote {field} {wrote}, found {found}")
        })?;
    }
    let says = |field: &str| found.value[field].as_str().map(str::to_owned);
    let kind = Kind::GlobalNetworkSet;
    let stamped = says("kind").as_deref() == Some(kind.name())
        && says("apiVersion").as_deref() == Some(kind.api_version())
        && found.value["metadata"]["name"] == "kit-values"
        && found.value["metadata"].get("resourceVersion").is_none();
    check(stamped, || {
        format!(
            "kind, apiVersion, name, no resourceVersion: {}",
            found.value
        )
    })
}

pub(super) async fn many(kit: &Kit<'_>) -> Outcome {
    check(kit.store.write(Vec::new()).await.is_empty(), || {
        "answers to nothing".to_owned()
    })?;
    let there = kit.created(set("kit-many-1", &[])).await?;
    let ops = vec![
        Op::Create(set("kit-many-0", &[])),
        Op::Create(set("kit-many-1", &[])),
        Op::Update(there.clone()),
        Op::Update(there.clone()),
        Op::Delete {
            key: set("kit-many-9", &[]).key(),
            revision: None,
        },
        Op::Create(set("kit-many-2", &[])),
        Op::Delete {
            key: set("kit-many-2", &[]).key(),
            revision: None,
        },
        Op::Create(set("kit-many-2", &["10.0.0.0/8"])),
    ];
    let answers = kit.store.write(ops).await;
    let kinds: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Ok(_) => "ok",
            Err(StoreError::Exists { .. }) => "exists",
            Err(StoreError::Missing { .. }) => "missing",
            Err(StoreError::Conflict { .. }) => "conflict",
            Err(_) => "error",
        })
        .collect();
    let expected = [
        "ok", "exists", "ok", "conflict", "missing", "ok", "ok", "ok",
    ];
    check(kinds == expected, || format!("answers {answers:?}"))?;
    let last = kit.found(&set("kit-many-2", &[]).key()).await?;
    check(last.is_some(), || {
        "deleted and made again in one call, not found".to_owned()
    })
}

pub(super) async fn bad_keys(kit: &Kit<'_>) -> Outcome {
    let homeless = object(Kind::NetworkSet, None, "kit-homeless", json!({}));
    let placed = object(
        Kind::GlobalNetworkSet,
        Some("kit-a"),
        "kit-placed",
        json!({}),
    );
    for bad in [homeless, placed] {
        let answer = kit.one(Op::Create(bad)).await;
        refused("a key that no object can have", answer, |error| {
            matches!(error, StoreError::Invalid { .. })
        })?;
    }
    let same = kit
        .created(set_in("kit-a", "kit-same", &["10.0.0.0/8"]))
        .await?;
    kit.created(set_in("kit-b", "kit-same", &["10.1.0.0/16"]))
        .await?;
    let found = kit
        .found(&Key::namespaced(Kind::NetworkSet, "kit-a", "kit-same"))
        .await?;
    check(found == Some(same), || {
        format!("two of one name in two namespaces: {found:?}")
    })
}

/// Many count up in one object, through two handles; every step counts once.
pub(super) async fn compare_and_swap(kit: &Kit<'_>) -> Outcome {
    const CLIENTS: usize = 8;
    const STEPS: usize = 10;
    let mut counter = set("kit-counter", &[]);
    counter.value["spec"]["nets"] = json!(["0"]);
    let key = kit.created(counter).await?.key();
    let other = kit.other().await;
    let mut clients: Vec<std::pin::Pin<Box<dyn Future<Output = Outcome> + Send + '_>>> = Vec::new();
    for client in 0..CLIENTS {
        let store = if client % 2 == 0 {
            &*kit.store
        } else {
            &*other
        };
        clients.push(Box::pin(count_up(store, &key, STEPS)));
    }
    for outcome in join::all(clients).await {
        outcome?;
    }
    let found = kit.found(&key).await?.ok_or("the counter is gone")?;
    let count = count_of(&found);
    let expected = CLIENTS * STEPS;
    check(count == Some(expected), || {
        format!("counted {expected}, found {count:?}")
    })
}

/// The count, kept where every store keeps a text.
fn count_of(object: &Object) -> Option<usize> {
    object.value["spec"]["nets"][0].as_str()?.parse().ok()
}

/// How many conflicts in a row are bad luck; there are fewer writers than this.
const TRIES: usize = 1000;

async fn count_up(store: &dyn Backend, key: &Key, steps: usize) -> Outcome {
    for _ in 0..steps {
        let mut tries = 0;
        loop {
            tries += 1;
            check(tries <= TRIES, || format!("{TRIES} conflicts in a row"))?;
            let found = told("get", store.get(key).await)?;
            let mut found = found.ok_or("the counter is gone")?;
            let count = count_of(&found).ok_or("no count")?;
            found.value["spec"]["nets"] = json!([(count + 1).to_string()]);
            match one(store, Op::Update(found)).await {
                Ok(_) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(format!("update: {error}")),
            }
        }
    }
    Ok(())
}
