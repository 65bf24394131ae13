//! `create`, `apply`, `replace`, `delete`: whole objects.

use std::path::Path;
use std::time::{Duration, Instant};

use ocicat_datastore::{Key, Kind, Object, Op, Revision, StoreError, validate};
use ocicat_node::control;

use crate::cli;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::files;
use crate::get::named;
use crate::manifest::Manifest;
use crate::output::Format;
use crate::pools;

/// What is done with each object of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It must not exist.
    Create,
    /// It may exist.
    Apply,
    /// It must exist.
    Replace,
}

impl Verb {
    const fn done(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Apply => "applied",
            Self::Replace => "replaced",
        }
    }
}

/// Writes every object of the files, all that can be written; the answer is what was written.
///
/// # Errors
/// Nothing is written when a file is wrong. A refusal of the datastore does not stop the others; all are reported, with
/// file and line.
pub async fn run(
    at: &Connection,
    args: &cli::Files,
    verb: Verb,
    format: Format,
) -> Result<Vec<(Key, Revision)>, Failure> {
    let manifests = files::read(
        &args.filename,
        at.kubernetes,
        args.namespace.namespace.as_deref(),
        args.strictness.validate,
    )?;
    if manifests.is_empty() {
        return Err(Failure::Usage("there are no objects in these files".into()));
    }
    check_pools(at, &manifests, verb).await?;
    let mut ops = Vec::with_capacity(manifests.len());
    for manifest in &manifests {
        ops.push(op(at, manifest, verb).await?);
    }
    let outcomes = at.store.backend().write(ops).await;
    let (mut written, mut failures) = (Vec::new(), Vec::new());
    for (outcome, manifest) in outcomes.into_iter().zip(&manifests) {
        match outcome {
            Ok(object) => {
                say(&object.key(), verb.done(), format);
                written.push((object.key(), object.revision));
            }
            Err(error) => failures.push(refused(manifest, error)),
        }
    }
    first_of(failures).map_or(Ok(written), Err)
}

/// The write of an object. One that states a `resourceVersion` is only written over that version.
async fn op(at: &Connection, manifest: &Manifest, verb: Verb) -> Result<Op, Failure> {
    let object = manifest.object.clone();
    match verb {
        Verb::Create => Ok(Op::Create(object)),
        Verb::Apply if object.revision == Revision::NONE => Ok(Op::Put(object)),
        Verb::Replace if object.revision == Revision::NONE => {
            let key = object.key();
            let present = at.store.backend().get(&key).await?;
            let present = present.ok_or_else(|| {
                let missing = StoreError::Missing { key };
                Failure::NotFound(manifest.located(&missing).to_string())
            })?;
            Ok(Op::Update(Object {
                revision: present.revision,
                ..object
            }))
        }
        Verb::Apply | Verb::Replace => Ok(Op::Update(object)),
    }
}

/// Pools must not overlap those that are there and that the files do not replace; those that they do replace keep their
/// range and the size of their blocks.
async fn check_pools(at: &Connection, manifests: &[Manifest], verb: Verb) -> Result<(), Failure> {
    let pool = |object: &Object| object.kind == Kind::IpPool;
    if !manifests.iter().any(|manifest| pool(&manifest.object)) {
        return Ok(());
    }
    let new = manifests.iter().map(|manifest| &manifest.object);
    let new: Vec<Object> = new.filter(|object| pool(object)).cloned().collect();
    let all = ocicat_datastore::Scope::all(Kind::IpPool);
    let mut pools = at.store.backend().list(&all).await?.objects;
    for old in pools.iter().filter(|_| verb != Verb::Create) {
        for manifest in manifests.iter().filter(|one| one.object.key() == old.key()) {
            if let Some((field, fault)) = pools::changed(old, &manifest.object) {
                return Err(manifest.fault(field, fault).into());
            }
        }
    }
    pools.retain(|old| new.iter().all(|new| new.name != old.name));
    pools.extend(new);
    for (key, problem) in validate::objects(&pools) {
        let stated = manifests.iter().find(|one| one.object.key() == key);
        if let Some(manifest) = stated {
            let fault = manifest.fault(&problem.field, &problem.reason);
            return Err(Failure::Failed(fault.to_string()));
        }
    }
    Ok(())
}

fn refused(manifest: &Manifest, error: StoreError) -> Failure {
    let text = match &error {
        StoreError::Unavailable { .. } => error.to_string(),
        other => manifest.located(other).to_string(),
    };
    match Failure::from(error) {
        Failure::NotFound(_) => Failure::NotFound(text),
        Failure::Conflict(_) => Failure::Conflict(text),
        Failure::Unavailable(_) => Failure::Unavailable(text),
        _ => Failure::Failed(text),
    }
}

/// One failure that says all: the kind is that of the first.
pub fn first_of(failures: Vec<Failure>) -> Option<Failure> {
    let all: Vec<String> = failures.iter().map(Failure::to_string).collect();
    let text = all.join("\n");
    Some(match failures.into_iter().next()? {
        Failure::NotFound(_) => Failure::NotFound(text),
        Failure::Conflict(_) => Failure::Conflict(text),
        Failure::Unavailable(_) => Failure::Unavailable(text),
        Failure::Usage(_) => Failure::Usage(text),
        _ => Failure::Failed(text),
    })
}

/// One line for one thing done; programs get a JSON object.
pub fn say(key: &Key, done: &str, format: Format) {
    if format.is_json() {
        println!(
            "{}",
            serde_json::json!({"object": key.to_string(), "done": done})
        );
    } else if format == Format::Name {
        println!("{key}");
    } else {
        println!("{key} {done}");
    }
}

/// Deletes objects by name or by files.
///
/// # Errors
/// [`Failure::NotFound`] for those that are not there, unless that was said to be fine; the others are deleted.
pub async fn delete(at: &Connection, args: &cli::Delete, format: Format) -> Result<(), Failure> {
    let (_, keys) = named(at, &args.chosen)?;
    if keys.is_empty() {
        return Err(Failure::Usage("name the objects to delete".into()));
    }
    let delete = |key: &Key| Op::Delete {
        key: key.clone(),
        revision: None,
    };
    let outcomes = at
        .store
        .backend()
        .write(keys.iter().map(delete).collect())
        .await;
    let mut failures = Vec::new();
    for (outcome, key) in outcomes.into_iter().zip(&keys) {
        match outcome {
            Ok(_) => say(key, "deleted", format),
            Err(StoreError::Missing { .. }) if args.skip_not_exists => {}
            Err(error) => failures.push(error.into()),
        }
    }
    first_of(failures).map_or(Ok(()), Err)
}

/// Waits until agents have what was written in the kernel.
///
/// # Errors
/// When an agent is down, or late.
pub fn wait(
    run: &Path,
    args: &cli::Apply,
    written: &[(Key, Revision)],
    format: Format,
) -> Result<(), Failure> {
    let began = Instant::now();
    let limit = Duration::from_secs(args.timeout);
    let own = run.join("node.sock");
    for socket in std::iter::once(&own).chain(&args.socket) {
        let left = limit.saturating_sub(began.elapsed());
        let answer = control::Client::new(socket).wait(barrier(written), left)?;
        if !answer.ok {
            let why = answer.error.unwrap_or_default();
            let socket = socket.display();
            return Err(Failure::Failed(format!(
                "{socket}: not yet in force: {why}"
            )));
        }
    }
    if !format.is_json() && format != Format::Name {
        println!("in force after {} ms", began.elapsed().as_millis());
    }
    Ok(())
}

fn barrier(written: &[(Key, Revision)]) -> Vec<control::Written> {
    let one = |(key, revision): &(Key, Revision)| control::Written {
        kind: key.kind.unique_name().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        revision: revision.0,
    };
    written.iter().map(one).collect()
}
