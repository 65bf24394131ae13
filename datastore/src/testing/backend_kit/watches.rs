//! Watching.

use super::{Kit, Outcome, change, check, first_error, set, set_in, told};
use crate::backend::{Backend, Change, Op};
use crate::error::StoreError;
use crate::model::Kind;
use crate::object::{Object, Revision, Scope};

const KIND: Kind = Kind::GlobalNetworkSet;

async fn now(store: &dyn Backend, scope: &Scope) -> Result<Revision, String> {
    Ok(told("list", store.list(scope).await)?.revision)
}

/// Creates, changes and deletes an object; what a watch has to report.
async fn life(kit: &Kit<'_>, name: &str) -> Result<Vec<Change>, String> {
    let made = kit.created(set(name, &["10.0.0.0/8"])).await?;
    let newer = Object {
        revision: made.revision,
        ..set(name, &["10.1.0.0/16"])
    };
    let newer = told("update", kit.one(Op::Update(newer)).await)?;
    let delete = Op::Delete {
        key: made.key(),
        revision: Some(newer.revision),
    };
    let gone = told("delete", kit.one(delete).await)?;
    let deleted = Change::Deleted {
        key: made.key(),
        revision: gone.revision,
    };
    Ok(vec![Change::Put(made), Change::Put(newer), deleted])
}

async fn expect(watch: &mut crate::backend::Watch, expected: &[Change]) -> Outcome {
    for wanted in expected {
        let seen = change(watch).await?;
        check(seen == *wanted, || {
            format!("expected {wanted:?}, the watch reports {seen:?}")
        })?;
    }
    Ok(())
}

/// Another handle sees everything, in order, with the revisions that the writer was told.
pub(super) async fn order(kit: &Kit<'_>) -> Outcome {
    let other = kit.other().await;
    let scope = Scope::all(KIND);
    let since = now(&*other, &scope).await?;
    let mut watch = told("watch", other.watch(&scope, since).await)?;
    for round in 0..10 {
        let expected = life(kit, &format!("kit-watch-{round}")).await?;
        expect(&mut watch, &expected).await?;
    }
    Ok(())
}

/// Nothing but what the scope covers is reported.
pub(super) async fn scope(kit: &Kit<'_>) -> Outcome {
    let scope = Scope::namespace(Kind::NetworkSet, "kit-a").with_prefix("kit-x");
    let since = now(&*kit.store, &scope).await?;
    let mut watch = told("watch", kit.store.watch(&scope, since).await)?;
    kit.created(set("kit-x1", &[])).await?;
    kit.created(set_in("kit-b", "kit-x2", &[])).await?;
    kit.created(set_in("kit-a", "kit-y", &[])).await?;
    let made = kit.created(set_in("kit-a", "kit-x3", &[])).await?;
    expect(&mut watch, &[Change::Put(made)]).await
}

/// A watch from an earlier revision reports what happened since, as it was then.
pub(super) async fn history(kit: &Kit<'_>) -> Outcome {
    let scope = Scope::all(KIND);
    let since = now(&*kit.store, &scope).await?;
    let expected = life(kit, "kit-history").await?;
    let mut watch = told("watch", kit.store.watch(&scope, since).await)?;
    expect(&mut watch, &expected).await?;
    let middle = expected.get(1).map(Change::revision).unwrap_or_default();
    let mut watch = told("watch", kit.store.watch(&scope, middle).await)?;
    expect(&mut watch, expected.get(2..).unwrap_or_default()).await?;
    let more = life(kit, "kit-history-more").await?;
    expect(&mut watch, &more).await
}

/// Watches do not disturb each other.
pub(super) async fn alone(kit: &Kit<'_>) -> Outcome {
    let scope = Scope::all(KIND);
    let since = now(&*kit.store, &scope).await?;
    let mut idle = told("watch", kit.store.watch(&scope, since).await)?;
    let mut busy = told("watch", kit.store.watch(&scope, since).await)?;
    let dropped = told("watch", kit.store.watch(&scope, since).await)?;
    let first = life(kit, "kit-alone-1").await?;
    expect(&mut busy, &first).await?;
    drop(dropped);
    let second = life(kit, "kit-alone-2").await?;
    expect(&mut busy, &second).await?;
    expect(&mut idle, &first).await?;
    expect(&mut idle, &second).await
}

/// After a compaction old watches are refused, and everything else goes on.
pub(super) async fn compaction(kit: &Kit<'_>) -> Outcome {
    let scope = Scope::all(KIND);
    let old = now(&*kit.store, &scope).await?;
    let kept = kit.created(set("kit-kept", &["10.0.0.0/8"])).await?;
    life(kit, "kit-compacted").await?;
    let since = now(&*kit.store, &scope).await?;
    let mut watch = told("watch", kit.store.watch(&scope, since).await)?;
    if !kit.fixture.compact().await {
        return Ok(());
    }
    let error = first_error(kit.store.watch(&scope, old).await).await?;
    check(matches!(error, StoreError::Compacted { .. }), || {
        format!("an old watch gets {error}")
    })?;
    let found = kit.found(&kept.key()).await?;
    check(found == Some(kept), || {
        format!("after the compaction: {found:?}")
    })?;
    let later = life(kit, "kit-later").await?;
    expect(&mut watch, &later).await?;
    let since = now(&*kit.store, &scope).await?;
    let mut watch = told("watch", kit.store.watch(&scope, since).await)?;
    let later = life(kit, "kit-later").await?;
    expect(&mut watch, &later).await
}
