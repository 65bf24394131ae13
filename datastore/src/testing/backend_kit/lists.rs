//! Listing, and watching on from there.

use std::collections::BTreeSet;

use super::{Kit, Outcome, change, check, one, set, set_in, told};
use crate::backend::{Change, Op};
use crate::model::Kind;
use crate::object::{Object, Revision, Scope};

fn names(objects: &[Object]) -> Vec<&str> {
    let ours = objects
        .iter()
        .filter(|object| object.name.starts_with("kit"));
    ours.map(|object| object.name.as_str()).collect()
}

pub(super) async fn list(kit: &Kit<'_>) -> Outcome {
    let mut newest = Revision::NONE;
    for (namespace, name) in [("kit-b", "kit-1"), ("kit-a", "kit-3"), ("kit-a", "kit-2")] {
        newest = kit.created(set_in(namespace, name, &[])).await?.revision;
    }
    kit.created(set_in("kit-a", "kit", &[])).await?;
    kit.created(set("kit-4", &[])).await?;
    let scope = Scope::namespace(Kind::NetworkSet, "kit-a");
    let listing = told("list", kit.store.list(&scope).await)?;
    let found = names(&listing.objects);
    check(found == ["kit", "kit-2", "kit-3"], || {
        format!("kit-a has {found:?}")
    })?;
    check(listing.revision >= newest, || {
        format!(
            "listed at {} what was written at {newest}",
            listing.revision
        )
    })?;
    let prefixed = told("list", kit.store.list(&scope.with_prefix("kit-")).await)?;
    let found = names(&prefixed.objects);
    check(found == ["kit-2", "kit-3"], || {
        format!("kit-* of kit-a is {found:?}")
    })?;
    let all = told("list", kit.store.list(&Scope::all(Kind::NetworkSet)).await)?;
    let found = names(&all.objects);
    check(found == ["kit", "kit-2", "kit-3", "kit-1"], || {
        format!("the namespaces have {found:?}")
    })?;
    for object in &prefixed.objects {
        let single = kit.found(&object.key()).await?;
        check(single.as_ref() == Some(object), || {
            format!("listed {object:?}, got {single:?}")
        })?;
    }
    Ok(())
}

/// What was answered to one is seen by all.
pub(super) async fn across_handles(kit: &Kit<'_>) -> Outcome {
    let other = kit.other().await;
    for round in 0..20 {
        let name = format!("kit-across-{round}");
        let made = kit.created(set(&name, &[])).await?;
        let found = told("get", other.get(&made.key()).await)?;
        check(found.as_ref() == Some(&made), || {
            format!("made {made:?}, another sees {found:?}")
        })?;
        let listing = told(
            "list",
            other.list(&Scope::all(Kind::GlobalNetworkSet)).await,
        )?;
        check(listing.objects.contains(&made), || {
            format!("made {name}, another does not list it")
        })?;
    }
    Ok(())
}

/// While one writes, another lists and watches on: it sees every object, each once.
pub(super) async fn then_watch(kit: &Kit<'_>) -> Outcome {
    const COUNT: usize = 60;
    let other = kit.other().await;
    let writer = async {
        for number in 0..COUNT {
            told(
                "create",
                one(&*other, Op::Create(set(&format!("kit-w{number}"), &[]))).await,
            )?;
        }
        Ok::<(), String>(())
    };
    let reader = async {
        let scope = Scope::all(Kind::GlobalNetworkSet);
        let listing = told("list", kit.store.list(&scope).await)?;
        let mut seen: BTreeSet<String> = names(&listing.objects)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut watch = told("watch", kit.store.watch(&scope, listing.revision).await)?;
        let mut last = listing.revision;
        while seen.len() < COUNT {
            let next = change(&mut watch).await?;
            check(next.revision() > last, || {
                format!("after {last} came {next:?}")
            })?;
            last = next.revision();
            let Change::Put(object) = next else {
                return Err(format!("reported {next:?}"));
            };
            let name = object.name.clone();
            check(seen.insert(object.name), || {
                format!("{name} was reported twice")
            })?;
        }
        Ok(())
    };
    let (written, read) = tokio::join!(writer, reader);
    written.and(read)
}
